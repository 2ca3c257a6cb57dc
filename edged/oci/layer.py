"""The layer of a model image: an uncompressed tar of ``model/...``.

Invariants:
- The bytes depend on the files' names and contents alone: names in byte order, every folder before
  what is in it, time 0, owner 0, fixed modes.
- Uncompressed, so that a device can resume it by byte and its digest is its content's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Protocol

from edged.errors import ModelError
from edged.oci import tar
from edged.oci.digest import CHUNK

ROOT = "model"


class Sink(Protocol):
    """Where a layer is written to."""

    def write(self, data: bytes, /) -> object:
        """Take all of ``data``."""


def write_layer(files: Mapping[str, bytes | Path], out: Sink) -> None:
    """Write the layer that holds ``files`` below ``/model``.

    Args:
        files: from the path relative to ``/model`` (``"golden/outputs.npz"``) to the content, or to
            the file that has it.
        out: where to.

    Raises:
        ModelError: a name that leaves the folder or does not fit into a tar.
    """
    for part in _parts(files):
        out.write(part)


def _parts(files: Mapping[str, bytes | Path]) -> Iterator[bytes]:
    for folder in _folders(files):
        yield tar.header(folder, None)
    for name in sorted(files, key=str.encode):
        yield from _file(f"{ROOT}/{name}", files[name])
    yield tar.END


def _folders(names: Mapping[str, object]) -> list[str]:
    folders = {ROOT}
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or str(path) != name or not path.parts or ".." in path.parts:
            raise ModelError(f"cannot write layer: {name!r} is no path below /{ROOT}")
        folders.update(f"{ROOT}/{parent}" for parent in path.parents if parent.parts)
    return sorted(folders, key=str.encode)


def _file(name: str, content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield tar.header(name, len(content))
        yield content
        yield tar.padding(len(content))
        return
    size = content.stat().st_size
    yield tar.header(name, size)
    written = 0
    with content.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            written += len(chunk)
            yield chunk
    if written != size:
        raise ModelError(f"cannot write layer: {content} changed while it was read")
    yield tar.padding(size)
