"""Methods whose requests the daemon reads itself: they are small, or refused unread.

A message of the data edge's limit may unfold to gigabytes, which a model's process can die of and
the daemon cannot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from edged.errors import RequestError
from edged.rpc.interceptors import Context, stream, unary

REQUEST_LIMIT = 64 * 1024  # bytes
_Request = TypeVar("_Request", bound=Message)
_Reply = TypeVar("_Reply", bound=Message)


def unary_unary(
    kind: type[_Request], handle: Callable[[_Request, Context], Awaitable[_Reply]]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Returns a method with one answer; its errors become statuses."""

    async def answer(body: bytes, context: Context) -> bytes:
        return (await handle(_read(kind, body), context)).SerializeToString()

    # No (de)serializers: what they raise, callers would see as INTERNAL.
    return grpc.unary_unary_rpc_method_handler(unary(answer))


def unary_stream(
    kind: type[_Request], handle: Callable[[_Request, Context], AsyncIterator[_Reply]]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Returns a method with a stream of answers; its errors become statuses."""

    async def answer(body: bytes, context: Context) -> AsyncIterator[bytes]:
        async for reply in handle(_read(kind, body), context):
            yield reply.SerializeToString()

    return grpc.unary_stream_rpc_method_handler(stream(answer))


def _read(kind: type[_Request], body: bytes) -> _Request:
    name = kind.DESCRIPTOR.name
    if len(body) > REQUEST_LIMIT:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"cannot read {name}: it has {len(body)} bytes, expected at most {REQUEST_LIMIT}",
        )
    try:
        return kind.FromString(body)
    except DecodeError as exc:
        raise RequestError("INVALID_ARGUMENT", f"cannot read {name}: {exc}") from exc
