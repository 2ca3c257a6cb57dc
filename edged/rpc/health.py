"""``grpc.health.v1.Health``: the word of the daemon's one state, for whoever asks over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from edged.errors import RequestError
from edged.messages import HealthCheckRequest, HealthCheckResponse, ServingStatus
from edged.rpc import predict
from edged.rpc.interceptors import Context, stream, unary

SERVICE = "grpc.health.v1.Health"
KNOWN = ("", predict.SERVICE)


class Health:
    """Whether requests are answered; said to those who ask, and to those who watch on change."""

    def __init__(self) -> None:
        self._status = ServingStatus.NOT_SERVING
        self._changed = asyncio.Event()

    def set(self, *, serving: bool) -> None:
        """Notes the state."""
        status = ServingStatus.SERVING if serving else ServingStatus.NOT_SERVING
        if status is not self._status:
            self._status = status
            # Those who watch are woken by this event; they wait for the next one on a new one.
            self._changed.set()
            self._changed = asyncio.Event()

    def handlers(self) -> grpc.GenericRpcHandler:
        """Returns the service."""
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Check": grpc.unary_unary_rpc_method_handler(
                unary(self._check),
                HealthCheckRequest.FromString,
                HealthCheckResponse.SerializeToString,
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                stream(self._watch),
                HealthCheckRequest.FromString,
                HealthCheckResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _check(self, request: HealthCheckRequest, _context: Context) -> HealthCheckResponse:
        if request.service not in KNOWN:
            raise RequestError("NOT_FOUND", f"unknown service {request.service[:100]!r}")
        return HealthCheckResponse(status=self._status)

    async def _watch(
        self, request: HealthCheckRequest, _context: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        known = request.service in KNOWN
        while True:
            changed = self._changed
            status = self._status if known else ServingStatus.SERVICE_UNKNOWN
            yield HealthCheckResponse(status=status)
            await changed.wait()
