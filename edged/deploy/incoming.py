"""STATE/incoming: where operators put images that the daemon's own user could not read.

The daemon is an ordinary user who sees nobody's home; what an operator deploys may lie there. So
the command line copies it here (``edged.cli._handover``), from where it goes on as from any place.

Invariants:
- The folder is the daemon's and its group's alone.
- What is here is a copy: an entry that nobody has touched for ``KEPT`` is removed at a start. Until
  then a deployment that was broken off can go on.
"""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path

logger = logging.getLogger(__name__)

NAME = "incoming"
MODE = 0o770
KEPT = 24 * 3600.0  # seconds by the wall clock; a wrong one costs a copy or keeps it


def prepare(state: Path) -> Path | None:
    """Returns the folder, which is there and has nothing old in it; None if the disk fails."""
    folder = state / NAME
    try:
        folder.mkdir(exist_ok=True)
        folder.chmod(MODE)
        old = [entry for entry in folder.iterdir() if _age(entry) > KEPT]
    except OSError as exc:
        logger.warning("cannot use %s: %s; operators' images must be readable", folder, exc)
        return None
    for entry in old:
        with contextlib.suppress(OSError):
            entry.unlink()
    return folder


def _age(entry: Path) -> float:
    try:
        return time.time() - entry.lstat().st_mtime
    except OSError:  # its owner has just taken it away
        return 0.0
