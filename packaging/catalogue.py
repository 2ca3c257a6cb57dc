#!/usr/bin/env python3
"""Prints what `journalctl -x` says about each of the daemon's events, from edged/events.py.

The form is systemd's, https://systemd.io/CATALOG.
"""

from __future__ import annotations

import sys
import textwrap

from edged.events import EVENTS


def text() -> str:
    """Returns the catalogue."""
    parts = [
        f"-- {event.id}\nSubject: {event.subject}\nDefined-By: edged\n"
        f"Documentation: man:edged(1)\n\n{textwrap.fill(event.text, 80)}\n"
        for event in EVENTS.values()
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(text())
