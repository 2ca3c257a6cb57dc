"""Reads the logs of workers, as ``logs`` keeps them, whether a daemon runs or not.

What a worker wrote is foreign text; ``logs`` has made it printable, and a file that somebody else
has written to is made so again here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edged.containers.lines import FILE_LIMIT, LINE_LIMIT, OLDER, SUFFIX, printable
from edged.errors import StoreError
from edged.osutil.inotify import Watch

TIME_LENGTH = len("2026-01-01T00:00:00.000000Z")
SIZE_LIMIT = FILE_LIMIT + LINE_LIMIT  # of a file; more of it is not ours


@dataclass(frozen=True, order=True)
class Record:
    """One line of a worker's.

    Attributes:
        time: in UTC, as RFC 3339 has it.
        container: its name.
        text: what it wrote.
    """

    time: str
    container: str
    text: str


class Reader:
    """Reads what is new in a folder of logs, each time it is asked.

    Args:
        folder: which may not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Bytes, by container and time of the first line: a file keeps both when it is renamed.
        self._read: dict[tuple[str, bytes], int] = {}

    def new(self) -> list[Record]:
        """Returns the complete lines since the last call, oldest first.

        Raises:
            StoreError: the folder, or a file in it, cannot be read.
        """
        found: list[Record] = []
        try:
            for path in self._files():
                # It may have been renamed, or removed, since the folder was read.
                with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                    found += self._parse(path.name.partition(SUFFIX)[0], file)
        except OSError as exc:
            raise StoreError(f"cannot read the logs in {self._folder}: {exc}") from exc
        return sorted(found)

    def _parse(self, container: str, file: BinaryIO) -> Iterator[Record]:
        key = (container, file.read(TIME_LENGTH))
        start = self._read.get(key, 0)
        file.seek(start)
        data = file.read(SIZE_LIMIT)
        data = data[: data.rfind(b"\n") + 1]
        if data:
            self._read[key] = start + len(data)
        for line in data.decode("utf-8", "replace").splitlines():
            time, _, text = line.partition(" ")
            yield Record(printable(time[:TIME_LENGTH]), printable(container), printable(text))

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return [*self._folder.glob(f"*{OLDER}"), *self._folder.glob(f"*{SUFFIX}")]


def follow(folder: Path, reader: Reader) -> Iterator[list[Record]]:
    """Yields what is new whenever there is something, for ever.

    Args:
        folder: of the logs; it must exist.
        reader: of this folder.

    Raises:
        StoreError: the folder cannot be watched or read.
    """
    try:
        watch = Watch(folder)
    except OSError as exc:
        raise StoreError(f"cannot watch {folder}: {exc.strerror}") from exc
    with watch:
        while True:
            if records := reader.new():
                yield records
            watch.wait()
