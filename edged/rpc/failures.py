"""Requests that failed within the device, in its log, under the id that their callers know.

Invariants:
- What a caller did wrong is the caller's to know, and is not logged.
- At most ``MOST`` records in ``PERIOD`` seconds: a model that fails on each of a line's pictures
  fills no disk. How many were left out is said with the next one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from edged.errors import RequestError

logger = logging.getLogger(__name__)

CODES = ("INTERNAL", "DATA_LOSS", "UNKNOWN")  # whose cause is the model's or the device's
MOST, PERIOD = 20, 60.0


class Failures:
    """Logs failed requests.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: deque[float] = deque(maxlen=MOST)
        self._left_out = 0

    def note(self, request_id: str, error: RequestError) -> None:
        """Logs one request, if it is the device's fault that it failed and there is room."""
        if error.code not in CODES:
            return
        now = self._clock()
        if len(self._logged) == MOST and now - self._logged[0] < PERIOD:
            self._left_out += 1
            return
        self._logged.append(now)
        more = f" ({self._left_out} more before it were not logged)" if self._left_out else ""
        self._left_out = 0
        fields = {"event": "request_failed", "request_id": request_id, "code": error.code}
        logger.warning("request failed: %s%s", error, more, extra=fields)
