"""Waits until something in a folder changes (inotify(7)), which Python has no call for."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import TracebackType

IN_MODIFY, IN_MOVED_TO, IN_CREATE = 0x2, 0x80, 0x100
EVENTS_SIZE = 4096


class Watch:
    """What has changed in a folder since it was made, or since the last ``wait``.

    Args:
        folder: what is inside folders inside it does not count.

    Raises:
        OSError: the folder cannot be watched.
    """

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _error(folder)
        events = IN_MODIFY | IN_MOVED_TO | IN_CREATE
        if libc.inotify_add_watch(self._descriptor, os.fsencode(folder), events) < 0:
            error = _error(folder)
            os.close(self._descriptor)
            raise error

    def wait(self) -> None:
        """Returns when something has changed: a file written to, made, or moved here."""
        os.read(self._descriptor, EVENTS_SIZE)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)


def _error(folder: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(folder))
