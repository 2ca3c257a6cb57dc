"""Whether the device knows what time it is, and since when it runs."""

from __future__ import annotations

import time

from edged.deploy.clock import SET_SINCE
from edged.doctor.check import Check, Finding, Group, error, ok, warning
from edged.doctor.skip import SkipError
from edged.doctor.world import World

BACK = 3600.0  # seconds that files may be from the future: two clocks differ, time zones do not


def time_of_day(world: World) -> Finding:
    """The clock was set, and has not gone back."""
    now = world.now()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now.unix))
    fix = "set it ('timedatectl set-time', or give the device a time server)"
    if not now.is_dated:
        since = time.strftime("%Y-%m-%d", time.gmtime(SET_SINCE))
        reason = f"the clock says {shown}, before {since}: no certificate can be checked"
        return error(reason, fix)
    newest = _newest(world)
    if newest > now.unix + BACK:
        ahead = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(newest))
        return warning(f"the clock says {shown}, and edged wrote files at {ahead}", fix)
    return ok(f"the clock says {shown}")


def _newest(world: World) -> float:
    """When edged last wrote a record, by the clock of then; 0 if it never did."""
    try:
        return max((path.stat().st_mtime for path in world.state.glob("*.json")), default=0.0)
    except (SkipError, OSError):
        return 0.0


def synchronised(world: World) -> Finding:
    """Something keeps the clock right."""
    led = world.synchronised()
    if led is None:
        raise SkipError("the kernel does not say")
    if led:
        return ok("a time server leads the clock")
    fix = "enable systemd-timesyncd or chrony, where a time server can be reached"
    return warning("no time server leads the clock, so it will drift", fix)


def boot(world: World) -> Finding:
    """Since when the device and edged are up."""
    now = world.now()
    said = f"the device is up {_span(now.up)} (boot {now.boot[:8] or 'unknown'})"
    if not world.running:
        return ok(said)
    up = world.status.uptime_us / 1e6
    return ok(f"{said}, edged {_span(up)}")


def _span(seconds: float) -> str:
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if days >= 2:
        return f"{days:.0f} days"
    if hours >= 2:
        return f"{hours:.0f} hours"
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{seconds:.0f} s"


GROUP = Group(
    "clock",
    (
        Check("time", time_of_day),
        Check("synchronised", synchronised),
        Check("boot", boot),
    ),
)
