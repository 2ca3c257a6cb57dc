"""Trying again: what is worth it, how long to wait, when to give up.

Full jitter, as AWS's "Exponential Backoff and Jitter" has it: the pause is uniformly random between
nothing and a bound that doubles, so that devices that lost one link together do not come back
together. What counts is the time without progress, not the number of tries: a link that breaks
every few seconds still brings an image home.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from edged.errors import FetchError

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  # seconds
_Value = TypeVar("_Value")


class PassingError(FetchError):
    """The link or the other side failed in a way that may pass.

    Args:
        message: as ever.
        after: seconds that the other side asks us to wait.
    """

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class Patience:
    """Decides, after a failure, whether and when to try again.

    Args:
        limit: seconds without progress after which no more is tried.
        clock: monotonic, in seconds.
        chance: uniform between 0 and 1.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        limit: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._chance = chance
        self._sleep = sleep
        self._since = clock()
        self._bound = FIRST_PAUSE

    def progressed(self) -> None:
        """To be called when something was achieved: patience starts anew."""
        self._since = self._clock()
        self._bound = FIRST_PAUSE

    def wait(self, error: PassingError) -> None:
        """Waits before the next try.

        Raises:
            FetchError: it is over; the cause is ``error``.
        """
        pause = self._chance() * self._bound
        if error.after > 0:  # jitter on top: everybody else was told the same
            pause += error.after
        self._bound = min(2 * self._bound, LONGEST_PAUSE)
        elapsed = self._clock() - self._since
        if elapsed + pause > self._limit:
            raise FetchError(f"{error} (no progress for {elapsed:.0f} s; given up)") from error
        self._sleep(pause)

    def run(self, work: Callable[[], _Value]) -> _Value:
        """Tries ``work`` until it does not fail in a way that may pass.

        Raises:
            FetchError: it is over.
        """
        while True:
            try:
                return work()
            except PassingError as exc:
                self.wait(exc)


class Pause:
    """A sleep that another thread can end."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def sleep(self, seconds: float) -> None:
        """Waits, at most so long."""
        self._woken.wait(seconds)
        self._woken.clear()

    def wake(self) -> None:
        """Ends the sleep, or the next one."""
        self._woken.set()
