"""A process waits behind others for the processor, and is equal to them again afterwards."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.osutil import priority


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True
    )
    yield process.pid
    process.kill()
    process.wait()


def test_where_sessions_are_groups_the_sessions_priority_is_changed(sleeper: int) -> None:
    if not priority._autogroups():
        pytest.skip("this kernel does not schedule sessions as groups")

    def shown() -> str:
        return Path(f"/proc/{sleeper}/autogroup").read_text().split()[-1]

    assert asyncio.run(priority.set_behind(sleeper))
    assert shown() == str(priority.BEHIND)
    # An ordinary user is let wait between two changes, and gets there.
    assert asyncio.run(priority.set_usual(sleeper))
    assert shown() == "0"


def test_elsewhere_the_processs_own_if_it_can_be_changed_back(
    sleeper: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(priority, "_AUTOGROUPS", Path("/nonexistent"))
    monkeypatch.setattr(priority, "_may_raise", lambda: False)
    assert not asyncio.run(priority.set_behind(sleeper))
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, sleeper) == own
    monkeypatch.undo()
    monkeypatch.setattr(priority, "_AUTOGROUPS", Path("/nonexistent"))
    if not priority._may_raise():
        pytest.skip("this user may not raise a priority again")
    assert asyncio.run(priority.set_behind(sleeper))
    assert os.getpriority(os.PRIO_PROCESS, sleeper) == min(own + priority.BEHIND, 19)
    assert asyncio.run(priority.set_usual(sleeper))
    assert os.getpriority(os.PRIO_PROCESS, sleeper) == own


def test_a_process_that_is_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for change in (priority.set_behind, priority.set_usual):
        assert not asyncio.run(change(process.pid))
