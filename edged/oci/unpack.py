"""Takes a model's files out of the layers of an image nobody vouched for.

Invariants:
- Only regular files and folders below ``model/`` are made, inside one fresh folder; any link,
  device, pipe, ``..``, absolute path, whiteout or second file of the same name refuses the image.
- Sizes, counts and depths are limited before anything is written for them.
- Layers are verified against the manifest's digest as they come and the configuration's after
  decompression. ``unpack`` returns only when all of it held; what was written before an error is
  garbage, which the caller throws away with the folder.
- Nothing is made durable here: the caller syncs the whole folder when it moves it into place.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edged.errors import ModelError, StoreError, VerifyError
from edged.oci import spec, tar
from edged.oci.digest import CHUNK, Digest, VerifiedReader
from edged.oci.inflate import Inflater
from edged.oci.layer import ROOT
from edged.osutil import atomic

SPARE_BYTES = 16 << 20  # left free on the disk


@dataclass(frozen=True)
class Limits:
    """What an image may ask of the device."""

    file_bytes: int = 2 << 30
    total_bytes: int = 4 << 30
    entries: int = 4096  # members of all layers, headers of every kind included
    depth: int = 8  # folders, "model" included
    name_bytes: int = 255  # of one component


class _Hashing:
    """Passes a stream on and keeps its digest."""

    def __init__(self, source: tar.Source) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        return data

    def finish(self) -> Digest:
        """Read on to the end and give the digest of everything."""
        while self.read(CHUNK):
            pass
        return Digest(self._hash.hexdigest())


class Unpacker:
    """Fills one folder from the layers of one image, in order.

    Args:
        root: an empty folder of our own; it receives what is in ``/model``.
        limits: what the image may ask for, over all its layers.
    """

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root = root
        self._limits = limits
        self._left_bytes = limits.total_bytes
        self._left_entries = limits.entries
        self._folders: set[Path] = {root}
        self._files: set[Path] = set()

    def add_layers(self, layers: Iterable[tuple[VerifiedReader, spec.Descriptor, Digest]]) -> None:
        """Unpack all layers; arguments and errors as for ``unpack``."""
        for blob, descriptor, diff_id in layers:
            with blob:
                what = f"layer {descriptor.digest}"
                self.add_layer(blob, descriptor.media_type, diff_id, what)
        self.finish()

    def add_layer(self, blob: VerifiedReader, media_type: str, diff_id: Digest, what: str) -> None:
        """Unpack one layer.

        Raises:
            ModelError: the layer asks for something that is not allowed.
            VerifyError: its bytes are not those announced.
            StoreError: the disk did not take them.
        """
        if media_type == spec.LAYER_TAR_GZIP:
            headers = 2 * tar.BLOCK * self._limits.entries
            limit = self._limits.total_bytes + headers + (1 << 20)
            hashing = _Hashing(Inflater(blob, limit, what))
            self._add_entries(hashing, what)
            got = hashing.finish()
            blob.drain()
        else:  # the blob's own digest is that of the plain bytes, and is checked already
            self._add_entries(blob, what)
            blob.drain()
            got = blob.digest
        if got != diff_id:
            raise VerifyError(
                f"cannot unpack {what}: expected {diff_id} after decompression, got {got}"
            )

    def _add_entries(self, plain: tar.Source, what: str) -> None:
        reader = tar.TarReader(plain, what, self._left_entries + 1, open_end=True)
        for entry in reader:
            self._left_entries -= 1
            self._add(entry, reader, what)

    def finish(self) -> None:
        """To be called after the last layer.

        Raises:
            ModelError: there was nothing below ``model/`` at all.
        """
        if not any(self._root.iterdir()):
            raise ModelError(f"cannot unpack image: it has nothing below /{ROOT}")

    def _add(self, entry: tar.Entry, reader: tar.TarReader, what: str) -> None:
        parts = self._check_name(entry.name, what)
        if entry.kind not in (tar.FILE, tar.FOLDER):
            raise _refused(what, entry.name, f"it is a {entry.kind}; only files and folders may be")
        if len(parts) <= 1:
            if entry.kind != tar.FOLDER:
                raise _refused(what, entry.name, f"it is not below {ROOT}/")
            return
        target = self._root.joinpath(*parts[1:])
        folder = target if entry.kind == tar.FOLDER else target.parent
        if not self._files.isdisjoint((target, folder, *folder.parents)) or (
            entry.kind == tar.FILE and target in self._folders
        ):
            raise _refused(what, entry.name, "the name is there already")
        self._make_folders(folder)
        if entry.kind == tar.FILE:
            self._write(target, entry, reader, what)

    def _check_name(self, name: str, what: str) -> list[str]:
        """The components of a name that stays below ``model/``."""
        parts = name.removesuffix("/").split("/")
        if parts[0] == ".":  # "./model/x", and "./" for the root itself
            parts = parts[1:]
        if not parts:
            return []
        if len(parts) > self._limits.depth + 1:
            raise _refused(what, name, f"it is deeper than {self._limits.depth} folders")
        for part in parts:
            if part in ("", ".", "..") or any(ord(c) < 32 or ord(c) == 127 for c in part):
                raise _refused(what, name, "it is not a plain relative path")
            if part.startswith(".wh."):
                raise _refused(what, name, "it is a whiteout")
            if len(part.encode()) > self._limits.name_bytes:
                raise _refused(what, name, f"longer than {self._limits.name_bytes} bytes")
        if parts[0] != ROOT:
            raise _refused(what, name, f"it is not below {ROOT}/")
        return parts

    def _make_folders(self, folder: Path) -> None:
        if folder in self._folders:
            return
        self._make_folders(folder.parent)
        atomic.add_folder(folder)
        self._folders.add(folder)

    def _count(self, target: Path, entry: tar.Entry, what: str) -> None:
        """Notes a file, if the image may still ask for it."""
        if entry.size > min(self._limits.file_bytes, self._left_bytes):
            raise _refused(
                what,
                entry.name,
                f"{entry.size} bytes; at most {self._limits.file_bytes} in a file and "
                f"{self._limits.total_bytes} in all may be",
            )
        self._left_bytes -= entry.size
        self._files.add(target)

    def _write(self, target: Path, entry: tar.Entry, reader: tar.TarReader, what: str) -> None:
        self._count(target, entry, what)
        free = shutil.disk_usage(self._root).free
        if free < entry.size + SPARE_BYTES:  # a compressed layer may hold more than it said
            raise StoreError(
                f"cannot unpack {what}: {entry.name[:200]!r} needs {entry.size} bytes and "
                f"{SPARE_BYTES} to spare, {free} are free"
            )
        with atomic.create(target, expected=entry.size) as out:
            while chunk := reader.read(CHUNK):
                out.write(chunk)


def unpack(
    layers: Iterable[tuple[VerifiedReader, spec.Descriptor, Digest]],
    root: Path,
    limits: Limits | None = None,
) -> None:
    """Unpack all layers of an image into the empty folder ``root``.

    Args:
        layers: for each its verified stream (closed here), its descriptor and its digest after
            decompression.
        root: receives the content of ``/model``.
        limits: what the image may ask for; the defaults suit the shipped SKU.

    Raises:
        ModelError, VerifyError, StoreError: see ``Unpacker``.
    """
    Unpacker(root, limits or Limits()).add_layers(layers)


def _refused(what: str, name: str, cause: str) -> ModelError:
    return ModelError(f"cannot unpack {what}: {name[:200]!r} is refused: {cause}")
