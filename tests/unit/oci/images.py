"""Builds layouts and tars with one thing wrong, for the tests of ``edged.oci``."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from edged.oci import Digest, Image, LayoutFolder, ModelFacts, load_image, spec

FACTS = ModelFacts("surface", "1", "bw-cnn-a10", "ms-fp13", 123456)
FILES: dict[str, bytes] = {
    "manifest.json": b'{"schema": 1}',
    "program.npu": bytes(range(256)) * 20,
    "golden/npu-inputs.npz": b"inputs",
    "labels.txt": b"",
}


@dataclass
class Member:
    """One member of a tar as the standard library writes it."""

    name: str
    data: bytes = b""
    type: bytes = tarfile.REGTYPE
    linkname: str = ""
    pax: dict[str, str] = field(default_factory=dict)


def make_tar(members: Iterable[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of ``members``, written by the standard library."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.linkname, info.pax_headers = member.type, member.linkname, member.pax
            info.size = len(member.data)
            archive.addfile(info, io.BytesIO(member.data))
    return out.getvalue()


def model_tar() -> bytes:
    """A layer with ``FILES``."""
    return make_tar(Member(f"model/{name}", data) for name, data in FILES.items())


def make_image(
    folder: Path,
    *layers: bytes,
    media_type: str = spec.LAYER_TAR,
    pack: Callable[[bytes], bytes] = bytes,
    diff_ids: Iterable[Digest] | None = None,
) -> Image:
    """An image whose layers are the given bytes, opened from a new layout."""
    layout = LayoutFolder.create(folder)
    descriptors = tuple(layout.put_bytes(pack(data), media_type) for data in layers)
    found = tuple(Digest.of(data) for data in layers) if diff_ids is None else tuple(diff_ids)
    config = layout.put_bytes(spec.Config(found).to_json(), spec.CONFIG)
    manifest = spec.Manifest(config, descriptors, FACTS.annotations())
    return load_image(layout, layout.put_bytes(manifest.to_json(), spec.MANIFEST))


def make_gzip_image(folder: Path, *layers: bytes) -> Image:
    """The same, its layers compressed as registries' tools do."""
    return make_image(folder, *layers, media_type=spec.LAYER_TAR_GZIP, pack=gzip.compress)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
