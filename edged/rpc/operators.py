"""Who gives operators' commands over the control socket, for the records of what they did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from edged.access import audit
from edged.access.roles import Caller, Role
from edged.rpc import callers, peers


class Local(grpc.aio.ServerInterceptor):
    """Notes who calls over the control socket: whoever may open it may do everything.

    Args:
        path: of the socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Returns the method; it is run in the same context, where the caller is noted."""
        metadata = dict(handler_call_details.invocation_metadata or ())
        said = metadata.get(peers.PID_KEY)
        callers.CURRENT.set(self._caller(None if said is None else str(said)))
        return await continuation(handler_call_details)

    def _caller(self, said: str | None) -> Caller:
        peer = peers.which(self._path, said)
        name = "an operator" if peer is None else audit.named(peer.uid, peer.pid)
        return Caller(name, Role.ADMIN, self._path.name)
