"""Durable, atomic changes to files: after a crash at any point the old or the new is there, whole.

Invariants:
- A file is written beside its target, synced, renamed over it, and the folder is synced; only then
  does the call return.
- A folder that becomes visible under its final name has had everything inside it synced before.
- Between the steps a named failpoint is passed. It does nothing unless a test has put a hook in
  ``failpoint_hook``, which may kill the process there.

The module does not know what is in the files.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

failpoint_hook: Callable[[str], None] | None = None


def failpoint(name: str) -> None:
    """Passes the point called ``name``; see the module's docstring."""
    if failpoint_hook is not None:
        failpoint_hook(name)


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replaces the file at ``path`` by ``data``, durably.

    Args:
        path: in an existing folder.
        data: the whole content.
        mode: permissions of the file.

    Raises:
        OSError: the old file, if any, is untouched.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            failpoint(f"{path.name}:written")
            os.fsync(file.fileno())
        failpoint(f"{path.name}:synced")
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    failpoint(f"{path.name}:renamed")
    sync_folder(path.parent)
    failpoint(f"{path.name}:durable")


def move_folder(source: Path, target: Path) -> None:
    """Makes the folder ``source`` visible as ``target``, durably, with all that is inside it.

    Args:
        source: a folder on the same file system; nobody may be writing to it.
        target: must not exist.

    Raises:
        OSError: ``target`` does not exist.
    """
    sync_tree(source)
    failpoint("folder:synced")
    source.rename(target)
    failpoint("folder:renamed")
    sync_folder(target.parent)
    failpoint("folder:durable")


def sync_tree(folder: Path) -> None:
    """Syncs every file and folder below ``folder``, and ``folder`` itself."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name), os.O_RDONLY)
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Syncs the names in ``folder``."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
