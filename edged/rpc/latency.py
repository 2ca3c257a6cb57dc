"""How long the last requests took, from their arrival to the model's answer."""

from __future__ import annotations

import math
from collections import deque

KEPT = 1000  # the newest


class Latencies:
    """Times of the newest answers of one model."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=KEPT)
        self._digest = ""

    def serve(self, digest: str) -> None:
        """Forgets the times of the model before, if it is another one that answers from now on."""
        if digest != self._digest:
            self._digest = digest
            self._seconds.clear()

    def note(self, seconds: float) -> None:
        """Adds an answer."""
        self._seconds.append(seconds)

    def __len__(self) -> int:
        return len(self._seconds)

    def quantile(self, share: float) -> float | None:
        """Returns the least time within which ``share`` of the answers came; None without any."""
        if not self._seconds:
            return None
        ordered = sorted(self._seconds)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
