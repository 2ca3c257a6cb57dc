"""Load on a server: who sends when.

- Closed loop: so many callers, each sends its next request when the last one is answered.
- Open loop: requests start at times that do not depend on the answers. Latency counts from the time
  a request was meant to start, so one that could not be sent in time, because the server or we were
  behind, is as late as its caller would find it (no coordinated omission).

Knows no gRPC: what sends one request is given.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

IN_FLIGHT = 1024  # requests of an open loop; later ones wait here, and their time runs
OK = "OK"

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """How one request ended.

    Attributes:
        ended: on ``time.perf_counter``.
        code: ``OK``, or gRPC's name of the error.
        said: the trailing metadata.
        size: bytes of the answer.
        detail: of the error.
    """

    ended: float
    code: str = OK
    said: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    detail: str = ""


Send = Callable[[int], Awaitable[Reply]]
"""Sends one request as the caller of that number; never raises for what the server did."""


@dataclass(frozen=True)
class Shot:
    """One request; times in seconds since the load began."""

    intended: float
    sent: float
    ended: float
    reply: Reply

    @property
    def latency(self) -> float:
        """Seconds from when it was meant to start."""
        return self.ended - self.intended

    @property
    def lag(self) -> float:
        """Seconds by which we were late ourselves."""
        return self.sent - self.intended


@dataclass(frozen=True)
class Span:
    """When to stop: after so many requests or seconds, whichever comes first."""

    requests: int | None = None
    seconds: float | None = None

    def numbers(self) -> Iterator[int]:
        """Counts the requests that may be sent."""
        return iter(itertools.count() if self.requests is None else range(self.requests))

    def over(self, elapsed: float) -> bool:
        """Says whether no more may be sent."""
        return self.seconds is not None and elapsed >= self.seconds


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a load on a loop whose timers are exact: epoll's are rounded up to a millisecond."""
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def closed(send: Send, callers: int, span: Span) -> list[Shot]:
    """Loads with ``callers`` at a time; returns what became of each request, by its end."""
    began = time.perf_counter()
    numbers, shots = span.numbers(), []

    async def caller(number: int) -> None:
        for _ in numbers:
            sent = time.perf_counter() - began
            if span.over(sent):
                return
            reply = await send(number)
            shots.append(Shot(sent, sent, reply.ended - began, reply))

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return shots


async def opened(
    send: Send, arrivals: Iterator[float], span: Span, in_flight: int = IN_FLIGHT
) -> list[Shot]:
    """Loads with requests that start at ``arrivals``; returns what became of each, by its end.

    Args:
        send: one request.
        arrivals: seconds since the beginning, rising.
        span: when to stop.
        in_flight: how many may be under way; those that wait for one to end count as started.
    """
    began = time.perf_counter()
    slots = asyncio.Semaphore(in_flight)
    shots: list[Shot] = []
    under_way: set[asyncio.Task[None]] = set()

    async def request(number: int, intended: float) -> None:
        sent = time.perf_counter() - began
        try:
            reply = await send(number)
        finally:
            slots.release()
        shots.append(Shot(intended, sent, reply.ended - began, reply))

    for number, intended in zip(span.numbers(), arrivals, strict=False):
        if span.over(intended):
            break
        await asyncio.sleep(max(0.0, began + intended - time.perf_counter()))
        await slots.acquire()
        task = asyncio.get_running_loop().create_task(request(number, intended))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    return shots


async def in_turns(first: Send, second: Send, pairs: int) -> tuple[list[Shot], list[Shot]]:
    """Sends to both, one by one in turns, so that whatever the machine does meets both."""
    began = time.perf_counter()
    found: tuple[list[Shot], list[Shot]] = ([], [])
    for _ in range(pairs):
        for send, shots in zip((first, second), found, strict=True):
            sent = time.perf_counter() - began
            reply = await send(0)
            shots.append(Shot(sent, sent, reply.ended - began, reply))
    return found


def fixed(rate: float) -> Iterator[float]:
    """Arrivals at equal distances, ``rate`` a second."""
    return (number / rate for number in itertools.count())


def poisson(rate: float, seed: int = 0) -> Iterator[float]:
    """Arrivals of many callers who do not know of each other, ``rate`` a second on average."""
    source = random.Random(seed)  # noqa: S311 - repeatable on purpose
    return itertools.accumulate(source.expovariate(rate) for _ in itertools.count())
