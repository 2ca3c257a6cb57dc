"""A hold lasts as long as it was meant to, whatever the clocks do, and always ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.deploy.clock import Clock, Moment
from edged.deploy.hold import Holds
from edged.errors import RequestError

NOON = 1_800_000_000.0  # a day in 2027


class Hands(Clock):
    """Clocks that a test sets."""

    def __init__(self, unix: float = NOON, boot: str = "first", up: float = 1000.0) -> None:
        self.unix, self.boot, self.up = unix, boot, up

    def now(self) -> Moment:
        return Moment(self.unix, self.boot, self.up)


def left(holds: Holds) -> float | None:
    return None if holds.current is None else holds.current.left


def test_a_wall_clock_that_jumps_changes_nothing(tmp_path: Path) -> None:
    clock = Hands()
    holds = Holds(tmp_path, clock)
    holds.take("ann", "", 3600)
    clock.unix += 10 * 365 * 86400
    assert left(holds) == 3600
    clock.up += 3599
    assert left(Holds(tmp_path, clock)) == 1, "also when edged starts again"
    clock.up += 1
    assert left(holds) is None
    assert left(Holds(tmp_path, clock)) is None


@pytest.mark.parametrize(
    ("held_at", "restarted_at", "expected"),
    [
        (NOON, NOON + 600, 3000),  # ten minutes off
        (NOON, NOON + 7200, None),  # it ended while the device was off
        (NOON, 12.0, 3600),  # the clock was lost: anew
        (12.0, NOON, 3600),  # it had never been set: anew
        (NOON, NOON - 86400, 3600),  # it went back: anew
    ],
)
def test_after_a_restart_of_the_device_the_wall_clock_decides_if_it_can(
    tmp_path: Path, held_at: float, restarted_at: float, expected: float | None
) -> None:
    Holds(tmp_path, Hands(held_at)).take("ann", "", 3600)
    clock = Hands(restarted_at, boot="second", up=5.0)
    assert left(Holds(tmp_path, clock)) == expected
    clock.up += 3601
    assert left(Holds(tmp_path, clock)) is None, "it ends in any case"


def test_a_clock_that_was_never_set_names_no_day(tmp_path: Path) -> None:
    holds = Holds(tmp_path, Hands(unix=12.0))
    assert holds.take("ann", "audit", 60).sentence() == "held by ann for 60 s more (audit)"


def test_only_its_owner_renews_it_unless_forced(tmp_path: Path) -> None:
    holds = Holds(tmp_path, Hands())
    holds.take("ann", "", 60)
    holds.take("ann", "", 120)
    assert left(holds) == 120
    with pytest.raises(RequestError, match="held by ann"):
        holds.take("bob", "", 60)
    holds.take("bob", "", 60, force=True)
    with pytest.raises(RequestError, match="held by bob") as caught:
        holds.check("deploy oci:x", force=False)
    assert caught.value.code == "FAILED_PRECONDITION"
    holds.check("deploy oci:x", force=True)
    assert holds.release() is not None
    assert holds.release() is None
    holds.check("deploy oci:x", force=False)
