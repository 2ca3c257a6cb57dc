"""What the parts of the control path hand to each other."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edged.oci.registries import Credentials


@dataclass(frozen=True)
class Slot:
    """A model in the store, ready to be started.

    Attributes:
        digest: of the image's manifest, ``sha256:...``.
        reference: where it was deployed from, as it was asked for.
        folder: the unpacked model; nothing in it changes.
        deployed_unix_us: when it came into service, microseconds since 1970 by the wall clock.
        name: of the model.
        version: of the model.
        counter: against downgrades; see ``counters``.
        key: id of the key that signed it; empty if it was not verified.
    """

    digest: str
    reference: str
    folder: Path
    deployed_unix_us: int = 0
    name: str = ""
    version: str = ""
    counter: int = 0
    key: str = ""


@dataclass(frozen=True)
class Limits:
    """How long the steps may take, in seconds.

    Attributes:
        prepare: until the new model is loaded; the old one serves meanwhile.
        drain: until the request that runs has ended.
        activate_and_probe: both together; requests wait meanwhile.
        revert: until the old model has the NPU again; else it is started anew.
        window: of good behaviour after a commit; 0 for none.
        crashes: that many within the window take the model out of service again.
    """

    prepare: float = 20.0
    drain: float = 2.0
    activate_and_probe: float = 3.0
    revert: float = 0.5
    window: float = 60.0
    crashes: int = 3


class State(enum.Enum):
    """Where a deployment is."""

    QUEUED = "queued"
    FETCH = "fetch"
    VERIFY = "verify"
    STORE = "store"
    PREPARE = "prepare"
    PARK = "park"
    ACTIVATE = "activate"
    PROBE = "probe"
    COMMIT = "commit"
    COMMITTED = "committed"
    REVERT = "revert"
    KEPT = "kept"
    REVERTED = "reverted"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(enum.Enum):
    """How a step ended."""

    DONE = "done"
    PRESENT = "present"  # the very same image serves already
    ERROR = "error"
    OVERTAKEN = "overtaken"  # by a newer target
    CRASHES = "crashes"  # too many within the window of good behaviour


class Cause(enum.Enum):
    """Why what is in service was to change."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"
    UNDEPLOY = "undeploy"
    START = "start"  # the current model did not come up when edged started


class Fault(enum.Enum):
    """Whose fault it is that a model did not come into service: what that asks of whoever wants it.

    ``NONE`` where it did, or where nobody is to blame.
    """

    NONE = ""
    MODEL = "model"  # the image's own, or nobody who is trusted signed it: another one is needed
    PASSING = "passing"  # a link, a disk, a host too slow: it may succeed another time
    HELD = "held"  # somebody holds the device
    OVERTAKEN = "overtaken"  # a newer target came
    STOPPING = "stopping"  # edged ends


@dataclass(frozen=True)
class Options:
    """What whoever asks for a change allows, and what they insist on.

    Attributes:
        force: although the device is held.
        allow_downgrade: although a newer model of the same name and key was in service.
        digest: which image it has to be; empty for whichever is there.
        counter: which one the image has to announce; None for any.
        origin: what its image is called in reports and records; empty for its reference.
        again: whether it is another attempt at what has just failed, and nobody asked for it anew.
        credentials: by registry, for this deployment alone. They are never on the disk, so one that
            edged did not survive goes on without them.
    """

    force: bool = False
    allow_downgrade: bool = False
    digest: str = ""
    counter: int | None = None
    origin: str = field(default="", compare=False)
    again: bool = field(default=False, compare=False)
    credentials: Mapping[str, Credentials] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Progress:
    """What is known of a deployment at one moment.

    Attributes:
        state: where it is; the last progress has one of ``states.ENDS``.
        digest: of the image's manifest, empty until it is known.
        detail: for people.
        elapsed_us: since it left the queue.
        bytes_done: fetched so far.
        bytes_total: to fetch.
        error: why it did not come into service.
        fault: whose fault that is.
        parked_us: how long requests were held for it: its blackout.
        phases_us: how long it was in each state so far.
    """

    state: State
    digest: str = ""
    detail: str = ""
    elapsed_us: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    error: str = ""
    fault: Fault = Fault.NONE
    parked_us: int = 0
    phases_us: Mapping[str, int] = field(default_factory=dict)
