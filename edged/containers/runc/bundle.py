"""A container's bundle: the folder with config.json and the root folder that ``runc`` takes.

The form of config.json is that of the OCI runtime specification 1.0.2. What it comes to, inside:

- namespaces of its own: user, mount, pid, ipc, uts, network (only ``lo``), cgroup;
- no capabilities, no-new-privileges, the distribution's seccomp profile (``seccomp``);
- a read-only root of empty folders, with what ``view`` lists mounted read-only, the model at
  /model, and as the one place to write a /tmp in memory, of bounded size;
- no further user namespaces: the seccomp profile allows ``unshare``, and in a user namespace of
  its own a process has every capability towards the kernel's less tried parts;
- limits of memory, processor time and processes (``cgroups``; where there are none, rlimits).

There is no host name: a unit with ``ProtectHostname=`` would not let runc set one.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.containers.runc import cgroups, identity, seccomp, view
from edged.containers.runtime import Limits, Spec

NAMESPACES = ("user", "mount", "pid", "ipc", "uts", "network", "cgroup")
SOCKET = 3  # where runc's --preserve-fds begins
FILES = 256  # open at once; the worker has about twenty
OOM_SCORE = 500  # the worker goes before the daemon does
# What runc's own example of a config.json hides of /proc.
MASKED = (
    *(f"/proc/{name}" for name in ("acpi", "asound", "kcore", "keys", "latency_stats")),
    *(f"/proc/{name}" for name in ("timer_list", "timer_stats", "sched_debug", "scsi")),
)
READ_ONLY = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))
# Since Linux 5.14 RLIMIT_NPROC counts a user's processes in each user namespace by themselves.
OWN_PROCESS_COUNT = (5, 14)
ENVIRON = {
    "PATH": "/usr/bin:/bin",
    "HOME": str(view.SCRATCH),
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
}


@dataclass(frozen=True)
class Host:
    """What is the same for every container of this daemon.

    Attributes:
        identity: who a worker is.
        delegation: the cgroups there are for it.
        profile: ``linux.seccomp``.
        kernel: major and minor version.
    """

    identity: identity.Identity
    delegation: cgroups.Delegation
    profile: Mapping[str, Any]
    kernel: tuple[int, int]


def look() -> Host:
    """Returns this host.

    Raises:
        ConfigError: there is no seccomp profile for it.
    """
    kernel = seccomp.parse_kernel(platform.release())
    return Host(identity.choose(), cgroups.find(), seccomp.load(), kernel)


class Bundle:
    """One container's folder.

    Args:
        folder: to be made; those above it exist and others may pass through them.
        spec: what is to run.
        seen: what it is to see, beside the model.
        host: this one.
    """

    def __init__(self, folder: Path, spec: Spec, seen: view.View, host: Host) -> None:
        self.folder = folder
        self.name = folder.name
        self.pid_file = folder / "pid"
        self.log_file = folder / "runc.log"
        self._spec = spec
        self._seen = seen
        self._host = host

    def write(self) -> None:
        """Makes the folder.

        Raises:
            OSError: it cannot be made.
        """
        self.folder.mkdir(mode=0o711)
        self.folder.chmod(0o711)  # runc passes through it as the user who is uid 0 inside
        self._make_root(self._seen)
        # Last: a bundle without it was never given to runc.
        text = json.dumps(config(self._spec, self._host, self._seen, self.folder))
        (self.folder / "config.json").write_text(text)

    def _make_root(self, seen: view.View) -> None:
        """Makes the folders to mount on: runc could not, as a user who has no rights to them."""
        root = self.folder / "root"
        root.mkdir(mode=0o755)
        for path in (*seen.folders, Path("/proc"), Path("/dev"), view.MODEL):
            if view.SCRATCH not in path.parents:
                (root / path.relative_to("/")).mkdir(parents=True, exist_ok=True)
        scratch = root / view.SCRATCH.relative_to("/")
        scratch.mkdir()
        scratch.chmod(0o1777)  # runc gives the mount the rights of what it is mounted on
        for name, target in seen.links.items():
            (root / name).symlink_to(target)

    def read_pid(self) -> int:
        """Returns the container's process id, as runc has written it.

        Raises:
            OSError, ValueError: it has not.
        """
        return int(self.pid_file.read_text())

    def remove(self) -> None:
        """Removes the folder.

        Raises:
            OSError: it cannot be removed.
        """
        shutil.rmtree(self.folder)


def config(spec: Spec, host: Host, seen: view.View, folder: Path) -> dict[str, Any]:
    """Returns config.json.

    Args:
        spec: what is to run.
        host: where.
        seen: what is visible, beside the model.
        folder: the bundle's.
    """
    return {
        "ociVersion": "1.0.2",
        "process": _process(spec, host, seen),
        "root": {"path": "root", "readonly": True},
        "mounts": _mounts(spec, seen),
        "hooks": {"createContainer": [_no_namespaces(folder / "root")]},
        "linux": _linux(spec.limits, host, folder.name),
    }


def _process(spec: Spec, host: Host, seen: view.View) -> dict[str, Any]:
    packages = ":".join(str(path) for path in seen.packages)
    environ = {**ENVIRON, "PYTHONPATH": packages, **spec.environ}
    return {
        "terminal": False,
        "user": {"uid": host.identity.inside, "gid": host.identity.inside},
        "args": [sys.executable, "-m", spec.module, *spec.arguments_at(SOCKET, view.MODEL)],
        "env": [f"{key}={value}" for key, value in environ.items()],
        "cwd": "/",
        "capabilities": {},
        "noNewPrivileges": True,
        "oomScoreAdj": OOM_SCORE,
        "rlimits": [
            {"type": f"RLIMIT_{name}", "hard": limit, "soft": limit}
            for name, limit in rlimits(spec.limits, host).items()
        ],
    }


def rlimits(limits: Limits, host: Host) -> dict[str, int]:
    """Returns the resource limits; those of memory and processes only for want of cgroups."""
    found = {"NOFILE": FILES, "CORE": 0, "FSIZE": limits.scratch_bytes}
    if not host.delegation.version:
        if limits.memory_bytes is not None:
            found["DATA"] = limits.memory_bytes
        if host.kernel >= OWN_PROCESS_COUNT:
            found["NPROC"] = limits.pids
    return found


def _mounts(spec: Spec, seen: view.View) -> list[dict[str, Any]]:
    scratch = ["nosuid", "nodev", "noexec", "mode=1777", f"size={spec.limits.scratch_bytes}"]
    own = [
        _mount("/proc", "proc", ["nosuid", "nodev", "noexec"]),
        _mount("/dev", "tmpfs", ["nosuid", "noexec", "mode=755", "size=65536", "ro"]),
        _mount(str(view.SCRATCH), "tmpfs", [*scratch, "nr_inodes=4096"]),
    ]
    shown = [_bind(path, path) for path in seen.folders]
    if spec.model is not None:
        shown.append(_bind(spec.model.absolute(), view.MODEL))
    return own + shown


def _mount(at: str, kind: str, options: list[str]) -> dict[str, Any]:
    return {"destination": at, "type": kind, "source": kind, "options": options}


def _bind(source: Path, at: Path) -> dict[str, Any]:
    # Recursive, since a mount below one of them must neither be missing nor be writable.
    options = ["rbind", "rro", "rnosuid", "rnodev"]
    return {"destination": str(at), "type": "bind", "source": str(source), "options": options}


def _no_namespaces(root: Path) -> dict[str, Any]:
    """Returns the hook that ends the making of user namespaces, as the container's uid 0.

    It runs before the root folder is entered, when the container's /proc is mounted, and writable.
    """
    script = 'echo 0 > "$0"/proc/sys/user/max_user_namespaces'
    return {"path": "/bin/sh", "args": ["sh", "-c", script, str(root)], "timeout": 5}


def _linux(limits: Limits, host: Host, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in NAMESPACES],
        "uidMappings": identity.mappings(host.identity.maps),
        "gidMappings": identity.mappings(host.identity.group_maps),
        "maskedPaths": list(MASKED),
        "readonlyPaths": list(READ_ONLY),
        "seccomp": host.profile,
    }
    if host.delegation.version:
        # Without a leading slash it is looked for from the daemon's own.
        found["cgroupsPath"] = name
        found["resources"] = host.delegation.resources(limits)
    return found
