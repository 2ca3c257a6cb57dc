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
LOCKS = Path("/proc/locks")


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


def owner(path: Path) -> str | None:
    """Returns who holds the lock at ``path``, in the holder's words; None if nobody does.

    The lock is not tried: for that moment a daemon that starts would be refused. The kernel's list
    of locks is read instead (proc(5)); a device number there may be another than stat(2) gives, so
    that the process id that the holder wrote counts as well.

    Raises:
        DeviceError: the file, or the kernel's list, cannot be read.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(OWNER_LIMIT).decode("utf-8", "replace").strip()
        listed = LOCKS.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise DeviceError(f"cannot tell who holds {path}: {exc}") from exc
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for line in listed.splitlines():
        fields = line.split()
        if len(fields) < 6 or fields[1] != "FLOCK":
            continue  # also who waits for one, whose second field is an arrow
        place, _, inode = fields[5].rpartition(":")
        ours = place == device or f"(pid {fields[4]})" in text
        if inode == str(status.st_ino) and ours:
            return text or f"process {fields[4]}"
    return None
