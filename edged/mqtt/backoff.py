"""When to connect again: full jitter below a bound that doubles.

So devices that lost one broker together do not come back together (AWS's "Exponential Backoff and
Jitter"). The bound begins anew once a connection stood for as long as the bound was: a broker that
is restarted is waited for a second at most, and two clients that evict each other part ever longer.
"""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST, LONGEST = 1.0, 300.0  # seconds


class Backoff:
    """The pauses of one link.

    Args:
        first: the bound of the first pause, seconds.
        longest: the bound they end at.
        chance: uniform between 0 and 1.
    """

    def __init__(
        self,
        first: float = FIRST,
        longest: float = LONGEST,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first = first
        self._longest = longest
        self._chance = chance
        self._bound = first

    def pause(self, stood: float = 0.0, after: float = 0.0) -> float:
        """Returns the seconds to wait after an attempt.

        Args:
            stood: seconds that its connection stood.
            after: seconds that the other side asked for; the jitter goes on top, since everybody
                else was told the same.
        """
        if stood >= self._bound:
            self._bound = self._first
        pause = self._chance() * self._bound
        self._bound = min(2 * self._bound, self._longest)
        return min(max(after, 0.0), self._longest) + pause
