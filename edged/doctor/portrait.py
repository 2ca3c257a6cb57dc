"""Who and where: versions of all that edged is made of, and the host it runs on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from edged.config import version
from edged.doctor.texts import as_json, run
from edged.doctor.world import World

CPU = Path("/proc/cpuinfo")


def versions(_: World) -> str:
    """Versions of edged, what it needs, and what it uses on the host."""
    needed = [each for each in metadata.requires("edged") or () if "extra ==" not in each]
    names = sorted({"edged", *("".join(_name(each)) for each in needed)})
    return as_json(
        {
            "edged": version.VERSION,
            "python": sys.version,
            "packages": {name: _installed(name) for name in names},
            "runc": _first_line("runc", "--version"),
            "systemd": _first_line("systemctl", "--version"),
            "distribution": _distribution(),
            "kernel": platform.release(),
        }
    )


def _name(requirement: str) -> Iterator[str]:
    for c in requirement:
        if not (c.isalnum() or c in "-_."):
            return
        yield c


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _first_line(*command: str) -> str | None:
    try:
        said = run(command)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.partition("\n")[0]


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def host(world: World) -> str:
    """The host: its processor, memory, clock, and the disk of edged's folders."""
    moment = world.now()
    folder = next(p for p in (world.run_dir, *world.run_dir.absolute().parents) if p.exists())
    facts: dict[str, Any] = {
        "machine": platform.machine(),
        "cpu": _cpu(),
        "processors": world.processors(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "memory_available_bytes": world.memory_available(),
        "time": {"unix": moment.unix, "set": moment.is_dated, "led": world.synchronised()},
        "boot": {"id": moment.boot, "up_s": round(moment.up)},
        "run_dir": {"path": str(world.run_dir), "mount": _fields(world.mount(folder))},
    }
    state = world.state_dir
    there = next(path for path in (state, *state.absolute().parents) if path.exists())
    facts["state_dir"] = {
        "path": str(state),
        "mount": _fields(world.mount(there)),
        "room": _fields(world.room(there)),
    }
    return as_json(facts)


def _fields(value: object) -> dict[str, Any] | None:
    return None if value is None else dict(vars(value))


def _cpu() -> str | None:
    try:
        lines = CPU.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), None)
