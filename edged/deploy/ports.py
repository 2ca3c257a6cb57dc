"""What the control path asks of the rest of the daemon; ``edged.daemon`` connects the two."""

from __future__ import annotations

from typing import Protocol, TypeVar

from edged.deploy.types import Slot

Candidate = TypeVar("Candidate")


class Npu(Protocol[Candidate]):
    """The NPU and whoever is on it. ``Candidate`` is a model that is loaded but has not committed.

    ``park`` begins a swap; ``commit``, ``revert`` or ``empty`` ends it.
    """

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
        """Lets requests through to the candidate, as ``slot``; whoever served before ends."""

    async def revert(self, candidate: Candidate, limit: float) -> None:
        """Ends the candidate; whoever served before serves again.

        If that takes more than ``limit`` seconds, it is started anew instead.
        """

    async def discard(self, candidate: Candidate) -> None:
        """Ends a candidate that was never parked for."""

    async def empty(self, limit: float) -> None:
        """Takes whoever is there off the NPU and ends it; requests are refused from then on."""
