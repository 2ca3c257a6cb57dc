"""What the daemon reads itself is small and whole, or refused with what was expected."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from edged.messages import HealthCheckRequest, HealthCheckResponse
from edged.rpc.interceptors import Context
from edged.rpc.methods import REQUEST_LIMIT, unary_stream, unary_unary
from tests.unit.rpc import edge
from tests.unit.rpc.edge import LIMIT, Caller

read: list[int] = []


async def once(request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
    read.append(len(request.service))
    return HealthCheckResponse()


async def twice(
    request: HealthCheckRequest, context: Context
) -> AsyncIterator[HealthCheckResponse]:
    read.append(len(request.service))
    yield HealthCheckResponse()
    yield HealthCheckResponse()


def handlers() -> list[grpc.GenericRpcHandler]:
    read.clear()
    methods = {
        "Once": unary_unary(HealthCheckRequest, once),
        "Twice": unary_stream(HealthCheckRequest, twice),
    }
    return [grpc.method_handlers_generic_handler("t.T", methods)]


async def answers(caller: Caller, method: str, body: bytes) -> list[bytes]:
    channel = caller.channel
    if method == "Once":
        return [await channel.unary_unary("/t.T/Once", bytes, bytes)(body, timeout=LIMIT)]
    call = channel.unary_stream("/t.T/Twice", bytes, bytes)(body, timeout=LIMIT)
    return [reply async for reply in call]


@pytest.mark.parametrize(("method", "count"), [("Once", 1), ("Twice", 2)])
@pytest.mark.parametrize("size", [0, 5, REQUEST_LIMIT - 4])
def test_a_request_within_the_limit_is_read(method: str, count: int, size: int) -> None:
    async def test(caller: Caller) -> None:
        body = HealthCheckRequest(service="x" * size).SerializeToString()
        assert len(body) <= REQUEST_LIMIT
        assert await answers(caller, method, body) == [b""] * count
        assert read == [size]

    edge.run(handlers, test)


@pytest.mark.parametrize("method", ["Once", "Twice"])
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\x0a\x05abc", "cannot read HealthCheckRequest: "),
        (b"\x0a\x02\xff\xff", "cannot read HealthCheckRequest: "),
        (bytes(8 * 1024 * 1024), f"it has 8388608 bytes, expected at most {REQUEST_LIMIT}"),
    ],
)
def test_any_other_is_refused_unread(method: str, body: bytes, text: str) -> None:
    async def test(caller: Caller) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answers(caller, method, body)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert text in str(caught.value.details())
        assert read == []
        assert await answers(caller, method, b"")

    edge.run(handlers, test)
