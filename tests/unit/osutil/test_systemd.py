"""The service manager hears what it asked for, and only if it asked."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edged.osutil import systemd


def test_nobody_is_told_when_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert systemd.notify(READY="1") is False


def test_fields_arrive_and_a_newline_makes_no_field_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        assert systemd.notify(READY="1", STATUS="a\nMAINPID=1") is True
        assert manager.recv(1000).splitlines() == [b"READY=1", b"STATUS=a MAINPID=1"]


def test_a_manager_that_is_gone_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert systemd.notify(READY="1") is False


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "many"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time(
    environ: dict[str, str], interval: float | None
) -> None:
    assert systemd.watchdog_interval(environ) == interval
