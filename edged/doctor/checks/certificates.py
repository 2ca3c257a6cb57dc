"""Whether the certificates that are configured can be used, today and next week."""

from __future__ import annotations

import datetime as dt
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from edged.doctor import endpoints
from edged.doctor.check import Check, Finding, Group, error, ok, warning
from edged.doctor.endpoints import Certificate
from edged.doctor.skip import SkipError
from edged.doctor.world import World
from edged.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509

SOON = 14.0  # days
LIMIT = 1 << 20  # bytes; the system's own bundle has a fifth of it


def files(world: World) -> list[Finding]:
    """Every file: readable, valid now, not about to expire, its private key its own."""
    listed = list(endpoints.certificates(world.config))
    if not listed:
        raise SkipError("no certificates are configured")
    now = dt.datetime.fromtimestamp(world.now().unix, dt.timezone.utc)
    return [_finding(each, now) for each in listed]


def _finding(listed: Certificate, now: dt.datetime) -> Finding:
    try:
        found = load(listed.file)
        if listed.key is not None:
            _fits(found[0], listed.key)
    except ConfigError as exc:
        return error(str(exc), f"put the certificate {listed.what} there")
    shown = f"{listed.file} ({listed.what})"
    # One's own has to be valid; of several authorities the one that ends last may be the one meant.
    first = min if listed.key is not None else max
    from_, until = (
        first(each.not_valid_before_utc for each in found),
        first(each.not_valid_after_utc for each in found),
    )
    if now < from_:
        fix = "set the clock, if it is wrong"
        return error(f"{shown} is not valid before {from_:%Y-%m-%d %H:%M} UTC", fix)
    days = (until - now).total_seconds() / 86400
    if days < 0:
        return error(f"{shown} has expired on {until:%Y-%m-%d %H:%M} UTC", "renew it")
    if days < SOON:
        return warning(f"{shown} expires in {days:.0f} days, on {until:%Y-%m-%d}", "renew it")
    return ok(f"{shown} is valid until {until:%Y-%m-%d}")


def load(path: Path) -> list[x509.Certificate]:
    """Returns the certificates in a file, at least one.

    Raises:
        ConfigError: it cannot be read, or has none.
    """
    from cryptography import x509

    try:
        with path.open("rb") as file:
            data = file.read(LIMIT)
        return x509.load_pem_x509_certificates(data)
    except OSError as exc:
        raise ConfigError(f"cannot read certificate {path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ConfigError(f"cannot use certificate {path}: no certificate in PEM") from exc


def _fits(certificate: x509.Certificate, key: Path) -> None:
    """Raises if a private key is not the certificate's."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        with key.open("rb") as file:
            private = serialization.load_pem_private_key(file.read(LIMIT), None)
    except PermissionError:
        return  # another user's; that one can tell
    except OSError as exc:
        raise ConfigError(f"cannot read key {key}: {exc.strerror}") from exc
    except (TypeError, ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"cannot use key {key}: no private key in PEM, or encrypted") from exc
    der = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*der) != certificate.public_key().public_bytes(*der):
        raise ConfigError(f"cannot use key {key}: it is not the certificate's")


def rights(world: World) -> list[Finding]:
    """Nobody else may put another certificate in their place."""
    listed = list(endpoints.certificates(world.config))
    if not listed:
        raise SkipError("no certificates are configured")
    bad = [
        each.file
        for each in listed
        if each.file.exists() and each.file.stat().st_mode & stat.S_IWOTH
    ]
    return [error(f"everybody may write {path}", f"chmod o-w {path}") for path in bad] or [
        ok("nobody else may write them")
    ]


def served(world: World) -> Finding:
    """The TCP port shows the certificate of the file, not one of before."""
    from cryptography.hazmat.primitives import serialization

    file = world.config.tls.cert_file
    if file is None:
        raise SkipError("the TCP port speaks without TLS")
    address = next((each for each in world.status.listen if not each.startswith("unix:")), None)
    if address is None:
        raise SkipError("edged listens on no TCP port")
    shown = world.peer_certificate(*endpoints.split(address, 0))
    if shown == load(file)[0].public_bytes(serialization.Encoding.DER):
        return ok(f"{address} shows the certificate in {file}")
    fix = "edged's log says why it did not take the new one; 'systemctl reload edged'"
    return error(f"{address} shows another certificate than the one in {file}", fix)


GROUP = Group(
    "certificates",
    (
        Check("files", files),
        Check("rights", rights),
        Check("served", served),
    ),
)
