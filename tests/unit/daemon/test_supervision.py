"""The service manager hears what is in service, and the watchdog is fed while all is well."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edged.daemon import supervision
from edged.daemon.supervision import Supervision
from edged.deploy.types import Slot
from edged.model.condition import Condition
from edged.rpc.latency import Latencies

SLOT = Slot("sha256:0123456789abcdef", "oci:x", Path("/nowhere"), name="surface", version="7")


class Manager:
    """systemd's end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def heard(self) -> list[str]:
        found: list[str] = []
        while True:
            try:
                found += self._end.recv(4096, socket.MSG_DONTWAIT).decode().split("\n")
            except BlockingIOError:
                return found


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "40000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        yield Manager(end)


@pytest.fixture
def service() -> Any:
    return SimpleNamespace(condition=Condition("serving"), serving=SLOT, on_change=[])


def test_the_status_text_has_the_model_its_p99_and_the_links(service: Any) -> None:
    times = Latencies()
    told = Supervision(service, times, lambda: "", [lambda: "mqtt connected", lambda: ""])
    assert told.sentence() == "serving surface 7 (sha256:0123456789ab); mqtt connected"
    times.note(0.0123)
    assert told.sentence() == (
        "serving surface 7 (sha256:0123456789ab); p99 12.3 ms of 1 answers; mqtt connected"
    )


def test_without_a_model_it_says_what_to_do(service: Any) -> None:
    service.serving, service.condition = None, Condition("not_serving", "use 'edged deploy REF'")
    told = Supervision(service, Latencies(), lambda: "")
    assert told.sentence() == "not_serving: use 'edged deploy REF'"


def test_a_change_is_told_at_once_and_once(service: Any, manager: Manager) -> None:
    told = Supervision(service, Latencies(), lambda: "")
    told.ready()
    assert manager.heard() == ["READY=1", "STATUS=serving surface 7 (sha256:0123456789ab)"]
    (change,) = service.on_change
    change(service.condition)
    assert manager.heard() == []
    service.condition = Condition("starting", "the model is being loaded")
    change(service.condition)
    assert manager.heard() == [
        "STATUS=starting surface 7 (sha256:0123456789ab): the model is being loaded"
    ]


def test_the_watchdog_is_fed_while_nothing_stands_still(
    service: Any, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "FIGURES", 1000.0)
    troubles = iter(["", "", "the model stands still", "the model stands still", ""])
    told: Supervision

    def trouble() -> str:
        try:
            return next(troubles)
        except StopIteration:
            raise asyncio.CancelledError from None

    told = Supervision(service, Latencies(), trouble)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(told.run())
    assert manager.heard() == ["WATCHDOG=1"] * 3


def test_figures_are_told_from_time_to_time(
    service: Any, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "FIGURES", 0.0)
    monkeypatch.delenv("WATCHDOG_USEC")
    times = Latencies()
    told = Supervision(service, times, lambda: "")
    told.ready()
    manager.heard()

    async def run() -> None:
        task = asyncio.create_task(told.run())
        await asyncio.sleep(0)
        times.note(0.5)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())
    assert [line for line in manager.heard() if "p99" in line] == [
        "STATUS=serving surface 7 (sha256:0123456789ab); p99 500 ms of 1 answers"
    ]
