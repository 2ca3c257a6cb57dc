"""Certificates: the daemon's own, checked before they are used; callers'; and those denied.

Dates never make a certificate of our own unusable: on a device whose clock was not set yet every
certificate is of the future. They are said, and callers judge them by their own clocks.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from edged.errors import ConfigError

SIZE_LIMIT = 1 << 20  # bytes of a file
SOON = dt.timedelta(days=14)  # before its end a certificate of our own is warned of
FINGERPRINT = re.compile(r"(?:[0-9a-f]{2}:){31}[0-9a-f]{2}|[0-9a-f]{64}", re.IGNORECASE)


@dataclass(frozen=True)
class Certificate:
    """What is asked of a certificate.

    Attributes:
        name: the subject's common name; the whole subject if it has none.
        fingerprint: SHA-256 of it, 64 hexadecimal digits.
        not_before: from when on it is valid.
        not_after: until when.
    """

    name: str
    fingerprint: str
    not_before: dt.datetime
    not_after: dt.datetime

    def trouble(self, now: dt.datetime) -> str:
        """Returns what is wrong with its dates; empty if nothing is."""
        if now < self.not_before:
            return f"it is valid only from {self.not_before:%Y-%m-%d %H:%M:%S} UTC on"
        if now > self.not_after:
            return f"it has expired at {self.not_after:%Y-%m-%d %H:%M:%S} UTC"
        return ""


@dataclass(frozen=True)
class Server:
    """What a TLS server shows and trusts; PEM.

    Attributes:
        chain: its certificate, followed by those between it and the authority.
        key: its private key.
        client_ca: authorities of callers' certificates; None if callers are not asked.
        certificate: the first of the chain.
    """

    chain: bytes
    key: bytes
    client_ca: bytes | None
    certificate: Certificate


def load_server(cert_file: Path, key_file: Path, client_ca_file: Path | None) -> Server:
    """Returns what the files have, checked as far as it can be without a caller.

    Raises:
        ConfigError: a file cannot be read or has something else; or the key is another's.
    """
    chain, key = _read(cert_file), _read(key_file)
    first = _certificates(chain, cert_file)[0]
    private = _private(key, key_file)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != first.public_key().public_bytes(*form):
        raise ConfigError(
            f"cannot use {cert_file}: {key_file} is the key of another certificate; replace both"
        )
    client_ca = None
    if client_ca_file is not None:
        client_ca = _read(client_ca_file)
        _certificates(client_ca, client_ca_file)
    return Server(chain, key, client_ca, describe(first))


def describe(certificate: x509.Certificate) -> Certificate:
    """Returns what is asked of a certificate."""
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    name = str(names[0].value) if names else certificate.subject.rfc4514_string()
    return Certificate(
        "".join(c if c.isprintable() else "?" for c in name)[:100],
        certificate.fingerprint(hashes.SHA256()).hex(),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def parse(pem: bytes) -> Certificate:
    """Returns what is asked of the first certificate in ``pem``.

    Raises:
        ValueError: there is none.
    """
    return describe(x509.load_pem_x509_certificate(pem))


def denied(path: Path) -> frozenset[str]:
    """Returns the fingerprints in a file: one a line, with or without colons, # for comments.

    Raises:
        ConfigError: it cannot be read, or a line is no fingerprint.
    """
    return frozenset(_fingerprints(_read(path), path))


def _fingerprints(data: bytes, path: Path) -> Iterator[str]:
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        text = line.partition("#")[0].strip()
        # As 'openssl x509 -fingerprint -sha256' prints it.
        text = text.rpartition("=")[2].strip()
        if not text:
            continue
        if not FINGERPRINT.fullmatch(text):
            raise ConfigError(
                f"cannot use {path}: line {number} is no SHA-256 fingerprint; expected 64 "
                "hexadecimal digits, as 'openssl x509 -noout -fingerprint -sha256' prints them"
            )
        yield text.replace(":", "").lower()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
    if len(data) > SIZE_LIMIT:
        raise ConfigError(f"cannot use {path}: it has more than {SIZE_LIMIT} bytes")
    return data


def _certificates(data: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as exc:
        raise ConfigError(f"cannot use {path}: it has no certificate in PEM: {exc}") from exc


def _private(data: bytes, path: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(data, None)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ConfigError(f"cannot use {path}: it has no private key in PEM: {exc}") from exc
    except TypeError as exc:
        raise ConfigError(
            f"cannot use {path}: the key has a passphrase, which nobody could type at a start; "
            "keep it without one, readable by edged's user alone"
        ) from exc
