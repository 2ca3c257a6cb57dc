"""Checks are run each by itself: what one does is nobody else's matter."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from edged.doctor.check import Check, Finding, Group, Result, ok, warning
from edged.doctor.checks import GROUPS
from edged.doctor.examine import examine
from edged.doctor.skip import SkipError
from edged.doctor.world import World
from edged.errors import StoreError
from tests.unit.doctor.made import Made


def results(folder: Path, *checks: Check) -> list[Result]:
    return list(examine([Group("g", checks)], Made(folder)))


def fail(error: BaseException) -> Check:
    def look(world: World) -> Finding:
        raise error

    return Check("fails", look)


def test_there_are_at_least_twenty_checks_and_each_has_a_name_of_its_own() -> None:
    names = [f"{group.name}/{check.name}" for group in GROUPS for check in group.checks]
    assert len(names) == len(set(names)) >= 20


def test_a_check_that_breaks_is_an_error_and_the_others_go_on(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        fail(ZeroDivisionError("by zero")),
        fail(SystemExit(3)),
        fail(StoreError("cannot read x")),
        fail(SkipError("there is none")),
        fail(PermissionError(13, "Permission denied", "/var/lib/edged")),
        Check("two", lambda world: [ok("a"), warning("b", "c")]),
        Check("none", lambda world: []),
    )
    assert [each.finding.level.value for each in found] == [
        "error",
        "error",
        "error",
        "skipped",
        "skipped",
        "ok",
        "warning",
        "skipped",
    ]
    assert "ZeroDivisionError('by zero')" in found[0].finding.reason
    assert "/var/lib/edged; run edged doctor as root" in found[4].finding.reason
    assert found[2].finding.reason == "cannot read x"
    assert all(each.finding.fix for each in found[:3])


def test_a_check_that_hangs_is_left_behind_within_its_time(tmp_path: Path) -> None:
    let_go = threading.Event()

    def hang(world: World) -> Finding:
        let_go.wait()
        return ok("too late")

    began = time.monotonic()
    found = results(
        tmp_path,
        Check("hangs", hang, 0.2),
        Check("hangs too", hang, 0.3),
        Check("fine", lambda world: ok("fine")),
    )
    took = time.monotonic() - began
    let_go.set()
    assert [each.finding.level.value for each in found] == ["error", "error", "ok"]
    assert "not done within 0.2 s" in found[0].finding.reason
    assert took < 5, "they are run at once"


def test_every_check_answers_in_a_world_where_nothing_is_there(tmp_path: Path) -> None:
    world = Made(tmp_path, "runtime = 'docker'")
    found = list(examine(GROUPS, world))
    names = {(each.group, each.check) for each in found}
    assert names == {(group.name, check.name) for group in GROUPS for check in group.checks}
    assert not [each for each in found if "the check itself failed" in each.finding.reason]
    first = found[0]
    assert (first.check, first.finding.level.value) == ("settings", "error")
    assert "runtime" in first.finding.reason
