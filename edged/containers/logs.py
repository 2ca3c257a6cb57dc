"""What workers write to their standard output and error: kept in files of bounded size.

Each container has a pipe, which the event loop empties, and a thread that writes ``NAME.log``: one
line each of time and text. At ``FILE_LIMIT`` the file becomes ``NAME.log.1`` and a new one begins.
Every line also goes to the daemon's own log.

Invariants:
- A folder holds at most ``KEPT`` containers' logs of twice ``FILE_LIMIT`` each; those of workers
  that still run are among them.
- Neither a worker nor the event loop ever waits for a disk: what comes faster than ``RATE``, what
  the thread is too slow for and what the disk does not take is dropped, and the log says how much.
- A worker that floods its pipe is read ``CHUNK`` every ``PAUSE``, so that the daemon stays idle.
- A line is at most ``LINE_LIMIT`` bytes, and has nothing in it that a terminal would act on.

Nothing is synced: a power cut may take the last lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edged.containers.lines import OLDER, SUFFIX, BoundedFile, Budget, Lines

logger = logging.getLogger(__name__)

KEPT = 8  # containers
LINE_COST = 64  # bytes that a line counts beside its own: an empty one is work, too
CHUNK = 64 * 1024  # what a pipe holds
PAUSE = 0.05  # seconds
WAITING = 4096  # lines between the event loop and the thread
FINISH_LIMIT = 1.0  # seconds for the last words of a worker that has ended
WORDS_LIMIT = 0.5  # seconds until all it wrote has come, while requests may be held


class Logs:
    """The logs in a folder.

    Args:
        folder: is made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: set[str] = set()

    def open(self, name: str) -> Output:
        """Returns the output of a new container.

        Args:
            name: of the container, which is not taken yet.

        Raises:
            OSError: there is no pipe to be had. A folder that cannot be used is no error: then the
                lines go to the daemon's log alone.
        """
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._make_room()
        self._open.add(name)
        path = self._folder / f"{name}{SUFFIX}"
        return Output(path, on_end=lambda: self._open.discard(name))

    def _make_room(self) -> None:
        ended = [path for path in self._folder.glob(f"*{SUFFIX}") if path.stem not in self._open]
        ended.sort(key=lambda path: path.stat().st_mtime)
        for path in ended[: max(0, len(ended) + len(self._open) + 1 - KEPT)]:
            path.with_name(path.stem + OLDER).unlink(missing_ok=True)
            path.unlink()


class Output:
    """One container's output. Made on the event loop's thread, like all calls but the writing.

    Args:
        path: of the file.
        on_end: called when all is written.

    Attributes:
        descriptor: what the container is given; -1 once it was.
    """

    def __init__(self, path: Path, on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._read, self.descriptor = os.pipe()
        os.set_blocking(self._read, False)
        self._lines, self._budget = Lines(), Budget(time.monotonic())
        self._waiting: queue.Queue[str | None] = queue.Queue(WAITING)
        self._lost = 0  # lines
        self._last = ""
        self._heard, self._ended = asyncio.Event(), asyncio.Event()
        self._on_end = on_end
        self._file = BoundedFile(path)
        threading.Thread(target=self._write, name="worker output", daemon=True).start()
        self._loop.add_reader(self._read, self._take)

    def handed_over(self) -> None:
        """Gives up our end for writing: when the container's is gone, the output has ended."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    async def finish(self, limit: float = FINISH_LIMIT) -> None:
        """Waits until what came is written, at most so many seconds."""
        self.handed_over()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), limit)

    async def last_words(self) -> str:
        """Returns the last line that a worker has written and that is not empty, if any."""
        self.handed_over()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._heard.wait(), WORDS_LIMIT)
        return self._last

    # -- on the event loop

    def _take(self) -> None:
        try:
            chunk = os.read(self._read, CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            self._loop.remove_reader(self._read)
            os.close(self._read)
            self._keep(self._lines.end())
            self._heard.set()
            self._end()
        elif self._budget.take(len(chunk) + LINE_COST * chunk.count(b"\n"), time.monotonic()):
            self._keep(self._lines.feed(chunk))
        else:
            self._lines.drop(len(chunk))
            self._loop.remove_reader(self._read)
            self._loop.call_later(PAUSE, self._loop.add_reader, self._read, self._take)

    def _keep(self, lines: list[str]) -> None:
        for line in lines:
            self._last = line.strip() or self._last
            try:
                if self._lost:
                    self._waiting.put_nowait(f"[{self._lost} lines lost: the disk is too slow]")
                    self._lost = 0
                self._waiting.put_nowait(line)
            except queue.Full:
                self._lost += 1

    def _end(self) -> None:
        try:
            self._waiting.put_nowait(None)
        except queue.Full:  # again when the thread has done some of it
            self._loop.call_later(PAUSE, self._end)

    # -- on the thread

    def _write(self) -> None:
        while (line := self._waiting.get()) is not None:
            logger.info("%s", line)
            self._file.write(line)
        self._file.close()
        with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon has ended
            self._loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        self._on_end()
        self._ended.set()
