"""How fast something comes, from what is told of it now and then."""

from __future__ import annotations

from collections import deque

WINDOW_US = 5_000_000  # the rate is that of the last five seconds


class Meter:
    """Bytes per second of the latest past; what was there at the beginning does not count."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque()

    def rate(self, done: int, elapsed_us: int) -> float | None:
        """Takes note of a moment, and returns bytes per second; None while there is only one.

        Args:
            done: bytes that are there.
            elapsed_us: microseconds since whenever.
        """
        self._seen.append((elapsed_us, done))
        while len(self._seen) > 2 and self._seen[1][0] <= elapsed_us - WINDOW_US:
            self._seen.popleft()
        since, had = self._seen[0]
        return 1e6 * (done - had) / (elapsed_us - since) if elapsed_us > since else None
