"""What stands beside an image without being part of it: its signatures, its quality report.

A companion of the image ``sha256:<hex>`` is a small image of its own in the same layout or
repository, tagged ``sha256-<hex>.<kind>``, as cosign does it for signatures (``sig``). So every
tool that copies tags copies it, and the image's digest does not know of it.

Invariants:
- A companion's layers are small blobs, each announced with its type; their number and size are
  bounded when they are read.
- Nothing here is trusted: a signature proves itself, everything else is for people to look at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edged.errors import ModelError
from edged.oci import spec
from edged.oci.digest import Digest

if TYPE_CHECKING:
    from edged.oci.layout import Layout, LayoutFolder

LAYERS_LIMIT = 64
PART_LIMIT = 4 << 20  # bytes of a layer, of those that are for people
FOR_PEOPLE = ("quality",)  # kinds that a device keeps beside an image, signatures apart
TITLE = "org.opencontainers.image.title"  # a layer's file name
_TAG = re.compile(r"sha256-[0-9a-f]{64}\.[a-z]+")


@dataclass(frozen=True)
class Part:
    """One layer: its type, its annotations and its bytes."""

    media_type: str
    data: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)


def tag(digest: Digest, kind: str) -> str:
    """The tag of an image's companion of that kind."""
    return f"sha256-{digest.hex}.{kind}"


def is_tag(name: str | None) -> bool:
    """Whether a tag is one that ``tag`` makes: what it names is not an image of a model."""
    return name is not None and _TAG.fullmatch(name) is not None


def layers(manifest: bytes, what: str, limit: int) -> list[spec.Descriptor]:
    """Reads the manifest of a companion: the descriptors of its layers.

    Args:
        manifest: JSON.
        what: named in errors.
        limit: bytes that a layer may have.

    Raises:
        ModelError: it is no manifest, or it lists too many or too large layers.
    """
    document = spec.parse_json(manifest, what)
    listed = document.get("layers")
    if not isinstance(listed, list) or len(listed) > LAYERS_LIMIT:
        raise ModelError(f"cannot read {what}: expected a list of at most {LAYERS_LIMIT} layers")
    found = [
        spec.Descriptor.parse(layer, f"{what}: layers[{number}]")
        for number, layer in enumerate(listed)
    ]
    for descriptor in found:
        if descriptor.size > limit:
            raise ModelError(
                f"cannot read {what}: a layer of {descriptor.size} bytes, expected at most {limit}"
            )
    return found


def read(layout: Layout, digest: Digest, kind: str, limit: int) -> list[Part]:
    """The layers of an image's companion in a layout; none is an empty list.

    Args:
        layout: that has the image.
        digest: of the image's manifest.
        kind: of the companion.
        limit: bytes that a layer may have.

    Raises:
        ModelError: a document is not what it should be.
        VerifyError: a blob is not what was announced.
        FetchError: a blob is missing.
    """
    wanted, what = tag(digest, kind), f"companion {kind!r} of {digest}"
    descriptor = layout.find(wanted)
    if descriptor is None:
        return []
    return parts(layout, descriptor, what, limit)


def parts(layout: Layout, descriptor: spec.Descriptor, what: str, limit: int) -> list[Part]:
    """The layers of the companion whose manifest has that descriptor; see ``read``."""
    if descriptor.size > spec.DOCUMENT_LIMIT:
        raise ModelError(f"cannot read {what}: its manifest has {descriptor.size} bytes")
    return [
        Part(layer.media_type, _blob(layout, layer), layer.annotations)
        for layer in layers(_blob(layout, descriptor), what, limit)
    ]


def write(layout: LayoutFolder, digest: Digest, kind: str, parts: Sequence[Part]) -> None:
    """Puts a companion beside an image, in place of the one that was there.

    Raises:
        StoreError: the disk failed.
    """
    stored = [layout.put_bytes(part.data, part.media_type) for part in parts]
    config = spec.Config(tuple(descriptor.digest for descriptor in stored))
    manifest = spec.Manifest(
        layout.put_bytes(config.to_json(), spec.CONFIG),
        tuple(
            spec.Descriptor(d.media_type, d.digest, d.size, part.annotations)
            for d, part in zip(stored, parts, strict=True)
        ),
    )
    layout.set_tag(layout.put_bytes(manifest.to_json(), spec.MANIFEST), tag(digest, kind))


def _blob(layout: Layout, descriptor: spec.Descriptor) -> bytes:
    with layout.open_blob(descriptor) as blob:
        return blob.read()
