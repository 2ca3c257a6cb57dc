"""What is loaded: a server of Predict, or the echo beside it, over plain gRPC with raw bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType

import grpc

from edged import messages
from edged.bench.load import Reply
from edged.client import OPTIONS, PREDICT
from edged.messages.arrays import to_tensor

# Else all channels of a process to one address share one connection, and a proxy may sit between.
_OWN = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))


def picture_request(name: str, picture: bytes) -> bytes:
    """Returns the PredictRequest that sends a picture as the input of that name."""
    request = messages.PredictRequest(inputs={name: to_tensor(picture)})
    return request.SerializeToString()


class Target:
    """Connections to a server, and the request that goes over them.

    Args:
        address: ``HOST:PORT`` or ``unix:PATH``.
        body: of each request.
        deadline: seconds; the server is told.
        connections: how many; the callers are spread over them.
        method: that is called.
    """

    def __init__(
        self,
        address: str,
        body: bytes,
        deadline: float,
        connections: int = 1,
        method: str = PREDICT,
    ) -> None:
        self._body, self._deadline = body, deadline
        self._channels = [
            grpc.aio.insecure_channel(address, options=(*OPTIONS, *_OWN))
            for _ in range(connections)
        ]
        self._calls: Sequence[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
            channel.unary_unary(method) for channel in self._channels
        ]

    async def __aenter__(self) -> Target:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for channel in self._channels:
            await channel.close()

    async def send(self, caller: int) -> Reply:
        """Sends the request once."""
        call = self._calls[caller % len(self._calls)](self._body, timeout=self._deadline)
        try:
            answer = await call
        except grpc.aio.AioRpcError as exc:
            ended = time.perf_counter()
            return Reply(ended, exc.code().name, detail=exc.details() or "no reason given")
        ended = time.perf_counter()
        return Reply(ended, said=_said(await call.trailing_metadata()), size=len(answer))


def _said(metadata: grpc.aio.Metadata | None) -> Mapping[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}
