"""Signatures: in cosign's layout, good for one digest and one key, and for nothing else."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edged.errors import ModelError, VerifyError
from edged.oci import (
    Digest,
    LayoutFolder,
    Reference,
    companion,
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


def trusted(*private: ec.EllipticCurvePrivateKey) -> keys.TrustedKeys:
    public = [key.public_key() for key in private]
    return keys.TrustedKeys(
        Path("keys"), tuple(keys.PublicKey(keys.key_id(key), "plant", key) for key in public)
    )


def signed(document: Any) -> Signature:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Signature(payload, PRIVATE.sign(payload, ec.ECDSA(hashes.SHA256())))


def payload(**changes: Any) -> dict[str, Any]:
    critical = {
        "identity": {"docker-reference": "registry.example/surface"},
        "image": {"docker-manifest-digest": str(DIGEST)},
        "type": signature.TYPE,
    }
    return {"critical": {**critical, **changes}, "optional": {"creator": "somebody"}}


def test_a_signature_of_a_trusted_key_is_accepted_and_says_whose_it_is() -> None:
    given = [signature.sign(DIGEST, OTHER), signature.sign(DIGEST, PRIVATE)]
    assert signature.verify(DIGEST, given, trusted(PRIVATE)).id == keys.key_id(PRIVATE.public_key())


def test_payloads_as_cosign_writes_them_and_as_its_text_has_them_are_accepted() -> None:
    critical = payload()["critical"]
    capital = {key.capitalize(): value for key, value in critical.items()}
    capital["Image"] = {"Docker-manifest-digest": str(DIGEST)}
    for document in (payload(), {"critical": capital}):
        signature.verify(DIGEST, [signed(document)], trusted(PRIVATE))


def test_no_signature_no_trusted_key_or_another_key_is_refused_with_what_to_do() -> None:
    with pytest.raises(VerifyError, match="it is not signed; sign it with"):
        signature.verify(DIGEST, [], trusted(PRIVATE))
    with pytest.raises(VerifyError, match="no key is trusted; put the signer's public key into"):
        signature.verify(DIGEST, [signature.sign(DIGEST, PRIVATE)], trusted())
    with pytest.raises(VerifyError, match=r"its key is not trusted\); trusted keys: plant"):
        signature.verify(DIGEST, [signature.sign(DIGEST, OTHER)], trusted(PRIVATE))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (payload(image={"docker-manifest-digest": str(Digest.of(b"other"))}), "another image"),
        (payload(image={}), "another image"),
        (payload(image=[]), "expected an object"),
        (payload(type="atomic container signature"), "expected 'cosign container image"),
        ({"critical": None}, "expected an object"),
        (b"{", "not valid JSON"),
        (b'{"critical": 1, "critical": 2}', "twice"),
        (b" " * (signature.PAYLOAD_LIMIT + 1), "at most"),
    ],
)
def test_a_good_signature_of_something_else_is_refused(document: Any, words: str) -> None:
    with pytest.raises(VerifyError, match=words):
        signature.verify(DIGEST, [signed(document)], trusted(PRIVATE))


def test_every_changed_bit_of_payload_or_signature_is_noticed() -> None:
    good = signature.sign(DIGEST, PRIVATE)
    for index in range(len(good.payload)):
        changed = bytearray(good.payload)
        changed[index] ^= 1
        with pytest.raises(VerifyError):
            signature.verify(DIGEST, [Signature(bytes(changed), good.signature)], trusted(PRIVATE))
    for index in range(len(good.signature)):
        changed = bytearray(good.signature)
        changed[index] ^= 1
        with pytest.raises(VerifyError):
            signature.verify(DIGEST, [Signature(good.payload, bytes(changed))], trusted(PRIVATE))


def test_an_image_is_signed_beside_and_keeps_its_digest(tmp_path: Path) -> None:
    plain = write_image(FILES, FACTS, Reference.parse(f"oci:{tmp_path}/plain"))
    for reference in (f"oci:{tmp_path}/signed", f"oci-archive:{tmp_path}/signed.tar"):
        assert write_image(FILES, FACTS, Reference.parse(reference), sign=PRIVATE) == plain
        image = open_image(reference)  # no tag: the signature is not taken for a second image
        assert image.digest == plain
        found = signature.read(image.layout, plain)
        signature.verify(plain, found, trusted(PRIVATE))
    assert signature.read(open_image(f"oci:{tmp_path}/plain").layout, plain) == []


def test_signing_again_keeps_one_signature_a_key(tmp_path: Path) -> None:
    digest = write_image(FILES, FACTS, Reference.parse(f"oci:{tmp_path}/i"), sign=PRIVATE)
    layout = LayoutFolder(tmp_path / "i")
    for key in (OTHER, PRIVATE, OTHER):
        signature.add(layout, digest, key)
    found = signature.read(layout, digest)
    assert len(found) == 2
    for key in (PRIVATE, OTHER):
        signature.verify(digest, found, trusted(key))


def test_openssl_agrees_with_the_signature(tmp_path: Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed: nobody else to check signatures")
    made = signature.sign(DIGEST, PRIVATE)
    (tmp_path / "payload").write_bytes(made.payload)
    (tmp_path / "signature").write_bytes(made.signature)
    (tmp_path / "key.pub").write_bytes(keys.public_pem(PRIVATE.public_key()))
    check = [program, "dgst", "-sha256", "-verify", "key.pub", "-signature", "signature", "payload"]
    assert (
        b"Verified OK"
        in subprocess.run(check, check=True, cwd=tmp_path, capture_output=True).stdout
    )


def test_skopeo_copies_image_and_signature(tmp_path: Path) -> None:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")
    digest = write_image(FILES, FACTS, Reference.parse(f"oci:{tmp_path}/a:v1"), sign=PRIVATE)
    for tag in ("v1", signature.tag(digest)):
        copy = [program, "copy", "--preserve-digests", "--insecure-policy"]
        copy += [f"oci:{tmp_path}/a:{tag}", f"oci:{tmp_path}/b:{tag}"]
        subprocess.run(copy, check=True, capture_output=True, timeout=60)
    image = open_image(f"oci:{tmp_path}/b:v1")
    signature.verify(image.digest, signature.read(image.layout, image.digest), trusted(PRIVATE))


def manifest(*layers: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "layers": list(layers)}).encode()


def layer(size: int = 10, text: str = "AAAA", kind: str = signature.PAYLOAD) -> dict[str, Any]:
    annotations = {signature.ANNOTATION: text}
    return {"mediaType": kind, "digest": str(DIGEST), "size": size, "annotations": annotations}


def test_layers_of_other_kinds_are_passed_over() -> None:
    text = base64.b64encode(b"der").decode()
    listed = signature.entries(manifest(layer(kind="application/x"), layer(text=text)))
    assert [entry.signature for entry in listed] == [b"der"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"[]", "expected a JSON object"),
        (b'{"layers": 3}', "layers"),
        (manifest(*[layer()] * (companion.LAYERS_LIMIT + 1)), "at most"),
        (manifest(layer(size=signature.PAYLOAD_LIMIT + 1)), "at most"),
        (manifest(layer(text="not base64!")), "not base64"),
        (manifest({"mediaType": signature.PAYLOAD}), "size"),
    ],
)
def test_a_damaged_list_of_signatures_is_an_error(document: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        signature.entries(document)


def test_signatures_that_refer_to_the_image_are_found_in_a_layout(tmp_path: Path) -> None:
    """As cosign writes them for registries that list referrers, and tools copy them."""
    digest = write_image(dict(FILES), FACTS, Reference.parse(f"oci:{tmp_path}:v1"))
    layout = LayoutFolder(tmp_path)
    given = signature.sign(digest, PRIVATE)
    text = base64.b64encode(given.signature).decode()
    stored = layout.put_bytes(given.payload, signature.PAYLOAD)
    for subject in (digest, Digest.of(b"another image")):
        document = {
            "schemaVersion": 2,
            "mediaType": spec.MANIFEST,
            "artifactType": signature.REFERRER,
            "config": layout.put_bytes(b"{}", "application/vnd.oci.empty.v1+json").to_document(),
            "layers": [{**stored.to_document(), "annotations": {signature.ANNOTATION: text}}],
            "subject": {"mediaType": spec.MANIFEST, "digest": str(subject), "size": 1},
        }
        listed = layout.put_bytes(spec.to_json(document), spec.MANIFEST).to_document()
        index = json.loads((tmp_path / "index.json").read_text())
        index["manifests"].append({**listed, "artifactType": signature.REFERRER})
        (tmp_path / "index.json").write_text(json.dumps(index))
    image = open_image(f"oci:{tmp_path}:v1")
    assert image.signatures() == [given]
    signature.verify(digest, image.signatures(), trusted(PRIVATE))
