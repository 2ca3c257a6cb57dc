"""What holds a worker to its limits: cgroups where this host lets us have some, rlimits elsewhere.

Invariants:
- A container's cgroups are made beside the daemon's own (version 2) or below it (version 1), never
  elsewhere: that is the part of the tree that a service manager hands over with ``Delegate=``.
- All of memory, cpu and pids, or none: half of the limits would be taken for all of them.

With cgroups of version 1 runc joins every hierarchy that is mounted, so each must be ours to write
to; an ordinary user has none of them as a rule.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.containers.runtime import Limits

NEEDED = frozenset({"memory", "cpu", "pids"})
CPU_PERIOD = 100_000  # microseconds
ROOT = Path("/sys/fs/cgroup")
REMOVE_LIMIT = 5.0  # seconds


@dataclass(frozen=True)
class Delegation:
    """The cgroups that we may make.

    Attributes:
        version: 1 (hybrid is that, too) or 2; 0 where there are none for us.
        parents: the folder to make a container's in, by controller; ``""`` for version 2's one.
        swap: whether swap can be limited.
    """

    version: int = 0
    parents: Mapping[str, Path] | None = None
    swap: bool = False

    def folders(self, name: str) -> list[Path]:
        """Returns the cgroups of the container with this name."""
        return sorted({parent / name for parent in (self.parents or {}).values()})

    def resources(self, limits: Limits) -> dict[str, Any]:
        """Returns ``linux.resources`` of config.json; empty without cgroups."""
        if not self.version:
            return {}
        found: dict[str, Any] = {"pids": {"limit": limits.pids}}
        if limits.memory_bytes is not None:
            found["memory"] = {"limit": limits.memory_bytes}
            if self.swap:
                found["memory"]["swap"] = limits.memory_bytes  # of both together
        if limits.cpus is not None:
            quota = max(1000, round(limits.cpus * CPU_PERIOD))
            found["cpu"] = {"quota": quota, "period": CPU_PERIOD}
        return found

    def out_of_memory(self, name: str) -> bool:
        """Returns whether the kernel has ended a process of this container for its memory."""
        if not self.version or self.parents is None:
            return False
        parent = self.parents["memory" if self.version == 1 else ""]
        file = "memory.oom_control" if self.version == 1 else "memory.events"
        try:
            lines = (parent / name / file).read_text().splitlines()
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)


def find(
    mounts: str | None = None,
    own: str | None = None,
    writable: Callable[[Path], bool] | None = None,
) -> Delegation:
    """Returns the cgroups that this process may make for containers.

    Args:
        mounts: /proc/self/mountinfo.
        own: /proc/self/cgroup.
        writable: whether we may make cgroups in a folder.
    """
    mounted = _mounted(Path("/proc/self/mountinfo").read_text() if mounts is None else mounts)
    places = _places(Path("/proc/self/cgroup").read_text() if own is None else own)
    writable = _writable if writable is None else writable
    if mounted.get("") == ROOT:
        return _unified(ROOT, places.get("", Path("/")), writable)
    joined = {name: at for name, at in mounted.items() if at.parent == ROOT}
    if not joined.keys() >= NEEDED:
        return Delegation()
    parents = {
        name: at / places.get(name, Path("/")).relative_to("/") for name, at in joined.items()
    }
    if not all(writable(parent) for parent in parents.values()):
        return Delegation()
    swap = (parents["memory"] / "memory.memsw.limit_in_bytes").exists()
    return Delegation(1, parents, swap)


def _unified(root: Path, own: Path, writable: Callable[[Path], bool]) -> Delegation:
    """Version 2: runc makes the container's beside our own, where no process may be itself."""
    parent = root / own.parent.relative_to("/")
    try:
        controllers = set((parent / "cgroup.controllers").read_text().split())
        handed_on = set((parent / "cgroup.subtree_control").read_text().split())
        # Where there are processes the kernel hands no controllers on, except at the very root,
        # which has no type.
        can_hand_on = not (parent / "cgroup.type").exists() or not (
            (parent / "cgroup.procs").read_text().strip()
        )
    except OSError:
        return Delegation()
    if not controllers >= NEEDED or not (handed_on >= NEEDED or can_hand_on):
        return Delegation()
    return Delegation(2, {"": parent}, swap=True) if writable(parent) else Delegation()


def _writable(folder: Path) -> bool:
    wanted = (folder, folder / "cgroup.procs", folder / "cgroup.subtree_control")
    return all(os.access(path, os.W_OK) for path in wanted if path == folder or path.exists())


def _mounted(mountinfo: str) -> dict[str, Path]:
    """Returns where each hierarchy is mounted: by controller, ``name=...``, or ``""``."""
    found: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        at = Path(fields.split()[4])
        if kind == "cgroup2":
            found.setdefault("", at)
        elif kind == "cgroup":
            for option in options.split(","):
                if option not in ("rw", "ro", "xattr", "clone_children", "noprefix"):
                    found.setdefault(option, at)
    return found


def _places(cgroup: str) -> dict[str, Path]:
    """Returns our own cgroup in each hierarchy, by the same names."""
    found = {}
    for line in cgroup.splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            found[name] = Path(path)
    return found


def remove(folder: Path, limit: float = REMOVE_LIMIT) -> None:
    """Ends every process in a cgroup and removes it; does nothing if there is none.

    Args:
        folder: the cgroup's.
        limit: seconds until the processes must have ended.

    Raises:
        OSError: it is still there.
    """
    with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as stack:
        ended = select.poll()
        pids = [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
        left = set()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                stack.callback(os.close, descriptor)
                os.kill(pid, signal.SIGKILL)
                ended.register(descriptor, select.POLLIN)
                left.add(descriptor)
        deadline = time.monotonic() + limit
        while left and (seconds := deadline - time.monotonic()) > 0:
            for descriptor, _ in ended.poll(seconds * 1000):
                ended.unregister(descriptor)
                left.discard(descriptor)
        folder.rmdir()
