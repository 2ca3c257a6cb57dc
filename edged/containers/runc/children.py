"""Processes that runc is, and that it leaves to us: each is reaped once, by whoever watches it.

This process is a subreaper (``runtime``): what runc started becomes ours when runc has ended. Of
one that was killed halfway that may be a container, or a helper that goes on to make one: ``run``
ends them. They are told by their session, which is not ours: runc gets one of its own, and so does
what it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import Mapping
from pathlib import Path

PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STRAYS_LIMIT = 1.0  # seconds

watched: set[int] = set()  # process ids that somebody will reap
_running: set[int] = set()  # those of runc
_given_up: set[int] = set()  # those of runc that were killed, since strays were looked for


async def run(command: list[str], files: Mapping[int, int], limit: float) -> int:
    """Returns the exit status of a command.

    Args:
        command: the path of a program, and its arguments.
        files: our descriptors by their number there; 0 to 2 are /dev/null unless given.
        limit: seconds; then it is killed with its process group.

    What it makes is to be watched by whoever called this before anything else is awaited.

    Raises:
        OSError: it cannot be run.
        asyncio.TimeoutError: it was too slow.
    """
    if not _running and _given_up:
        end_strays()
    pid = _spawn(command, files)
    watched.add(pid)
    _running.add(pid)
    descriptor = os.pidfd_open(pid)
    try:
        await asyncio.wait_for(_readable(descriptor), limit)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        await _readable(descriptor)
        _given_up.add(pid)
        raise
    finally:
        os.close(descriptor)
        _running.discard(pid)
        status = reap(pid)
        # Of another that runs, or has just run, what it made may not be watched yet.
        if not _running and pid in _given_up:
            end_strays()
    return status


def reap(pid: int) -> int:
    """Returns the exit status, negative for a signal, of a process that is watched and has ended.

    Raises:
        ChildProcessError: it is not ours.
    """
    watched.discard(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def end_strays(limit: float = STRAYS_LIMIT) -> None:
    """Ends and reaps what a runc that was killed has left, which might go on with its work.

    Args:
        limit: seconds; what has not ended then stays a process of ours.
    """
    _given_up.clear()
    deadline = time.monotonic() + limit
    while (strays := _strays()) and time.monotonic() < deadline:
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                descriptor = os.pidfd_open(pid)
                try:
                    if select.select([descriptor], [], [], limit)[0]:
                        os.waitpid(pid, os.WNOHANG)
                finally:
                    os.close(descriptor)


def _strays() -> list[int]:
    """Returns our children, ended or not, that nobody watches and that are of another session."""
    me, session, found = os.getpid(), os.getsid(0), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in watched:
            with contextlib.suppress(OSError):
                # After the name in brackets: state, parent, group, session.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == me and int(fields[3]) != session:
                    found.append(int(entry.name))
    return found


def _spawn(command: list[str], files: Mapping[int, int]) -> int:
    # In ascending order: none of ours has a number that was given away before, since they are
    # above 2, and the first place above 2 is the last to be filled.
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_DUP2, ours, number) for number, ours in sorted(files.items())
    ]
    actions += [
        (os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0)
        for number in range(3)
        if number not in files
    ]
    return os.posix_spawn(
        command[0],
        command,
        {"PATH": PLACES},
        file_actions=actions,
        setsid=True,
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores, and children inherit
    )


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
