"""One request to bring a model into service, for whoever wants to watch it or to overtake it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from edged.deploy.states import ENDS
from edged.deploy.types import Cause, Options, Progress, State


class Deployment:
    """A deployment, from the queue to its outcome.

    Args:
        reference: where the image is.
        cause: deploy or rollback.
        options: what the operator allows.
        attempts: more than one if edged ended in the middle of it before.

    Attributes:
        on_tell: called when there is news, after it was noted.
    """

    def __init__(
        self,
        reference: str,
        cause: Cause = Cause.DEPLOY,
        options: Options | None = None,
        attempts: int = 1,
    ) -> None:
        self.reference = reference
        self.cause = cause
        self.options = options or Options()
        self.attempts = attempts
        self.overtaken_by = ""
        self.progress = Progress(State.QUEUED)
        self.on_tell: Callable[[], None] | None = None
        self._states: list[Progress] = []
        self._told = asyncio.Event()
        self.tell(self.progress)

    def __str__(self) -> str:
        return self.reference

    def is_same_target(self, other: object) -> bool:
        """Whether the other one asks for the same."""
        return isinstance(other, Deployment) and (
            (self.reference, self.cause, self.options)
            == (other.reference, other.cause, other.options)
        )

    @property
    def reason(self) -> str:
        """Why it is cancelled; empty if it is not."""
        return f"overtaken by {self.overtaken_by}" if self.overtaken_by else ""

    def tell(self, progress: Progress) -> None:
        """Notes what is new, for those who watch."""
        self.progress = progress
        if self._states and self._states[-1].state is progress.state:
            self._states[-1] = progress
        else:
            self._states.append(progress)
        # Those who wait now are woken; those who come later wait for the next news.
        self._told.set()
        self._told = asyncio.Event()
        if self.on_tell is not None:
            self.on_tell()

    async def watch(self) -> AsyncIterator[Progress]:
        """Yields the progress of each state from the first on, up to its outcome.

        Within a state only the latest is yielded.
        """
        seen, last = 0, None
        while True:
            told = self._told
            for index in range(max(seen - 1, 0), len(self._states)):
                progress = self._states[index]
                if progress is not last:
                    last, seen = progress, index + 1
                    yield progress
                    if progress.state in ENDS:
                        return
            if told is self._told:
                await told.wait()
