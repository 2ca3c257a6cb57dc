"""A daemon of the benchmark's own: started in a temporary folder, ended with it.

It is the command that an operator types, in a process of its own, so that what is measured is what
is served.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.errors import DeviceError, FetchError

START_LIMIT = 30.0  # seconds
STOP_LIMIT = 15.0
COMMAND_LIMIT = 120.0
_LOG_TAIL = 2000  # bytes shown when it fails


@dataclass(frozen=True)
class Served:
    """A server with a model.

    Attributes:
        target: where its data edge listens.
        status: what ``edged status --json`` says of it.
    """

    target: str
    status: dict[str, Any]


@contextlib.contextmanager
def own_server(folder: Path, image: str, flags: Sequence[str] = ()) -> Iterator[Served]:
    """Starts a daemon that serves an image; stops it when the block ends.

    Args:
        folder: an empty one, with a path short enough for sockets in it.
        image: reference of the model.
        flags: more flags for ``edged run``.

    Raises:
        DeviceError: it does not start.
        FetchError: it does not take the image.
    """
    # Whoever measures an image has it on this host, and runs it in a daemon of its own.
    with started(folder, ["--runtime", "process", "--verify", "off", *flags]) as target:
        status = deploy(folder, image)
        yield Served(target, status)


@contextlib.contextmanager
def started(folder: Path, flags: Sequence[str]) -> Iterator[str]:
    """Starts a daemon on the folders in ``folder``; stops it when the block ends.

    Args:
        folder: with a path short enough for sockets in it; what an earlier daemon left is used.
        flags: for ``edged run``.

    Yields:
        Where its data edge listens, once it says that it does.

    Raises:
        DeviceError: it does not start.
    """
    run_dir, log, notify = folder / "run", folder / "log", folder / "notify"
    run_dir.mkdir(mode=0o755, exist_ok=True)
    notify.unlink(missing_ok=True)
    command = ["run", "--state-dir", str(folder / "state"), "--run-dir", str(run_dir)]
    command += ["--listen", "127.0.0.1:0", *flags]
    with contextlib.ExitStack() as stack:
        notices = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notices.bind(str(notify))
        environ = {**os.environ, "NOTIFY_SOCKET": str(notify)}
        out = stack.enter_context(log.open("wb"))
        daemon = subprocess.Popen(_edged(command), stdout=out, stderr=out, env=environ)
        stack.callback(_stop, daemon)
        _wait_ready(daemon, notices, log)
        yield f"unix:{run_dir / 'grpc.sock'}"


def deploy(folder: Path, image: str) -> dict[str, Any]:
    """Deploys an image to the daemon on ``folder``; returns what ``edged status`` says then.

    Raises:
        FetchError: it does not take the image.
    """
    run_dir = ("--run-dir", str(folder / "run"))
    _command("deploy", image, *run_dir)
    status: dict[str, Any] = json.loads(_command("status", "--json", *run_dir))
    return status


def _edged(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "edged", *arguments]


def _wait_ready(daemon: subprocess.Popen[bytes], notices: socket.socket, log: Path) -> None:
    """Returns once the daemon has said that it is ready, as it says to a service manager."""
    deadline = time.monotonic() + START_LIMIT
    process = os.pidfd_open(daemon.pid)
    try:
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([notices.fileno(), process], [], [], left)
            if notices.fileno() in ready and b"READY=1" in notices.recv(4096).splitlines():
                return
            if process in ready:
                break
    finally:
        os.close(process)
    tail = log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
    raise DeviceError(f"cannot start edged run: exit status {daemon.poll()}, its log: {tail}")


def _command(*arguments: str) -> str:
    try:
        done = subprocess.run(
            _edged(arguments), capture_output=True, text=True, timeout=COMMAND_LIMIT, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise FetchError(f"cannot run edged {arguments[0]}: no end after {exc.timeout} s") from exc
    if done.returncode:
        raise FetchError(f"cannot run edged {arguments[0]}: {done.stderr.strip()[-_LOG_TAIL:]}")
    return done.stdout


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
