"""Starts a daemon in the background and returns once it says that it is ready.

    launch.py --log FILE --pid-file FILE [--timeout SECONDS] -- COMMAND...

The daemon says so as it would to systemd: one datagram with READY=1 to the socket that
NOTIFY_SOCKET names. So nothing is polled, and a daemon that ends instead is noticed at once. It
gets a session of its own and outlives the terminal.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

DATAGRAM = 4096


def main() -> int:
    """Returns the exit status."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder, arguments.log.open("ab") as log:
        # Kept short: the path of a socket has at most 107 bytes.
        path = os.path.join(folder, "notify")  # noqa: PTH118  (a plain string is what bind takes)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.bind(path)
            began = log.tell()
            daemon = start(arguments.command, path, log)
            outcome = wait_ready(daemon, notices, arguments.timeout)
    if outcome is None:
        arguments.pid_file.write_text(f"{daemon.pid}\n", encoding="ascii")
        return 0
    if daemon.poll() is None:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
    print(
        f"{' '.join(arguments.command[:2])} {outcome}; its log ({arguments.log}):", file=sys.stderr
    )
    print(tail(arguments.log, began), file=sys.stderr)
    return 1


def parse() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--pid-file", type=Path, required=True)
    parser.add_argument("--timeout", type=float, default=30.0)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def start(command: list[str], notify_socket: str, log: BinaryIO) -> subprocess.Popen[bytes]:
    """Starts the daemon with its output in the log."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={**os.environ, "NOTIFY_SOCKET": notify_socket},
        start_new_session=True,
    )


def wait_ready(
    daemon: subprocess.Popen[bytes], notices: socket.socket, timeout: float
) -> str | None:
    """Returns None once the daemon is ready, else what happened instead."""
    deadline = time.monotonic() + timeout
    process = os.pidfd_open(daemon.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(notices, selectors.EVENT_READ)
            selector.register(process, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                ready = {key.fileobj for key, _ in selector.select(left)}
                if notices in ready and b"READY=1" in notices.recv(DATAGRAM).split(b"\n"):
                    return None
                if process in ready:
                    return f"ended with status {daemon.wait()}"
    finally:
        os.close(process)
    return f"was not ready after {timeout:g} s"


def tail(log: Path, began: int, limit: int = 4000) -> str:
    """Returns the end of what the log got since ``began``."""
    with log.open("rb") as file:
        file.seek(max(began, log.stat().st_size - limit))
        return file.read().decode("utf-8", "replace").rstrip()


if __name__ == "__main__":
    sys.exit(main())
