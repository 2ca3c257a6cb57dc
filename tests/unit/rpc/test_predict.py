"""Those who are refused at once are told when to come back, and which call it was."""

from __future__ import annotations

import asyncio
import json

import grpc
import pytest

from edged.errors import RequestError
from edged.messages import PredictRequest, PredictResponse
from edged.rpc import predict
from edged.rpc.front import Front, Limits
from edged.rpc.server import Server
from tests.unit.rpc import edge
from tests.unit.rpc.edge import Caller

METHOD = "/tensorflow.serving.PredictionService/Predict"


def full() -> Front:
    front = Front(Limits(requests=0))
    front.park()
    return front


def too_large() -> Front:
    front = Front(Limits(bytes=-1))
    front.park()
    return front


def stopping() -> Front:
    front = Front()
    front.shut()
    return front


def loading() -> Front:
    front = Front(Limits(without_model=0.0))
    front.park(missing="the model is being loaded")
    return front


def closed(code: str) -> Front:
    front = Front()
    front.close(RequestError(code, "no"))
    return front


@pytest.mark.parametrize(
    ("make", "code", "told"),
    [
        (full, grpc.StatusCode.RESOURCE_EXHAUSTED, True),
        (too_large, grpc.StatusCode.RESOURCE_EXHAUSTED, True),
        (stopping, grpc.StatusCode.UNAVAILABLE, True),
        (loading, grpc.StatusCode.UNAVAILABLE, True),
        (lambda: closed("UNAVAILABLE"), grpc.StatusCode.UNAVAILABLE, True),
        (lambda: closed("NOT_FOUND"), grpc.StatusCode.NOT_FOUND, False),
    ],
)
def test_a_refusal_that_passes_says_when(make: object, code: grpc.StatusCode, told: bool) -> None:
    async def inside() -> None:
        assert callable(make)
        async with edge.served([predict.handlers(make())]) as caller:
            await refused(caller)

    async def refused(caller: Caller) -> None:
        error = await caller.refused(METHOD, PredictRequest(), PredictResponse)
        assert error.code() is code
        said = edge.said(error)
        assert ("grpc-retry-pushback-ms" in said) is told
        assert said["edged-request-id"]

    asyncio.run(inside())


def test_grpcs_own_retry_policies_follow_the_hint() -> None:
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "60s",  # what a client that ignored the hint would wait
        "maxBackoff": "60s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    config = {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}
    options = (("grpc.service_config", json.dumps(config)),)

    async def inside() -> None:
        front = full()
        server = Server([predict.handlers(front)])
        port = server.listen_tcp("127.0.0.1", 0)
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            error = await Caller(channel).refused(METHOD, PredictRequest(), PredictResponse)
        await server.stop(0)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert front.counts.refused == 3

    asyncio.run(inside())
