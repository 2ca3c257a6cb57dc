"""How a server is reached: the connection's options, TLS, and who may be told a token."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import grpc

from edged.errors import ConfigError

MESSAGE_LIMIT = 64 * 1024 * 1024  # bytes, as the server's
OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    # A server on this host is back in no time; grpc's own default is a second, growing to minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_DIRECT = (("grpc.enable_http_proxy", 0),)  # a proxy does not know this host's own addresses
_SOCKETS = ("unix:", "unix-abstract:")

Tls: TypeAlias = grpc.ChannelCredentials | str | Path | Sequence[str | Path]


def connect(target: str, tls: Tls | None, token: str | None) -> grpc.Channel:
    """Returns a channel; nothing is sent yet.

    Args:
        target: ``HOST:PORT`` or ``unix:PATH``.
        tls: credentials; or a PEM file with the certificates to trust; or three of those: that
            one, the client's own certificate and its key. None for a connection in the clear.
        token: that calls will carry.

    Raises:
        ConfigError: a file cannot be read, or the token would go over a network in the clear.
    """
    here = is_local(target)
    options = (*OPTIONS, *_DIRECT) if here else OPTIONS
    if tls is not None:
        return grpc.secure_channel(target, credentials(tls), options=options)
    if token is not None and not here:
        raise ConfigError(
            f"cannot send a token to {target} in the clear: whoever is on the way could read it; "
            "give the server's certificate as tls=FILE"
        )
    return grpc.insecure_channel(target, options=options)


def authorization(token: str | None) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that carries a token.

    Raises:
        ConfigError: it has characters that metadata cannot carry.
    """
    if token is None:
        return ()
    if not token or not token.isascii() or not token.isprintable() or token != token.strip():
        raise ConfigError(
            "cannot use the token: expected printable ASCII without spaces or line ends around it"
        )
    return (("authorization", f"Bearer {token}"),)


def is_local(target: str) -> bool:
    """Whether what is sent to a target stays on this host; no where it cannot be told."""
    if target.startswith(_SOCKETS):
        return True
    for scheme in ("dns:///", "dns:", "ipv4:", "ipv6:"):
        target = target.removeprefix(scheme)
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdigit():
        host = target
    host = host.removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Returns grpc's credentials.

    Args:
        tls: as ``connect`` takes it.

    Raises:
        ConfigError: a file cannot be read, or there are too few.
    """
    if isinstance(tls, grpc.ChannelCredentials):
        return tls
    files = [tls] if isinstance(tls, str | Path) else list(tls)
    if len(files) not in (1, 3):
        raise ConfigError(
            f"cannot use tls with {len(files)} files: expected the certificates to trust, or "
            "those, the client's certificate and its key"
        )
    roots, *own = [_read(Path(file)) for file in files]
    if not own:
        return grpc.ssl_channel_credentials(roots)
    certificate, key = own
    return grpc.ssl_channel_credentials(roots, key, certificate)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
