"""``edged.control.v1.Control``: what operators ask of the daemon, over a socket of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc

from edged import messages
from edged.deploy.types import Progress, State
from edged.rpc.interceptors import Context, stream, unary

SERVICE = "edged.control.v1.Control"
OUTCOMES = {
    State.COMMITTED: messages.Outcome.COMMITTED,
    State.REVERTED: messages.Outcome.REVERTED,
    State.FAILED: messages.Outcome.FAILED,
}


class Operations(Protocol):
    """What the daemon can do for an operator."""

    def deploy(self, reference: str) -> AsyncIterator[Progress]:
        """Queues a deployment and yields its progress to the end."""

    async def undeploy(self) -> str:
        """Takes the model out of service; returns its digest, empty if there was none."""

    def status(self) -> messages.StatusReply:
        """Returns what the daemon is doing."""


def handlers(operations: Operations) -> grpc.GenericRpcHandler:
    """Returns the service."""

    async def deploy(
        request: messages.DeployRequest, _context: Context
    ) -> AsyncIterator[messages.DeployEvent]:
        async for progress in operations.deploy(request.reference):
            yield _event(progress)

    async def undeploy(
        _request: messages.UndeployRequest, _context: Context
    ) -> messages.UndeployReply:
        return messages.UndeployReply(digest=await operations.undeploy())

    async def status(_request: messages.StatusRequest, _context: Context) -> messages.StatusReply:
        return operations.status()

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Deploy": grpc.unary_stream_rpc_method_handler(
            stream(deploy),
            messages.DeployRequest.FromString,
            messages.DeployEvent.SerializeToString,
        ),
        "Undeploy": grpc.unary_unary_rpc_method_handler(
            unary(undeploy),
            messages.UndeployRequest.FromString,
            messages.UndeployReply.SerializeToString,
        ),
        "Status": grpc.unary_unary_rpc_method_handler(
            unary(status),
            messages.StatusRequest.FromString,
            messages.StatusReply.SerializeToString,
        ),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def _event(progress: Progress) -> messages.DeployEvent:
    return messages.DeployEvent(
        state=progress.state.value,
        digest=progress.digest,
        detail=progress.detail,
        elapsed_us=progress.elapsed_us,
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total,
        outcome=OUTCOMES.get(progress.state, messages.Outcome.OUTCOME_UNSPECIFIED),
        error=progress.error,
        parked_us=progress.parked_us,
    )
