"""What the service manager and the kernel know: the unit's properties, whether the clock is led."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from edged.doctor.skip import SkipError

UNIT = "edged.service"
BOOTED = Path("/run/systemd/system")  # sd_booted(3)
LIMIT = 5.0  # seconds
PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "Type",
    "Restart",
    "NRestarts",
    "WatchdogUSec",
    "MainPID",
    "Result",
    "NeedDaemonReload",
)
_TIMEX_BYTES = 512  # struct timex has 208 on 64-bit Linux
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


def properties() -> Mapping[str, str]:
    """The unit's properties by name.

    Raises:
        SkipError: systemd does not run here, or has no such unit.
    """
    program = shutil.which("systemctl")
    if program is None or not BOOTED.is_dir():
        raise SkipError("systemd does not run here")
    command = [program, "show", UNIT, f"--property={','.join(PROPERTIES)}"]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=LIMIT, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SkipError(f"systemctl does not answer: {exc}") from exc
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    if found.get("LoadState") != "loaded":
        raise SkipError(f"systemd has no {UNIT}")
    return found


def clock_synchronised() -> bool | None:
    """Whether something leads the kernel's clock, as NTP does; None where the kernel is silent."""
    # Zeroed, it asks and changes nothing (adjtimex(2), modes = 0).
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if state < 0 else state != _TIME_ERROR
