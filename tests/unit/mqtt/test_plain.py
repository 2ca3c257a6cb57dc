"""The dialect plain: which messages are obeyed, what is answered, what is reported when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edged.errors import ConfigError
from edged.mqtt.agent import Agent
from edged.mqtt.control import Answer, Report
from edged.mqtt.dialect import Endpoint, Message
from edged.mqtt.plain import Plain, check_device
from tests.fakes.steered import Steered

ROOT = "edged/v1/line4"


class Control:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.documents: list[bytes] = []
        self.calls: list[tuple[str, bytes]] = []
        self.more = asyncio.Event()

    def document(self, payload: bytes) -> None:
        self.documents.append(payload)

    def twin(self, desired: Mapping[str, Any], version: int) -> None:
        raise AssertionError("plain has no twins")

    async def call(self, name: str, payload: bytes) -> Answer:
        self.calls.append((name, payload))
        return Answer(200, b'{"x":1}')

    async def reports(self) -> AsyncIterator[Report]:
        yield Report({"seq": 1})
        await self.more.wait()
        yield Report({"seq": 2})
        await asyncio.Event().wait()

    def farewell(self) -> Report:
        return Report({"seq": 9, "state": "stopped"})


class Session:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, bool]] = []
        self.news = asyncio.Event()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.sent.append((topic.removeprefix(f"{ROOT}/"), json.loads(payload), retain))
        self.news.set()

    async def until(self, count: int) -> None:
        while len(self.sent) < count:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 10)


def made(control: Control) -> Plain:
    return Plain(control, "line4", "boot", lambda: Endpoint("h", 1883, "edged-line4"))


def test_a_session_begins_with_who_is_there_and_how_it_is() -> None:
    async def run() -> None:
        control, session = Control(), Session()
        plain = made(control)
        serving = asyncio.ensure_future(plain.serve(session))
        await session.until(2)
        assert session.sent == [
            ("online", {"online": True, "boot_id": "boot"}, True),
            ("reported", {"seq": 1}, True),
        ]
        control.more.set()
        await session.until(3)
        plain.received(Message(f"{ROOT}/command/ping", b'{"correlation":"c1","a":2}'))
        plain.received(Message(f"{ROOT}/command/ping", b""))
        await session.until(5)
        answer = {"status": 200, "payload": {"x": 1}}
        assert session.sent[3:] == [
            ("answer/ping", {**answer, "correlation": "c1"}, False),
            ("answer/ping", answer, False),
        ]
        assert control.calls == [("ping", b'{"a": 2}'), ("ping", b"")]
        await plain.leave()
        goodbye = ("online", {"online": False, "boot_id": "boot"}, True)
        assert session.sent[-2:] == [("reported", {"seq": 9, "state": "stopped"}, True), goodbye]
        serving.cancel()
        await asyncio.wait([serving])
        await plain.leave()
        assert session.sent[-1] == goodbye, "there is nobody to tell any more"

    asyncio.run(run())


def test_the_will_says_that_nobody_is_there() -> None:
    async def run() -> None:
        endpoint = await made(Control()).endpoint()
        assert endpoint.will is not None
        assert (endpoint.will.topic, endpoint.will.retain) == (f"{ROOT}/online", True)
        assert json.loads(endpoint.will.payload)["online"] is False

    asyncio.run(run())


def test_what_is_desired_is_taken_and_foreign_topics_are_not() -> None:
    async def run() -> None:
        control = Control()
        plain = made(control)
        plain.received(Message(f"{ROOT}/desired", b"{}", retained=True))
        plain.received(Message("edged/v1/other/desired", b"x"))
        plain.received(Message("", b"x"))
        assert control.documents == [b"{}"]
        assert plain.outgoing("event", b"x") == (f"{ROOT}/event", b"x")

    asyncio.run(run())


def test_a_retained_command_is_not_obeyed_and_a_flood_is_bounded() -> None:
    async def run() -> None:
        control, session = Control(), Session()
        plain = made(control)
        plain.received(Message(f"{ROOT}/command/Undeploy", b"{}", retained=True))
        for _ in range(1000):
            plain.received(Message(f"{ROOT}/command/ping", b"{}"))
        serving = asyncio.ensure_future(plain.serve(session))
        await session.until(2 + 32)
        serving.cancel()
        await asyncio.wait([serving])
        assert len(control.calls) == 32
        assert {name for name, _ in control.calls} == {"ping"}

    asyncio.run(run())


@pytest.mark.parametrize("payload", [b"{", b"\xff", b"[1]", b"[" * 99_999, b'{"correlation":[]}'])
def test_a_command_that_is_no_json_still_gets_its_answer(payload: bytes) -> None:
    async def run() -> None:
        session = Session()
        plain = made(Control())
        plain.received(Message(f"{ROOT}/command/ping", payload))
        serving = asyncio.ensure_future(plain.serve(session))
        await session.until(3)
        serving.cancel()
        await asyncio.wait([serving])

    asyncio.run(run())


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "a b", "é", "x" * 129, "-a"])
def test_a_devices_name_is_one_level_of_a_topic(name: str) -> None:
    with pytest.raises(ConfigError):
        check_device(name)


# -- the agent behind a dialect


class Clock:
    sane = True

    def now(self) -> float:
        return 1_800_000_000.0


def test_reports_come_at_once_on_change_and_as_they_age(tmp_path: Path) -> None:
    async def run() -> None:
        device = Steered()
        agent = Agent(device, tmp_path, Clock(), 2)
        reports = agent.reports()
        loop = asyncio.get_running_loop()
        first = (await reports.__anext__()).own
        began = loop.time()
        device.change(state="serving")
        second = (await reports.__anext__()).own
        assert 0.4 < loop.time() - began < 0.95, "coalesced, and sooner than by age"
        assert (first["state"], second["state"]) == ("not_serving", "serving")
        began = loop.time()
        third = (await reports.__anext__()).own
        assert 0.9 < loop.time() - began < 5
        assert [each["seq"] for each in (first, second, third)] == [1, 2, 3]
        assert first["boot_id"] == third["boot_id"]
        assert agent.farewell().own["state"] == "stopping"
        await agent.stop()

    asyncio.run(run())


def test_a_change_while_a_report_is_under_way_is_not_lost(tmp_path: Path) -> None:
    async def run() -> None:
        device = Steered()
        agent = Agent(device, tmp_path, Clock(), 3600)
        reports = agent.reports()
        await reports.__anext__()
        device.change(state="starting")  # while it is being published
        assert (await asyncio.wait_for(reports.__anext__(), 10)).own["state"] == "starting"
        await agent.stop()

    asyncio.run(run())


def test_each_start_has_another_boot_id(tmp_path: Path) -> None:
    async def run() -> None:
        ids = {Agent(Steered(), tmp_path, Clock(), 60).boot_id for _ in range(20)}
        assert len(ids) == 20

    asyncio.run(run())


def test_an_agents_state_is_reported_once_a_manifest_came(tmp_path: Path) -> None:
    async def run() -> None:
        agent = Agent(Steered(), tmp_path, Clock(), 60)
        assert agent.farewell().agent is None
        agent.twin({"schemaVersion": "1.1", "modules": {}}, 7)
        reported = agent.farewell().agent
        assert reported is not None
        assert reported["lastDesiredVersion"] == 7
        await agent.stop()
        edge = Agent(Steered(), tmp_path / "none", Clock(), 60, is_edge=True)
        assert edge.farewell().agent is not None

    asyncio.run(run())
