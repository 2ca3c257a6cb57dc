"""gRPC servers: what they listen on, with which limits, how they stop.

The only module that imports grpc's server; ``edged.daemon`` imports it after the first worker was
started, since that takes as long as the worker's own start.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import grpc

from edged.errors import ConfigError

logger = logging.getLogger(__name__)

MESSAGE_LIMIT = 64 * 1024 * 1024  # bytes, either way
CONTROL_LIMIT = 1024 * 1024
OPTIONS: tuple[tuple[str, int], ...] = (
    # Else a second daemon would share the port, and half of the callers, without an error.
    ("grpc.so_reuseport", 0),
    # Callers that keep idle connections open ping more often than the default allows.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Answers that a caller does not read stay here: so many of them for each connection, beyond
    # what may wait (edged.rpc.front.Limits), so that a full queue is still answered as such.
    ("grpc.max_concurrent_streams", 1024),
)


class Server:
    """One gRPC server on some addresses.

    Args:
        handlers: of the services it has.
        message_limit: bytes of one message, either way.
    """

    def __init__(
        self, handlers: Sequence[grpc.GenericRpcHandler], message_limit: int = MESSAGE_LIMIT
    ) -> None:
        limits = [(f"grpc.max_{way}_message_length", message_limit) for way in ("receive", "send")]
        self._server = grpc.aio.server(options=[*OPTIONS, *limits])
        self._server.add_generic_rpc_handlers(tuple(handlers))
        self._sockets: list[Path] = []
        self.addresses: list[str] = []

    def listen_tcp(self, host: str, port: int) -> int:
        """Adds a TCP address; returns its port, which was chosen if ``port`` is 0.

        Raises:
            ConfigError: the address cannot be had.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        bound = self._bind(address)
        self.addresses.append(f"{address.rpartition(':')[0]}:{bound}")
        return bound

    def listen_unix(self, path: Path) -> None:
        """Adds a Unix socket. One that an earlier daemon left is replaced: the caller has its lock.

        Raises:
            ConfigError: the socket cannot be made.
        """
        path.unlink(missing_ok=True)
        self._bind(f"unix:{path}")
        self._sockets.append(path)
        self.addresses.append(f"unix:{path}")

    def _bind(self, address: str) -> int:
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as exc:
            raise ConfigError(
                f"cannot listen on {address}: it is in use, or not an address of this host"
            ) from exc
        if port == 0:
            raise ConfigError(f"cannot listen on {address}")
        return port

    async def start(self) -> None:
        """Accepts calls from now on."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Takes no more calls, and ends those that still run after ``grace`` seconds."""
        await self._server.stop(grace)
        for path in self._sockets:
            path.unlink(missing_ok=True)
