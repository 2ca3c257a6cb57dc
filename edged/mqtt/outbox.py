"""What is to be sent, until a broker has it: in memory at once, on the disk if it has to wait.

Invariants:
- Entries are numbered in the order they were put, and are handed out in that order.
- ``put`` never waits. An entry that is not acknowledged within ``SPILL`` seconds goes to the disk
  (``ring``): so a link that stands costs the disk nothing, and a kill or a power cut costs at most
  what was put in the last moments before it.
- put = acknowledged + rejected + dropped + pending, exactly, while the process lives; ``dropped``
  outlasts it. What a session has tried to send is not dropped any more: the broker may have it.
- Both parts have a bound: the file, with its log, ``limit`` bytes; memory ``TAIL`` bytes. What is
  too much pushes out the oldest of that part.
- A disk that is full or broken stops nothing: memory goes on taking and handing out, ``fault`` says
  what is wrong, and the disk is tried again every ``RETRY`` seconds.
- SQLite and its waiting for the disk stay in one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from edged.errors import StoreError
from edged.mqtt.ring import BATCH, DamagedError, Entry, Ring, put_aside
from edged.osutil import atomic

__all__ = ["Entry", "Outbox"]

logger = logging.getLogger(__name__)

SPILL = 0.5  # seconds
TAIL = 8 << 20  # bytes
RETRY = 5.0  # seconds
STOP_LIMIT = 10.0  # seconds
DONE_AT_ONCE = 1000  # entries taken off the disk in one commit
FILE = "outbox.db"
_NO_DISK = 1 << 40  # the first number, if the disk cannot be read at the start


class _Reader(NamedTuple):
    """Who waits for entries from the disk, and how far was looked."""

    number: int
    most: int
    answer: asyncio.Future[tuple[list[Entry], int]]


class Outbox:
    """The outbox in one folder. All but its thread's work is to be called in the event loop.

    Args:
        folder: made if it is not there.
        limit: bytes of the file with its log.

    Attributes:
        fault: what is wrong with the disk, empty if nothing is.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._path = folder / FILE
        self._limit = limit
        self.fault = ""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="edged-outbox", daemon=True)
        # Everything below is guarded by this; nobody waits for the disk while holding it.
        self._lock = threading.Condition()
        self._tail: dict[int, tuple[Entry, float]] = {}  # by number, in order, with when it is due
        self._tail_size = 0
        self._last = 0  # number given out
        self._sent = 0  # the highest number that was handed out
        self._on_disk = 0  # the highest number that was written
        self._stored = 0  # entries on the disk
        self._done: set[int] = set()  # those of them that are acknowledged
        self._done_due = 0.0
        self._dropped_here = 0  # not in the file's count yet
        self._dropped_there = 0
        self._readers: list[_Reader] = []
        self._flushes: list[asyncio.Future[None]] = []
        self._stopping = False
        self._retry = 0.0  # when the disk is tried again, if there is a fault
        # Of the thread alone.
        self._ring: Ring | None = None
        # Of the event loop alone.
        self._ready = asyncio.Event()  # the file was looked at
        self._news = asyncio.Event()

    # -- what is known

    @property
    def pending(self) -> int:
        """Entries that no broker has acknowledged yet."""
        with self._lock:
            return len(self._tail) + self._stored - len(self._done)

    @property
    def dropped(self) -> int:
        """Entries that were pushed out, since the file was made."""
        with self._lock:
            return self._dropped_here + self._dropped_there

    # -- its life

    async def start(self) -> None:
        """Opens the file; returns when it is known what it has, or that the disk is at fault.

        To be called once, before anything else.
        """
        self._thread.start()
        await self._ready.wait()

    async def stop(self) -> None:
        """Writes what is pending to the disk, as far as that works, and closes the file."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        await asyncio.to_thread(self._thread.join, STOP_LIMIT)

    # -- entries

    def put(self, kind: str, payload: bytes) -> None:
        """Adds an entry; may push out the oldest."""
        with self._lock:
            self._last += 1
            entry = Entry(self._last, kind, payload)
            self._tail[entry.number] = entry, time.monotonic() + SPILL
            self._tail_size += entry.cost
            self._trim()
            if len(self._tail) == 1 or self._tail_size > BATCH:
                self._lock.notify()
        self._news.set()

    async def after(self, number: int, count: int) -> list[Entry]:
        """The next entries after ``number``, in order, at most ``count``; waits for one if need be.

        What is handed out is not dropped any more, and comes again for whoever asks from before it
        until it is acknowledged.
        """
        while True:
            self._news.clear()
            if found := await self._next(number, count):
                return found
            await self._news.wait()

    def acknowledge(self, number: int) -> None:
        """A broker has that entry."""
        with self._lock:
            self._forget(number)

    def reject(self, number: int) -> None:
        """That entry can never be sent: it is gone, and counted as dropped."""
        with self._lock:
            self._dropped_here += self._forget(number)

    async def flush(self) -> None:
        """Returns when all that is pending is on the disk.

        Raises:
            StoreError: it cannot be; it stays in memory.
        """
        written: asyncio.Future[None] = self._loop.create_future()
        with self._lock:
            self._flushes.append(written)
            self._lock.notify()
        await written

    # -- in the event loop, or with the lock held

    async def _next(self, number: int, count: int) -> list[Entry]:
        while True:
            reading: asyncio.Future[tuple[list[Entry], int]] = self._loop.create_future()
            with self._lock:
                if number >= self._on_disk:
                    return self._hand_out(_after(self._tail, number, count))
                self._readers.append(_Reader(number, count, reading))
                self._lock.notify()
            entries, looked_up_to = await reading
            if entries:
                return entries
            number = looked_up_to  # all of those are gone

    def _hand_out(self, entries: list[Entry]) -> list[Entry]:
        if entries:
            self._sent = max(self._sent, entries[-1].number)
        return entries

    def _forget(self, number: int) -> bool:
        if (held := self._tail.pop(number, None)) is not None:
            self._tail_size -= held[0].cost
            return True
        if number > self._on_disk or number in self._done:
            return False
        if not self._done:
            self._done_due = time.monotonic() + SPILL
            self._lock.notify()
        self._done.add(number)
        return True

    def _trim(self) -> None:
        """Pushes the oldest out of memory that was not handed out, until the rest fits."""
        while self._tail_size > TAIL:
            oldest = next((number for number in self._tail if number > self._sent), None)
            if oldest is None:
                return
            self._tail_size -= self._tail.pop(oldest)[0].cost
            self._dropped_here += 1

    # -- the thread

    def _run(self) -> None:
        self._try(self._open)
        with self._lock:
            # Room below for what a disk that cannot be read now turns out to have.
            self._last = self._last if self._ring else _NO_DISK
        self._post(self._ready.set)
        while self._work():
            pass
        if self._ring is not None:
            self._ring.close()
        if self._tail:
            logger.error("outbox: %d entries are lost: %s", len(self._tail), self.fault)

    def _work(self) -> bool:
        """Waits for something to do and does it; returns whether there will be more."""
        with self._lock:
            self._lock.wait_for(self._is_wanted, self._patience())
            stopping = self._stopping
            readers, self._readers = self._readers, []
            flushes, self._flushes = self._flushes, []
            now = bool(stopping or flushes)
            write = now or self._patience() == 0
        for reader in readers:
            self._read(reader)
        error = self._try(lambda: self._write(everything=now)) if write else None
        for flush in flushes:
            self._post(_settle, flush, error)
        return not stopping

    def _is_wanted(self) -> bool:
        return bool(self._stopping or self._readers or self._flushes or self._patience() == 0)

    def _patience(self) -> float | None:
        """Seconds until something is due to be written, None if nothing is; the lock is held."""
        now = time.monotonic()
        if self.fault:
            return max(self._retry - now, 0.0)
        due = [self._done_due] if self._done else []
        if self._tail:
            _, first = next(iter(self._tail.values()))
            due.append(now if self._tail_size > BATCH else first)
        return max(min(due) - now, 0.0) if due else None

    def _try(self, work: Callable[[], None]) -> StoreError | None:
        """Does work on the disk; what is wrong with it is kept in ``fault``."""
        try:
            try:
                work()
            except DamagedError as exc:
                self._replace(exc)
                work()
        except Exception as exc:  # without its thread the outbox would be lost
            if not isinstance(exc, StoreError):
                logger.exception("outbox: a fault of edged's")
                exc = StoreError(f"cannot use {self._path}: {exc!r}")
            if self.fault != str(exc):
                logger.error("outbox: %s", exc)  # noqa: TRY400 - the text says it all
            self.fault = str(exc)
            self._retry = time.monotonic() + RETRY
            return exc
        if self.fault:
            logger.info("outbox: the disk is well again")
        self.fault = ""
        return None

    def _open(self) -> None:
        if self._ring is not None:
            return
        atomic.make_folder(self._path.parent, mode=0o700)
        ring = Ring(self._path, self._limit)
        with self._lock:
            if self._last:
                # What is in memory comes after all that the file turns out to have.
                ring.offset = _NO_DISK - ring.last
            self._last = max(self._last, ring.last)
            self._on_disk = ring.last
            self._stored = ring.count
            self._dropped_there = ring.dropped
            self._ring = ring

    def _replace(self, damage: DamagedError) -> None:
        """Puts a damaged file aside, for an empty one."""
        if self._ring is not None:
            self._ring.abandon()
        aside = put_aside(self._path)
        logger.error("outbox: %s; it is put aside as %s, and begun anew", damage, aside)
        with self._lock:
            self._dropped_here += self._dropped_there + self._stored - len(self._done)
            self._dropped_there = self._stored = 0
            self._done.clear()
            offset = self._ring.offset if self._ring else 0
            self._ring = None
        ring = Ring(self._path, self._limit)
        with self._lock:
            ring.offset = offset
            self._ring = ring

    def _read(self, reader: _Reader) -> None:
        found: list[Entry] = []

        def read() -> None:
            if self._ring is not None:
                found[:] = self._ring.after(reader.number, reader.most)

        self._try(read)
        with self._lock:
            entries = self._hand_out([each for each in found if each.number not in self._done])
            looked_up_to = found[-1].number if found else self._on_disk
        self._post(_settle, reader.answer, None, (entries, looked_up_to))

    def _write(self, *, everything: bool) -> None:
        """Takes off the disk what is done, and puts on it what is due."""
        self._open()
        assert self._ring is not None  # noqa: S101 - for the reader
        while done := self._some_done():
            self._ring.remove(done)
            with self._lock:
                self._done.difference_update(done)
                self._stored = self._ring.count
        while batch := self._batch(everything):
            self._append(self._ring, batch)
        if everything and self._dropped_here:
            self._append(self._ring, [])

    def _some_done(self) -> list[int]:
        with self._lock:
            return list(itertools.islice(self._done, DONE_AT_ONCE))

    def _batch(self, everything: bool) -> list[Entry]:
        now, cost = time.monotonic(), 0
        batch: list[Entry] = []
        with self._lock:
            everything = everything or self._tail_size > BATCH
            for entry, due in self._tail.values():
                cost += entry.cost
                if (due > now and not everything) or (batch and cost > BATCH):
                    break
                batch.append(entry)
        return batch

    def _append(self, ring: Ring, batch: list[Entry]) -> None:
        with self._lock:
            keep, dropped = self._sent, self._dropped_here
        ring.append(batch, keep=keep, dropped=dropped)
        with self._lock:
            self._dropped_here -= dropped
            self._dropped_there, self._stored = ring.dropped, ring.count
            for entry in batch:
                if self._tail.pop(entry.number, None) is None:
                    self._gone_meanwhile(entry)
                else:
                    self._tail_size -= entry.cost
            if batch:
                self._on_disk = batch[-1].number

    def _gone_meanwhile(self, entry: Entry) -> None:
        """An entry that was acknowledged, or pushed out, while it was being written."""
        if not self._done:
            self._done_due = time.monotonic() + SPILL
        self._done.add(entry.number)

    def _post(self, function: Callable[..., Any], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is over
            self._loop.call_soon_threadsafe(function, *arguments)


def _after(tail: dict[int, tuple[Entry, float]], number: int, count: int) -> list[Entry]:
    """The first entries after ``number``."""
    later = (entry for entry, _ in tail.values() if entry.number > number)
    return list(itertools.islice(later, count))


def _settle(future: asyncio.Future[Any], error: Exception | None, value: object = None) -> None:
    if future.done():  # nobody waits any more
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)
