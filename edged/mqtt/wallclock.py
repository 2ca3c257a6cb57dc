"""Whether the wall clock can be believed, for what expires: signatures and certificates.

A device may have no battery for its clock: after a power cut it is decades behind until the network
sets it. What it signs then has expired before it is sent.

Invariants:
- The clock is sane if it is later than the build of edged and not before the last time that was
  remembered. A time is remembered when a controller was spoken to with everything verified, since
  a clock that is far ahead gets no further than the broker's certificate.
- Should a wrong time be remembered all the same, a clock that the kernel says to be synchronised
  (NTP) is believed, and the remembered time with it corrected.
- It never sets the clock, and nothing that is remembered here is needed: a disk that fails is said.
"""

from __future__ import annotations

import ctypes
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from edged.config import version
from edged.errors import StoreError
from edged.mqtt.refusal import moment
from edged.osutil import atomic

logger = logging.getLogger(__name__)

FILE = "clock.json"
EVERY = 3600.0  # seconds between two times that are remembered
TOLERANCE = 300.0  # seconds that a clock may be set back without being thought wrong
_TIME_ERROR = 5  # of adjtimex(2): not synchronised
_TIMEX = 512  # bytes; more than any architecture's struct timex has


class Wallclock:
    """The wall clock.

    Args:
        folder: for what is remembered; there already.
        clock: seconds since 1970, right or wrong.
        synchronised: whether the kernel says that somebody keeps the clock right.
        built: seconds since 1970 that no right clock is before.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
        synchronised: Callable[[], bool] | None = None,
        built: float = version.BUILT_UNIX,
    ) -> None:
        self._path = folder / FILE
        self._clock = clock
        self._synchronised = synchronised or _synchronised
        self._built = built
        self._remembered = self._read()
        self._noted = -EVERY
        self._seen: float | None = None

    def now(self) -> float:
        """Returns seconds since 1970, right or wrong."""
        return self._clock()

    @property
    def sane(self) -> bool:
        """Whether it can be believed."""
        return not self.doubt

    @property
    def doubt(self) -> str:
        """Why it cannot be believed; empty if it can."""
        now = self.now()
        if now < self._built:
            return f"it reads {moment(now)}, which is before this edged was built"
        if now + TOLERANCE < self._remembered and not self._synchronised():
            last = moment(self._remembered)
            return f"it reads {moment(now)}, and it was {last} when {self._path.name} was written"
        return ""

    @property
    def fix(self) -> str:
        """What to do if it cannot be believed."""
        if self.now() < self._built:
            return "set the clock, by NTP or with 'date'"
        return f"set the clock, by NTP or with 'date'; if it is right, remove {self._path}"

    @property
    def skew(self) -> float | None:
        """Seconds that it is ahead of the right time (below 0: behind), as far as that was seen.

        None if nothing was seen. If the clock cannot be believed, it is behind at least so much.
        """
        if self.doubt:
            return self.now() - max(self._built, self._remembered)
        return self._seen

    def seen(self, right: float, *, at_least: bool = False) -> None:
        """Takes the right time, as another side says it.

        Args:
            right: seconds since 1970.
            at_least: whether the right time may also be later.
        """
        ahead = self.now() - right
        if not at_least or ahead < 0:
            self._seen = ahead
        elif self._seen is not None and self._seen < 0:
            self._seen = None  # it was behind, and is not any more as far as this tells

    def verified(self) -> None:
        """Remembers the time, now and then: a controller was spoken to. Writes to the disk.

        A clock that cannot be believed is not remembered.
        """
        if not self.sane or time.monotonic() - self._noted < EVERY:
            return
        self._noted = time.monotonic()
        now = self.now()
        try:
            atomic.write_file(self._path, json.dumps({"unix": int(now)}).encode() + b"\n")
        except StoreError as exc:
            logger.warning("the time is not remembered: %s", exc)
        else:
            self._remembered = now

    def _read(self) -> float:
        try:
            return float(json.loads(self._path.read_bytes()[:1000])["unix"])
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError, TypeError, KeyError) as exc:
            logger.warning("cannot read %s: %s; the clock is not held to it", self._path, exc)
            return 0.0


def _synchronised() -> bool:
    """Whether somebody keeps the clock right, as adjtimex(2) has it."""
    timex = ctypes.create_string_buffer(_TIMEX)  # all zero: nothing is to be changed
    try:
        state: int = ctypes.CDLL(None).adjtimex(timex)
    except (OSError, AttributeError):
        return False
    return 0 <= state < _TIME_ERROR
