"""The link, to a real mosquitto: it comes back from everything, loses nothing, leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edged.mqtt import wire
from edged.mqtt.dialect import Message, Will
from edged.mqtt.link import Link
from edged.mqtt.session import Times
from tests.fakes.broker import Broker
from tests.unit.mqtt.links import LIMIT, Plain, at, linked, until


class Listener:
    """Somebody else at the broker: keeps what is published, publishes, over every restart."""

    def __init__(self, broker: Broker, *topics: str) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self.came = threading.Condition()
        self.connects = 0
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
        client.reconnect_delay_set(1, 1)
        client.on_message = lambda *args: self._keep(args[2])
        client.on_connect = lambda *_: self._subscribe(topics)
        client.on_subscribe = lambda *_: self._connected()
        self.client = client
        client.connect(broker.host, broker.port)
        client.loop_start()
        self.wait(lambda: self.connects)

    def _subscribe(self, topics: tuple[str, ...]) -> None:
        self.client.subscribe([(topic, 1) for topic in topics])

    def _keep(self, message: paho.MQTTMessage) -> None:
        with self.came:
            self.messages.append(message)
            self.came.notify_all()

    def _connected(self) -> None:
        with self.came:
            self.connects += 1
            self.came.notify_all()

    def wait(self, condition: Callable[[], object]) -> None:
        with self.came:
            assert self.came.wait_for(condition, LIMIT)

    def payloads(self, topic: str) -> list[bytes]:
        return [bytes(each.payload) for each in self.messages if each.topic == topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as running:
        yield running


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("edged-mqtt")]


def first_seen(payloads: list[bytes]) -> list[int]:
    return list(dict.fromkeys(int(payload) for payload in payloads))


def test_messages_go_both_ways_and_the_end_is_orderly(broker: Broker, tmp_path: Path) -> None:
    listener = Listener(broker, "out/#", "hello", "will")
    dialect = Plain(at(broker.port, will=Will("will", b"gone", retain=False)))

    async def work() -> None:
        async with linked(dialect, tmp_path / "box") as (link, box):
            box.put("telemetry", b"1")
            box.put("event", b"2")
            await until(lambda: link.state.up and not box.pending)
            assert (link.state.reason, link.state.attempts, link.state.connections) == ("", 0, 1)
            listener.client.publish("in/a", b"x", qos=1)
            listener.client.publish("in/b", b"y", qos=1)
            await until(lambda: len(dialect.messages) == 2)
        assert dialect.messages == [Message("in/a", b"x"), Message("in/b", b"y")]
        assert (dialect.served, dialect.ended) == (1, 1)

    asyncio.run(work())
    broker.wait_for("device disconnected")
    listener.client.publish("will", b"end", qos=1)
    listener.wait(lambda: listener.payloads("will"))
    assert listener.payloads("will") == [b"end"], "nobody was told that the device is gone"
    assert listener.payloads("out/telemetry") == [b"1"]
    assert listener.payloads("out/event") == [b"2"]
    assert not threads()
    listener.close()


def test_what_the_broker_kept_arrives_and_says_that_it_was_kept(
    broker: Broker, tmp_path: Path
) -> None:
    listener = Listener(broker, "nothing")
    listener.client.publish("in/desired", b"old", qos=1, retain=True).wait_for_publish(LIMIT)
    dialect = Plain(at(broker.port))

    async def work() -> None:
        async with linked(dialect, tmp_path / "box"):
            await until(lambda: dialect.messages)

    asyncio.run(work())
    assert dialect.messages == [Message("in/desired", b"old", retained=True)]
    listener.close()


def outage(broker: Broker, folder: Path, *, messages: int, seconds: float) -> None:
    """The broker goes while messages are made, and comes back; all arrive, in order."""
    listener = Listener(broker, "out/telemetry")
    dialect = Plain(at(broker.port))

    async def work() -> None:
        async with linked(dialect, folder) as (link, box):
            await until(lambda: link.state.up)
            for n in range(messages):
                box.put("telemetry", b"%d" % n)
                if n == messages // 10:
                    # Killed, it would lose what it has acknowledged and not yet passed on.
                    await asyncio.to_thread(broker.stop)
                if n == messages - messages // 10:
                    await asyncio.sleep(seconds)
                    await asyncio.to_thread(broker.start)
                if n % 50 == 0:
                    await asyncio.sleep(0.001)
            await until(lambda: not box.pending, 120)
            assert box.dropped == 0
            assert link.state.connections >= 2

    asyncio.run(work())
    listener.wait(lambda: len(first_seen(listener.payloads("out/telemetry"))) == messages)
    arrived = listener.payloads("out/telemetry")
    assert first_seen(arrived) == list(range(messages))
    # What was on its way when the broker went comes again, and nothing else.
    assert len(arrived) - messages <= 32 * 4
    listener.close()


def test_an_outage_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    outage(broker, tmp_path / "box", messages=2000, seconds=0.2)


@pytest.mark.long
def test_an_outage_of_a_minute_loses_none_of_ten_thousand(broker: Broker, tmp_path: Path) -> None:
    outage(broker, tmp_path / "box", messages=10_000, seconds=60)


def reconnects(broker: Broker, folder: Path, rounds: int) -> None:
    dialect = Plain(at(broker.port))

    async def work() -> None:
        async with linked(dialect, folder, longest=0.05) as (link, box):
            await until(lambda: link.state.up)
            descriptors = allocated = 0
            for n in range(rounds):
                box.put("telemetry", b"%d" % n)
                seen = link.state.connections
                await asyncio.to_thread(evict, broker.port)
                await until(partial(is_back, link, seen))
                assert len(threads()) <= 2
                if n == rounds // 2:
                    gc.collect()
                    descriptors, allocated = open_descriptors(), len(gc.get_objects())
            await until(lambda: not box.pending)
            gc.collect()
            assert open_descriptors() <= descriptors
            assert len(gc.get_objects()) < allocated + 500
            assert link.state.connections >= rounds

    asyncio.run(work())
    assert not threads()


def is_back(link: Link, seen: int) -> bool:
    return link.state.connections > seen and link.state.up


def evict(port: int) -> None:
    """Connects as the device does: the broker ends the device's own connection."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="device")
    client.connect("127.0.0.1", port)
    deadline = time.monotonic() + LIMIT
    while not client.is_connected():
        assert time.monotonic() < deadline
        client.loop(0.1)
    client.disconnect()
    client.loop(0.1)


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def unheard() -> Iterator[None]:
    """Nobody keeps what is logged, as pytest does."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("unheard")
def test_nothing_grows_with_reconnects(broker: Broker, tmp_path: Path) -> None:
    reconnects(broker, tmp_path / "box", 20)


@pytest.mark.long
@pytest.mark.usefixtures("unheard")
def test_nothing_grows_with_many_reconnects(broker: Broker, tmp_path: Path) -> None:
    reconnects(broker, tmp_path / "box", 500)


def test_a_link_that_is_dead_but_not_closed_is_noticed(broker: Broker, tmp_path: Path) -> None:
    dialect = Plain(at(broker.port, keepalive=1))

    async def work() -> None:
        times = Times(answer=1.0, acknowledge=60.0)
        async with linked(dialect, tmp_path / "box", times=times) as (link, _):
            await until(lambda: link.state.up)
            await asyncio.to_thread(broker.freeze)
            began = time.monotonic()
            await until(lambda: not link.state.up)
            assert time.monotonic() - began < 4
            assert "no answer to a ping within 1 s" in link.state.reason
            await asyncio.to_thread(broker.thaw)
            await until(lambda: link.state.up)

    asyncio.run(work())


def test_a_broker_that_acknowledges_nothing_is_given_up(broker: Broker, tmp_path: Path) -> None:
    dialect = Plain(at(broker.port, keepalive=60))

    async def work() -> None:
        async with linked(dialect, tmp_path / "box") as (link, box):
            await until(lambda: link.state.up)
            await asyncio.to_thread(broker.freeze)
            box.put("telemetry", b"1")
            await until(lambda: not link.state.up)
            assert "no acknowledgement of a message within 1 s" in link.state.reason
            await asyncio.to_thread(broker.thaw)
            await until(lambda: link.state.up and not box.pending)

    asyncio.run(work())


@pytest.mark.parametrize("tls", [False, True])
def test_a_broker_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    from edged.mqtt import tls as context

    monkeypatch.setattr(context, "HANDSHAKE_LIMIT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        dialect = Plain(at(port, tls=context.context() if tls else None))

        async def work() -> None:
            async with linked(dialect, tmp_path / "box") as (link, _):
                await until(lambda: link.state.reason)
                expected = "no TLS handshake within 1 s" if tls else "no answer to our log-in"
                assert expected in link.state.reason
                await until(lambda: link.state.attempts >= 2)

        asyncio.run(work())
    assert not threads()


def test_a_look_up_that_hangs_does_not_hold_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    asked = threading.Event()

    def hang(*_: object, **__: object) -> None:
        asked.set()
        release.wait(LIMIT)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    dialect = Plain(at(1883, host="broker.example"))

    async def work() -> None:
        async with linked(dialect, tmp_path / "box") as (link, _):
            await until(asked.is_set)
            began = time.monotonic()
            for _ in range(100):
                await asyncio.sleep(0)
            assert time.monotonic() - began < 1
            assert len(threads()) == 1
            release.set()
            await until(lambda: link.state.reason)
            assert "cannot find broker.example" in link.state.reason

    asyncio.run(work())


def test_an_end_during_a_look_up_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edged.mqtt.session.CLOSE_LIMIT", 0.2)
    release = threading.Event()

    def hang(*_: object, **__: object) -> None:
        release.wait(LIMIT)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def work() -> None:
        async with linked(Plain(at(1883, host="broker.example")), tmp_path / "box"):
            await until(threads)

    began = time.monotonic()
    asyncio.run(work())
    assert time.monotonic() - began < 5
    release.set()


def test_credentials_that_expire_are_renewed_with_nothing_lost(
    broker: Broker, tmp_path: Path
) -> None:
    listener = Listener(broker, "out/telemetry", "will")
    dialect = Plain(at(broker.port, renew_in=1.2, will=Will("will", b"gone", retain=False)))

    async def work() -> None:
        async with linked(dialect, tmp_path / "box") as (link, box):
            n = 0
            while link.state.connections < 3:
                box.put("telemetry", b"%d" % n)
                n += 1
                await asyncio.sleep(0.002)
            await until(lambda: not box.pending)
            listener.wait(lambda: len(listener.messages) >= n)

    asyncio.run(work())
    numbers = [int(payload) for payload in listener.payloads("out/telemetry")]
    assert numbers == list(range(len(numbers))), "in order, none twice"
    assert not listener.payloads("will")
    listener.close()


def test_messages_faster_than_the_loop_takes_are_not_lost(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "RECEIVED_LIMIT", 4)
    listener = Listener(broker, "nothing")
    dialect = Plain(at(broker.port))

    async def work() -> None:
        async with linked(dialect, tmp_path / "box") as (link, _):
            await until(lambda: link.state.up)
            for n in range(300):
                listener.client.publish("in/x", b"%d" % n, qos=1)
            time.sleep(0.3)  # noqa: ASYNC251 - the loop is busy, as it should not be
            await until(lambda: len(dialect.messages) == 300)

    asyncio.run(work())
    assert [int(message.payload) for message in dialect.messages] == list(range(300))
    listener.close()


def test_a_message_too_large_ends_the_connection_and_says_so(
    broker: Broker, tmp_path: Path
) -> None:
    listener = Listener(broker, "nothing")
    dialect = Plain(at(broker.port))

    async def work() -> None:
        async with linked(dialect, tmp_path / "box") as (link, _):
            await until(lambda: link.state.up)
            listener.client.publish("in/x", bytes(8 << 20), qos=0)
            await until(lambda: link.state.reason)
            assert "it sends a packet of 8388" in link.state.reason
            await until(lambda: link.state.up)

    asyncio.run(work())
    assert dialect.messages == []
    listener.close()


def test_a_dialect_that_fails_is_said_and_tried_again(broker: Broker, tmp_path: Path) -> None:
    class Failing(Plain):
        async def serve(self, session: object) -> None:
            self.served += 1
            if self.served < 3:
                raise ZeroDivisionError
            await asyncio.Event().wait()

        def received(self, message: Message) -> None:
            super().received(message)
            raise ZeroDivisionError

    dialect = Failing(at(broker.port))
    listener = Listener(broker, "nothing")

    async def work() -> None:
        async with linked(dialect, tmp_path / "box") as (link, _):
            await until(lambda: link.state.reason)
            assert "this is a fault of edged's" in link.state.fix
            await until(lambda: link.state.up and dialect.served == 3)
            listener.client.publish("in/x", b"1", qos=1)
            await until(lambda: dialect.messages)
            assert link.state.up

    asyncio.run(work())
    listener.close()


def test_an_entry_that_nobody_can_publish_does_not_hold_up_the_rest(
    broker: Broker, tmp_path: Path
) -> None:
    dialect = Plain(at(broker.port))

    async def work() -> None:
        async with linked(dialect, tmp_path / "box") as (link, box):
            box.put("telemetry", bytes(300 * 1024))
            box.put("telemetry", b"1")
            await until(lambda: link.state.up and not box.pending)
            assert box.dropped == 1

    asyncio.run(work())


def test_descriptors_above_those_that_select_knows_are_fine(broker: Broker, tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("too few descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        dialect = Plain(at(broker.port))

        async def work() -> None:
            async with linked(dialect, tmp_path / "box") as (link, box):
                box.put("telemetry", b"1")
                await until(lambda: link.state.up and not box.pending)

        asyncio.run(work())
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
