"""Every name that health knows has the daemon's one state, and who watches hears of each change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest

from edged.messages import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
    ServingStatus,
)
from edged.rpc.health import Health
from tests.unit.rpc import edge
from tests.unit.rpc.edge import Caller

SERVICE = "/grpc.health.v1.Health"
NAMES = [
    "",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "PredictionService",
    "ModelService",
]


def run(test: Callable[[Caller, Health], Awaitable[None]]) -> None:
    async def inside() -> None:
        health = Health()
        async with edge.served([health.handlers()]) as caller:
            await test(caller, health)

    asyncio.run(inside())


async def check(caller: Caller, name: str) -> int:
    request = HealthCheckRequest(service=name)
    reply = await caller.call(f"{SERVICE}/Check", request, HealthCheckResponse)
    return int(reply.status)


async def listed(caller: Caller) -> dict[str, int]:
    reply = await caller.call(f"{SERVICE}/List", HealthListRequest(), HealthListResponse)
    return {name: each.status for name, each in reply.statuses.items()}


def test_every_name_has_the_one_state() -> None:
    async def test(caller: Caller, health: Health) -> None:
        for serving, model in ((False, ""), (False, "net"), (True, "net"), (False, "net")):
            health.set(serving=serving, model=model)
            status = ServingStatus.SERVING if serving else ServingStatus.NOT_SERVING
            names = [*NAMES, "model/net"] if model else NAMES
            assert {name: await check(caller, name) for name in names} == dict.fromkeys(
                names, status
            )
            assert await listed(caller) == dict.fromkeys(names, status)

    run(test)


@pytest.mark.parametrize("name", ["model/other", "model/", "net", "no.such.Service", "x" * 5000])
def test_an_unknown_name_is_not_found(name: str) -> None:
    async def test(caller: Caller, health: Health) -> None:
        health.set(serving=True, model="net")
        request = HealthCheckRequest(service=name)
        error = await caller.refused(f"{SERVICE}/Check", request, HealthCheckResponse)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert "tensorflow.serving.PredictionService" in str(error.details())

    run(test)


def test_who_watches_hears_of_changes_only() -> None:
    async def test(caller: Caller, health: Health) -> None:
        watching = caller.stream(f"{SERVICE}/Watch", HealthCheckRequest(), HealthCheckResponse)
        assert (await watching.read()).status == ServingStatus.NOT_SERVING
        health.set(serving=False, model="net")  # no news to those who watch the server
        health.set(serving=True, model="net")
        assert (await watching.read()).status == ServingStatus.SERVING
        health.set(serving=True, model="next")
        health.set(serving=False, model="next")
        assert (await watching.read()).status == ServingStatus.NOT_SERVING
        watching.cancel()

    run(test)


def test_who_watches_a_model_hears_of_its_coming_and_going() -> None:
    async def test(caller: Caller, health: Health) -> None:
        request = HealthCheckRequest(service="model/net")
        watching = caller.stream(f"{SERVICE}/Watch", request, HealthCheckResponse)
        assert (await watching.read()).status == ServingStatus.SERVICE_UNKNOWN
        for serving, model, expected in (
            (True, "net", ServingStatus.SERVING),
            (False, "net", ServingStatus.NOT_SERVING),
            (True, "other", ServingStatus.SERVICE_UNKNOWN),
        ):
            health.set(serving=serving, model=model)
            assert (await watching.read()).status == expected
        watching.cancel()

    run(test)
