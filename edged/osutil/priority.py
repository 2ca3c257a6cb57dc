"""Lets a process wait behind others for the processor, and makes it equal to them again.

An ordinary user may lower the priority of its own process but not raise it again, unless the
service manager allows it (RLIMIT_NICE of setrlimit(2)). Where the kernel schedules sessions as
groups (CONFIG_SCHED_AUTOGROUP of sched(7), on in Debian) the priority of a session of ours may go
up again to the usual one, and that of single processes counts within their session alone. So the
session's is changed where there are such, else the process's where it can be changed back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from pathlib import Path

# Of sched(7): a weight of about a tenth. Behind that a model still loads within its time when both
# are busy all the time, and those before it hardly notice.
BEHIND = 10
_AUTOGROUPS = Path("/proc/sys/kernel/sched_autogroup_enabled")
# The kernel takes one such change in 100 ms from all that are not root.
_RETRY_AFTER, _TRIES = 0.12, 20


async def set_behind(pid: int) -> bool:
    """Makes a process that leads a session wait behind others; returns whether it does."""
    if _autogroups():
        return await _set_group(pid, BEHIND)
    return _may_raise() and _set_threads(pid, min(_own() + BEHIND, 19))


async def set_usual(pid: int) -> bool:
    """Takes ``set_behind`` back; returns whether that was done."""
    if _autogroups():
        return await _set_group(pid, 0)
    return _set_threads(pid, _own())


def _autogroups() -> bool:
    try:
        return _AUTOGROUPS.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def _own() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def _may_raise() -> bool:
    # The limit is 20 less the lowest nice value that may be set.
    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_NICE)[0] >= 20 - _own()


async def _set_group(pid: int, nice: int) -> bool:
    for _ in range(_TRIES):
        try:
            _write_group(pid, nice)
        except BlockingIOError:
            await asyncio.sleep(_RETRY_AFTER)
        except OSError:
            return False
        else:
            return True
    return False


def _write_group(pid: int, nice: int) -> None:
    Path(f"/proc/{pid}/autogroup").write_text(f"{nice}\n", encoding="ascii")


def _set_threads(pid: int, nice: int) -> bool:
    done = False
    with contextlib.suppress(OSError):  # threads come and go
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
                done = True
    return done
