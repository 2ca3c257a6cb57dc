"""A hold, in words and as facts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edged import messages


def facts(hold: messages.Held) -> dict[str, Any]:
    """Returns the hold for programs."""
    return {name: getattr(hold, name) for name in hold.DESCRIPTOR.fields_by_name}


def sentence(hold: messages.Held) -> str:
    """Returns who holds the device, until when, and why."""
    if hold.until_unix_us:
        end = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(hold.until_unix_us / 1e6))
        until = f"until {end}"
    else:
        until = f"for {hold.left_s:.0f} s more"
    return f"held by {hold.owner} {until}" + (f" ({hold.reason})" if hold.reason else "")
