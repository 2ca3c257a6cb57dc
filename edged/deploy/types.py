"""What the parts of the control path hand to each other."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Slot:
    """A model in the store, ready to be started.

    Attributes:
        digest: of the image's manifest, ``sha256:...``.
        reference: where it was deployed from, as it was asked for.
        folder: the unpacked model; nothing in it changes.
        deployed_unix_us: when it came into service, microseconds since 1970.
    """

    digest: str
    reference: str
    folder: Path
    deployed_unix_us: int = 0


@dataclass(frozen=True)
class Limits:
    """How long the steps may take, in seconds."""

    prepare: float = 20.0  # the old model serves meanwhile
    drain: float = 2.0
    activate_and_probe: float = 3.0
    revert: float = 0.5


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
    REVERT = "revert"
    COMMITTED = "committed"
    REVERTED = "reverted"
    FAILED = "failed"


class Event(enum.Enum):
    """How a step ended."""

    DONE = "done"
    PRESENT = "present"  # the very same image serves already
    ERROR = "error"


@dataclass(frozen=True)
class Progress:
    """What is known of a deployment at one moment.

    Attributes:
        state: where it is; the last progress has one of ``states.TERMINAL``.
        digest: of the image's manifest, empty until it is known.
        detail: for people.
        elapsed_us: since it left the queue.
        bytes_done: fetched so far.
        bytes_total: to fetch.
        error: why it did not come into service.
        parked_us: how long requests were held for it.
    """

    state: State
    digest: str = ""
    detail: str = ""
    elapsed_us: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    error: str = ""
    parked_us: int = 0
