"""What edged tells the service manager, through systemd's own Python binding.

Nothing is sent, and the binding is not even imported, when the process was not started by systemd
as ``Type=notify`` (``NOTIFY_SOCKET`` is not set).
"""

from __future__ import annotations

import os
from collections.abc import Mapping


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
