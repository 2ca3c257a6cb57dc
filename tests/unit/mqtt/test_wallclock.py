"""When the clock is believed, what is remembered of it, and what is said of its error."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.config import version
from edged.mqtt import wallclock
from edged.mqtt.wallclock import FILE, Wallclock

DAY, YEAR = 86400.0, 365 * 86400.0
BUILT = 1_800_000_000.0


class Time:
    """A clock that tests set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def made(folder: Path, clock: Callable[[], float], synchronised: bool = False) -> Wallclock:
    return Wallclock(folder, clock=clock, synchronised=lambda: synchronised, built=BUILT)


def test_a_clock_before_the_build_is_not_believed_even_if_it_is_synchronised(
    tmp_path: Path,
) -> None:
    clock = Time(DAY)
    for synchronised in (False, True):
        it = made(tmp_path, clock, synchronised)
        assert not it.sane
        assert "1970-01-02 00:00 UTC, which is before this edged was built" in it.doubt
        assert it.skew == DAY - BUILT
    clock.now = BUILT + 1
    assert it.sane
    assert (it.doubt, it.skew) == ("", None)


def test_a_clock_before_the_last_time_remembered_is_not_believed(tmp_path: Path) -> None:
    clock = Time(BUILT + YEAR)
    made(tmp_path, clock).verified()

    clock.now = BUILT + DAY
    it = made(tmp_path, clock)
    assert not it.sane
    assert FILE in it.doubt
    assert str(tmp_path / FILE) in it.fix
    assert it.skew == DAY - YEAR
    it.verified()  # is not remembered
    assert made(tmp_path, clock).doubt

    clock.now = BUILT + YEAR - 60  # set back a little, as NTP does
    assert made(tmp_path, clock).sane


def test_what_was_remembered_wrongly_gives_way_to_a_clock_that_is_kept_right(
    tmp_path: Path,
) -> None:
    clock = Time(BUILT + 14 * YEAR)
    made(tmp_path, clock).verified()
    clock.now = BUILT + DAY
    it = made(tmp_path, clock, synchronised=True)
    assert it.sane
    it.verified()
    assert made(tmp_path, clock, synchronised=False).sane


def test_the_disk_is_written_once_in_a_while_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Time(BUILT + DAY)
    it = made(tmp_path, clock)
    it.verified()
    first = (tmp_path / FILE).stat().st_mtime_ns
    for _ in range(10):
        clock.now += 1
        it.verified()
    assert (tmp_path / FILE).stat().st_mtime_ns == first


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"unix": "soon"}', b'{"unix": null}'])
def test_a_file_that_is_damaged_is_passed_over_and_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    it = made(tmp_path, Time(BUILT + DAY))
    assert it.sane
    it.verified()
    assert made(tmp_path, Time(BUILT + 1)).doubt


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_memory(tmp_path: Path) -> None:
    it = made(tmp_path / "missing", Time(BUILT + DAY))
    it.verified()
    assert it.sane


def test_errors_of_the_clock_are_told_as_they_are_seen(tmp_path: Path) -> None:
    clock = Time(BUILT + DAY)
    it = made(tmp_path, clock)
    told = [it.skew]
    for right, at_least in (
        (BUILT + DAY + 30, False),
        (BUILT + DAY - 7200, False),
        (BUILT, True),  # says nothing: it may be later than that
        (BUILT + 2 * DAY, True),
    ):
        it.seen(right, at_least=at_least)
        told.append(it.skew)
    assert told == [None, -30, 7200, 7200, -DAY]


def test_this_machine_is_after_the_build() -> None:
    assert time.time() > version.BUILT_UNIX
    assert wallclock._synchronised() in (True, False)
