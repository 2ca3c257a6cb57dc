"""What MQTT asks of the daemon, and what it may know of it; ``edged.daemon`` joins the two.

All of it is called from the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edged.deploy.history import Record
from edged.deploy.hold import Hold
from edged.deploy.types import Options, Progress, Slot
from edged.oci.facts import ModelFacts
from edged.oci.registries import Credentials


@dataclass(frozen=True)
class Npu:
    """The accelerator with the model that is on it.

    Attributes:
        sku: of the device.
        isa: which kernels the emulator uses; empty while no model is loaded.
        format: of the model's numbers.
        predicted_us: microseconds that the model's part would take on the board; 0 if not known.
        measured_us: microseconds that it took here, the median of the latest requests; 0 for none.
    """

    sku: str
    isa: str = ""
    format: str = ""
    predicted_us: float = 0.0
    measured_us: float = 0.0


@dataclass(frozen=True)
class Counters:
    """Since the start, but for ``queued``; see ``edged.rpc.front.Counts``."""

    answered: int = 0
    failed: int = 0
    refused: int = 0
    expired: int = 0
    cancelled: int = 0
    queued: int = 0
    deaths: int = 0
    deployments: int = 0
    reverts: int = 0


@dataclass(frozen=True)
class Snapshot:
    """What is known of the device at one moment.

    Attributes:
        version: of edged.
        state: serving, swapping, starting, not_serving or stopping.
        reason: why it is not serving.
        npu: the accelerator.
        runtime: what runs the model's process.
        sandbox: what keeps it in.
        verify: whether signatures are required, or off.
        model: in service, or on its way back into it; None if none is deployed.
        previous: what a rollback would deploy.
        progress: of the deployment under way; None if none is.
        reference: of that deployment.
        last: the newest record of the history.
        hold: of an operator; None if nobody holds the device.
        window_left: seconds of the window of good behaviour; 0 if none is open.
        quarantined: digests of images that were at fault here.
        counters: of requests and changes.
    """

    version: str
    state: str
    npu: Npu
    reason: str = ""
    runtime: str = ""
    sandbox: str = ""
    verify: str = "required"
    model: Slot | None = None
    previous: Slot | None = None
    progress: Progress | None = None
    reference: str = ""
    last: Record | None = None
    hold: Hold | None = None
    window_left: float = 0.0
    quarantined: frozenset[str] = frozenset()
    counters: Counters = field(default_factory=Counters)


class Device(Protocol):
    """The device's operations.

    Attributes:
        logs: folder of what the models' processes wrote (``edged.containers.records``).
        on_change: called whenever a snapshot taken now may differ from the one before, but for
            counters and what only time changes.
    """

    logs: Path
    on_change: list[Callable[[], None]]

    def snapshot(self) -> Snapshot:
        """Returns what is known now."""

    def deploy(self, reference: str, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment and yields its progress to the end.

        Raises:
            RequestError: the device is held, or edged is stopping.
        """

    def rollback(self, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment of the previous model and yields its progress to the end.

        Raises:
            RequestError: there is none, the device is held, or edged is stopping.
        """

    async def undeploy(self, options: Options) -> str:
        """Takes the model out of service; returns its digest, empty if there was none.

        Raises:
            RequestError: the device is held, edged is stopping, or a newer target came.
            StoreError: the disk failed, and the model serves on.
        """

    async def look_up(
        self, reference: str, credentials: Mapping[str, Credentials]
    ) -> tuple[str, ModelFacts]:
        """Returns an image's digest and what it says of its model, from its manifest alone.

        Raises:
            ModelError: it is no image of an edged model.
            EdgedError: it could not be asked for.
        """

    async def restart(self) -> Slot:
        """Starts the model's process anew; returns what serves again.

        Raises:
            RequestError: no model is in service.
            DeviceError: it does not come up again; edged goes on trying.
        """

    async def self_test(self) -> float:
        """Runs the golden test of the model in service, between requests; returns the seconds.

        Raises:
            RequestError: no model is in service.
            ModelError: it gives wrong answers.
            DeviceError: its process ended, or was too slow.
        """
