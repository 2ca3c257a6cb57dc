"""``grpc.health.v1.Health``: the word of the daemon's one state, for whoever asks over gRPC.

Every name has the same state: the server as a whole (no name), the services that answer, by their
full and their short names, and ``model/NAME`` of the model that is deployed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

from edged.errors import RequestError
from edged.messages import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
    ServingStatus,
)
from edged.rpc import predict
from edged.rpc import status as model_service
from edged.rpc.interceptors import Context
from edged.rpc.methods import unary_stream, unary_unary

SERVICE = "grpc.health.v1.Health"
SERVICES = (predict.SERVICE, model_service.SERVICE)
KNOWN = ("", *SERVICES, *(name.rpartition(".")[2] for name in SERVICES))


class Health:
    """Whether requests are answered; said to those who ask, and to those who watch on change."""

    def __init__(self) -> None:
        self._status = ServingStatus.NOT_SERVING
        self._names = KNOWN
        self._changed = asyncio.Event()

    def set(self, *, serving: bool, model: str = "") -> None:
        """Notes the state.

        Args:
            serving: whether requests are answered.
            model: name of the model that is deployed; empty if none is.
        """
        status = ServingStatus.SERVING if serving else ServingStatus.NOT_SERVING
        names = (*KNOWN, f"model/{model}") if model else KNOWN
        if (status, names) != (self._status, self._names):
            self._status, self._names = status, names
            # Those who watch are woken by this event; they wait for the next one on a new one.
            self._changed.set()
            self._changed = asyncio.Event()

    def handlers(self) -> grpc.GenericRpcHandler:
        """Returns the service."""
        methods = {
            "Check": unary_unary(HealthCheckRequest, self._check),
            "List": unary_unary(HealthListRequest, self._list),
            "Watch": unary_stream(HealthCheckRequest, self._watch),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _of(self, name: str) -> ServingStatus:
        return self._status if name in self._names else ServingStatus.SERVICE_UNKNOWN

    async def _check(self, request: HealthCheckRequest, _context: Context) -> HealthCheckResponse:
        status = self._of(request.service)
        if status is ServingStatus.SERVICE_UNKNOWN:
            known = ", ".join(name for name in self._names if name)
            raise RequestError(
                "NOT_FOUND", f"unknown service {request.service[:100]!r}; known are {known}"
            )
        return HealthCheckResponse(status=status)

    async def _list(self, _request: HealthListRequest, _context: Context) -> HealthListResponse:
        status = HealthCheckResponse(status=self._status)
        return HealthListResponse(statuses=dict.fromkeys(self._names, status))

    async def _watch(
        self, request: HealthCheckRequest, _context: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        said = None
        while True:
            changed = self._changed
            status = self._of(request.service)
            if status is not said:
                said = status
                yield HealthCheckResponse(status=status)
            # A change while the answer was on its way has set the event that we hold.
            await changed.wait()
