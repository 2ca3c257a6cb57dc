"""``edged.control.v1.Control``: what operators ask of the daemon, over a socket of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

import grpc

from edged import messages
from edged.access import roles
from edged.deploy.types import Options, Progress
from edged.rpc import report
from edged.rpc.interceptors import Context
from edged.rpc.methods import unary_stream, unary_unary

if TYPE_CHECKING:
    from edged.deploy.history import Record
    from edged.deploy.hold import Hold
    from edged.deploy.quarantine import Entry

SERVICE = roles.CONTROL
ORIGIN_LIMIT = 1024  # characters


class Operations(Protocol):
    """What the daemon can do for an operator."""

    def deploy(self, reference: str, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment and yields its progress to the end."""

    def rollback(self, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment of the previous model and yields its progress to the end."""

    async def undeploy(self, options: Options) -> str:
        """Takes the model out of service; returns its digest, empty if there was none."""

    def status(self) -> messages.StatusReply:
        """Returns what the daemon is doing."""

    def history(self) -> list[Record]:
        """Returns what was done, oldest first."""

    def hold(self, owner: str, reason: str, ttl: float, *, force: bool) -> Hold:
        """Refuses deployments for ``ttl`` seconds."""

    def release(self) -> Hold | None:
        """Ends the hold; returns it, None if there was none."""

    def quarantine(self, clear: str) -> list[Entry]:
        """Returns the images in quarantine, or those that it takes out."""

    async def self_test(self) -> messages.SelfTestReply:
        """Runs the golden test of the model in service."""


def handlers(operations: Operations) -> grpc.GenericRpcHandler:
    """Returns the service."""

    async def deploy(
        request: messages.DeployRequest, _context: Context
    ) -> AsyncIterator[messages.DeployEvent]:
        options = Options(
            request.force, request.allow_downgrade, origin=request.origin[:ORIGIN_LIMIT]
        )
        async for progress in operations.deploy(request.reference, options):
            yield report.event(progress)

    async def rollback(
        request: messages.RollbackRequest, _context: Context
    ) -> AsyncIterator[messages.DeployEvent]:
        async for progress in operations.rollback(Options(force=request.force)):
            yield report.event(progress)

    async def undeploy(
        request: messages.UndeployRequest, _context: Context
    ) -> messages.UndeployReply:
        digest = await operations.undeploy(Options(force=request.force))
        return messages.UndeployReply(digest=digest)

    async def status(_request: messages.StatusRequest, _context: Context) -> messages.StatusReply:
        return operations.status()

    async def history(request: messages.HistoryRequest, _context: Context) -> messages.HistoryReply:
        newest = operations.history()[::-1][: request.limit or None]
        return messages.HistoryReply(records=[report.record(each) for each in newest])

    async def hold(request: messages.HoldRequest, _context: Context) -> messages.HoldReply:
        taken = operations.hold(request.owner, request.reason, request.ttl_s, force=request.force)
        return messages.HoldReply(hold=report.held(taken))

    async def release(_request: messages.ReleaseRequest, _context: Context) -> messages.HoldReply:
        return messages.HoldReply(hold=report.held(operations.release()))

    async def quarantine(
        request: messages.QuarantineRequest, _context: Context
    ) -> messages.QuarantineReply:
        images = operations.quarantine(request.clear)
        return messages.QuarantineReply(images=[report.quarantined(each) for each in images])

    async def self_test(
        _request: messages.SelfTestRequest, _context: Context
    ) -> messages.SelfTestReply:
        return await operations.self_test()

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Deploy": unary_stream(messages.DeployRequest, deploy),
            "Rollback": unary_stream(messages.RollbackRequest, rollback),
            "Undeploy": unary_unary(messages.UndeployRequest, undeploy),
            "Status": unary_unary(messages.StatusRequest, status),
            "History": unary_unary(messages.HistoryRequest, history),
            "Hold": unary_unary(messages.HoldRequest, hold),
            "Release": unary_unary(messages.ReleaseRequest, release),
            "Quarantine": unary_unary(messages.QuarantineRequest, quarantine),
            "SelfTest": unary_unary(messages.SelfTestRequest, self_test),
        },
    )
