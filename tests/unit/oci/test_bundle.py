"""Sigstore bundles, as cosign 3 writes them with a key: good for one image and one key."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edged.errors import VerifyError
from edged.oci import (
    BlobStore,
    Digest,
    LayoutFolder,
    Reference,
    bundle,
    keys,
    open_image,
    signature,
    spec,
    write_image,
)
from edged.oci.signature import Signature
from tests.unit.oci.images import FACTS, FILES

DIGEST = Digest.of(b"an image's manifest")
PRIVATE = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
TYPE = "application/vnd.in-toto+json"


def trusted(*private: ec.EllipticCurvePrivateKey) -> keys.TrustedKeys:
    public = [key.public_key() for key in private]
    return keys.TrustedKeys(
        Path("keys"), tuple(keys.PublicKey(keys.key_id(key), "plant", key) for key in public)
    )


def statement(digest: Digest = DIGEST, **changes: Any) -> dict[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest.hex}, "annotations": {}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
        **changes,
    }


def document(
    content: Any, key: ec.EllipticCurvePrivateKey = PRIVATE, **changes: Any
) -> dict[str, Any]:
    """A bundle as a document; the signed bytes are made here, not by what is tested."""
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    signed = b"DSSEv1 " + b" ".join(
        (str(len(TYPE)).encode(), TYPE.encode(), str(len(payload)).encode(), payload)
    )
    made = key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "publicKey": {"hint": "c29tZWJvZHk="},
            "tlogEntries": [{"logIndex": "1"}],
            "timestampVerificationData": {},
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": TYPE,
            "signatures": [{"sig": base64.b64encode(made).decode(), "keyid": ""}],
        },
        **changes,
    }


def bundled(content: Any, key: ec.EllipticCurvePrivateKey = PRIVATE) -> bytes:
    return json.dumps(document(content, key)).encode()


def refer(folder: Path, digest: Digest, data: bytes) -> None:
    """Puts a bundle into a layout as what refers to an image."""
    layout = LayoutFolder(folder)
    made = {
        "schemaVersion": 2,
        "mediaType": spec.MANIFEST,
        "artifactType": bundle.MEDIA_TYPE,
        "config": layout.put_bytes(b"{}", "application/vnd.oci.empty.v1+json").to_document(),
        "layers": [layout.put_bytes(data, bundle.MEDIA_TYPE).to_document()],
        "subject": {"mediaType": spec.MANIFEST, "digest": str(digest), "size": 1},
    }
    listed = layout.put_bytes(spec.to_json(made), spec.MANIFEST).to_document()
    index = json.loads((folder / "index.json").read_text())
    index["manifests"].append({**listed, "artifactType": bundle.MEDIA_TYPE})
    (folder / "index.json").write_text(json.dumps(index))


def test_a_bundle_of_a_trusted_key_is_a_signature() -> None:
    given = Signature.of_bundle(bundled(statement()))
    assert signature.verify(DIGEST, [given], trusted(OTHER, PRIVATE)).id == keys.key_id(
        PRIVATE.public_key()
    )
    with pytest.raises(VerifyError, match="its key is not trusted"):
        signature.verify(DIGEST, [given], trusted(OTHER))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (statement(Digest.of(b"another")), "another image"),
        (statement(predicateType="https://spdx.dev/Document"), "signed as 'https://spdx.dev"),
        (statement(predicateType=None), "signed as 'None'"),
        (statement(_type="https://example.com/x"), "signed as"),
        (statement(subject=[]), "another image"),
        (statement(subject=None), "another image"),
        (statement(subject=[{"digest": [DIGEST.hex]}, 7, {"digest": {}}]), "another image"),
        (statement(subject=[{"digest": {"sha512": DIGEST.hex}}]), "another image"),
        (b"no json", "not valid JSON"),
        (b"[]", "expected a JSON object"),
    ],
)
def test_a_good_signature_of_something_else_is_none_of_this_image(content: Any, words: str) -> None:
    given = Signature.of_bundle(bundled(content))
    with pytest.raises(VerifyError, match=words):
        signature.verify(DIGEST, [given], trusted(PRIVATE))


def test_every_changed_byte_of_the_statement_is_noticed() -> None:
    good = Signature.of_bundle(bundled(statement()))
    for at in range(len(good.payload)):
        changed = bytearray(good.payload)
        changed[at] ^= 1
        bad = Signature(bytes(changed), good.signature, good.bundle)
        with pytest.raises(VerifyError):
            signature.verify(DIGEST, [bad], trusted(PRIVATE))


def test_a_payload_signed_as_simple_signing_has_it_does_not_pass_for_a_bundle() -> None:
    """And the other way round: the two sign different bytes."""
    simple = signature.sign(DIGEST, PRIVATE)
    given = Signature.of_bundle(bundled(statement()))
    for bad in (
        Signature(simple.payload, simple.signature, b"x"),
        Signature(given.payload, given.signature),
    ):
        with pytest.raises(VerifyError):
            signature.verify(DIGEST, [bad], trusted(PRIVATE))


def envelope(**changes: Any) -> dict[str, Any]:
    made = document(statement())
    return {**made, "dsseEnvelope": {**made["dsseEnvelope"], **changes}}


BROKEN: list[Any] = [
    b"",
    b"[]",
    b" " * 70_000 + b"{}",
    {},
    document(statement(), mediaType="application/vnd.dev.sigstore.bundle.v0.9+json"),
    {**document(statement()), "dsseEnvelope": None},
    {"mediaType": bundle.MEDIA_TYPE, "messageSignature": {"signature": "AAAA"}},
    envelope(payloadType="text/plain"),
    envelope(signatures=[]),
    envelope(signatures=[{"sig": "AAAA"}, {"sig": "AAAA"}]),
    envelope(signatures=[None]),
    envelope(signatures=[{"sig": 7}]),
    envelope(signatures=[{"sig": "%%%"}]),
    envelope(payload="é"),
]


@pytest.mark.parametrize("broken", BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_bundle_is_passed_over_and_hides_none_that_is(
    tmp_path: Path, broken: Any
) -> None:
    digest = write_image(dict(FILES), FACTS, Reference.parse(f"oci:{tmp_path}:v1"))
    data = broken if isinstance(broken, bytes) else json.dumps(broken).encode()
    refer(tmp_path, digest, data)
    image = open_image(f"oci:{tmp_path}:v1")
    assert image.signatures() == []
    with pytest.raises(VerifyError, match="it is not signed"):
        signature.verify(digest, image.signatures(), trusted(PRIVATE))
    refer(tmp_path, digest, bundled(statement(digest)))
    signature.verify(digest, open_image(f"oci:{tmp_path}:v1").signatures(), trusted(PRIVATE))


@pytest.mark.parametrize("beside", [lambda _: None, lambda key: key], ids=["alone", "with simple"])
def test_the_store_keeps_a_bundle_with_its_image(
    tmp_path: Path, beside: Callable[[Any], ec.EllipticCurvePrivateKey | None]
) -> None:
    """So that it can be verified at each start, with no registry to ask."""
    source = tmp_path / "source"
    reference = Reference.parse(f"oci:{source}:v1")
    digest = write_image(dict(FILES), FACTS, reference, sign=beside(OTHER))
    refer(source, digest, bundled(statement(digest)))
    refer(source, digest, bundled(statement(digest, predicateType="https://spdx.dev/Document")))
    refer(source, Digest.of(b"another image"), bundled(statement()))
    store = BlobStore(tmp_path / "store")
    store.fetch(open_image(f"oci:{source}:v1"))
    kept = store.find(digest)
    assert kept is not None
    signature.verify(digest, kept.signatures(), trusted(PRIVATE))
    assert kept.signatures() == open_image(f"oci:{source}:v1").signatures()
    store.fetch(open_image(f"oci:{source}:v1"))
    assert store.check() == []
    if beside(OTHER) is not None:
        signature.verify(digest, kept.signatures(), trusted(OTHER))
