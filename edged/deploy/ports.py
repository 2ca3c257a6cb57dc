"""What the control path asks of the rest of the daemon; ``edged.daemon`` connects the two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from edged.deploy.types import Slot

Candidate = TypeVar("Candidate")


class Npu(Protocol[Candidate]):
    """The NPU and whoever is on it. ``Candidate`` is a model that is loaded but has not committed.

    ``park`` begins a swap; ``commit``, ``revert`` or ``empty`` ends it. After ``commit`` whoever
    served before stays loaded, off the NPU, until ``dismiss`` or ``fall_back``.

    Attributes:
        on_crash: asked when the model in service died, or did not come back: whether the control
            path takes over, with ``fall_back``. If not, the model is started again.
        on_other: told when another model than the one that should serves, and why.
    """

    on_crash: Callable[[], bool] | None
    on_other: Callable[[Slot, str], None] | None

    @property
    def serving(self) -> Slot | None:
        """What is in service, or is being brought back into it."""

    @property
    def answering(self) -> bool:
        """Whether what is in service answers requests now."""

    async def prepare(self, slot: Slot, limit: float) -> Candidate:
        """Loads a model off the NPU; whoever is on it serves on.

        Raises:
            ModelError: the model is at fault.
            DeviceError: its process ended, or was not ready in time.
        """

    async def park(self, limit: float) -> None:
        """Holds requests and waits until none runs.

        Raises:
            DeviceError: one still ran after ``limit`` seconds.
        """

    async def activate(self, candidate: Candidate, limit: float) -> None:
        """Takes the NPU from whoever is on it and gives it to the candidate.

        Raises:
            DeviceError: one of the two did not do it in time.
        """

    async def probe(self, candidate: Candidate, limit: float) -> None:
        """Runs the candidate's golden test.

        Raises:
            ModelError: wrong answers.
            DeviceError: its process ended, or was too slow.
        """

    async def commit(self, candidate: Candidate, slot: Slot) -> None:
        """Lets requests through to the candidate, as ``slot``; who served before stays loaded."""

    def watch(self, *, closely: bool) -> None:
        """While closely, a model has one request at hand at a time.

        Then it is known of each request whether a model that crashed had begun it.
        """

    async def dismiss(self) -> None:
        """Ends whoever served before and is still loaded."""

    async def fall_back(self, slot: Slot, limit: float) -> None:
        """Ends whoever is in service; ``slot``, which served before, serves again.

        If that takes more than ``limit`` seconds, it is started anew instead.
        """

    @property
    def is_own_fault(self) -> bool:
        """Whether the model in service ended by itself when it last died, unlike by SIGKILL."""

    async def revert(self, candidate: Candidate, limit: float) -> None:
        """Ends the candidate; whoever served before serves again.

        If that takes more than ``limit`` seconds, it is started anew instead.
        """

    async def discard(self, candidate: Candidate) -> None:
        """Ends a candidate that was never parked for."""

    async def restart(self, drain: float, load: float, *, beside: bool) -> None:
        """Replaces the process of the model in service by a new one; requests wait meanwhile.

        Args:
            drain: seconds for the request that runs to end.
            load: seconds for the model to serve again.
            beside: whether there is room for the new one beside the old one, until it has loaded.

        Raises:
            DeviceError: it did not; it is tried again.
        """

    async def probe_serving(self, limit: float) -> None:
        """Runs the golden test of the model in service, between requests.

        Raises:
            ModelError: wrong answers.
            DeviceError: it does not answer now, its process ended, or was too slow.
        """

    async def empty(self, limit: float) -> None:
        """Takes whoever is there off the NPU and ends it; requests are refused from then on."""
