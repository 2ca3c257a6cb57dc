"""The dialect iothub over a real link to the tests' hub: twin, reports, methods, login."""

from __future__ import annotations

import asyncio
import http.server
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edged.config.mqtt import Mqtt
from edged.errors import LinkError
from edged.mqtt import iothub
from edged.mqtt.backoff import Backoff
from edged.mqtt.control import Answer, Report
from edged.mqtt.iothub import credentials, date, dps, requests
from edged.mqtt.iothub import dialect as module
from edged.mqtt.link import Link
from edged.mqtt.outbox import Outbox
from edged.mqtt.session import Times
from edged.mqtt.wallclock import Wallclock
from tests.fakes.hub import Hub, HubError
from tests.fakes.hub.identities import new_key
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
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - a test may wait for that
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
        yield Device(control, wallclock, link, box)
        with suppress(LinkError):  # the session may have ended
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
            assert [(name, json.loads(body)) for name, body in control.calls] == [
                ("ping", {"a": 1})
            ]
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
    name = "line4/$edgeAgent"
    me = hub.register(name)
    hub.desired(name, {"schemaVersion": "1.1"})

    async def work() -> None:
        given = settings(hub, connection_string=me.connection_string)
        async with device(given, tmp_path / "mqtt") as it:
            it.control.agent = {"lastDesiredVersion": 1, "modules": {"m": {"status": "running"}}}
            await until(lambda: it.control.twins)
            assert it.control.twins[0][0] == {"schemaVersion": "1.1"}
            it.control.tell()
            await until(lambda: hub.reported(name).get("lastDesiredVersion") == 1)
            it.control.agent = None
            it.control.tell()
            await until(lambda: "lastDesiredVersion" not in hub.reported(name))
            assert "modules" not in hub.reported(name)
            it.box.put("event", b"{}")
            await until(lambda: hub.telemetry(name))

    asyncio.run(work())


# -- the twin over bad links


def keyed(hub: Hub, name: str = "line4", **more: Any) -> Mqtt:
    """A device with a key, known to the hub."""
    return settings(hub, connection_string=hub.register(name).connection_string, **more)


async def up(it: Device) -> None:
    await until(lambda: it.link.state.up and it.control.twins)


def test_a_patch_that_got_lost_is_made_good_by_the_next(hub: Hub, tmp_path: Path) -> None:
    given = keyed(hub)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
            hub.desired("line4", {"a": 1}, deliver=False)
            hub.desired("line4", {"b": 2})
            await until(lambda: it.control.twins[-1] == ({"a": 1, "b": 2}, hub.version("line4")))

    asyncio.run(work())


def test_patches_that_come_late_again_or_in_disorder_change_nothing(
    hub: Hub, tmp_path: Path
) -> None:
    given = keyed(hub)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
            first = hub.desired("line4", {"a": 1}, deliver=False)
            second = hub.desired("line4", {"a": 2})
            await until(lambda: it.control.twins[-1][0] == {"a": 2})
            for patch in (first, second, first):
                hub.deliver("line4", patch)
            hub.desired("line4", {"last": 1})
            await until(lambda: it.control.twins[-1][0] == {"a": 2, "last": 1})
            versions = [version for _, version in it.control.twins]
            assert versions == sorted(versions)
            assert all(twin.get("a") != 1 for twin, _ in it.control.twins)

    asyncio.run(work())


def test_what_changed_while_the_link_was_down_is_taken_at_the_next(
    hub: Hub, tmp_path: Path
) -> None:
    given = keyed(hub)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
            await asyncio.to_thread(hub.stop)
            await until(lambda: not it.link.state.up)
            hub.desired("line4", {"a": 1}, deliver=False)
            it.control.tell(state="changed")
            await asyncio.to_thread(hub.start)
            await until(lambda: it.control.twins[-1][0] == {"a": 1})
            expected = {"seq": 1, "state": "changed"}
            await until(lambda: hub.reported("line4").get("edged") == expected)

    asyncio.run(work())


def test_the_twin_is_asked_for_now_and_then_too(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REREAD", 0.2)
    given = keyed(hub)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
            hub.desired("line4", {"a": 1}, deliver=False)
            await until(lambda: it.control.twins[-1][0] == {"a": 1})
            assert it.link.state.connections == 1

    asyncio.run(work())


@pytest.mark.parametrize("operation", ["get", "reported"])
@pytest.mark.parametrize("status", [429, pytest.param(503, marks=pytest.mark.long), None])
def test_a_busy_hub_is_asked_again(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    status: int | None,
) -> None:
    monkeypatch.setattr(requests, "BUSY", (0.02, 0.1))
    monkeypatch.setattr(requests, "ANSWER_LIMIT", 0.3)
    given = keyed(hub)
    hub.fail(status, times=2, operation=operation)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await until(lambda: hub.reported("line4").get("edged") == {"seq": 0})
            assert it.control.twins
            assert it.link.state.connections == 1

    asyncio.run(work())


def test_a_hub_that_answers_nothing_ends_the_connection(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "ANSWER_LIMIT", 0.05)
    given = keyed(hub)
    hub.fail(None, times=requests.TRIES, operation="get")

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await until(lambda: it.link.state.reason)
            assert "cannot get an answer of the hub" in it.link.state.reason
            await up(it)

    asyncio.run(work())


def test_a_report_that_the_hub_refuses_stops_nothing(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFUSED", (0.02, 0.1))
    given = keyed(hub)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
            it.control.tell(text="x" * 5000)  # the hub takes 4096 bytes
            await until(lambda: any(each.status == 400 for each in hub.reports("line4")))
            it.control.tell(text="x")
            await until(lambda: hub.reported("line4").get("edged") == {"seq": 2, "text": "x"})
            assert it.link.state.connections == 1

    asyncio.run(work())


def test_evicted_it_comes_back(hub: Hub, tmp_path: Path) -> None:
    given = keyed(hub)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
            await asyncio.to_thread(hub.evict, "line4")
            await until(lambda: it.link.state.connections == 2 and hub.connected("line4"))

    asyncio.run(work())


def test_without_a_word_the_will_is_published(hub: Hub, tmp_path: Path) -> None:
    given = keyed(hub)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
            hub.cut("line4")
            await until(lambda: any(each.will for each in hub.telemetry("line4")))
            (will,) = (each for each in hub.telemetry("line4") if each.will)
            assert will.json() == {"event": "link lost", "device": "line4"}

    asyncio.run(work())


# -- methods


def test_more_methods_than_can_wait_are_told_so_and_the_rest_is_answered(
    hub: Hub, tmp_path: Path
) -> None:
    given = keyed(hub)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
            it.control.hold.clear()
            count = module.METHODS + module.METHODS_AT_ONCE + 20
            with ThreadPoolExecutor(count) as pool:
                loop = asyncio.get_running_loop()
                calls = [
                    loop.run_in_executor(pool, hub.invoke, "line4", "ping", {}, LIMIT)
                    for _ in range(count)
                ]
                await until(lambda: sum(call.done() for call in calls) >= 20)
                assert {call.result()[0] for call in calls if call.done()} == {429}
                it.control.hold.set()
                statuses = [status for status, _ in await asyncio.gather(*calls)]
            assert statuses.count(200) == count - statuses.count(429) >= module.METHODS
            assert await asyncio.to_thread(hub.invoke, "line4", "ping", {}, LIMIT)

    asyncio.run(work())


def test_a_call_is_not_answered_over_another_connection(hub: Hub, tmp_path: Path) -> None:
    given = keyed(hub)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
            it.control.hold.clear()
            calling = asyncio.ensure_future(asyncio.to_thread(hub.invoke, "line4", "ping", {}, 1.5))
            await until(lambda: it.control.calls)
            hub.cut("line4")
            await until(lambda: it.link.state.connections == 2 and hub.connected("line4"))
            it.control.hold.set()
            with pytest.raises(HubError, match="504"):
                await calling
            assert await asyncio.to_thread(hub.invoke, "line4", "ping", {}, LIMIT)

    asyncio.run(work())


# -- credentials and clocks


def test_a_signature_is_renewed_before_it_expires_and_nothing_is_lost(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.front.allowance = 0.0
    given = keyed(hub, sas_ttl=4)
    monkeypatch.setattr(credentials, "RENEW", (0.4, 0.5))

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            n = 0
            while it.link.state.connections < 3:
                it.box.put("telemetry", b"%d" % n)
                n += 1
                await asyncio.sleep(0.01)
            await until(lambda: not it.box.pending)
            arrived = [int(each.body) for each in hub.telemetry("line4")]
            assert arrived == list(range(n))

    asyncio.run(work())
    assert not hub.front.refused
    assert not [reason for reason in hub.front.closed if "expired" in reason]


def test_a_key_that_is_wrong_is_named_and_can_be_changed(hub: Hub, tmp_path: Path) -> None:
    right = hub.register("line4").connection_string
    secret = tmp_path / "secret"
    wrong = right.partition("SharedAccessKey=")[0] + "SharedAccessKey=AAAA"
    secret.write_text(wrong)

    async def work() -> None:
        given = settings(hub, connection_string_file=secret)
        async with device(given, tmp_path / "mqtt") as it:
            await until(lambda: it.link.state.reason, 5)
            assert "the signature of 'line4' is not accepted" in it.link.state.reason
            assert "check the key" in it.link.state.fix
            assert "clock, which reads 2" in it.link.state.fix
            secret.write_text("HostName=localhost;Device=x")
            await until(lambda: "DeviceId" in it.link.state.reason)
            secret.write_text(right)
            await up(it)

    asyncio.run(work())


YEAR_1970 = 86_400.0


def test_with_a_clock_from_1970_nothing_is_signed_until_it_is_set(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOCK_EVERY", 0.02)
    given = keyed(hub)
    offset = [YEAR_1970 - time.time()]

    async def work() -> None:
        clock = lambda: time.time() + offset[0]  # noqa: E731
        async with device(given, tmp_path / "mqtt", clock, longest=300.0) as it:
            await until(lambda: it.link.state.reason, 5)
            state = it.link.state
            assert "this device's clock cannot be believed: it reads 1970-01-02" in state.reason
            assert "set the clock" in state.fix
            assert (it.clock.skew or 0) < -50 * 365 * 86400
            assert hub.connects("line4") == 0
            assert not hub.front.refused
            offset[0] = 0.0
            await up(it)
            assert it.clock.skew is None

    asyncio.run(work())


def test_with_a_clock_from_1970_a_certificate_goes_on_and_is_looked_at_once_it_is_set(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOCK_EVERY", 0.02)
    hub.register("line4", x509=True)
    issued = hub.authority.client("line4")
    hub.show(hub.authority.expired())  # by a right clock; ours cannot tell
    offset = [YEAR_1970 - time.time()]

    async def work() -> None:
        given = settings(
            hub,
            host="localhost",
            device="line4",
            cert_file=issued.certificate,
            key_file=issued.key,
        )
        clock = lambda: time.time() + offset[0]  # noqa: E731
        async with device(given, tmp_path / "mqtt", clock) as it:
            await up(it)
            offset[0] = 0.0
            await until(lambda: "its certificate has expired" in it.link.state.reason)
            hub.show(hub.authority.server("localhost"))
            await until(lambda: it.link.state.up)
            assert hub.connects("line4") == 2

    asyncio.run(work())


class Answering(http.server.BaseHTTPRequestHandler):
    """Tells the time, some of it wrong."""

    ahead = 0.0

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() + self.ahead)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("ahead", [7200.0, -86400.0 * 400])
def test_a_clock_that_the_hub_does_not_share_is_the_reason_that_is_named(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    hub.skew = ahead
    monkeypatch.setattr(Answering, "ahead", ahead)
    given = keyed(hub)
    if ahead < 0:
        hub.refuse(5, 1000)  # a hub may do that too
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(hub.authority.certificate, hub.authority.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        monkeypatch.setattr(date, "PORT", server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()

        async def work() -> None:
            async with device(given, tmp_path / "mqtt") as it:
                await until(lambda: "this device's clock is" in it.link.state.reason, 5)
                side = "behind" if ahead > 0 else "ahead of"
                assert f" s {side} the hub's" in it.link.state.reason
                assert it.link.state.fix.startswith("set the clock")
                assert it.clock.skew == pytest.approx(-ahead, abs=10)
                hub.skew = 0.0
                hub.refuse(0, 0)
                await up(it)

        asyncio.run(work())
        server.shutdown()


# -- provisioning


def registered(hub: Hub, **more: Any) -> Mqtt:
    return settings(
        hub,
        id_scope=hub.provisioning.scope,
        registration="line4",
        provisioning_host="localhost",
        provisioning_port=hub.port,
        **more,
    )


@pytest.mark.parametrize("way", ["group", "key", "certificate"])
def test_a_device_is_provisioned_once_and_knows_its_hub_from_then_on(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(dps, "PAUSES", (0.02, 0.1))
    hub.provisioning.polls = 2
    issued = hub.authority.client("line4")
    key = new_key()
    if way == "group":
        given = registered(hub, group_key=hub.provisioning.group_key)
    elif way == "key":
        hub.provisioning.enrol("line4", key)
        given = registered(hub, shared_key=key)
    else:
        hub.provisioning.enrol("line4")
        given = registered(hub, cert_file=issued.certificate, key_file=issued.key)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
        asked = len(hub.provisioning.asked)
        assert hub.provisioning.asked[0] == ("PUT", "line4")
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
        assert len(hub.provisioning.asked) == asked
        secret = given.group_key or given.shared_key
        for path in (tmp_path / "mqtt").iterdir():
            assert not secret or secret.encode() not in path.read_bytes()

    asyncio.run(work())


def test_a_hub_that_does_not_know_the_device_any_more_has_it_provisioned_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dps, "PAUSES", (0.02, 0.1))
    given = registered(hub, group_key=hub.provisioning.group_key)

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await up(it)
            asked = len(hub.provisioning.asked)
            hub.forget("line4")
            await until(lambda: len(hub.provisioning.asked) > asked)
            await until(lambda: it.link.state.up and it.link.state.connections == 2)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("outcome", "busy", "scope", "reason"),
    [
        ("failed", 0, "", "the registration is failed Custom allocation failed"),
        ("disabled", 0, "", "the registration is disabled"),
        ("assigned", 1, "", "it is busy (429)"),
        ("assigned", 0, "0neWRONG", "cannot log in to localhost:"),
    ],
)
def test_a_registration_that_fails_is_named_and_tried_again(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: str,
    busy: int,
    scope: str,
    reason: str,
) -> None:
    monkeypatch.setattr(dps, "PAUSES", (0.02, 0.1))
    hub.provisioning.outcome, hub.provisioning.busy = outcome, busy
    right = hub.provisioning.scope
    given = registered(hub, group_key=hub.provisioning.group_key)
    if scope:
        hub.provisioning.scope = scope

    async def work() -> None:
        async with device(given, tmp_path / "mqtt") as it:
            await until(lambda: it.link.state.reason, 5)
            assert reason in it.link.state.reason
            assert it.link.state.fix
            hub.provisioning.outcome, hub.provisioning.scope = "assigned", right
            await up(it)

    asyncio.run(work())
