"""Sigstore bundles, as cosign 3 puts them beside an image: what is signed in one, and what it says.

Sources: sigstore's ``sigstore_bundle.proto`` (v0.3), cosign's ``specs/BUNDLE_SPEC.md``, the DSSE
protocol and in-toto's Statement. A bundle is JSON with a DSSE envelope in it: a statement, and one
signature over the statement and its type (``pae``). A statement of cosign's type about an image's
digest is a signature of that image; others (bills of materials, provenance) are none, whoever made
them.

What the bundle says of certificates, logs and time stamps is not looked at: a device trusts keys,
and asks nobody. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from edged.errors import ModelError
from edged.oci import spec
from edged.oci.digest import Digest

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT = "application/vnd.in-toto+json"
STATEMENT_TYPES = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
SIGNS = "https://sigstore.dev/cosign/sign/v1"
LIMIT = 64 * 1024  # bytes


def parse(data: bytes) -> tuple[bytes, bytes]:
    """Returns the statement and its signature (ASN.1 DER), neither of them believed yet.

    Raises:
        ModelError: it is no bundle, or nothing in it could be a signature of an image.
    """
    document = spec.parse_json(data, "a sigstore bundle", LIMIT)
    envelope = document.get("dsseEnvelope")
    if document.get("mediaType") != MEDIA_TYPE or not isinstance(envelope, dict):
        raise ModelError(f"cannot read a sigstore bundle: expected {MEDIA_TYPE} with an envelope")
    if envelope.get("payloadType") != STATEMENT:
        raise ModelError(f"cannot read a sigstore bundle: expected a payload of type {STATEMENT}")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise ModelError("cannot read a sigstore bundle: expected one signature")
    return _bytes(envelope, "payload"), _bytes(signatures[0], "sig")


def _bytes(holder: Any, key: str) -> bytes:
    text = holder.get(key) if isinstance(holder, dict) else None
    try:
        return base64.b64decode(text, validate=True)  # type: ignore[arg-type]
    except (binascii.Error, ValueError, TypeError) as exc:
        raise ModelError(f"cannot read a sigstore bundle: its {key} is not base64") from exc


def pae(statement: bytes) -> bytes:
    """Returns what the signature of a statement is over (DSSE, "Pre-Authentication Encoding")."""
    kind = STATEMENT.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(statement), statement)


def mismatch(statement: bytes, digest: Digest) -> str | None:
    """Why a statement with a good signature does not sign this image; None if it does."""
    try:
        document = spec.parse_json(statement, "a bundle's statement", LIMIT)
    except ModelError as exc:
        return str(exc)
    kind, subjects = document.get("predicateType"), document.get("subject")
    if document.get("_type") not in STATEMENT_TYPES or kind != SIGNS:
        return f"signed as {str(kind)[:80]!r}, expected {SIGNS!r}"
    if not isinstance(subjects, list) or not any(_is(each, digest) for each in subjects):
        return "it is of another image"
    return None


def _is(subject: Any, digest: Digest) -> bool:
    digests = subject.get("digest") if isinstance(subject, dict) else None
    return isinstance(digests, dict) and digests.get("sha256") == digest.hex
