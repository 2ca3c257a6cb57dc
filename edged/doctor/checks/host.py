"""Whether the host has what edged takes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edged.containers.lines import FILE_LIMIT
from edged.containers.logs import KEPT
from edged.deploy import device
from edged.deploy.store import pointed
from edged.doctor.check import Check, Finding, Group, error, ok, warning
from edged.doctor.skip import SkipError
from edged.doctor.world import World

MIB = 1 << 20
FILES = 1024  # open at once: 256 connections, a worker's logs, the store
UNKNOWN_MODEL = 100 * MIB


def memory(world: World) -> Finding:
    """Another model can be loaded beside the current one."""
    available = world.memory_available()
    if available is None:
        raise SkipError("the host does not say how much memory is available")
    folders: list[Path] = []
    with contextlib.suppress(SkipError):  # edged has not run here yet
        folders = [world.state / "models" / each.partition(":")[2] for each in pointed(world.state)]
    sizes = [device.memory_needed(each) for each in folders if each.is_dir()]
    one = max(sizes, default=device.WORKER_BYTES + device.BYTES_PER_BYTE * UNKNOWN_MODEL)
    # What serves, or will at the next start, has its share already only if it runs.
    needed = one if world.running else 2 * one
    whose = "another model" if world.running else "two models"
    shown = f"{available // MIB} MiB are available, {whose} would take about {needed // MIB}"
    if available < one:
        return error(shown, "free some, or use a smaller model")
    if available < needed:
        return warning(shown, "free some: a deployment would be refused")
    return ok(shown)


def limits(world: World) -> Finding:
    """The daemon may open enough files."""
    pid = world.status.pid if world.running else None
    try:
        found = world.limits(pid)
    except PermissionError as exc:
        raise SkipError("edged belongs to another user; run edged doctor as root") from exc
    except ProcessLookupError as exc:
        raise SkipError("edged has just ended") from exc
    whose = "edged" if pid else "this shell"
    files = found["nofile"]
    if 0 <= files < FILES:
        fix = f"set LimitNOFILE={FILES} in the unit, or ulimit -n"
        return warning(f"{whose} may have {files} files open, expected {FILES}", fix)
    shown = "any number of" if files < 0 else str(files)
    return ok(f"{whose} may have {shown} files open")


def processors(world: World) -> Finding:
    """There is a processor for each thread of the NPU."""
    there, wanted = world.processors(), world.config.threads
    if wanted is not None and wanted > there:
        fix = f"set threads to {there} at most, or leave it out"
        return warning(f"{wanted} threads are set, and there are {there} processors", fix)
    return ok(f"{there} processors, {wanted or there} threads")


def logs(world: World) -> Finding:
    """What models' processes write has a place, and an end."""
    folder = world.state / "logs"
    if not folder.is_dir():
        raise SkipError("no model has run yet")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise SkipError(f"you may not read {folder}; run edged doctor as root")
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    most = 2 * KEPT * FILE_LIMIT
    if size > most:
        fix = "look what else writes there, and move it away"
        return warning(f"{size // MIB} MiB are in {folder}, expected at most {most // MIB}", fix)
    if world.euid() == 0 or os.access(folder, os.W_OK):
        return ok(f"{size / MIB:.1f} of at most {most // MIB} MiB in {folder}")
    return warning(f"you may not write to {folder}", "it has to belong to edged's user")


GROUP = Group(
    "host",
    (
        Check("memory", memory),
        Check("limits", limits),
        Check("processors", processors),
        Check("logs", logs),
    ),
)
