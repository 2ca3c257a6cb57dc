"""Who may call over TCP: the gate before every method.

Invariants:
- Nothing passes without a certificate that the TLS handshake has verified, or a token; methods that
  do not exist are refused like those that do.
- Credentials are looked at before a request's body is taken off the connection, and the body has
  to come within a limit. A caller without credentials makes edged hold a few kilobytes at most.
- What is denied, revoked or expired counts from the next call on, and from the next answer of a
  call that streams.
- Wrong credentials cost their sender time (``edged.access.attempts``); no answer says more than
  that a token is unknown, and no record has a token in it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from edged.access import certificates, roles, tokens
from edged.access.attempts import Attempts, address_of
from edged.access.certificates import Certificate
from edged.access.roles import Caller, Role
from edged.access.watched import Watched
from edged.config.tables import Tls
from edged.errors import RequestError
from edged.rpc import callers, interceptors
from edged.rpc.interceptors import Context

logger = logging.getLogger(__name__)

Denied: TypeAlias = Watched[frozenset[str]]
KNOWN_LIMIT = 256  # callers' certificates that need not be parsed again
UNKNOWN = (
    "expected credentials: metadata 'authorization: Bearer TOKEN', or a client certificate where "
    "the device asks for one; its operator makes tokens with 'edged tokens create NAME'"
)
_Handler: TypeAlias = Any  # grpc.RpcMethodHandler, whose stubs know those of threads alone


class Policy:
    """Who is let in, by the files as they are at the moment.

    Args:
        state: folder with the tokens.
        tls: what callers' certificates may.

    Raises:
        ConfigError: a file cannot be used.
    """

    def __init__(self, state: Path, tls: Tls) -> None:
        file = tokens.path(state)
        self._tokens = Watched([file], lambda: tokens.read(file), "tokens")
        self._tls, self._denied = tls, self.prepare(tls)
        self._known: dict[bytes, Certificate] = {}

    def prepare(self, tls: Tls) -> Denied | None:
        """Returns the denied certificates of other settings.

        Raises:
            ConfigError: their file cannot be used.
        """
        path = tls.deny_file
        if path is None:
            return None
        return Watched([path], lambda: certificates.denied(path), "denied certificates")

    def change(self, tls: Tls, denied: Denied | None) -> None:
        """Goes over to other settings."""
        self._tls, self._denied = tls, denied

    def refresh(self) -> None:
        """Looks at the files now, so that what is wrong with them is said now."""
        self._tokens.refresh()
        if self._denied is not None:
            self._denied.refresh()

    def identify(self, pem: bytes | None, token: str | None, peer: str) -> Caller:
        """Returns who calls.

        Args:
            pem: the certificate that the handshake verified, if there was one.
            token: that was sent, if one was.
            peer: where from.

        Raises:
            RequestError: UNAUTHENTICATED: nobody that is known.
        """
        by_certificate = None if pem is None else self._by_certificate(pem, peer)
        if token is None:
            if by_certificate is None:
                raise RequestError("UNAUTHENTICATED", UNKNOWN)
            return by_certificate
        by_token = self._by_token(token, peer)
        if by_certificate is None or by_token.role >= by_certificate.role:
            return by_token
        return by_certificate

    def _by_token(self, token: str, peer: str) -> Caller:
        found = self._tokens.content.find(token, time.time())
        if found is None:
            raise RequestError(
                "UNAUTHENTICATED",
                "the token is not known: it is incomplete, was replaced or was revoked; ask the "
                "device's operator for a new one",
            )
        if found.expired:
            raise RequestError(
                "UNAUTHENTICATED",
                f"the {found.slot} {found.caller.name} has expired by the device's clock; ask its "
                "operator for a new one",
            )
        return Caller(found.caller.name, found.caller.role, peer)

    def _by_certificate(self, pem: bytes, peer: str) -> Caller:
        known = self._parsed(pem)
        denied = self._denied.content if self._denied is not None else ()
        if known.fingerprint in denied:
            raise RequestError(
                "UNAUTHENTICATED", f"the certificate {known.name} is denied on this device"
            )
        # The handshake looked at its dates; the connection may have stood for weeks.
        trouble = known.trouble(dt.datetime.now(dt.timezone.utc))
        if trouble:
            raise RequestError("UNAUTHENTICATED", f"the certificate {known.name}: {trouble}")
        role = Role.named(self._tls.client_roles.get(known.name, self._tls.client_role))
        return Caller(f"certificate {known.name} ({known.fingerprint[:16]})", role, peer)

    def _parsed(self, pem: bytes) -> Certificate:
        known = self._known.get(pem)
        if known is None:
            try:
                known = certificates.parse(pem)
            except ValueError as exc:
                raise RequestError(
                    "UNAUTHENTICATED", f"cannot read the certificate: {exc}"
                ) from exc
            if len(self._known) >= KNOWN_LIMIT:
                del self._known[next(iter(self._known))]
            self._known[pem] = known
        return known


class Gate(grpc.aio.ServerInterceptor):
    """Lets callers through to the methods that their role allows.

    Args:
        policy: who is let in.
        attempts: failures of late.
        body_limit: seconds for a request to arrive whole.
    """

    def __init__(self, policy: Policy, attempts: Attempts, body_limit: float) -> None:
        self._policy = policy
        self._attempts = attempts
        self._body_limit = body_limit
        self._gated: dict[str, _Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Returns the method behind the gate."""
        method = handler_call_details.method
        gated = self._gated.get(method)
        if gated is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return self._missing(method)
            gated = self._gated[method] = self._gate(handler, roles.needed(method))
        return gated

    def _gate(self, handler: _Handler, needed: Role) -> _Handler:
        """Returns a method that has the same on the wire, and takes the request itself."""
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                interceptors.stream(self._streamed(handler, needed)),
                handler.request_deserializer,
                handler.response_serializer,
            )

        async def answer(_requests: AsyncIterator[Any], context: Context) -> Any:
            await self._admit(context, needed)
            return await handler.unary_unary(await self._request(context), context)

        return grpc.stream_unary_rpc_method_handler(
            interceptors.unary(answer), handler.request_deserializer, handler.response_serializer
        )

    def _streamed(
        self, handler: _Handler, needed: Role
    ) -> Callable[[AsyncIterator[Any], Context], AsyncIterator[Any]]:
        async def answer(_requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            await self._admit(context, needed)
            async for reply in handler.unary_stream(await self._request(context), context):
                self._check(context, needed)
                yield reply

        return answer

    def _missing(self, method: str) -> _Handler:
        async def refuse(_requests: AsyncIterator[Any], context: Context) -> bytes:
            await self._admit(context, roles.needed(method))
            raise RequestError("UNIMPLEMENTED", "Method not found!")  # gRPC's own words

        return grpc.stream_unary_rpc_method_handler(interceptors.unary(refuse))

    async def _admit(self, context: Context, needed: Role) -> None:
        """Notes who calls, for whoever asks further on.

        Raises:
            RequestError: UNAUTHENTICATED or PERMISSION_DENIED.
        """
        try:
            callers.CURRENT.set(self._check(context, needed))
        except RequestError as exc:
            if exc.code == "UNAUTHENTICATED":
                await self._slow_down(context.peer(), exc)
            raise

    def _check(self, context: Context, needed: Role) -> Caller:
        pem = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
        peer = urllib.parse.unquote(context.peer())
        caller = self._policy.identify(pem, _token(context), peer)
        if caller.role < needed:
            callers.refuse(caller, needed)
        return caller

    async def _slow_down(self, peer: str, error: RequestError) -> None:
        verdict = self._attempts.failed(address_of(peer))
        if verdict.log:
            text, fields = "refused %d calls from %s: %s", {"event": "refused_caller"}
            logger.warning(text, verdict.log, address_of(peer), error, extra=fields)
        if verdict.delay:
            self._attempts.hold()
            try:
                await asyncio.sleep(verdict.delay)
            finally:
                self._attempts.release()

    async def _request(self, context: Context) -> Any:
        """Returns the one request, which must come within the limit."""
        try:
            request = await asyncio.wait_for(context.read(), self._body_limit)
        except asyncio.TimeoutError:
            raise RequestError(
                "DEADLINE_EXCEEDED",
                f"expected the whole request within {self._body_limit:g} s; it is not here",
            ) from None
        if request is grpc.aio.EOF:
            raise RequestError("INVALID_ARGUMENT", "expected a request, got none")
        return request


def _token(context: Context) -> str | None:
    """Returns the token that was sent.

    Raises:
        RequestError: UNAUTHENTICATED, if there is something else in its place.
    """
    sent = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    if not sent:
        return None
    scheme, _, token = str(sent[0]).strip().partition(" ")
    if len(sent) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise RequestError("UNAUTHENTICATED", UNKNOWN)
    return token.strip()
