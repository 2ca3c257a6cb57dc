"""Files that operators replace while edged runs: read again when they are others, kept if bad.

Whoever needs the content asks each time; a look at the files costs a few microseconds. So nothing
has to be told of a change, and links (as certbot and Kubernetes use them) are no special case.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from edged.errors import EdgedError

logger = logging.getLogger(__name__)

_Content = TypeVar("_Content")
_Signature = tuple[tuple[int, int, int] | None, ...]


class Watched(Generic[_Content]):
    """What some files say together.

    Args:
        paths: of the files.
        read: reads them all; raises an ``EdgedError`` for content that cannot be used.
        what: names the content in the log.

    Raises:
        EdgedError: from the first ``read``.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], _Content], what: str) -> None:
        self._paths = tuple(paths)
        self._read = read
        self._what = what
        self._lock = threading.Lock()  # the library's threads ask too
        self._seen = self._look()
        self._content = read()
        self.problem: str = ""  # why the files' present content is not in use

    @property
    def content(self) -> _Content:
        """What the files say now, or said last when they could be used."""
        self.refresh()
        return self._content

    def refresh(self) -> bool:
        """Reads the files if they have changed; returns whether there is new content."""
        with self._lock:
            now = self._look()
            if now == self._seen:
                return False
            self._seen = now
            try:
                self._content = self._read()
            except EdgedError as exc:
                self.problem = str(exc)
                logger.error("%s; the %s of before stay in use", exc, self._what)  # noqa: TRY400
                return False
            self.problem = ""
            logger.info("%s were read anew", self._what, extra={"event": "reload"})
            return True

    def _look(self) -> _Signature:
        return tuple(_signature(path) for path in self._paths)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ino, status.st_size)
