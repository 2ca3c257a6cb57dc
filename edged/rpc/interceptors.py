"""Errors become gRPC statuses here, and nowhere else.

Invariants:
- A caller sees the text of an error that edged raised on purpose, with the code that says whose
  fault it is. Anything else is INTERNAL without details, which are in the device's log.
- Trailing metadata set before the error is sent with it.
- Where the same request may succeed a little later, ``grpc-retry-pushback-ms`` says when, as gRPC
  clients with a retry policy understand it; it is absent where trying again is no use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc

from edged.errors import (
    ConfigError,
    DeviceError,
    EdgedError,
    FetchError,
    ModelError,
    RequestError,
    StoreError,
    VerifyError,
)
from edged.rpc.front import RefusedError

logger = logging.getLogger(__name__)

DETAILS_LIMIT = 1024  # characters, as TensorFlow Serving has it
CODES: dict[type[EdgedError], grpc.StatusCode] = {
    ConfigError: grpc.StatusCode.INVALID_ARGUMENT,
    ModelError: grpc.StatusCode.FAILED_PRECONDITION,
    VerifyError: grpc.StatusCode.DATA_LOSS,
    FetchError: grpc.StatusCode.UNAVAILABLE,
    StoreError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeviceError: grpc.StatusCode.UNAVAILABLE,
}
PUSHBACK = "grpc-retry-pushback-ms"
PUSHBACK_MS = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: 100,  # a full queue has room again after a few requests
    grpc.StatusCode.UNAVAILABLE: 500,  # a model's process takes about a second to start
}
Context = grpc.aio.ServicerContext[Any, Any]
_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Returns what a caller is told about an error."""
    if isinstance(error, RequestError):
        # A worker may send a code that does not exist.
        code = grpc.StatusCode.__members__.get(error.code, grpc.StatusCode.INTERNAL)
    elif isinstance(error, EdgedError):
        code = next((c for t, c in CODES.items() if isinstance(error, t)), grpc.StatusCode.INTERNAL)
    else:
        return grpc.StatusCode.INTERNAL, "internal error; see the device's log"
    text = str(error)
    return code, text if len(text) <= DETAILS_LIMIT else text[:DETAILS_LIMIT] + "...TRUNCATED"


def unary(
    handle: Callable[[_Request, Context], Awaitable[_Reply]],
) -> Callable[[_Request, Context], Awaitable[_Reply]]:
    """Returns the handler with its errors turned into statuses."""

    async def guarded(request: _Request, context: Context) -> _Reply:
        try:
            return await handle(request, context)
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception as exc:  # noqa: BLE001 - it must not leave the process as it is
            return await _abort(context, exc)

    return guarded


def stream(
    handle: Callable[[_Request, Context], AsyncIterator[_Reply]],
) -> Callable[[_Request, Context], AsyncIterator[_Reply]]:
    """Returns the streaming handler with its errors turned into statuses."""

    async def guarded(request: _Request, context: Context) -> AsyncIterator[_Reply]:
        try:
            async for reply in handle(request, context):
                yield reply
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception as exc:  # noqa: BLE001 - it must not leave the process as it is
            await _abort(context, exc)

    return guarded


async def _abort(context: Context, error: Exception) -> NoReturn:
    if not isinstance(error, EdgedError):
        logger.error("cannot answer: unexpected error", exc_info=error)
    code, text = status_of(error)
    if isinstance(error, RefusedError) and code in PUSHBACK_MS:
        said = tuple(context.trailing_metadata() or ())
        await context.abort(code, text, (*said, (PUSHBACK, str(PUSHBACK_MS[code]))))
    await context.abort(code, text)
    raise AssertionError  # abort raises
