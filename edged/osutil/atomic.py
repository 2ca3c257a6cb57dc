"""The one place that changes files: after a crash at any point the old or the new is there, whole.

Invariants:
- A file appears under its name by ``write_file`` or ``new_file``: written beside, synced, renamed,
  the folder synced; only then does the call return. A folder appears by ``move_folder``, after all
  that is in it was synced. A folder goes by ``rmtree``, which first takes it out of sight.
- What is on its way has a name that starts with ``TEMPORARY``; ``sweep`` removes what a crash left.
- Every system call that changes the disk is made here, passes a failpoint before and is shown to
  the recorder after. The failpoint does nothing unless a test has put a hook in
  ``failpoint_hook``, which may end the process or raise an ``OSError`` in place of the call. The
  recorder sees enough to play the same changes again elsewhere, in part or in another order.
- Whatever the operating system refuses is a ``StoreError``; of a full disk it says how much is
  needed and how much is free.

The module does not know what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edged.errors import StoreError

TEMPORARY = ".new-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BLOCK = 4096  # what a new name costs at least
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC

failpoint_hook: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Operation:
    """One change of the disk, as the recorder sees it.

    Attributes:
        kind: ``create``, ``write``, ``truncate``, ``sync``, ``rename``, ``unlink``, ``mkdir``,
            ``rmdir`` or ``sync_folder``.
        path: what was changed.
        offset: of ``write``; the new size for ``truncate``.
        data: of ``write``.
        target: of ``rename``.
    """

    kind: str
    path: Path
    offset: int = 0
    data: bytes = b""
    target: Path | None = None


recorder: Callable[[Operation], None] | None = None


def failpoint(name: str) -> None:
    """Passes the point called ``name``; see the module's docstring."""
    if failpoint_hook is not None:
        failpoint_hook(name)


class Writer:
    """A file that is being written, from its end on. Nothing is durable before ``sync``.

    Args:
        path: where it is now.
        descriptor: open for writing; closed with the writer.
        size: where the file ends.
        what: names the failpoints.
        expected: how large the file is to become, if that is known; what is missing of it is the
            need that errors name.
        shown: how errors call it.
    """

    def __init__(
        self,
        path: Path,
        descriptor: int,
        size: int,
        what: str,
        expected: int | None = None,
        shown: Path | None = None,
    ) -> None:
        self.path = path
        self.size = size
        self._shown = shown or path
        self._descriptor = descriptor
        self._what = what
        self._expected = expected

    def write(self, data: bytes | memoryview, /) -> int:
        """Appends all of ``data`` and returns its length.

        Raises:
            StoreError: some of it may have been written; ``size`` says how far the file goes.
        """
        view = memoryview(data)
        need = max(len(view), (self._expected or 0) - self.size)
        with _told("write", self._shown, need):
            while view:
                failpoint(f"{self._what}:write")
                done = os.pwrite(self._descriptor, view, self.size)
                if recorder is not None:
                    recorder(Operation("write", self.path, self.size, bytes(view[:done])))
                self.size += done
                view = view[done:]
        return len(data)

    def truncate(self, size: int) -> None:
        """Cuts the file to ``size`` bytes."""
        with _told("cut", self._shown):
            failpoint(f"{self._what}:truncate")
            os.ftruncate(self._descriptor, size)
            _record("truncate", self.path, size)
        self.size = size

    def sync(self) -> None:
        """Returns when what was written is on the disk."""
        with _told("write", self._shown):
            failpoint(f"{self._what}:written")
            os.fsync(self._descriptor)
            _record("sync", self.path)

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- files


def create(
    path: Path,
    *,
    mode: int = 0o644,
    what: str | None = None,
    expected: int | None = None,
    shown: Path | None = None,
    owner: tuple[int, int] | None = None,
) -> Writer:
    """Makes a new file to be written; whoever calls makes it durable, and its name.

    Args:
        path: in an existing folder.
        mode: permissions of the file; the process's umask is not asked.
        what: names the failpoints; the file's name if not given.
        expected: how large the file is to become, if that is known.
        shown: how errors call it, if not by ``path``.
        owner: user and group it is given to, if it is root who makes it.

    Raises:
        StoreError: also when the name is taken.
    """
    what = what or path.name
    with _told("write", shown or path, expected or _BLOCK):
        failpoint(f"{what}:create")
        descriptor = os.open(path, _NEW, mode)
        _record("create", path)
        try:
            os.fchmod(descriptor, mode)
            if owner is not None and os.geteuid() == 0:
                os.fchown(descriptor, *owner)
        except OSError:
            os.close(descriptor)
            raise
    return Writer(path, descriptor, 0, what, expected, shown)


def reopen(
    path: Path, *, what: str | None = None, expected: int | None = None, shared: bool = False
) -> Writer:
    """Opens a file to be written on from its end.

    Args:
        path: of the file.
        what: names the failpoints; the file's name if not given.
        expected: how large the file is to become, if that is known.
        shared: other processes add to it too; each write goes to what is the end by then.

    Raises:
        StoreError: there is none, or it is not a regular file.
    """
    with _told("write", path):
        flags = _OLD | os.O_NONBLOCK | (os.O_APPEND if shared else 0)
        descriptor = os.open(path, flags)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise StoreError(f"cannot write {path}: it is not a regular file")
    return Writer(path, descriptor, status.st_size, what or path.name, expected)


def write_file(
    path: Path,
    data: bytes,
    *,
    mode: int = 0o644,
    what: str | None = None,
    owner: tuple[int, int] | None = None,
) -> None:
    """Replaces the file at ``path`` by ``data``, durably.

    Args:
        path: in an existing folder.
        data: the whole content.
        mode: permissions of the file.
        what: names the failpoints; the file's name if not given.
        owner: user and group it is given to, if it is root who writes.

    Raises:
        StoreError: the old file, if any, is untouched, or the new one is there but may not outlast
            a power cut.
    """
    expected = len(data)
    with new_file(
        path.parent, path.name, mode=mode, what=what, expected=expected, owner=owner
    ) as out:
        out.write(data)


@contextlib.contextmanager
def new_file(
    folder: Path,
    name: str | Callable[[], str],
    *,
    mode: int = 0o644,
    what: str | None = None,
    expected: int | None = None,
    owner: tuple[int, int] | None = None,
) -> Iterator[Writer]:
    """A file to write that becomes ``folder/name``, durably, when the block ends without an error.

    Args:
        folder: an existing one.
        name: of the file, or what tells it when all is written.
        mode: permissions of the file.
        what: names the failpoints; the file's name if not given.
        expected: how large the file is to become, if that is known.
        owner: user and group it is given to, if it is root who writes.

    Raises:
        StoreError: as ``write_file``.
    """
    what = what or (name if isinstance(name, str) else "file")
    shown = folder / name if isinstance(name, str) else folder
    partial = _beside(folder)
    try:
        with create(
            partial, mode=mode, what=what, expected=expected, shown=shown, owner=owner
        ) as out:
            yield out
            out.sync()
        rename(partial, folder / (name if isinstance(name, str) else name()), what=what)
    except BaseException:
        with contextlib.suppress(StoreError):
            _unlink(partial, what)
        raise


def append(
    path: Path,
    data: bytes,
    *,
    mode: int = 0o644,
    what: str | None = None,
    shared: bool = False,
    owner: tuple[int, int] | None = None,
) -> None:
    """Adds ``data`` to the end of the file at ``path``, made if there is none, durably.

    A crash may leave a part of ``data`` there: whoever reads has to know where a record ends.

    Args:
        path: in an existing folder.
        data: what is added.
        mode: permissions of a new file.
        what: names the failpoints; the file's name if not given.
        shared: other processes add to it too.
        owner: user and group that a new file is given to, if it is root who writes.

    Raises:
        StoreError: a part of ``data`` may be there.
    """
    what = what or path.name
    new = not path.exists()
    if new:
        opened = create(path, mode=mode, what=what, owner=owner)
    else:
        opened = reopen(path, what=what, shared=shared)
    with opened as out:
        out.write(data)
        out.sync()
    if new:
        sync_folder(path.parent)
    _passed(f"{what}:durable", path)


def unlink(path: Path, *, missing_ok: bool = False, what: str | None = None) -> None:
    """Removes the file at ``path``, durably.

    Raises:
        StoreError: it could not be removed, or was not there.
    """
    what = what or path.name
    if not _unlink(path, what):
        if missing_ok:
            return
        raise StoreError(f"cannot remove {path}: it is not there")
    _passed(f"{what}:unlinked", path)
    sync_folder(path.parent)


# -- folders


def make_folder(path: Path, *, mode: int = 0o755, what: str | None = None) -> None:
    """Makes the folder at ``path`` and those above it, durably; one that is there is fine.

    Raises:
        StoreError: it cannot be made, or something else has its name.
    """
    if path.is_dir():
        return
    if os.path.lexists(path):
        raise StoreError(f"cannot make {path}: something that is no folder has that name")
    make_folder(path.parent)
    add_folder(path, mode=mode, what=what)
    _passed(f"{what or path.name}:made", path)
    sync_folder(path.parent)


def add_folder(path: Path, *, mode: int = 0o755, what: str | None = None) -> None:
    """Makes a new folder; whoever calls makes its name durable.

    Raises:
        StoreError: also when the name is taken.
    """
    with _told("make", path, _BLOCK):
        failpoint(f"{what or path.name}:mkdir")
        path.mkdir(mode=mode)
        _record("mkdir", path)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder of our own in ``parent``, which is gone after the block unless it was moved away.

    Raises:
        StoreError: it cannot be made.
    """
    folder = _beside(parent)
    add_folder(folder, what="temporary")
    try:
        yield folder
    finally:
        with contextlib.suppress(StoreError):
            _empty(folder, "temporary")


def rename(source: Path, target: Path, *, what: str | None = None) -> None:
    """Moves ``source`` to ``target``, durably; a file there is replaced, a folder must be empty.

    Its content has to be on the disk already.

    Raises:
        StoreError: nothing was moved, or it was, but may not outlast a power cut.
    """
    what = what or target.name
    with _told("move", source, _BLOCK, f" to {target}"):
        failpoint(f"{what}:synced")
        source.replace(target)
        _record("rename", source, target=target)
    _passed(f"{what}:renamed", target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)
    _passed(f"{what}:durable", target)


def move_folder(source: Path, target: Path, *, what: str = "folder") -> None:
    """Makes the folder ``source`` visible as ``target``, durably, with all that is inside it.

    Args:
        source: a folder on the same file system; nobody may be writing to it.
        target: must not exist, or be an empty folder.
        what: names the failpoints.

    Raises:
        StoreError: ``target`` does not exist, or does, but may not outlast a power cut.
    """
    sync_tree(source)
    rename(source, target, what=what)


def rmtree(path: Path, *, what: str | None = None) -> None:
    """Removes the folder at ``path`` and all in it; nobody ever sees a part of it there.

    A link is removed, not what it leads to.

    Raises:
        StoreError: what is left of it has a temporary name, or it is untouched.
    """
    what = what or path.name
    gone = path if path.name.startswith(TEMPORARY) else _beside(path.parent)
    if gone is not path:
        rename(path, gone, what=what)
    _empty(gone, what)


def sweep(folder: Path) -> None:
    """Removes what crashes left in ``folder``; nobody else may be writing to it.

    Raises:
        StoreError: something could not be removed.
    """
    with _told("read", folder):
        left = sorted(path for path in folder.iterdir() if path.name.startswith(TEMPORARY))
    for path in left:
        if path.is_dir() and not path.is_symlink():
            rmtree(path, what="temporary")
        else:
            _unlink(path, "temporary")


def sync_tree(folder: Path) -> None:
    """Returns when every file and folder below ``folder``, and ``folder`` itself, is on the disk.

    Raises:
        StoreError: one of them cannot be synced, or is a link.
    """
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            with _told("sync", Path(parent, name)):
                _sync(Path(parent, name), os.O_RDONLY)
                _record("sync", Path(parent, name))
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Returns when the names in ``folder`` are on the disk.

    Raises:
        StoreError: it cannot be synced.
    """
    with _told("sync", folder):
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)
        _record("sync_folder", folder)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(folder: Path) -> Path:
    return folder / f"{TEMPORARY}{secrets.token_hex(8)}"


def _unlink(path: Path, what: str) -> bool:
    """Removes one name; returns whether it was there."""
    with _told("remove", path):
        failpoint(f"{what}:unlink")
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        _record("unlink", path)
    return True


def _empty(folder: Path, what: str) -> None:
    """Removes a folder that nobody looks into; not durable, since ``sweep`` would do it again."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in sorted(files):
            _unlink(Path(parent, name), what)
        for name in sorted(folders):
            path = Path(parent, name)
            if path.is_symlink():
                _unlink(path, what)
            else:
                _rmdir(path, what)
    if folder.exists():
        _rmdir(folder, what)


def _rmdir(path: Path, what: str) -> None:
    with _told("remove", path):
        failpoint(f"{what}:rmdir")
        path.rmdir()
        _record("rmdir", path)


def _passed(name: str, path: Path) -> None:
    """A failpoint between two calls: an error raised in it is that of the next."""
    with _told("sync", path):
        failpoint(name)


def _record(kind: str, path: Path, offset: int = 0, *, target: Path | None = None) -> None:
    if recorder is not None:
        recorder(Operation(kind, path, offset, b"", target))


@contextlib.contextmanager
def _told(verb: str, path: Path, need: int = 0, more: str = "") -> Iterator[None]:
    """Whatever the operating system refuses within the block becomes a ``StoreError``."""
    try:
        yield
    except OSError as exc:
        cause = exc.strerror or str(exc)
        if exc.errno in _FULL:
            cause += (
                f": it needs {max(need, _BLOCK)} bytes more, {_free(path)} are free there; remove "
                "something on that disk"
            )
        raise StoreError(f"cannot {verb} {path}{more}: {cause}") from exc


def _free(path: Path) -> int:
    for folder in path.parents:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return 0
