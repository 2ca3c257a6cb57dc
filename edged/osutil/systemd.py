"""What edged tells the service manager, through systemd's own Python binding.

Nothing is sent, and the binding is not even imported, when the process was not started by systemd
as ``Type=notify`` (``NOTIFY_SOCKET`` is not set).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Mapping
from typing import TypeVar

EXTENSION = 15.0  # seconds asked for at a time, three times as often as needed
_Result = TypeVar("_Result")


def notify(**fields: str) -> bool:
    """Sends fields such as ``READY="1"`` or ``STATUS="serving"``.

    Returns:
        Whether there was somebody to send them to.
    """
    if not os.environ.get("NOTIFY_SOCKET"):
        return False
    from systemd import daemon

    # A newline would begin another field.
    text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in fields.items())
    try:
        return bool(daemon.notify(text))
    except OSError:  # whoever started us has gone; that is no reason to stop serving
        return False


def reloading() -> bool:
    """Says that a reload has begun; ``notify(READY="1")`` says that it is over.

    With the time, as ``Type=notify-reload`` wants it (systemd 253), which older ones pass over.
    """
    return notify(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))


async def extending(work: Awaitable[_Result], most: float) -> _Result:
    """Returns what ``work`` returns; asks for more time to start or stop while it is under way.

    Args:
        work: it may take longer than the unit allows, as long as the event loop turns.
        most: seconds after which no more time is asked for.
    """
    task = asyncio.ensure_future(work)
    deadline = time.monotonic() + most
    try:
        while not task.done() and (left := deadline - time.monotonic()) > 0:
            notify(EXTEND_TIMEOUT_USEC=str(round(min(EXTENSION, left) * 1e6)))
            await asyncio.wait([task], timeout=min(EXTENSION / 3, left))
        return await task
    except BaseException:
        task.cancel()
        raise


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Returns after how many seconds to send ``WATCHDOG="1"`` again, or None if nobody watches.

    It is half of what the unit allows, as sd_watchdog_enabled(3) advises.
    """
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isascii() or not usec.isdigit() or int(usec) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(usec) / 2e6
