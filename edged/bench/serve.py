"""What ``edged bench serve`` measures: one caller beside an echo, then a load.

The echo answers as many bytes as the model does, to the same request, over the same kind of
connection, in turns with it: what is left between the two is what edged adds to gRPC.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edged.bench import figures, load
from edged.bench.echo import METHOD, echo_server
from edged.bench.load import OK, Shot, Span
from edged.bench.target import Reach, Target
from edged.errors import RequestError


@dataclass(frozen=True)
class Plan:
    """How a server is loaded.

    Attributes:
        callers: of a closed loop.
        rate: requests a second of an open loop; None for a closed one.
        arrivals: of an open loop: ``poisson`` or ``fixed``.
        seed: of ``poisson``.
        span: how long.
        warm_up: seconds of the same load that do not count.
        deadline: seconds each request may take.
        connections: over which the requests are spread.
        pairs: requests and echoes in turns before the load; 0 for none.
    """

    callers: int = 1
    rate: float | None = None
    arrivals: str = "poisson"
    seed: int = 0
    span: Span = field(default_factory=lambda: Span(seconds=10.0))
    warm_up: float = 1.0
    deadline: float = 10.0
    connections: int = 1
    pairs: int = 200


@dataclass(frozen=True)
class Measured:
    """Every request that counts.

    Attributes:
        shots: of the load.
        requests: of the one caller before it.
        echoes: in turns with those.
        answer_bytes: of one answer.
        machine: the host's load average before and after.
    """

    shots: list[Shot]
    requests: list[Shot]
    echoes: list[Shot]
    answer_bytes: int
    machine: tuple[float, float]

    def figures(self) -> dict[str, Any]:
        """Returns what goes into JSON."""
        found: dict[str, Any] = {"load": figures.of_load(self.shots)}
        if self.requests:
            found["one_caller"] = figures.of_turns(self.requests, self.echoes)
        before, after = self.machine
        machine = {"load_before": round(before, 2), "load_after": round(after, 2)}
        return {**found, "answer_bytes": self.answer_bytes, "machine": machine}

    def series(self) -> dict[str, list[float]]:
        """Returns the milliseconds that a plot shows, by what they are."""
        found = {
            "end to end": figures.latencies(self.shots),
            "stages": figures.stage_sums(self.shots),
            "echo": figures.latencies(self.echoes),
        }
        return {name: values for name, values in found.items() if values}


def measure(
    address: str,
    body: bytes,
    plan: Plan,
    say: Callable[[str], None] = lambda _: None,
    reach: Reach | None = None,
) -> Measured:
    """Loads the server at ``address`` with requests of those bytes.

    Args:
        address: ``HOST:PORT`` or ``unix:PATH``.
        body: a PredictRequest.
        plan: how much.
        say: told what is done next.
        reach: TLS and metadata for the server.

    Raises:
        RequestError: the server does not answer such a request at all.
        DeviceError: the echo server does not start.
    """
    return load.run(_measure(address, body, plan, say, reach))


async def _measure(
    address: str, body: bytes, plan: Plan, say: Callable[[str], None], reach: Reach | None
) -> Measured:
    before = os.getloadavg()[0]
    async with Target(address, body, plan.deadline, plan.connections, reach=reach) as target:
        first = await target.send(0)
        if first.code != OK:
            raise RequestError(first.code, f"cannot load {address}: {first.detail}")
        say("warm up")
        await _load(target, plan, Span(seconds=plan.warm_up))
        requests: list[Shot] = []
        echoes: list[Shot] = []
        if plan.pairs:
            say(f"one caller, {plan.pairs} requests and echoes in turns")
            requests, echoes = await _beside_echo(target, address, body, first.size, plan)
        say("load")
        shots = await _load(target, plan, plan.span)
    machine = (before, os.getloadavg()[0])
    return Measured(shots, requests, echoes, first.size, machine)


async def _load(target: Target, plan: Plan, span: Span) -> list[Shot]:
    if plan.rate is None:
        return await load.closed(target.send, plan.callers, span)
    arrivals = (
        load.poisson(plan.rate, plan.seed) if plan.arrivals == "poisson" else load.fixed(plan.rate)
    )
    return await load.opened(target.send, arrivals, span)


async def _beside_echo(
    target: Target, address: str, body: bytes, answer: int, plan: Plan
) -> tuple[list[Shot], list[Shot]]:
    tcp = not address.startswith("unix:")
    with (
        tempfile.TemporaryDirectory(prefix="edged-bench-") as folder,
        echo_server(Path(folder), answer, tcp=tcp) as echo_address,
    ):
        async with Target(echo_address, body, plan.deadline, method=METHOD) as echo:
            await load.in_turns(target.send, echo.send, min(20, plan.pairs))
            return await load.in_turns(target.send, echo.send, plan.pairs)
