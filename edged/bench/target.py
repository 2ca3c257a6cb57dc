"""What is loaded: a server of Predict, or the echo beside it, over plain gRPC with raw bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Reach:
    """How a server is reached.

    Attributes:
        credentials: for TLS; None for connections in the clear.
        metadata: of every call.
    """

    credentials: grpc.ChannelCredentials | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    def channel(self, address: str) -> grpc.aio.Channel:
        """Returns a channel with a connection of its own."""
        options = (*OPTIONS, *_OWN)
        if self.credentials is None:
            return grpc.aio.insecure_channel(address, options=options)
        return grpc.aio.secure_channel(address, self.credentials, options=options)


class Target:
    """Connections to a server, and the request that goes over them.

    Args:
        address: ``HOST:PORT`` or ``unix:PATH``.
        body: of each request.
        deadline: seconds; the server is told.
        connections: how many; the callers are spread over them.
        method: that is called.
        reach: TLS and metadata; None for a server in the clear that asks for nothing.
    """

    def __init__(
        self,
        address: str,
        body: bytes,
        deadline: float,
        connections: int = 1,
        method: str = PREDICT,
        reach: Reach | None = None,
    ) -> None:
        reach = reach or Reach()
        self._metadata = reach.metadata
        self._body, self._deadline = body, deadline
        self._channels = [reach.channel(address) for _ in range(connections)]
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
        call = self._calls[caller % len(self._calls)](
            self._body, timeout=self._deadline, metadata=self._metadata
        )
        try:
            answer = await call
        except grpc.aio.AioRpcError as exc:
            ended = time.perf_counter()
            return Reply(ended, exc.code().name, detail=exc.details() or "no reason given")
        ended = time.perf_counter()
        return Reply(ended, said=_said(await call.trailing_metadata()), size=len(answer))


def _said(metadata: grpc.aio.Metadata | None) -> Mapping[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}
