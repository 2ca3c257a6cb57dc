"""Where edged's files live: the system's folders for root and services, the XDG ones for a user.

systemd's ``STATE_DIRECTORY``, ``RUNTIME_DIRECTORY`` and ``CONFIGURATION_DIRECTORY`` go first, so
that a unit decides. The module makes no folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """Defaults for this user on this host."""

    state: Path
    run: Path
    config: Path


SYSTEM = Folders(Path("/var/lib/edged"), Path("/run/edged"), Path("/etc/edged"))


def default(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Folders:
    """Returns the folders for the user ``uid`` (default: the one who runs the process)."""
    ordinary = (os.getuid() if uid is None else uid) != 0
    home = Path(environ.get("HOME") or "/")
    state = _absolute(environ.get("XDG_STATE_HOME")) or home / ".local/state"
    config = _absolute(environ.get("XDG_CONFIG_HOME")) or home / ".config"
    # Without a session there is no runtime folder; the state folder is at least the user's own.
    run = _absolute(environ.get("XDG_RUNTIME_DIR"))
    user = Folders(state / "edged", run / "edged" if run else state / "edged/run", config / "edged")
    chosen = user if ordinary else SYSTEM
    return Folders(
        _unit(environ.get("STATE_DIRECTORY")) or chosen.state,
        _unit(environ.get("RUNTIME_DIRECTORY")) or chosen.run,
        _unit(environ.get("CONFIGURATION_DIRECTORY")) or chosen.config,
    )


def _absolute(value: str | None) -> Path | None:
    """Returns the path, or None: the XDG specification has relative ones ignored."""
    return Path(value) if value and value.startswith("/") else None


def _unit(value: str | None) -> Path | None:
    """Returns the first of the folders that systemd lists with colons between."""
    return _absolute((value or "").split(":")[0])
