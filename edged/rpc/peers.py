"""Who is at the other end of a Unix socket: the kernel's word (SO_PEERCRED), not the caller's.

gRPC does not say which of its connections a call came by. So edged looks at all that are open on
the socket: the process that a caller says it is must be one of those, and then it is that one.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PID_KEY = "edged-pid"  # metadata
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7)


@dataclass(frozen=True)
class Peer:
    """A process at the other end."""

    pid: int
    uid: int


def connected(path: Path) -> set[Peer]:
    """Returns the processes that have a connection to the socket at ``path`` open."""
    return set(_connected(os.fsencode(path)))


def _connected(path: bytes) -> Iterator[Peer]:
    for link in list(Path("/proc/self/fd").iterdir()):
        try:
            descriptor = os.dup(int(link.name))
        except OSError:  # closed by now
            continue
        try:
            found = socket.socket(fileno=descriptor)
        except OSError:  # no socket
            os.close(descriptor)
            continue
        with found:
            if found.family == socket.AF_UNIX and os.fsencode(found.getsockname()) == path:
                data = found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                pid, uid, _ = _CREDENTIALS.unpack(data)
                if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    yield Peer(pid, uid)


def which(path: Path, said: str | None) -> Peer | None:
    """Returns who calls over the socket at ``path``; None if that cannot be told.

    Args:
        path: of the socket.
        said: the process id that the caller says it has, if it says so.
    """
    there = connected(path)
    if said is not None and said.isascii() and said.isdigit():
        for peer in there:
            if peer.pid == int(said):
                return peer
    return next(iter(there)) if len(there) == 1 else None
