"""The service manager hears what it asked for, and only if it asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
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


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield end


def test_a_reload_is_announced_with_its_time(manager: socket.socket) -> None:
    before = time.monotonic_ns() // 1000
    systemd.reloading()
    first, second = manager.recv(1000).decode().splitlines()
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000


def test_a_long_step_asks_for_more_time_until_it_has_ended(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "EXTENSION", 0.03)

    async def step() -> str:
        for _ in range(3):
            await asyncio.get_running_loop().run_in_executor(None, manager.recv, 1000)
        return "done"

    assert asyncio.run(systemd.extending(step(), 60.0)) == "done"


def test_a_step_that_hangs_is_not_given_time_for_ever(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "EXTENSION", 0.03)

    async def run() -> None:
        step = asyncio.create_task(systemd.extending(asyncio.sleep(60), 0.05))
        await asyncio.wait([step], timeout=0.3)
        step.cancel()

    asyncio.run(run())
    manager.setblocking(False)
    asked = []
    with contextlib.suppress(BlockingIOError):
        while True:
            asked.append(int(manager.recv(1000).decode().partition("=")[2]))
    assert sum(asked) < 1_000_000
    assert asked[-1] < 30_000


def test_a_step_that_fails_fails(manager: socket.socket) -> None:
    async def step() -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        asyncio.run(systemd.extending(step(), 60.0))
