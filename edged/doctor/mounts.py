"""Which file system a folder is on, from ``/proc/self/mountinfo`` (proc(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mount:
    """A mounted file system.

    Attributes:
        at: where.
        kind: such as ``ext4`` or ``tmpfs``.
        read_only: by the mount or by the file system itself.
    """

    at: Path
    kind: str
    read_only: bool


def of(folder: Path, mountinfo: str | None = None) -> Mount | None:
    """The mount that an existing folder is on; None where that cannot be told.

    Args:
        folder: absolute.
        mountinfo: the file's content.
    """
    try:
        text = mountinfo or Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        real = folder.resolve()
    except (OSError, UnicodeDecodeError):
        return None
    best: Mount | None = None
    for line in text.splitlines():
        found = _parse(line)
        if found is None or not real.is_relative_to(found.at):
            continue
        # Of two at one place the later hides the earlier.
        if best is None or len(found.at.parts) >= len(best.at.parts):
            best = found
    return best


def _parse(line: str) -> Mount | None:
    before, _, after = line.partition(" - ")
    fields, rest = before.split(), after.split()
    if len(fields) < 6 or len(rest) < 3:
        return None
    at = os.fsdecode(fields[4].encode().decode("unicode_escape").encode("latin-1"))
    options = {*fields[5].split(","), *rest[2].split(",")}
    return Mount(Path(at), rest[0], "ro" in options)
