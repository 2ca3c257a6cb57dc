"""The part of a blob that has come so far, kept in a file so that the rest is all that is missing.

::

    <hex>         the first bytes of the blob
    <hex>.marks   lines "SIZE SHA256 BOOT": so many bytes were on the disk, with that digest

Invariants:
- Nothing on the disk is believed. When a partial is opened its content is hashed, and it is cut
  where it stops agreeing with the marks.
- Bytes after the last mark count only in the boot they were written in: a killed process leaves
  them as they are, a power cut may leave anything.
- A mark is written after the bytes it speaks of were synced.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edged.errors import StoreError
from edged.oci import spec
from edged.oci.digest import CHUNK, Prefix
from edged.osutil import atomic

MARK_BYTES = 8 << 20  # written between two marks; what a power cut costs at most
_MARKS = ".marks"
_MARKS_LIMIT = 1 << 20  # bytes of that file
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class _Mark:
    size: int
    digest: str
    boot: str

    def __str__(self) -> str:
        return f"{self.size} {self.digest} {self.boot}"


class Partial:
    """The partial of one blob, opened to be written on.

    Args:
        folder: of all partials.
        blob: which one.

    Attributes:
        prefix: what is there, to go on from.

    Raises:
        StoreError: the disk failed.
    """

    def __init__(self, folder: Path, blob: spec.Descriptor) -> None:
        self._path = folder / blob.digest.hex
        self._marks = _marks_of(self._path)
        self._boot = _boot()
        if self._path.exists():
            self._out = atomic.reopen(self._path, what="partial", expected=blob.size)
        else:
            self._out = atomic.create(self._path, what="partial", expected=blob.size)
            atomic.sync_folder(folder)
        self._marked = 0
        try:
            self.prefix = self._recover(blob.size)
        except BaseException:
            self._out.close()
            raise

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self._out.size

    def write(self, data: bytes) -> None:
        """Adds what has come.

        Raises:
            StoreError: the disk failed; what is there stays.
        """
        self._out.write(data)

    @property
    def due(self) -> bool:
        """Whether so much was written that it should be marked."""
        return self._out.size - self._marked >= MARK_BYTES

    def mark(self, prefix: Prefix) -> None:
        """Makes what was written so far outlast a power cut.

        Args:
            prefix: all that was written.
        """
        self._out.sync()
        mark = _Mark(prefix.size, prefix.content.hexdigest(), self._boot)
        atomic.append(self._marks, f"{mark}\n".encode(), what="marks")
        self._marked = prefix.size

    def restart(self) -> None:
        """Throws away what is there."""
        atomic.unlink(self._marks, missing_ok=True, what="marks")
        self._out.truncate(0)
        self.prefix = Prefix(0, hashlib.sha256())
        self.mark(self.prefix)

    def finish(self, target: Path) -> None:
        """Moves the file, whole and verified by whoever calls, to where the blob belongs."""
        self._out.sync()
        self._out.close()
        atomic.rename(self._path, target, what="blob")
        atomic.unlink(self._marks, missing_ok=True, what="marks")

    def close(self) -> None:
        """Keeps what is there for the next time."""
        self._out.close()

    def _recover(self, limit: int) -> Prefix:
        """Finds how much of the file can be built on, cuts it there, and says so in the marks."""
        marks, tidy = _read_marks(self._marks)
        end = min(self._out.size, limit)
        with self._open() as file:
            good, kept = _agreeing(file, marks, end)
            whole = tidy and len(kept) == len(marks)
            if whole and kept and kept[-1].boot == self._boot:
                good = _further(file, good, end - good.size)
        if good.size != self._out.size:
            self._out.truncate(good.size)
        if not whole or not kept or kept[-1].boot != self._boot:
            self._out.sync()
            here = _Mark(good.size, good.content.hexdigest(), self._boot)
            text = "".join(f"{mark}\n" for mark in (*kept, here))
            atomic.write_file(self._marks, text.encode(), what="marks")
        self._marked = good.size
        return good

    def _open(self) -> BinaryIO:
        try:
            return self._path.open("rb")
        except OSError as exc:
            raise StoreError(f"cannot read {self._path}: {exc.strerror}") from exc


def size_of(folder: Path, blob: spec.Descriptor) -> int:
    """Bytes that the blob's partial has, unverified; 0 if there is none."""
    with suppress(OSError):
        return min((folder / blob.digest.hex).stat().st_size, blob.size)
    return 0


def discard(folder: Path, wanted: set[str]) -> int:
    """Removes the partials of blobs that are not wanted; returns their bytes.

    Args:
        folder: of all partials.
        wanted: digests in hexadecimal.

    Raises:
        StoreError: one cannot be removed.
    """
    freed = 0
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.removesuffix(_MARKS) not in wanted:
            freed += path.lstat().st_size
            atomic.unlink(path, missing_ok=True, what="unneeded")
    return freed


def _marks_of(path: Path) -> Path:
    return path.with_name(path.name + _MARKS)


def _read_marks(path: Path) -> tuple[list[_Mark], bool]:
    """The marks that can be read, and whether the file has nothing else."""
    try:
        with path.open("rb") as file:
            data = file.read(_MARKS_LIMIT)
    except FileNotFoundError:
        return [], True
    except OSError as exc:
        raise StoreError(f"cannot read {path}: {exc.strerror}") from exc
    *lines, rest = data.split(b"\n")
    marks: list[_Mark] = []
    for line in lines:
        fields = line.decode("ascii", "replace").split(" ")
        if len(fields) != 3 or not (fields[0].isascii() and fields[0].isdigit()):
            return marks, False
        marks.append(_Mark(int(fields[0][:15]), fields[1], fields[2]))
    return marks, not rest


def _agreeing(file: BinaryIO, marks: list[_Mark], end: int) -> tuple[Prefix, list[_Mark]]:
    """The longest start of the file that the marks speak of truly, and those marks."""
    good, kept = Prefix(0, hashlib.sha256()), []
    for mark in marks:
        if not good.size <= mark.size <= end:
            break
        content = good.content.copy()
        if _hash(file, content, mark.size - good.size) or content.hexdigest() != mark.digest:
            break
        good = Prefix(mark.size, content)
        kept.append(mark)
    return good, kept


def _further(file: BinaryIO, prefix: Prefix, count: int) -> Prefix:
    """The prefix with so many bytes more, or as many as can be read."""
    content = prefix.content.copy()
    missing = _hash(file, content, count)
    return Prefix(prefix.size + count - missing, content)


def _hash(file: BinaryIO, content: hashlib._Hash, count: int) -> int:
    """Hashes so many bytes more; returns how many could not be read."""
    while count:
        try:
            data = file.read(min(count, CHUNK))
        except OSError:  # a bad block: what comes after it is fetched again
            break
        if not data:
            break
        content.update(data)
        count -= len(data)
    return count


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:  # then only what was marked counts
        return secrets.token_hex(8)
