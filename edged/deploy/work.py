"""What the steps of one deployment have found and made so far."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic

from edged.deploy.deployment import Deployment
from edged.deploy.ports import Candidate
from edged.deploy.types import Fault, Progress, Slot, State

if TYPE_CHECKING:
    from edged.deploy.admission import Admitted
    from edged.oci.image import Image


class Work(Generic[Candidate]):
    """One deployment on its way. Times are in seconds by the monotonic clock.

    Attributes:
        deployment: whose work it is.
        before: what was in service when it began.
        reference: where the image is, or came from; its origin, if it has one.
        digest: of the image's manifest, empty until it is known.
        detail: for people.
        abandoned: set to end what runs in a thread early.
        parked_at: since when requests are held.
        parked_us: for how long they were.
        is_on_trial: whether the model that was committed is in its window.
        own_fault: whether what went wrong condemns the image.
        fault: whose fault the first thing is that went wrong.
        holds_device: whether nobody else may change what is in service.
    """

    def __init__(self, deployment: Deployment, before: Slot | None, began: float) -> None:
        self.deployment = deployment
        self.before = before
        self.began = began
        self.reference = deployment.options.origin or deployment.reference
        self.digest = ""
        self.detail = ""
        self.bytes_done = 0
        self.bytes_total = 0
        self.abandoned = threading.Event()
        self.admitted: Admitted | None = None
        self.image: Image | None = None
        self.slot: Slot | None = None
        self.candidate: Candidate | None = None
        self.parked_at: float | None = None
        self.parked_us = 0
        self.probe_until = 0.0
        self.is_on_trial = False
        self.own_fault = False
        self.fault = Fault.NONE
        self.holds_device = False
        self._phases_us: dict[str, int] = {}
        self._state: tuple[str, float] | None = None

    def enter(self, state: State, now: float) -> None:
        """Notes that the state before has ended and this one begins."""
        if self._state is not None:
            name, since = self._state
            self._phases_us[name] = self._phases_us.get(name, 0) + round((now - since) * 1e6)
        self._state = (state.value, now)

    def unparked(self, now: float) -> None:
        """Notes that requests go on; a second time does nothing."""
        if self.parked_at is not None and not self.parked_us:
            self.parked_us = round((now - self.parked_at) * 1e6)

    def progress(self, state: State, now: float, error: str = "") -> Progress:
        """Returns what is known now."""
        return Progress(
            state=state,
            digest=self.digest,
            detail=self.detail,
            elapsed_us=round((now - self.began) * 1e6),
            bytes_done=self.bytes_done,
            bytes_total=self.bytes_total,
            error=error,
            fault=self.fault,
            parked_us=self.parked_us,
            phases_us=dict(self._phases_us),
        )
