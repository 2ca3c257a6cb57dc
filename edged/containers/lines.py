"""The parts of a worker's log: lines of whatever bytes came, a budget, a file of bounded size."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

FILE_LIMIT = 512 * 1024
LINE_LIMIT = 4096
RATE = 32 * 1024  # bytes a second, on average
BURST = 256 * 1024
SUFFIX, OLDER = ".log", ".log.1"


class Budget:
    """Says how much may be kept: ``RATE`` on average, ``BURST`` at once.

    Args:
        now: seconds of any steady clock.
    """

    def __init__(self, now: float) -> None:
        self._left = float(BURST)
        self._then = now

    def take(self, count: int, now: float) -> bool:
        """Returns whether so many bytes may be kept now; if so, they count."""
        self._left = min(float(BURST), self._left + (now - self._then) * RATE)
        self._then = now
        if count > self._left:
            return False
        self._left -= count
        return True


class Lines:
    """Makes lines for people of bytes, in whatever pieces they come."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._too_long = False
        self._dropped = 0

    def feed(self, chunk: bytes) -> list[str]:
        """Returns the lines that are complete."""
        found = self._report()
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            self._add(part)
            found += self._take()
        self._add(rest)
        return found

    def drop(self, count: int) -> None:
        """Notes that so many bytes were dropped; the next line says so."""
        self._dropped += count
        self._begun.clear()
        self._too_long = False

    def end(self) -> list[str]:
        """Returns what is left."""
        return self._report() + (self._take() if self._begun else [])

    def _report(self) -> list[str]:
        dropped, self._dropped = self._dropped, 0
        return [f"[{dropped} bytes dropped: it wrote too much]"] if dropped else []

    def _add(self, part: bytes) -> None:
        room = LINE_LIMIT - len(self._begun)
        self._begun += part[:room]
        self._too_long |= len(part) > room

    def _take(self) -> list[str]:
        text = printable(self._begun.decode("utf-8", "replace").rstrip("\r"))
        if self._too_long:
            text += " [cut]"
        self._begun.clear()
        self._too_long = False
        return [text]


def printable(text: str) -> str:
    """Returns the text with what a terminal would act on written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text)


class BoundedFile:
    """A file of lines that moves over for a new one at ``FILE_LIMIT``.

    Args:
        path: of the newer one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._size = 0

    def write(self, line: str) -> None:
        """Appends a line with the time; drops it if the disk does not take it."""
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        data = f"{now} {line}\n".encode()
        try:
            self._make_room(len(data))
            self._size += os.write(self._descriptor, data)
        except OSError:
            self.close()  # and is tried again with the next line

    def _make_room(self, count: int) -> None:
        if self._descriptor >= 0 and self._size + count > FILE_LIMIT:
            self.close()
            self._path.replace(self._path.with_name(self._path.stem + OLDER))
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._path, flags, 0o640)
            self._size = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Gives the file up."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
