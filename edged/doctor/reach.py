"""How far one gets on the way to another machine: its name, its port, its certificate.

Each step has its own time and its own words, so that a firewall is not taken for a name server, nor
a wrong clock for a bad certificate.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.deploy.clock import SET_SINCE
from edged.errors import ConfigError, DeviceError

LIMIT = 5.0  # seconds for each step


@dataclass(frozen=True)
class Tls:
    """How the other side is to be believed.

    Attributes:
        ca_file: certificates that may vouch for it besides the system's.
        certificate: our own, for those who ask for one.
        key: of it.
        only: whether ``ca_file`` goes in place of the system's.
    """

    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    only: bool = False

    def context(self) -> ssl.SSLContext:
        """Returns what checks the other side.

        Raises:
            ConfigError: a file cannot be read.
        """
        try:
            if self.only and self.ca_file is not None:
                context = ssl.create_default_context(cafile=str(self.ca_file))
            else:
                context = ssl.create_default_context()
                if self.ca_file is not None:
                    context.load_verify_locations(self.ca_file)
            if self.certificate is not None:
                # A callback, since OpenSSL would ask the terminal for a passphrase.
                context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except (OSError, ssl.SSLError) as exc:
            files = [str(f) for f in (self.ca_file, self.certificate, self.key) if f]
            raise ConfigError(f"cannot read certificates {', '.join(files)}: {exc}") from exc
        return context


@dataclass(frozen=True)
class Reached:
    """How far it went.

    Attributes:
        step: ``dns``, ``tcp`` or ``tls`` where it ended; ``ok`` if it did not.
        reason: what happened there.
        fix: what to do; empty if nothing is.
        seconds: in all.
    """

    step: str
    reason: str
    fix: str = ""
    seconds: float = 0.0


def reach(host: str, port: int, tls: Tls | None, limit: float = LIMIT) -> Reached:
    """Goes as far as it can.

    Args:
        host: a name or an address.
        port: TCP.
        tls: None to stop once the connection stands.
        limit: seconds for each step.

    Raises:
        ConfigError: our own certificates cannot be read.
    """
    context = tls.context() if tls is not None else None
    began = time.monotonic()
    found = _resolve(host, port, limit)
    if isinstance(found, Reached):
        return found
    opened = _connect(found, host, port, limit)
    if isinstance(opened, Reached):
        return opened
    with opened:
        if context is not None:
            opened.settimeout(limit)
            failed = _handshake(opened, host, context)
            if failed is not None:
                return failed
    said = "TLS" if context is not None else "TCP"
    return Reached("ok", f"{host}:{port} answers ({said})", seconds=time.monotonic() - began)


def _resolve(host: str, port: int, limit: float) -> list[Any] | Reached:
    """The addresses. The system's resolver knows no time-out, so it has a thread of its own."""
    found: list[Any] = []
    failure: list[OSError] = []

    def ask() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            failure.append(exc if isinstance(exc, OSError) else OSError(str(exc)))

    thread = threading.Thread(target=ask, name="resolver", daemon=True)
    thread.start()
    thread.join(limit)
    if found:
        return found
    fix = "check the name, /etc/resolv.conf and the way to the name server"
    if failure:
        return Reached("dns", f"cannot resolve {host}: {failure[0].strerror or failure[0]}", fix)
    return Reached("dns", f"cannot resolve {host}: no answer within {limit:g} s", fix)


def _connect(
    addresses: Sequence[Any], host: str, port: int, limit: float
) -> socket.socket | Reached:
    """A connection to the first address that takes one, within the limit for all of them."""
    until, why = time.monotonic() + limit, "no address"
    for family, kind, protocol, _, address in addresses:
        left = until - time.monotonic()
        if left <= 0:
            break
        end = socket.socket(family, kind, protocol)
        try:
            end.settimeout(left)
            end.connect(address)
        except OSError as exc:
            end.close()
            late = isinstance(exc, TimeoutError)
            why = f"no answer within {limit:g} s" if late else str(exc.strerror or exc)
        else:
            return end
    fix = "check that it runs and listens there, the port, the route and firewalls on the way"
    return Reached("tcp", f"cannot connect to {host}:{port}: {why}", fix)


def _handshake(end: socket.socket, host: str, context: ssl.SSLContext) -> Reached | None:
    try:
        with context.wrap_socket(end, server_hostname=host):
            return None
    except ssl.SSLCertVerificationError as exc:
        return _distrusted(host, exc)
    except TimeoutError:
        why, fix = "no answer to the handshake in time", "check that it speaks TLS on this port"
    except ssl.SSLError as exc:
        why = exc.reason or str(exc)
        fix = "check that it speaks TLS on this port, and whether it asks for a certificate"
        if "WRONG_VERSION_NUMBER" in why:
            fix = "it seems to speak without TLS; check the port and the settings for plain text"
    except OSError as exc:
        why, fix = str(exc.strerror or exc), "check that it speaks TLS on this port"
    return Reached("tls", f"cannot speak TLS with {host}: {why}", fix)


def _distrusted(host: str, exc: ssl.SSLCertVerificationError) -> Reached:
    fix = "name the authority that signed it as ca_file, or renew the certificate"
    if time.time() < SET_SINCE:
        fix = "this device's clock is wrong, so no certificate can be checked: set it"
    return Reached("tls", f"cannot trust the certificate of {host}: {exc.verify_message}", fix)


def can_bind(host: str, port: int) -> bool:
    """Whether a TCP port of this host is free."""
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as end:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            end.bind(address)
            return True
    return False


def health(address: str, limit: float, credentials: Any = None) -> str:
    """What ``grpc.health.v1`` says at an address.

    Args:
        address: ``HOST:PORT`` or ``unix:PATH``.
        limit: seconds.
        credentials: grpc's, for a server behind TLS.

    Raises:
        RequestError: nobody answers there, or not as a health service.
    """
    import grpc

    from edged import messages
    from edged.messages.calls import request_error

    options = (("grpc.enable_http_proxy", 0),)
    channel = (
        grpc.insecure_channel(address, options)
        if credentials is None
        else grpc.secure_channel(address, credentials, options)
    )
    with channel:
        call = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            messages.HealthCheckRequest.SerializeToString,
            messages.HealthCheckResponse.FromString,
        )
        try:
            reply = call(messages.HealthCheckRequest(), timeout=limit)
        except grpc.RpcError as exc:
            raise request_error(exc, address, f"nobody answers at {address}") from exc
    return messages.ServingStatus(reply.status).name


def peer_certificate(host: str, port: int, limit: float) -> bytes:
    """The certificate that a server of our own shows, as DER; it is not believed, only looked at.

    Raises:
        DeviceError: nobody speaks TLS there.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), limit) as end,
            context.wrap_socket(end) as spoken,
        ):
            shown = spoken.getpeercert(binary_form=True)
    except (OSError, ssl.SSLError) as exc:
        raise DeviceError(f"cannot speak TLS with {host}:{port}: {exc}") from exc
    if shown is None:
        raise DeviceError(f"cannot speak TLS with {host}:{port}: it shows no certificate")
    return shown
