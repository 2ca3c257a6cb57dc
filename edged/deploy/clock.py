"""Two clocks: one that only goes forward while this boot lasts, one that people read.

A device may have no battery for its clock: after a power cut the wall clock can be decades behind
until the network sets it, and then jumps. So durations never come from it; and beside each time of
day that is kept stands the boot it was read in, and for how long the device had been up.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

SET_SINCE = 1_704_067_200  # 2024-01-01: a wall clock before it was never set


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass(frozen=True)
class Moment:
    """When something happened.

    Attributes:
        unix: seconds since 1970 by the wall clock, whatever that is worth.
        boot: which boot of the device.
        up: seconds since that boot, sleep included.
    """

    unix: float
    boot: str
    up: float

    @property
    def is_dated(self) -> bool:
        """Whether the wall clock had been set."""
        return self.unix >= SET_SINCE


class Clock:
    """The device's clocks; tests have their own."""

    def __init__(self) -> None:
        self._boot = _boot_id()

    def now(self) -> Moment:
        """Returns the time by both clocks."""
        return Moment(time.time(), self._boot, time.clock_gettime(time.CLOCK_BOOTTIME))

    def monotonic(self) -> float:
        """Returns seconds that only go forward, for durations."""
        return time.monotonic()
