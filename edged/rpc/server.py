"""gRPC servers: what they listen on, with which limits, how they stop.

The only module that imports grpc's server; ``edged.daemon`` imports it after the first worker was
started, since that takes as long as the worker's own start.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path

import grpc

from edged.config.tables import Limits
from edged.errors import ConfigError

logger = logging.getLogger(__name__)

MESSAGE_LIMIT = 64 * 1024 * 1024  # bytes, either way
CONTROL_LIMIT = 1024 * 1024
OPTIONS = {
    # Else a second daemon would share the port, and half of the callers, without an error.
    "grpc.so_reuseport": 0,
    # Callers that keep idle connections open ping more often than the default allows.
    "grpc.http2.min_recv_ping_interval_without_data_ms": 10_000,
    "grpc.keepalive_permit_without_calls": 1,
}
# Answers that a caller does not read stay here: so many of them for each connection, beyond what
# may wait (edged.rpc.front.Limits), so that a full queue is still answered as such.
STREAMS = 1024
GATED_STREAMS = 32  # where callers say who they are: so many answers may be held back (Attempts)
FILES = 512  # descriptors beside those of connections


def _connections(limits: Limits) -> dict[str, int]:
    return {
        "grpc.max_allowed_incoming_connections": limits.connections,
        "grpc.server_handshake_timeout_ms": round(limits.handshake * 1e3),
        "grpc.max_connection_idle_ms": round(limits.idle * 1e3),
    }


def allow_descriptors(connections: int) -> None:
    """Raises this process's limit of open files to what so many connections take.

    Raises:
        ConfigError: it may not be raised so far.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = connections + FILES
    if soft >= need or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < need:
        raise ConfigError(
            f"cannot take {connections} connections: edged may open {hard} files, expected at "
            f"least {need}; lower limits.connections or raise LimitNOFILE of the service"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


class Server:
    """One gRPC server on some addresses.

    Args:
        handlers: of the services it has.
        message_limit: bytes of one message, either way.
        limits: of connections; None for no others than grpc's own.
        streams: calls at a time over one connection.
        gate: what callers pass first.
    """

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler],
        message_limit: int = MESSAGE_LIMIT,
        limits: Limits | None = None,
        streams: int = STREAMS,
        gate: grpc.aio.ServerInterceptor | None = None,
    ) -> None:
        options = {**OPTIONS, "grpc.max_concurrent_streams": streams}
        options |= {f"grpc.max_{way}_message_length": message_limit for way in ("receive", "send")}
        if limits is not None:
            options |= _connections(limits)
        gates = [] if gate is None else [gate]
        self._server = grpc.aio.server(interceptors=gates, options=list(options.items()))
        self._server.add_generic_rpc_handlers(tuple(handlers))
        self._sockets: list[Path] = []
        self.addresses: list[str] = []

    def listen_tcp(
        self, host: str, port: int, credentials: grpc.ServerCredentials | None = None
    ) -> int:
        """Adds a TCP address; returns its port, which was chosen if ``port`` is 0.

        Args:
            host: name or address.
            port: 0 for any.
            credentials: for TLS; None for connections in the clear.

        Raises:
            ConfigError: the address cannot be had.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        bound = self._bind(address, credentials)
        self.addresses.append(f"{address.rpartition(':')[0]}:{bound}")
        return bound

    def listen_unix(self, path: Path, mode: int, group: str | None = None) -> None:
        """Adds a Unix socket. One that an earlier daemon left is replaced: the caller has its lock.

        Args:
            path: of the socket.
            mode: who may open it.
            group: its group by name, if not the process's own.

        Raises:
            ConfigError: the socket cannot be made, or not be given to that group.
        """
        path.unlink(missing_ok=True)
        # Nobody but its owner before it is the group's; other threads are not running yet.
        old = os.umask(0o177)
        try:
            self._bind(f"unix:{path}")
        finally:
            os.umask(old)
        try:
            if group is not None:
                shutil.chown(path, group=group)
            path.chmod(mode)
        except (OSError, LookupError) as exc:
            raise ConfigError(
                f"cannot give {path} to group {group}: {exc}; it must exist, and edged's user be "
                "one of it"
            ) from exc
        self._sockets.append(path)
        self.addresses.append(f"unix:{path}")

    def _bind(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
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
