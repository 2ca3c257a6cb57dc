"""What of the state folder goes into a support bundle: names of everything, ends of some."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edged.containers.lines import OLDER, SUFFIX
from edged.doctor.world import World

LOGS = 24  # files
LISTED = 4000  # entries of the store


def listing(world: World) -> str:
    """Names, sizes and times, without any content."""
    lines, left = [], LISTED
    for path, status in _walk(world.state):
        if not left:
            lines.append(f"[more than {LISTED} entries]")
            break
        left -= 1
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(status.st_mtime))
        mode = stat.filemode(status.st_mode)
        name = ascii(str(path))[1:-1]  # one line each, whatever is in a name
        lines.append(f"{mode} {status.st_uid}:{status.st_gid} {status.st_size:>12} {when} {name}")
    return "\n".join(lines) + "\n"


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for root, folders, files in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(root, name)
            try:
                yield path.relative_to(folder), path.lstat()
            except OSError:  # it has gone meanwhile
                continue


def documents(world: World) -> list[tuple[str, Path]]:
    """Names and paths of the records: of tokens not even the hashes."""
    state = _state(world)
    found = sorted(state.glob("*.json")) + sorted(state.glob("audit.log*")) if state else []
    return [(path.name, path) for path in found if path.name != "tokens.json" and _plain(path.name)]


def logs(world: World) -> list[tuple[str, Path]]:
    """Names and paths of the newest logs of models' processes, in the names' order."""
    state = _state(world)
    folder = state / "logs" if state else None
    if folder is None or not folder.is_dir() or not os.access(folder, os.R_OK):
        return []
    found = [path for end in (OLDER, SUFFIX) for path in folder.glob(f"*{end}")]
    newest = sorted(found, key=_changed, reverse=True)[:LOGS]
    return [(path.name, path) for path in sorted(newest) if _plain(path.name)]


def _state(world: World) -> Path | None:
    return world.state_dir if world.state_dir.is_dir() else None


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _plain(name: str) -> bool:
    return all(c.isascii() and (c.isalnum() or c in "-_.") for c in name)


def reads(path: Path, limit: int) -> Callable[[World], str]:
    """Returns what reads the end of a file; it must be a regular one, and no link elsewhere."""

    def read(_: World) -> str:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{path} is no regular file")
            before = max(0, status.st_size - limit)
            file.seek(before)
            text = file.read(limit).decode("utf-8", "replace")
        return f"[{before} bytes before this]\n{text}" if before else text

    return read
