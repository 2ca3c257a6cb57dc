"""Says who listens on a TCP port of this host.

    listener.py HOST:PORT

Status 0 and silent if the port is free; else status 1 and one line with the process, as far as the
caller may see it.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

LISTEN = "0A"  # state of a socket in /proc/net/tcp, include/net/tcp_states.h


def main() -> int:
    """Returns the exit status."""
    host, _, port = sys.argv[1].rpartition(":")
    host = host.strip("[]")
    if is_free(host, int(port)):
        return 0
    owners = [describe(pid) for pid in holders(listening(int(port)))]
    print(", ".join(owners) or "a process of another user (as root, `ss -ltnp` names it)")
    return 1


def is_free(host: str, port: int) -> bool:
    """Tries to take the port, so that wildcard and IPv6 listeners count too."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as trial:
        # Connections of a server that ended a minute ago are no obstacle.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
        except OSError:
            return False
    return True


def listening(port: int) -> set[str]:
    """Returns the sockets that listen on the port, as /proc shows them among open files."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # no IPv6 here
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def holders(sockets: set[str]) -> list[int]:
    """Returns the processes that have one of the sockets open, lowest first."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link) in sockets:  # noqa: PTH115  (its target is no path)
                found.add(int(link.parts[2]))
        except OSError:  # gone meanwhile, or not ours to see
            continue
    return sorted(found)


def describe(pid: int) -> str:
    """Returns the process's number and command."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        command = "?"
    printable = "".join(c if c.isprintable() else " " for c in command)
    return f"process {pid} ({printable.strip()[:80]})"


if __name__ == "__main__":
    sys.exit(main())
