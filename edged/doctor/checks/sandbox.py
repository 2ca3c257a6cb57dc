"""Whether what shuts the model's process in is there."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from edged.containers.runc import cgroups, command, seccomp
from edged.doctor.check import Check, Finding, Group, error, ok, warning
from edged.doctor.skip import SkipError
from edged.doctor.world import World
from edged.errors import ConfigError

PROBE_LIMIT = 40.0  # seconds; it has limits of its own, in all less
VERSION_LIMIT = 5.0


def runtime(world: World) -> Finding:
    """What runs the model's process is what this host can have."""
    name = world.config.runtime
    if name == "process":
        fix = 'set runtime = "runc", where runc is installed'
        if world.euid() == 0:
            fix += "; or run edged as an ordinary user"
        return warning("the model's process has edged's own rights (runtime process)", fix)
    if name == "runc-root" and world.euid() != 0:
        raise SkipError("whether runc-root works, root can tell: run edged doctor as root")
    program = command.program()
    return ok(f"{name}, {_version(program)}")


def _version(program: Path) -> str:
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConfigError(f"cannot run {program}: {exc}") from exc
    first = done.stdout.decode("utf-8", "replace").partition("\n")[0].strip()
    return f"{first or 'runc'} at {program}"


def profile(world: World) -> Finding:
    """The distribution's seccomp profile is there and can be used."""
    if world.config.runtime == "process":
        raise SkipError("runtime process uses none")
    rules = seccomp.load()["syscalls"]
    count = sum(len(rule["names"]) for rule in rules)
    return ok(f"{seccomp.PROFILE} has rules for {count} system calls")


def groups(world: World) -> Finding:
    """Control groups hold the model's process to its limits."""
    if world.config.runtime == "process":
        raise SkipError("runtime process has no limits")
    found = cgroups.find()
    if found.version:
        return ok(f"cgroups of version {found.version} are delegated to us")
    fix = "give the unit Delegate=yes; or run edged as root with runtime runc-root"
    return warning("no cgroups are delegated, so rlimits hold memory and nothing holds CPUs", fix)


def container(world: World) -> Finding:
    """A container of ours runs."""
    if world.config.runtime == "process":
        raise SkipError("runtime process has no containers")
    with tempfile.TemporaryDirectory(prefix="edged-doctor-") as name:
        Path(name).chmod(0o711)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "edged.containers.runc.probe", name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROBE_LIMIT,
                check=False,
                env=dict(world.environ),
            )
        except subprocess.TimeoutExpired:
            return error(f"no container has run within {PROBE_LIMIT:g} s", "look at runc by hand")
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        return error(said[-500:] or "it gave no reason", "do what the reason says")
    return ok(said)


GROUP = Group(
    "sandbox",
    (
        Check("runtime", runtime),
        Check("seccomp", profile),
        Check("cgroups", groups),
        Check("container", container, PROBE_LIMIT + 5),
    ),
)
