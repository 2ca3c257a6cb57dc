"""A gRPC server with some of the daemon's services, and a caller in the same event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from edged.manifest import Signature, TensorSpec
from edged.rpc.models import Model
from edged.rpc.server import Server

LIMIT = 30.0  # seconds for a call
SIGNATURE = Signature(
    (
        TensorSpec("net/Placeholder:0", ("images",), "string", (-1,)),
        TensorSpec("size", (), "int32", (-1, 2)),
    ),
    (
        TensorSpec("net/Softmax:0", ("output_alias", "scores"), "float32", (-1, 5)),
        TensorSpec("count", (), "int64", ()),
    ),
)


class Known:
    """Knows what the test says."""

    def __init__(self, model: Model | None) -> None:
        self._model = model

    def model(self) -> Model | None:
        return self._model


def model(state: str = "serving", reason: str = "", version: str = "3") -> Model:
    return Model("net", version, SIGNATURE, state, reason)


def said(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Returns the trailing metadata of a failed call."""
    # Pair by pair: what grpc.aio gives is a mapping to ``dict``, whose keys are pairs before 1.67.
    return {key: value for key, value in error.trailing_metadata() or ()}  # noqa: C416


class Caller:
    """Calls the server's methods."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def call(self, method: str, request: Message, reply: type[Message]) -> Any:
        function = self.channel.unary_unary(
            method, type(request).SerializeToString, reply.FromString
        )
        return await function(request, timeout=LIMIT)

    async def refused(
        self, method: str, request: Message, reply: type[Message]
    ) -> grpc.aio.AioRpcError:
        """Returns the error of a call that must fail."""
        try:
            answer = await self.call(method, request, reply)
        except grpc.aio.AioRpcError as exc:
            return exc
        raise AssertionError(f"expected an error, got {answer}")

    def stream(self, method: str, request: Message, reply: type[Message]) -> Any:
        function = self.channel.unary_stream(
            method, type(request).SerializeToString, reply.FromString
        )
        return function(request, timeout=LIMIT)


@contextlib.asynccontextmanager
async def served(handlers: Sequence[grpc.GenericRpcHandler]) -> AsyncIterator[Caller]:
    """A caller of a server with these services."""
    server = Server(handlers)
    port = server.listen_tcp("127.0.0.1", 0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Caller(channel)
    await server.stop(0)


def run(
    handlers: Callable[[], Sequence[grpc.GenericRpcHandler]],
    test: Callable[[Caller], Awaitable[None]],
) -> None:
    """Runs a test against a server of its own; handlers are made in the event loop."""

    async def inside() -> None:
        async with served(handlers()) as caller:
            await test(caller)

    asyncio.run(inside())
