"""What edged listens on: TCP for whoever may, a Unix socket for applications, one for operators.

Three servers, so that a flood over the one takes no connection of another, and each has its own
rules: TCP beyond loopback has TLS and a gate; sockets have their modes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc

from edged.access import tokens
from edged.access.attempts import Attempts
from edged.config import Config, is_gated, split_address
from edged.rpc import control
from edged.rpc.operators import Local
from edged.rpc.server import CONTROL_LIMIT, GATED_STREAMS, MESSAGE_LIMIT, Server, allow_descriptors

if TYPE_CHECKING:
    from edged.config.tables import Tls
    from edged.rpc.auth import Gate, Policy
    from edged.rpc.tls import Certificates


class Edge:
    """The servers of one daemon.

    Args:
        config: where to listen, for whom.
        services: of applications.
        operations: of operators.

    Raises:
        ConfigError: it cannot listen there, or nobody could call.
    """

    def __init__(
        self,
        config: Config,
        services: Sequence[grpc.GenericRpcHandler],
        operations: control.Operations,
    ) -> None:
        self._certificates = _certificates(config.tls)
        self._policy: Policy | None = None
        operators = control.handlers(operations)
        gate = self._gate(config) if is_gated(config) else None
        remote = [operators] if gate is not None and config.auth.remote_control else []
        # Who is on this host could exhaust it anyway; applications there keep as many connections
        # as they like.
        if gate is None:
            self._tcp = Server(services)
        else:
            limits = config.limits
            allow_descriptors(limits.connections)
            self._tcp = Server([*services, *remote], MESSAGE_LIMIT, limits, GATED_STREAMS, gate)
        self._local = Server(services)
        self._control = Server([operators], CONTROL_LIMIT, gate=Local(config.control_socket))
        self._listen(config)

    def _gate(self, config: Config) -> Gate:
        from edged.rpc.auth import Gate, Policy

        self._policy = Policy(config.state_dir, config.tls)
        if config.tls.client_cert == "off":
            tokens.check_usable(config.state_dir, config.listen)
        return Gate(self._policy, Attempts(time.monotonic), config.limits.body)

    def _listen(self, config: Config) -> None:
        credentials = self._certificates.credentials() if self._certificates else None
        self._tcp.listen_tcp(*split_address(config.listen), credentials)
        sockets = config.sockets
        self._local.listen_unix(config.grpc_socket, sockets.grpc_mode, sockets.grpc_group)
        self._control.listen_unix(
            config.control_socket, sockets.control_mode, sockets.control_group
        )

    @property
    def addresses(self) -> list[str]:
        """Where applications reach it, TCP first."""
        return [*self._tcp.addresses, *self._local.addresses]

    async def start(self) -> None:
        """Accepts calls from now on."""
        for server in (self._tcp, self._local, self._control):
            await server.start()

    async def stop(self, grace: float, control_grace: float) -> None:
        """Takes no more calls; ends applications' after ``grace`` seconds, then operators'."""
        await asyncio.gather(self._tcp.stop(grace), self._local.stop(grace))
        await self._control.stop(control_grace)

    def change(self, config: Config) -> None:
        """Goes over to settings that can change while connections stand, and reads files anew.

        Raises:
            ConfigError: a file cannot be used; nothing has changed.
        """
        denied = None if self._policy is None else self._policy.prepare(config.tls)
        if self._certificates is not None and config.tls.cert_file is not None:
            self._certificates.change(config.tls)
        if self._policy is not None:
            self._policy.change(config.tls, denied)
            self._policy.refresh()


def _certificates(tls: Tls) -> Certificates | None:
    """Returns what the TCP port shows, if it speaks TLS."""
    if tls.cert_file is None:
        return None
    # Only then: what parses certificates takes as long to import as all else here.
    from edged.rpc.tls import Certificates

    return Certificates(tls)
