"""Makes containers with ``runc``, rootless or as root, and clears away what a killed daemon left.

Invariants:
- Everything of a container has its name: its folder under RUN/containers, its state under
  RUN/runc (``runc --root RUN/runc list`` shows it), its cgroups. The folder is made first and
  removed last, so that what a daemon left when it was killed can be found by the folders alone.
- This process becomes a subreaper: the kernel gives it the containers' first processes when the
  ``runc`` that made them has ended.

``runc`` as an ordinary user is rootless. As root it does what ``runc-root`` does: the worker is an
ordinary user of the host, and its root in its user namespace is another one. ``describe`` says so.
"""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path

from edged.containers.runc import command, view
from edged.containers.runc.bundle import Bundle, look
from edged.containers.runc.container import RuncContainer, remove
from edged.containers.runtime import MIB, Limits, Spec
from edged.errors import ConfigError, DeviceError

logger = logging.getLogger(__name__)

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class RuncRuntime:
    """Runs workers in containers.

    Args:
        run: the daemon's folder for what does not outlive a boot.
        limits: of a worker, for ``describe``.
        root: insist on being root, as ``runc-root`` does.

    Raises:
        ConfigError: runc, its seccomp profile or the rights are missing; a folder is in the way.
    """

    def __init__(self, run: Path, limits: Limits | None = None, *, root: bool = False) -> None:
        if root and os.geteuid() != 0:
            raise ConfigError(
                "cannot use runtime 'runc-root': edged does not run as root; use runtime 'runc'"
            )
        self.name = "runc-root" if root else "runc"
        self._limits = limits or Limits()
        self._folder = run / "containers"
        self._host = look()
        view.look("edged")  # a Python that cannot be shown is said now, not with the first model
        self._views: dict[str, view.View] = {}  # by the worker's module
        self._runc = command.Runc(
            command.program(), run / "runc", ignore_cgroups=not self._host.delegation.version
        )
        if not self._host.identity.rootless:
            check_passable(run)

    def create(self, spec: Spec) -> RuncContainer:
        """Returns a container that does not run yet.

        Raises:
            ConfigError: Python is where a container's own files are.
        """
        if spec.module not in self._views:
            self._views[spec.module] = view.look(spec.module)
        bundle = Bundle(self._folder / spec.name, spec, self._views[spec.module], self._host)
        return RuncContainer(self._runc, bundle, spec, self._host)

    async def reclaim(self) -> None:
        """Ends and removes every container that there is; logs what cannot be removed.

        Raises:
            DeviceError: the folder for containers cannot be made.
        """
        try:
            self._folder.mkdir(mode=0o711, exist_ok=True)
            self._folder.chmod(0o711)
            left = sorted(self._folder.iterdir())
        except OSError as exc:
            raise DeviceError(f"cannot make folder {self._folder}: {exc.strerror}") from exc
        nothing = view.View((), {}, ())
        for folder in left:
            try:
                await remove(self._runc, Bundle(folder, Spec(""), nothing, self._host), self._host)
            except DeviceError as exc:
                # A process in a broken driver may never end. That is no reason not to serve.
                logger.error("%s", exc)  # noqa: TRY400
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def describe(self) -> str:
        """Returns who the worker is and what holds it to its limits."""
        who, limits = self._host.identity, self._limits
        user = (
            f"user {who.host} of the host" if not who.rootless else f"rootless, as user {who.host}"
        )
        by = "cgroups" if self._host.delegation.version else "rlimits, no cgroups are delegated"
        bounds = [f"{limits.pids} processes"]
        if limits.cpus is not None:
            by_cpus = "" if self._host.delegation.version else " (not enforced)"
            bounds.insert(0, f"{limits.cpus:g} CPUs{by_cpus}")
        if limits.memory_bytes is not None:
            bounds.insert(0, f"{limits.memory_bytes / MIB:.0f} MiB")
        return f"runc, {user}; {', '.join(bounds)} (by {by})"


def check_passable(folder: Path) -> None:
    """Refuses a folder that the containers' users could not pass through.

    Raises:
        ConfigError: names the folder whose rights are in the way.
    """
    for path in (folder, *folder.absolute().parents):
        if path.exists() and not path.stat().st_mode & 0o001:
            raise ConfigError(
                f"cannot run containers in {folder}: their users, which are not root, cannot pass "
                f"through {path}; chmod o+x {path}, or use another run_dir"
            )
