"""Exclusive ownership of a file for the life of a process.

Invariants:
- The kernel drops the lock when the process ends, however that happens; a file left behind means
  nothing.
- While it is held, the file says in one line who holds it; a second taker is refused with that.
- The file is never removed: another process may be waiting on the same inode.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from edged.errors import DeviceError

OWNER_LIMIT = 200


class Lock:
    """A lock that is held until ``release`` or the end of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def release(self) -> None:
        """Gives the lock up; the second call does nothing."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1


def acquire(path: Path, *, what: str, owner: str) -> Lock:
    """Takes the lock at ``path`` or says who has it. Does not wait.

    Args:
        path: the file, made if missing, in an existing folder.
        what: what the lock stands for, for the error text.
        owner: who we are; the process id is added.

    Raises:
        DeviceError: another process holds it, or the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as exc:
        raise DeviceError(f"cannot take {what}: cannot open {path}: {exc.strerror}") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        holder = os.pread(descriptor, OWNER_LIMIT, 0).decode("utf-8", "replace").strip()
        os.close(descriptor)
        if not isinstance(exc, BlockingIOError):
            raise DeviceError(f"cannot take {what}: cannot lock {path}: {exc.strerror}") from exc
        raise DeviceError(
            f"cannot take {what}: {holder or 'another process'} holds {path}; stop it first"
        ) from exc
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{owner} (pid {os.getpid()})\n".encode(), 0)
    return Lock(path, descriptor)
