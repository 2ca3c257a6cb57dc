"""The dialect iothub over a real link to the tests' hub: twin, reports, methods, telemetry, login."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edged.config.mqtt import Mqtt
from edged.mqtt import iothub
from edged.mqtt.backoff import Backoff
from edged.mqtt.control import Answer, Report
from edged.mqtt.iothub import credentials, date, dps
from edged.mqtt.iothub import dialect as module
from edged.mqtt.link import Link
from edged.mqtt.outbox import Outbox
from edged.mqtt.session import Times
from edged.mqtt.wallclock import Wallclock
from tests.fakes.hub import Hub
from tests.unit.mqtt.links import LIMIT, until


class Control:
    """A device that notes what is asked of it."""

    def __init__(self) -> None:
        self.twins: list[tuple[dict[str, Any], int]] = []
        self.calls: list[tuple[str, bytes]] = []
        self.own: dict[str, Any] = {"seq": 0}
        self.agent: dict[str, Any] | None = None
        self.news = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()

    def document(self, payload: bytes) -> None:
        raise AssertionError("that is of another dialect")

    def twin(self, desired: Mapping[str, Any], version: int) -> None:
        self.twins.append((dict(desired), version))

    async def call(self, name: str, payload: bytes) -> Answer:
        self.calls.append((name, payload))
        await self.hold.wait()
        return Answer(200 if name == "ping" else 404, b'{"name":"%b"}' % name.encode())

    def tell(self, **own: Any) -> None:
        self.own = {"seq": self.own["seq"] + 1, **own}
        self.news.set()

    async def reports(self) -> AsyncIterator[Report]:
        while True:
            self.news.clear()
            yield Report(self.own, self.agent)
            await self.news.wait()

    def farewell(self) -> Report:
        return Report({**self.own, "state": "stopped"}, self.agent)


@dataclass
class Device:
    """A device with its link."""

    control: Control
    clock: Wallclock
    link: Link
    box: Outbox
    dialect: Any
    folder: Path
    seconds: list[float] = field(default_factory=lambda: [0.0])


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "hub") as running:
        yield running


def settings(hub: Hub, **more: Any) -> Mqtt:
    return Mqtt("iothub", port=hub.port, ca_file=hub.authority.ca, **more)


@asynccontextmanager
async def device(
    given: Mqtt, folder: Path, clock: Callable[[], float] | None = None, longest: float = 0.3
) -> AsyncIterator[Device]:
    folder.mkdir(exist_ok=True)
    control = Control()
    # No help from this machine's kernel, which knows the time.
    wallclock = Wallclock(folder, synchronised=lambda: False)
    if clock is not None:
        wallclock = Wallclock(folder, clock=clock, synchronised=lambda: False)
    dialect = iothub.make(given, control, wallclock, folder)
    box = Outbox(folder, 16 << 20)
    await box.start()
    link = Link(dialect, box, backoff=Backoff(0.05, longest), times=Times(answer=5.0))
    running = asyncio.ensure_future(link.run())
    try:
        yield Device(control, wallclock, link, box, dialect, folder)
        await dialect.leave()
    finally:
        running.cancel()
        await asyncio.wait({running}, timeout=LIMIT)
        assert running.cancelled()
        await box.stop()


def test_a_device_synchronises_reports_answers_and_sends(hub: Hub, tmp_path: Path) -> None:
    me = hub.register("line4")
    hub.desired("line4", {"edged": {"image": "a"}, "other": {"x": [1, 2]}})

    async def work() -> None:
        given = settings(hub, connection_string=me.connection_string)
        async with device(given, tmp_path / "mqtt") as it:
            control = it.control
            await until(lambda: control.twins)
            desired, version = control.twins[0]
            assert desired == {"edged": {"image": "a"}, "other": {"x": [1, 2]}}
            hub.desired("line4", {"edged": {"image": None, "status": "stopped"}})
            await until(lambda: len(control.twins) == 2)
            after = {"edged": {"status": "stopped"}, "other": {"x": [1, 2]}}
            assert control.twins[1] == (after, version + 1)

            await until(lambda: hub.reported("line4").get("edged") == {"seq": 0})
            control.tell(model={"name": "m", "list": [1]}, gone=1)
            await until(lambda: hub.reported("line4")["edged"].get("gone") == 1)
            control.tell(model={"name": "m"})
            expected = {"seq": 2, "model": {"name": "m"}}
            await until(lambda: hub.reported("line4")["edged"] == expected)

            answer = await asyncio.to_thread(hub.invoke, "line4", "ping", {"a": 1}, 10)
            assert answer == (200, {"name": "ping"})
            assert control.calls == [("ping", b'{"a":1}')] or json.loads(control.calls[0][1])
            status, _ = await asyncio.to_thread(hub.invoke, "line4", "fly", {}, 10)
            assert status == 404

            it.box.put("telemetry", b'{"n":1}')
            it.box.put("result", b'{"n":2}')
            await until(lambda: len(hub.telemetry("line4")) == 2)
            first, second = hub.telemetry("line4")
            assert (first.body, second.body) == (b'{"n":1}', b'{"n":2}')
            wanted = {"$.ct": "application/json", "$.ce": "utf-8", "kind": "telemetry"}
            assert first.properties == wanted
        await until(lambda: hub.reported("line4")["edged"].get("state") == "stopped")
        assert not [each for each in hub.telemetry("line4") if each.will]

    asyncio.run(work())
    assert not hub.front.refused
    assert not hub.front.closed


def test_a_module_has_its_own_twin(hub: Hub, tmp_path: Path) -> None:
    me = hub.register("line4/$edgeAgent")
    hub.desired("line4/$edgeAgent", {"schemaVersion": "1.1"})

    async def work() -> None:
        given = settings(hub, connection_string=me.connection_string)
        async with device(given, tmp_path / "mqtt") as it:
            it.control.agent = {"lastDesiredVersion": 1, "modules": {"m": {"status": "running"}}}
            await until(lambda: it.control.twins)
            assert it.control.twins[0][0] == {"schemaVersion": "1.1"}
            it.control.tell()
            reported = lambda: hub.reported("line4/$edgeAgent")  # noqa: E731
            await until(lambda: reported().get("lastDesiredVersion") == 1)
            it.control.agent = None
            it.control.tell()
            await until(lambda: "lastDesiredVersion" not in reported())
            assert "modules" not in reported()
            it.box.put("event", b"{}")
            await until(lambda: hub.telemetry("line4/$edgeAgent"))

    asyncio.run(work())
