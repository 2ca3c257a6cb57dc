"""Signatures of images, in cosign's simple-signing layout; its sigstore bundles are read, too.

Source: cosign's ``specs/SIGNATURE_SPEC.md``. The signatures of the image ``sha256:<hex>`` are its
companion ``sha256-<hex>.sig``. Each of its layers is one *payload*, a small document that names
the signed digest; the layer's annotation has the signature over the payload's bytes (ECDSA P-256,
SHA-256, base64). cosign 3 writes ``bundle`` instead, as a manifest that refers to the image; what
edged keeps of those are layers of the same companion.

Invariants:
- A payload counts only if its signature is right, it is of cosign's type and it names the very
  digest that is asked for. The name in it (``docker-reference``) says nothing and is ignored, since
  an image keeps its digest wherever it is copied.
- Nothing is asked of the network, and certificates, bundles and time stamps are not looked at: a
  device trusts keys.
- Everything read is untrusted and bounded: documents, payloads, their number.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edged.errors import ModelError, VerifyError
from edged.oci import bundle, companion, keys, spec
from edged.oci.digest import Digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from edged.oci.layout import Layout, LayoutFolder

logger = logging.getLogger(__name__)

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
REFERRER = "application/vnd.dev.cosign.artifact.sig.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
TYPE = "cosign container image signature"
PAYLOAD_LIMIT = 64 * 1024  # bytes
KIND = "sig"


@dataclass(frozen=True)
class Signature:
    """A payload's bytes, and the signature over them (ASN.1 DER).

    Attributes:
        payload: what says which image is signed.
        signature: over ``signed``.
        bundle: that both are from, as it came; empty for simple signing.
    """

    payload: bytes
    signature: bytes
    bundle: bytes = b""

    @classmethod
    def of_bundle(cls, data: bytes) -> Signature:
        """Returns what is in a sigstore bundle.

        Raises:
            ModelError: it is none, or has no signature that could be an image's.
        """
        return cls(*bundle.parse(data), data)

    @property
    def signed(self) -> bytes:
        """The bytes that the signature is over."""
        return bundle.pae(self.payload) if self.bundle else self.payload


@dataclass(frozen=True)
class Entry:
    """One signature as a signature image lists it: the payload is a blob of its own."""

    payload: spec.Descriptor
    signature: bytes


def tag(digest: Digest) -> str:
    """The tag of the companion that has the signatures of ``digest``."""
    return companion.tag(digest, KIND)


def sign(digest: Digest, key: EllipticCurvePrivateKey, reference: str = "") -> Signature:
    """Signs an image's digest.

    Args:
        digest: of the image's manifest.
        key: on P-256.
        reference: the image's name, for people; no verifier may rely on it.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    payload = spec.to_json(
        {
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": str(digest)},
                "type": TYPE,
            },
            "optional": None,
        }
    )
    return Signature(payload, key.sign(payload, ec.ECDSA(hashes.SHA256())))


def verify(
    digest: Digest, signatures: Sequence[Signature], trusted: keys.TrustedKeys
) -> keys.PublicKey:
    """Returns the trusted key that signed the image.

    Raises:
        VerifyError: nobody that is trusted did; says what was found instead, and what to do.
    """
    if not trusted.keys:
        raise VerifyError(
            f"cannot accept image {digest}: no key is trusted; put the signer's public key into "
            f"{trusted.folder} ('edged keys trust FILE')"
        )
    if not signatures:
        raise VerifyError(
            f"cannot accept image {digest}: it is not signed; sign it with 'edged build --sign KEY'"
        )
    reasons = []
    for signature in signatures[: companion.LAYERS_LIMIT]:
        key = _signer(signature, trusted)
        reason = "its key is not trusted" if key is None else _mismatch(signature, digest)
        if key is not None and reason is None:
            return key
        reasons.append(str(reason))
    known = ", ".join(str(key) for key in trusted.keys)
    raise VerifyError(
        f"cannot accept image {digest}: none of its {len(signatures)} signatures counts "
        f"({'; '.join(sorted(set(reasons)))}); trusted keys: {known}"
    )


def _signer(signature: Signature, trusted: keys.TrustedKeys) -> keys.PublicKey | None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    for key in trusted.keys:
        try:
            key.key.verify(signature.signature, signature.signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return key
    return None


def _mismatch(signature: Signature, digest: Digest) -> str | None:
    """Why a payload with a good signature does not speak of this image; None if it does."""
    if signature.bundle:
        return bundle.mismatch(signature.payload, digest)
    try:
        document = spec.parse_json(signature.payload, "a signature's payload", PAYLOAD_LIMIT)
        critical = _lower_keys(document.get("critical"))
        signed = _lower_keys(critical.get("image")).get("docker-manifest-digest")
    except ModelError as exc:
        return str(exc)
    if critical.get("type") != TYPE:
        return f"signed as {str(critical.get('type'))[:80]!r}, expected {TYPE!r}"
    if signed != str(digest):
        return f"it is of another image, {str(signed)[:80]}"
    return None


def _lower_keys(value: object) -> dict[str, Any]:
    """An object whose keys may be capitalised, as in the specification's text."""
    if not isinstance(value, dict):
        raise ModelError("cannot read a signature's payload: expected an object")
    lowered = {str(key).lower(): each for key, each in value.items()}
    if len(lowered) != len(value):
        raise ModelError("cannot read a signature's payload: a key stands twice in one object")
    return lowered


# -- the companion that has the signatures


def entries(manifest: bytes) -> list[Entry]:
    """Reads the manifest of a companion with signatures; layers of other kinds are passed over.

    Raises:
        ModelError: it is no such manifest, or it lists too many or too large payloads.
    """
    what = "the manifest of an image's signatures"
    return [
        Entry(layer, _decode(layer.annotations[ANNOTATION]))
        for layer in companion.layers(manifest, what, PAYLOAD_LIMIT)
        if layer.media_type == PAYLOAD and ANNOTATION in layer.annotations
    ]


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ModelError("cannot read an image's signatures: one is not base64") from exc


def read(layout: Layout, digest: Digest) -> list[Signature]:
    """The signatures of an image that stand beside it in a layout; none is an empty list.

    Besides the companion, manifests of cosign's types whose ``subject`` is the image count, which
    is how cosign writes them for registries that list referrers. Bundles that cannot be one are
    passed over: anybody may refer to an image, with whatever.

    Raises:
        ModelError: a document is not what it should be.
        VerifyError: a blob is not what was announced.
        FetchError: a blob is missing.
    """
    found = companion.read(layout, digest, KIND, PAYLOAD_LIMIT)
    for descriptor in layout.referrers(digest, REFERRER):
        found += companion.parts(layout, descriptor, f"signatures of {digest}", PAYLOAD_LIMIT)
    simple = [
        Signature(part.data, _decode(part.annotations[ANNOTATION]))
        for part in found
        if part.media_type == PAYLOAD and ANNOTATION in part.annotations
    ]
    kept = [part.data for part in found if part.media_type == bundle.MEDIA_TYPE]
    return simple + _bundled(dict.fromkeys((*kept, *_referring(layout, digest))))


def _referring(layout: Layout, digest: Digest) -> Iterator[bytes]:
    """The bundles that refer to an image."""
    for descriptor in layout.referrers(digest, bundle.MEDIA_TYPE):
        try:
            found = companion.parts(layout, descriptor, f"bundles of {digest}", bundle.LIMIT)
        except ModelError as exc:
            logger.info("passed over: %s", exc)
            continue
        yield from (part.data for part in found if part.media_type == bundle.MEDIA_TYPE)


def _bundled(bundles: Iterable[bytes]) -> list[Signature]:
    found = []
    for data in bundles:
        try:
            found.append(Signature.of_bundle(data))
        except ModelError as exc:
            logger.info("passed over: %s", exc)
    return found


def write(layout: LayoutFolder, digest: Digest, signatures: Sequence[Signature]) -> None:
    """Puts an image's signatures beside it, in place of those that were there.

    Raises:
        StoreError: the disk failed.
    """
    companion.write(layout, digest, KIND, [_part(each) for each in signatures])


def _part(signature: Signature) -> companion.Part:
    if signature.bundle:
        return companion.Part(bundle.MEDIA_TYPE, signature.bundle)
    text = base64.b64encode(signature.signature).decode()
    return companion.Part(PAYLOAD, signature.payload, {ANNOTATION: text})


def add(layout: LayoutFolder, digest: Digest, key: EllipticCurvePrivateKey, name: str = "") -> None:
    """Signs an image of a layout; a signature of the same key is there once.

    Args:
        layout: that has the image.
        digest: of its manifest.
        key: to sign with.
        name: of the image, for people.
    """
    public = key.public_key()
    own = keys.TrustedKeys(layout.path, (keys.PublicKey(keys.key_id(public), "signer", public),))
    present = read(layout, digest)
    others = [each for each in present if _signer(each, own) is None]
    write(layout, digest, [*others, sign(digest, key, name)])
