"""Models that must not come into service, each in its own way, and what is to be said of them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged import messages
from edged.oci import Digest, LayoutFolder, keys, signature, spec
from edged.oci.blobs import IMAGE_BYTES
from tests.e2e.callers import calling
from tests.e2e.device import Device
from tests.fakes import images
from tests.unit.oci.images import FACTS, Member, make_image, make_tar

BUILD = Callable[[Path], str]


def signed(folder: Path, name: str = "bad", **how: Any) -> str:
    return images.write(folder, name, key=folder.parent / "maker.key", **how)


def sign(folder: Path, digest: Digest) -> str:
    signature.add(LayoutFolder(folder), digest, keys.read_private(folder.parent / "maker.key"))
    return f"oci:{folder}"


def blobs(folder: Path) -> list[Path]:
    """The blobs of an image without its signature: the layer is the largest."""
    return sorted((folder / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)


def damaged(folder: Path) -> str:
    reference = signed(folder, padding=500_000)
    data = bytearray(blobs(folder)[-1].read_bytes())
    data[len(data) // 2] ^= 1
    blobs(folder)[-1].write_bytes(data)
    return reference


def truncated(folder: Path) -> str:
    reference = signed(folder, padding=500_000)
    blobs(folder)[-1].write_bytes(blobs(folder)[-1].read_bytes()[:-1000])
    return reference


def stranger(folder: Path) -> str:
    keys.generate(folder.parent / "stranger")
    return images.write(folder, "bad", key=folder.parent / "stranger.key")


def too_big(folder: Path) -> str:
    """It announces a layer of more bytes than any model may have."""
    layout = LayoutFolder.create(folder)
    layer = dataclasses.replace(layout.put_bytes(b"x", spec.LAYER_TAR), size=IMAGE_BYTES + 1)
    config = layout.put_bytes(spec.Config((layer.digest,)).to_json(), spec.CONFIG)
    manifest = spec.Manifest(config, (layer,), FACTS.annotations())
    described = layout.put_bytes(manifest.to_json(), spec.MANIFEST)
    layout.add(described, {})
    return sign(folder, described.digest)


def swapped_signature(folder: Path) -> str:
    """The signature of another image, under this one's tag."""
    reference = signed(folder)
    other = signed(folder.parent / "other", "other")
    document = json.loads((folder / "index.json").read_bytes())
    theirs = json.loads((folder.parent / "other" / "index.json").read_bytes())
    assert other
    (own,) = [m for m in document["manifests"] if ".sig" in str(m.get("annotations"))]
    (their,) = [m for m in theirs["manifests"] if ".sig" in str(m.get("annotations"))]
    own |= {"digest": their["digest"], "size": their["size"]}
    (folder / "index.json").write_text(json.dumps(document))
    for blob in blobs(folder.parent / "other"):
        shutil.copy(blob, folder / "blobs" / "sha256" / blob.name)
    return reference


def wrong(**behaviour: Any) -> BUILD:
    return lambda folder: signed(folder, behaviour=behaviour)


def annotated(**facts: Any) -> BUILD:
    return lambda folder: signed(folder, annotated=facts)


def escaping(folder: Path) -> str:
    """One of its files would be unpacked beside the store."""
    members = [Member("model/manifest.json", b"{}"), Member("model/../../../escaped", b"x")]
    image = make_image(folder, make_tar(members))
    LayoutFolder(folder).add(image.descriptor, {})
    return sign(folder, image.digest)


@dataclass(frozen=True)
class Bad:
    """What is wrong with a model, and what is to come of it.

    Attributes:
        build: writes the image and returns its reference.
        outcome: of its deployment.
        state: in which that ended.
        why: is in the reason.
        own_fault: whether it goes to quarantine.
    """

    build: BUILD
    outcome: str
    state: str
    why: str
    own_fault: bool


def failed(build: BUILD, state: str, why: str, *, own_fault: bool = False) -> Bad:
    return Bad(build, "failed", state, why, own_fault)


def starts(hello: str, why: str, *, own_fault: bool = True) -> Bad:
    return failed(wrong(hello=hello), "prepare", why, own_fault=own_fault)


def reverted(why: str, *, own_fault: bool = True, **behaviour: str) -> Bad:
    (state,) = behaviour
    return Bad(wrong(**behaviour), "reverted", state, why, own_fault)


BAD = {
    "wrong digest": failed(damaged, "fetch", "sha256:"),
    "truncated blob": failed(truncated, "fetch", "bytes, got"),
    "unsigned": failed(lambda folder: images.write(folder, "bad"), "fetch", "not signed"),
    "signed by another key": failed(stranger, "fetch", "key is not trusted"),
    "another image's signature": failed(swapped_signature, "fetch", "another image"),
    "other SKU": failed(annotated(sku="bw-rnn-s10"), "fetch", "this device is"),
    "other format": failed(annotated(format="ms-fp16"), "fetch", "ms-fp16"),
    "too big for the NPU": failed(annotated(memory=1 << 40), "fetch", "on the NPU"),
    "too big for any device": failed(too_big, "fetch", "expected at most"),
    "says two things": failed(annotated(version="2"), "store", "annotations say", own_fault=True),
    "unpacks outside": failed(escaping, "store", "is refused", own_fault=True),
    # Of a container, whose first process cannot abort as others do, it is another signal.
    "crash at start": starts("abort", "(signal SIG"),
    "leaves at start": starts("exit", "exit status 3"),
    "does not load": starts("refuse", "cannot x"),
    "speaks nonsense": starts("garbage", "the protocol", own_fault=False),
    "out of memory": starts("memory", "words: MemoryError"),
    "a disk is full": starts("disk", "No space left"),
    "crash at activation": reverted("exit status 4", activate="exit"),
    "hang at activation": reverted("within 3 s", activate="hang", own_fault=False),
    "golden mismatch": reverted("golden test failed", probe="fail"),
    "crash in the golden test": reverted("exit status 4", probe="exit"),
    "hang in the golden test": reverted("no answer", probe="hang", own_fault=False),
}
# What only a container can hold back.
WORSE = {
    "fills its disk": starts("fill", "last words: OSError: [Errno 28] No space"),
    "fills its disk at activation": reverted(
        "last words: OSError: [Errno 28] No space", activate="fill"
    ),
    "writes outside": starts("outside", "last words: OSError: [Errno"),
    "writes outside at activation": reverted("last words: OSError: [Errno", activate="outside"),
}


def assert_unnoticed(device: Device, reference: str, bad: Bad) -> messages.Record:
    """Deploys while callers call: the process of ``old`` serves on; returns the record."""
    before = device.status()
    with calling(device) as callers:
        callers.wait_for(b"old:x")
        events = device.deploy(reference)
        callers.wait_for(b"old:x")
    assert callers.errors == []
    assert callers.bodies == {b"old:x"}
    state = events[-2].state if bad.outcome == "failed" else bad.state
    assert (events[-1].state, state) == (bad.outcome, bad.state), events[-1].error
    assert bad.why in events[-1].error
    after = device.status()
    assert after.model == before.model, "the very same process serves on"
    last = after.last_deployment
    assert (last.outcome, last.reason) == (bad.outcome, events[-1].error)
    assert bad.state in last.phases_us
    assert device.history()[0] == last
    return last


def until_recorded(device: Device, outcome: str) -> None:
    """Returns once the newest record has this outcome: it is written beside the service."""
    for _ in range(1000):
        if device.history()[0].outcome == outcome:
            return
    raise AssertionError(device.history()[0])
