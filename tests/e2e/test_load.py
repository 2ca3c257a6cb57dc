"""Many callers, slow callers and callers that vanish: the others are served as ever."""

from __future__ import annotations

import contextlib
import re
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest

from edged.bench import figures, load
from edged.bench.target import Target
from tests.e2e import hostile, http2
from tests.e2e.device import CALL_LIMIT, Device, call, raw
from tests.e2e.http2 import Connection, message

pytestmark = pytest.mark.alone

GOOD = hostile.request(hostile.GOOD).SerializeToString()
# Keeps the model busy for a second or more.
LONG = hostile.request(*[hostile.GOOD] * 2000).SerializeToString()
WAITING = 256
STREAMS = 1024
IDLE = 1000
ROOM = 200  # descriptors beside those of the idle connections
OK = b"\x0bgrpc-status"
# Only grpc's stubs have that name.
Sent: TypeAlias = "grpc._CallFuture[bytes]"


@pytest.fixture(scope="module")
def serving(served: Callable[[str], Device], surface_image: str) -> Device:
    """A device that serves the demo's model, with room for many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < IDLE + ROOM:
        wanted = IDLE + ROOM if hard == resource.RLIM_INFINITY else min(hard, IDLE + ROOM)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return served(surface_image)


@pytest.fixture
def device(serving: Device) -> Iterator[Device]:
    """The device; afterwards it must have nothing left to do, and serve."""
    yield serving
    wait_until(lambda: serving.status().counters.queued == 0)
    assert serving.predict(GOOD)


@pytest.fixture
def channel(device: Device) -> Iterator[grpc.Channel]:
    with device.channel() as channel:
        call(channel, GOOD)  # so that it is connected
        yield channel


def wait_until(true: Callable[[], bool], limit: float = CALL_LIMIT) -> None:
    """Asks again and again: a process offers nothing that could be waited for."""
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_until_answered(device: Device, count: int) -> None:
    """Returns once the device has answered so many requests since its start."""
    wait_until(lambda: device.status().counters.answered >= count)


def send(channel: grpc.Channel, body: bytes = GOOD, timeout: float = CALL_LIMIT) -> Sent:
    """Sends a request without waiting."""
    return raw(channel).future(body, timeout=timeout)


def keep_busy(device: Device, channel: grpc.Channel) -> list[Sent]:
    """Sends a request that takes long and one that waits for it; returns once the model has it."""
    long, waiting = send(channel, LONG), send(channel)

    def waits() -> bool:
        nonlocal waiting
        if waiting.done():  # it overtook the long one, which takes its time to be sent
            waiting = send(channel)
        return device.status().counters.queued == 1

    wait_until(waits)
    return [long, waiting]


def code(sent: Sent) -> str:
    """Returns how a request ended."""
    with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError):
        sent.result(CALL_LIMIT)
    return str(sent.code().name)


def median_latency(channel: grpc.Channel, count: int = 60) -> float:
    """Returns the seconds that one caller waits."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        call(channel, GOOD)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@contextlib.contextmanager
def not_hindered(device: Device, channel: grpc.Channel, megabytes: int = 64) -> Iterator[None]:
    """Asserts that callers wait no longer at the end of the block than before it.

    Args:
        device: that is called.
        channel: of the caller.
        megabytes: by which the daemon may grow.
    """
    before, memory = median_latency(channel), resident(device)
    yield
    assert median_latency(channel) < 3 * before + 0.005
    assert resident(device) < memory + megabytes * 1_000_000


def resident(device: Device) -> int:
    """Returns the bytes of the daemon in memory."""
    assert device.daemon is not None
    status = Path(f"/proc/{device.daemon.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


def descriptors(device: Device) -> int:
    """Returns how many files and sockets the daemon has open."""
    assert device.daemon is not None
    return len(list(Path(f"/proc/{device.daemon.pid}/fd").iterdir()))


# -- the queue


def test_beyond_256_requests_callers_are_refused_at_once_and_told_when_to_try_again(
    device: Device, channel: grpc.Channel
) -> None:
    long, first = keep_busy(device, channel)
    others = [send(channel) for _ in range(WAITING - 1 + 40)]
    # The refused ones end while the model is still at the first.
    refused = list(wait_for_some(others, 40))
    assert not long.done()
    assert {code(each) for each in refused} == {"RESOURCE_EXHAUSTED"}
    for each in refused:
        assert f"{WAITING} requests wait already" in str(each.details())
        assert int(dict(each.trailing_metadata())["grpc-retry-pushback-ms"]) > 0
    accepted = [each for each in others if each not in refused]
    assert [code(each) for each in (long, first, *accepted)] == ["OK"] * (2 + WAITING - 1)


def wait_for_some(futures: list[Sent], count: int) -> Iterator[Sent]:
    """Returns those that are done once so many are."""
    wait_until(lambda: sum(each.done() for each in futures) >= count)
    return (each for each in futures if each.done())


def test_requests_whose_time_is_up_never_reach_the_model(
    device: Device, channel: grpc.Channel
) -> None:
    long, first = keep_busy(device, channel)
    before = device.status().counters
    late = [send(channel, timeout=0.2) for _ in range(20)]
    assert {code(each) for each in late} == {"DEADLINE_EXCEEDED"}
    assert not long.done()  # they were told in time, not when their turn came
    assert (code(long), code(first)) == ("OK", "OK")
    after = device.status().counters
    assert after.answered - before.answered == 2
    assert after.expired - before.expired + after.cancelled - before.cancelled == 20


@pytest.mark.long
def test_a_caller_who_hangs_up_makes_room_for_another(
    device: Device, channel: grpc.Channel
) -> None:
    long, first = keep_busy(device, channel)
    waiting = [send(channel) for _ in range(WAITING - 1)]
    wait_until(lambda: device.status().counters.queued == WAITING)
    assert code(send(channel)) == "RESOURCE_EXHAUSTED"
    for each in waiting[:10]:
        each.cancel()
    wait_until(lambda: device.status().counters.queued == WAITING - 10)
    others = [send(channel) for _ in range(10)]
    wait_until(lambda: device.status().counters.queued == WAITING)
    assert not long.done()
    assert code(send(channel)) == "RESOURCE_EXHAUSTED"
    accepted = [long, first, *waiting[10:], *others]
    assert [code(each) for each in accepted] == ["OK"] * len(accepted)


# -- connections


def test_a_thousand_idle_connections_do_not_hinder_those_who_ask(
    device: Device, channel: grpc.Channel
) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < IDLE + ROOM:
        pytest.skip(f"needs {IDLE + ROOM} open files, the limit here is {soft}")
    before = descriptors(device)
    with contextlib.ExitStack() as stack:
        with not_hindered(device, channel, megabytes=150):
            idle = [stack.enter_context(Connection(device.address)) for _ in range(IDLE)]
            for each in idle:
                each.hello()
            assert descriptors(device) >= before + IDLE
        for each in idle[:: IDLE // 10]:  # and they may ask at any time
            each.request(GOOD)
            each.read_until(OK)
    wait_until(lambda: descriptors(device) <= before)


def test_callers_who_do_not_read_their_answers_do_not_hinder_others(
    device: Device, channel: grpc.Channel
) -> None:
    with contextlib.ExitStack() as stack, not_hindered(device, channel):
        answered = device.status().counters.answered
        slow = [stack.enter_context(Connection(device.address, window=0)) for _ in range(20)]
        for each in slow:
            for _ in range(5):
                each.request(GOOD)
        wait_until_answered(device, answered + 100)


@pytest.mark.long
def test_a_caller_who_reads_nothing_may_have_so_many_answers_waiting_and_no_more(
    device: Device, channel: grpc.Channel
) -> None:
    with not_hindered(device, channel), Connection(device.address, window=0) as slow:
        slow.hello()
        answered = device.status().counters.answered
        for sent in range(1, STREAMS + 1):
            slow.request(GOOD)
            if sent % 128 == 0:  # more at once than may wait would be refused as such
                wait_until_answered(device, answered + sent)
        slow.read_until(http2.refused(slow.request(GOOD)))


def test_callers_who_dribble_do_not_hinder_others_and_are_served_in_the_end(
    device: Device, channel: grpc.Channel
) -> None:
    whole = message(GOOD)
    with contextlib.ExitStack() as stack, not_hindered(device, channel):
        slow = [stack.enter_context(Connection(device.address)) for _ in range(100)]
        streams = [each.begin() for each in slow]
        for each, stream in zip(slow, streams, strict=True):
            each.send(stream, whole[:-20])
        for position in range(len(whole) - 20, len(whole) - 10):
            for each, stream in zip(slow, streams, strict=True):
                each.send(stream, whole[position : position + 1])
        assert device.status().counters.queued == 0  # what is not whole takes nobody's place
        call(channel, GOOD)
        for each, stream in zip(slow, streams, strict=True):
            each.send(stream, whole[-10:], end=True)
            each.read_until(OK)


def test_callers_who_come_and_go_leave_nothing_behind(
    device: Device, channel: grpc.Channel
) -> None:
    before = descriptors(device)
    whole = message(GOOD)
    with not_hindered(device, channel):
        for number in range(200):
            connection = Connection(device.address)
            if number % 4 == 1:
                connection.begin()
            elif number % 4 == 2:
                connection.send(connection.begin(), whole[:100])
            elif number % 4 == 3:
                connection.request(GOOD)
            if number % 2:
                connection.reset()
            else:
                connection.socket.close()
    wait_until(lambda: descriptors(device) <= before)


def test_connections_beyond_the_limit_of_open_files_wait_and_the_others_are_served(
    device: Device, channel: grpc.Channel
) -> None:
    assert device.daemon is not None
    pid, limits = device.daemon.pid, resource.RLIMIT_NOFILE
    usual = resource.prlimit(pid, limits)
    before = descriptors(device)
    resource.prlimit(pid, limits, (before + 20, usual[1]))
    try:
        with contextlib.ExitStack() as stack, not_hindered(device, channel):
            for _ in range(60):
                stack.enter_context(Connection(device.address))
        wait_until(lambda: descriptors(device) <= before)
    finally:
        resource.prlimit(pid, limits, usual)
    with Connection(device.address) as late:
        late.request(GOOD)
        late.read_until(OK)


@pytest.mark.long
def test_a_minute_of_steady_work_loses_nothing_and_the_daemon_does_not_grow(
    device: Device, channel: grpc.Channel
) -> None:
    """Arrivals that do not wait for answers, at a rate that leaves little time between them."""
    rate = 0.4 / median_latency(channel)

    async def work(seconds: float) -> list[load.Shot]:
        async with Target(device.address, GOOD, 10.0, connections=8) as target:
            return await load.opened(target.send, load.poisson(rate), load.Span(seconds=seconds))

    load.run(work(10))
    memory = resident(device)
    found = figures.of_load(load.run(work(50)))
    assert found["requests"] > 0
    assert found["errors"] == {}
    assert resident(device) < memory + 8_000_000
