"""A ring of entries in one SQLite file: what is too much pushes out the oldest, and is counted.

Used by one thread. Sizes and durability, after SQLite's documentation ("Write-Ahead Logging",
"PRAGMA Statements"):

- WAL with ``synchronous = FULL``: a commit is on the disk when it returns, and a kill or a power
  cut at any point leaves all that was committed, whole. ``locking_mode = EXCLUSIVE`` does without
  the shared memory file, so there is no mapping that a full disk could tear from under us.
- The cap holds for the database and its log together. A commit never needs more pages than
  there are: room is made first, by dropping the oldest. The log is written back into the database
  once it has ``LOG_PAGES``, so it stays below ``LOG_ROOM`` with one commit's pages on top.
- A file that SQLite finds damaged is put aside, once, and an empty one takes its place.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from edged.errors import StoreError
from edged.osutil import atomic

logger = logging.getLogger(__name__)

PAGE = 4096  # bytes
LOG_PAGES = 128  # of the log, before it is written back
LOG_ROOM = 2 << 20  # bytes that the log may have
BATCH = 512 * 1024  # bytes of entries in one commit
LEAST = 4 << 20  # bytes; below, there would be nothing but log
BUSY = 5.0  # seconds to wait for whoever else has the file open, such as a backup
_VERSION = 1

_COLUMNS = "number INTEGER PRIMARY KEY, kind TEXT NOT NULL, payload BLOB NOT NULL"
_SCHEMA = (
    f"CREATE TABLE entries ({_COLUMNS}) STRICT",
    "CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT",
    "INSERT INTO counts VALUES ('dropped', 0), ('last', 0)",
    f"PRAGMA user_version = {_VERSION}",
)
_AFTER = "SELECT number, kind, payload FROM entries WHERE number > ? ORDER BY number LIMIT ?"


class Entry(NamedTuple):
    """One message to be sent; ``number`` rises by one from entry to entry."""

    number: int
    kind: str
    payload: bytes

    @property
    def cost(self) -> int:
        """Bytes it takes, roughly, in memory or in the file."""
        return len(self.payload) + 64


class DamagedError(StoreError):
    """The file is no longer what SQLite wrote."""


class Ring:
    """The ring in one file, which it makes if there is none.

    Args:
        path: of the database; its log is beside it.
        limit: bytes of both together.
        check: whether to look at every page first.

    Attributes:
        count: entries in it.
        dropped: entries that were pushed out, since the file was made.
        offset: from the numbers in the file to those that everybody else uses.

    Raises:
        DamagedError: the file cannot be used.
        StoreError: the disk is at fault.
    """

    def __init__(self, path: Path, limit: int, *, check: bool = True) -> None:
        self.path = path
        self.offset = 0
        self._most = (max(limit, LEAST) - LOG_ROOM) // PAGE
        with _told(path):
            self._base = self._open()
            try:
                self._prepare(check)
                self.count, self.dropped, self._highest = self._read_counts()
            except BaseException:
                self._base.close()
                raise

    @property
    def last(self) -> int:
        """The highest number that an entry in it ever had; ``offset`` if it never had one."""
        return self._highest + self.offset

    def close(self) -> None:
        """Writes the log back and closes the file."""
        with contextlib.suppress(sqlite3.Error):
            self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.abandon()

    def abandon(self) -> None:
        """Closes the file as it is."""
        with contextlib.suppress(sqlite3.Error):
            self._base.close()

    def append(self, entries: Sequence[Entry], *, keep: int = 0, dropped: int = 0) -> int:
        """Adds entries, durably; drops the oldest if there is no room.

        Args:
            entries: with rising numbers, all higher than those in the ring, ``BATCH`` bytes at most
                or one alone.
            keep: entries up to this number are not dropped.
            dropped: elsewhere, to be counted too.

        Returns:
            how many were dropped here.

        Raises:
            StoreError: nothing has changed.
        """
        with _told(self.path), self._transaction():
            gone = self._make_room(_pages(entries), keep - self.offset)
            self._base.executemany(
                "INSERT INTO entries VALUES (?, ?, ?)",
                ((each.number - self.offset, each.kind, each.payload) for each in entries),
            )
            self._count("dropped", self.dropped + gone + dropped)
            highest = entries[-1].number - self.offset if entries else self._highest
            self._count("last", highest)
        self.count += len(entries) - gone
        self.dropped += gone + dropped
        self._highest = highest
        self._tidy()
        return gone

    def remove(self, numbers: Iterable[int]) -> None:
        """Takes entries out, durably; those that are not there are fine.

        Raises:
            StoreError: nothing has changed.
        """
        with _told(self.path), self._transaction():
            command = "DELETE FROM entries WHERE number = ?"
            gone = ((number - self.offset,) for number in numbers)
            removed = self._base.executemany(command, gone).rowcount
        self.count -= max(removed, 0)
        self._tidy()

    def after(self, number: int, count: int) -> list[Entry]:
        """The next entries after ``number``, in order, at most ``count`` and ``BATCH`` bytes."""
        found: list[Entry] = []
        cost = 0
        with _told(self.path):
            rows = self._base.execute(_AFTER, (number - self.offset, count))
            with contextlib.closing(rows):
                for row in rows:
                    entry = Entry(row[0] + self.offset, *row[1:])
                    cost += entry.cost
                    if found and cost > BATCH:
                        break
                    found.append(entry)
        return found

    # -- inside

    def _open(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None)
        try:
            for pragma in (
                "locking_mode = EXCLUSIVE",
                f"page_size = {PAGE}",
                "auto_vacuum = INCREMENTAL",
                "journal_mode = WAL",
                "synchronous = FULL",
                f"wal_autocheckpoint = {LOG_PAGES}",
                f"journal_size_limit = {LOG_ROOM // 2}",
                "temp_store = MEMORY",
                "cache_size = -1024",
                f"max_page_count = {self._most}",
            ):
                base.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            base.close()
            raise
        return base

    def _prepare(self, check: bool) -> None:
        version = self._number("PRAGMA user_version")
        if version == 0:
            with self._transaction():
                for statement in _SCHEMA:
                    self._base.execute(statement)
        elif version != _VERSION:
            raise DamagedError(f"cannot use {self.path}: expected form {_VERSION}, got {version}")
        if check:
            # Pages and their order; what stands in each entry is nobody's to check.
            said = self._base.execute("PRAGMA quick_check(1)").fetchone()[0]
            if said != "ok":
                raise DamagedError(f"cannot use {self.path}: {said}")

    def _read_counts(self) -> tuple[int, int, int]:
        counts = dict(self._base.execute("SELECT name, value FROM counts").fetchall())
        count = self._number("SELECT count(*) FROM entries")
        highest = self._number("SELECT coalesce(max(number), 0) FROM entries")
        return count, counts.get("dropped", 0), max(counts.get("last", 0), highest)

    def _make_room(self, pages: int, keep: int) -> int:
        """Drops the oldest until so many pages are free; returns how many entries went."""
        gone = 0
        while (missing := self._used() + pages - self._most) > 0:
            dropped = self._drop(missing * PAGE, keep)
            if not dropped:
                break  # max_page_count has the last word
            gone += dropped
        return gone

    def _drop(self, size: int, keep: int) -> int:
        """Drops the oldest after ``keep`` that have ``size`` bytes together, one at least."""
        freed, last, rows = 0, 0, 0
        asked = "SELECT number, length(payload) FROM entries WHERE number > ? ORDER BY number"
        with contextlib.closing(self._base.execute(asked, (keep,))) as cursor:
            for number, length in cursor:
                last, freed, rows = number, freed + length + 64, rows + 1
                if freed >= size:
                    break
        self._base.execute("DELETE FROM entries WHERE number > ? AND number <= ?", (keep, last))
        return rows

    def _used(self) -> int:
        return self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")

    def _tidy(self) -> None:
        """Gives the disk back what is not needed any more, a little at a time."""
        with contextlib.suppress(sqlite3.Error):
            free = self._number("PRAGMA freelist_count")
            if self.count == 0 and free > LOG_PAGES:
                # It has a step for each page, and no columns: execute() would stop after the first.
                self._base.executescript(f"PRAGMA incremental_vacuum({LOG_PAGES})")

    def _count(self, name: str, value: int) -> None:
        self._base.execute("UPDATE counts SET value = ? WHERE name = ?", (value, name))

    def _number(self, question: str) -> int:
        return int(self._base.execute(question).fetchone()[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._base.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite has done it by itself already
                self._base.execute("ROLLBACK")
            raise


def put_aside(path: Path) -> Path:
    """Renames a damaged file and removes its log; returns the new name, of which there is one.

    Raises:
        StoreError: it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.damaged")
    for left in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        atomic.unlink(left, missing_ok=True)
    if path.exists():
        atomic.rename(path, aside)
    return aside


def _pages(entries: Sequence[Entry]) -> int:
    """Pages that entries need at most, with what the tree above them grows by."""
    return 8 + sum(entry.cost for entry in entries) // 2000


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What SQLite raises becomes a ``StoreError``."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise StoreError(f"cannot write {path}: {exc}; look at that disk's space") from exc
    except sqlite3.Error as exc:
        raise DamagedError(f"cannot use {path}: {exc}") from exc
