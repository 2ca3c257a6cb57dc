"""Administrative acts: one record each of who did what and how it ended.

A record goes to the log (under systemd to the journal, with a message id of its own) and to
``audit.log`` in the state folder, one JSON object a line. At ``LIMIT`` bytes the file becomes
``audit.log.1`` and a new one begins; so there are at most two. The daemon and ``edged tokens`` both
add to it.

Invariants:
- A disk that fails costs the record in the file, never the act; the log says so.
- A record is one line, whatever a caller puts into a reference or a reason.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import pwd
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from edged.errors import StoreError
from edged.osutil import atomic

logger = logging.getLogger(__name__)

FILE = "audit.log"
LIMIT = 1 << 20  # bytes
TEXT_LIMIT = 512  # characters of one text


@dataclass(frozen=True)
class Act:
    """One act.

    Attributes:
        who: token, certificate or user.
        via: how it reached edged: ``control.sock``, an address, or the command itself.
        what: ``deploy``, ``rollback``, ``undeploy``, ``hold``, ``release``, ``quarantine clear``,
            ``reload``, ``tokens create`` and such.
        object: what it was done to.
        outcome: ``done``, ``committed`` and such, ``refused`` or ``failed``, and why.
    """

    who: str
    via: str
    what: str
    object: str = ""
    outcome: str = "done"


class Audit:
    """The record of acts in a state folder."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE

    def note(self, act: Act) -> None:
        """Writes a record; waits for the disk."""
        announce(act)
        self.keep(act)

    def keep(self, act: Act) -> None:
        """Writes the file's record alone."""
        now = dt.datetime.fromtimestamp(time.time(), dt.timezone.utc)
        fields = {name: value[:TEXT_LIMIT] for name, value in asdict(act).items()}
        line = json.dumps({"time": now.isoformat(timespec="milliseconds"), **fields}) + "\n"
        try:
            self._make_room(len(line))
            status = self._path.parent.stat()
            owner = (status.st_uid, status.st_gid)
            try:
                atomic.append(self._path, line.encode(), mode=0o640, shared=True, owner=owner)
            except StoreError:
                if not self._path.exists():
                    raise
                # Another process has made it, or is just done with a new one.
                atomic.append(self._path, line.encode(), shared=True)
        except (OSError, StoreError) as exc:
            logger.error("cannot keep an audit record: %s", exc)  # noqa: TRY400

    def _make_room(self, size: int) -> None:
        try:
            full = self._path.stat().st_size + size > LIMIT
        except FileNotFoundError:
            return
        if full:
            atomic.rename(self._path, self._path.with_name(FILE + ".1"))


def announce(act: Act) -> None:
    """Writes the log's record alone."""
    what = f"{act.what} {act.object}".strip()[:TEXT_LIMIT]
    text = " ".join(f"{act.who} via {act.via}: {what}: {act.outcome}".split())
    fields = {"event": "audit", "who": act.who, "what": act.what, "outcome": act.outcome}
    logger.info("audit: %s", text[: 3 * TEXT_LIMIT], extra=fields)


def own_name() -> str:
    """Returns who runs this process, and on whose behalf if sudo says so."""
    return named(os.getuid(), os.getpid()) + (
        f" for {os.environ['SUDO_USER']}" if os.environ.get("SUDO_USER") else ""
    )


def named(uid: int, pid: int) -> str:
    """Returns a local process's user for people."""
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = "unknown"
    return f"user {user} (uid {uid}, pid {pid})"
