"""Requests that ended the model's process: each waits by itself before it is run again.

A client that sends its request again at once (the original service's does so ten times) would
otherwise end one process after the other, until everybody waits for the pauses between restarts.

Invariants:
- A request is known by the number and the SHA-256 of its bytes; nothing else of it is kept.
- It is refused for ``REST`` seconds after it ended a process, and for twice as long each time it
  does so again, up to ``REST_LIMIT``. It may have been innocent, run when the process was killed
  for another reason, so it is not refused for ever.
- It is forgotten when it is answered, when the model changes, after ``MEMORY`` seconds, and when
  ``LIMIT`` others came later. A digest is computed only of what has the size of a known one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from edged.errors import RequestError

REST = 10.0  # seconds
REST_LIMIT = 300.0
MEMORY = 2 * REST_LIMIT  # seconds since the last death: one rest, and time to come back after it
LIMIT = 16


@dataclass
class _Known:
    size: int
    deaths: int
    last: float  # on the clock


class Deadly:
    """The requests that ended a process of the present model.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._model = ""
        self._known: dict[bytes, _Known] = {}  # the one that died last is last

    def serve(self, model: str) -> None:
        """Notes the digest of the model that runs requests from now on."""
        if model != self._model:
            self._model = model
            self._known.clear()

    def note(self, body: bytes, model: str) -> None:
        """Notes that a process of ``model`` ended while it ran a request of these bytes."""
        if model != self._model:
            return
        key = hashlib.sha256(body).digest()
        before = self._known.pop(key, None)
        deaths = before.deaths + 1 if before else 1
        self._known[key] = _Known(len(body), deaths, self._clock())
        if len(self._known) > LIMIT:
            del self._known[next(iter(self._known))]

    def answered(self, body: bytes) -> None:
        """Notes that a request of these bytes was answered."""
        key = self._find(body) if self._known else None
        if key is not None:
            del self._known[key]

    def refusal(self, body: bytes) -> RequestError | None:
        """Returns why a request of these bytes is not to be run now, if so."""
        if not self._known:
            return None
        now = self._clock()
        while self._known and now - next(iter(self._known.values())).last > MEMORY:
            del self._known[next(iter(self._known))]
        key = self._find(body)
        if key is None:
            return None
        known = self._known[key]
        left = known.last + min(REST_LIMIT, REST * 2.0 ** (known.deaths - 1)) - now
        if left <= 0:
            return None
        times = "once" if known.deaths == 1 else f"{known.deaths} times"
        return RequestError(
            "INTERNAL",
            f"this very request ended the model's process {times} and is not run again for "
            f"{left:.0f} s; see the device's log",
        )

    def _find(self, body: bytes) -> bytes | None:
        if all(known.size != len(body) for known in self._known.values()):
            return None
        key = hashlib.sha256(body).digest()
        return key if key in self._known else None
