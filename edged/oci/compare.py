"""Tells whether an unpacked model still is what its image holds, to the byte.

A digest protects a blob, not the files that were unpacked from it: those can rot, or be written to
by somebody else. So they are read again beside the layers, which prove themselves.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from edged.errors import StoreError, VerifyError
from edged.oci import spec, tar
from edged.oci.digest import CHUNK, Digest, VerifiedReader
from edged.oci.unpack import Limits, Unpacker


def compare(
    layers: Iterable[tuple[VerifiedReader, spec.Descriptor, Digest]],
    root: Path,
    limits: Limits | None = None,
) -> None:
    """Returns if ``root`` holds what ``unpack`` would make of the layers, and nothing else.

    Args:
        layers: as for ``edged.oci.unpack.unpack``.
        root: with the content of ``/model``.
        limits: as for ``unpack``.

    Raises:
        VerifyError: a file differs, is missing or is one too many; or a layer is damaged.
        ModelError: the image asks for something that is not allowed.
        StoreError: the disk cannot be read.
    """
    if not root.is_dir():
        raise VerifyError(f"cannot use {root}: it is missing")
    Comparer(root, limits or Limits()).add_layers(layers)


class Comparer(Unpacker):
    """Goes through layers as ``Unpacker`` does, but reads files where that writes them."""

    def finish(self) -> None:
        """To be called after the last layer.

        Raises:
            VerifyError: something is there that is in no layer.
        """
        for parent, folders, files in os.walk(self._root, onerror=_unreadable):
            # A link counts as a file here, and no layer has one.
            names = files + [name for name in folders if Path(parent, name).is_symlink()]
            for path in (Path(parent, name) for name in sorted(names)):
                if path not in self._files:
                    raise VerifyError(f"cannot use {path}: the image has no such file")
            for path in (Path(parent, name) for name in sorted(folders)):
                if path not in self._folders:
                    raise VerifyError(f"cannot use {path}: the image has no such folder")

    def _make_folders(self, folder: Path) -> None:
        if folder in self._folders:
            return
        self._make_folders(folder.parent)
        if folder.is_symlink() or not folder.is_dir():
            raise VerifyError(f"cannot use {folder}: expected a folder, as in the image")
        self._folders.add(folder)

    def _write(self, target: Path, entry: tar.Entry, reader: tar.TarReader, what: str) -> None:
        self._count(target, entry, what)
        with _open(target) as file:
            while chunk := reader.read(CHUNK):
                if file.read(len(chunk)) != chunk:
                    raise VerifyError(f"cannot use {target}: it is not what the image holds")
            if file.read(1):
                raise VerifyError(f"cannot use {target}: it is longer than in the image")


def _open(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as exc:
        raise VerifyError(f"cannot use {path}: it is missing") from exc
    except OSError as exc:
        raise VerifyError(f"cannot use {path}: {exc.strerror}") from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise VerifyError(f"cannot use {path}: expected a regular file")
    return os.fdopen(descriptor, "rb", buffering=0)


def _unreadable(error: OSError) -> None:
    raise StoreError(f"cannot read {error.filename}: {error.strerror}") from error
