"""Requests that end the worker, among those of others: INTERNAL once, nobody else loses anything.

What the daemon does when its worker dies is ``test_deaths``'s; here others are calling.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edged.errors import RequestError
from tests.e2e.busy import Busy, wait_until_queued
from tests.e2e.device import Device
from tests.e2e.hostile import GOOD, Target, request, scores
from tests.unit.worker.pictures import encoded

BACK = 10.0  # seconds; it takes a few tenths where nothing else runs


@pytest.fixture
def target(surface_image: str, served: Callable[[str], Device]) -> Iterator[Target]:
    target = Target(served(surface_image), request(GOOD))
    yield target
    target.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_killed_amid_a_batch_the_others_are_answered_and_it_is_not_run_again(
    target: Target, pool: ThreadPoolExecutor, number: signal.Signals
) -> None:
    device = target.device
    poison = pool.submit(target.send, request(*[GOOD] * 8000))
    wait_until_running(target)
    others = [pool.submit(target.send, target.good) for _ in range(20)]
    wait_until_queued(device, 20)
    began = time.monotonic()
    os.kill(target.worker, number)
    with pytest.raises(RequestError, match="will not be run again") as caught:
        poison.result(60)
    assert caught.value.code == "INTERNAL"
    for other in others:
        np.testing.assert_array_equal(scores(other.result(60)), scores(target.expected))
    assert time.monotonic() - began < BACK
    status = device.status()
    assert status.state == "serving"
    assert status.model.worker_pid != target.worker
    counters = status.counters
    assert (counters.answered, counters.failed) == (21, 1)
    assert (counters.worker_deaths, counters.refused, counters.queued) == (1, 0, 0)


def wait_until_running(target: Target) -> None:
    """Returns when the worker computes: it has used more of the CPU than it takes to wake up."""
    path = Path(f"/proc/{target.worker}/stat")
    before = cpu_ticks(path)
    until = time.monotonic() + 60
    while cpu_ticks(path) < before + 5:
        assert time.monotonic() < until
        target.device.status()


def cpu_ticks(path: Path) -> int:
    fields = path.read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_poison_among_others_costs_each_caller_of_it_one_error(busy: Busy) -> None:
    sent: list[tuple[bytes, Future[bytes]]] = []
    for number in range(24):
        body = b"die %d" % number if number % 6 == 2 else b"%d" % number
        sent.append((body, busy.submit(body)))
        busy.wait_until_queued(number + 1)
    began = time.monotonic()
    busy.open()
    assert busy.running.result(60) == b"fake:" + busy.body
    for body, future in sent:
        if body.startswith(b"die"):
            error = future.exception(60)
            assert isinstance(error, RequestError)
            assert error.code == "INTERNAL"
        else:
            assert future.result(60) == b"fake:" + body
    assert time.monotonic() - began < BACK
    # Each ran once, in the order they came: the deaths changed nothing for the others.
    assert busy.device.ran() == [busy.body, *(body for body, _ in sent)]
    counters = busy.device.status().counters
    assert (counters.answered, counters.failed, counters.worker_deaths) == (21, 4, 4)


def test_a_picture_that_does_not_fit_the_memory_is_refused_and_the_next_is_served(
    target: Target,
) -> None:
    large = request(encoded(Image.new("RGB", (6900, 6900)), compress_level=1))
    assert scores(target.served(large)).shape == (1, 5)
    pages = int(Path(f"/proc/{target.worker}/statm").read_text(encoding="ascii").split()[0])
    room = pages * resource.getpagesize() + 50_000_000
    resource.prlimit(target.worker, resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
    target.refused(large, "not enough memory", code="RESOURCE_EXHAUSTED")
    many = request(*[GOOD] * 30)
    np.testing.assert_array_equal(
        scores(target.served(many)), np.repeat(scores(target.expected), 30, axis=0)
    )


@pytest.mark.parametrize("timeout", [0.3, 1.0])
def test_a_batch_that_takes_longer_than_its_caller_waits_is_given_up(
    target: Target, timeout: float
) -> None:
    began = time.monotonic()
    with pytest.raises(RequestError) as caught:
        target.send(request(*[GOOD] * 16_000), timeout=timeout)
    assert caught.value.code == "DEADLINE_EXCEEDED"
    target.serves_on()
    assert time.monotonic() - began < timeout + BACK


@pytest.mark.long
def test_a_batch_beyond_the_time_of_a_request_ends_without_the_worker(
    target: Target, pool: ThreadPoolExecutor
) -> None:
    large = encoded(Image.new("RGB", (7000, 7000)), compress_level=9)
    batch = pool.submit(target.send, request(*[large] * 400), 200)
    wait_until_running(target)
    other = pool.submit(target.send, target.good, 100)
    error = batch.exception(100)
    assert isinstance(error, RequestError)
    assert error.code == "RESOURCE_EXHAUSTED"
    assert "of 400 items were done: send fewer at once; a request may run 45 s" in str(error)
    assert other.result(60) == target.expected
    target.serves_on()
