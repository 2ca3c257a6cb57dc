"""A world of a test's own: whatever it does not say is as on a device where all is well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edged import messages
from edged.deploy.clock import Moment
from edged.doctor import mounts, reach
from edged.doctor.check import Finding, Level
from edged.doctor.skip import SkipError
from edged.doctor.world import Room, World
from edged.errors import RequestError

NOW = 1_795_000_000.0  # 2026-11-18
MIB = 1 << 20


class Made(World):
    """A device in a folder.

    Args:
        folder: gets ``state``, ``run`` and ``keys``.
        toml: the configuration file's text, if there is one.
        environ: variables.
        facts: by the method's name, what it answers; an exception is raised instead.
    """

    def __init__(
        self,
        folder: Path,
        toml: str | None = None,
        environ: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> None:
        self.folder, self.facts = folder, facts
        file = None
        if toml is not None:
            file = folder / "edged.toml"
            file.write_text(toml)
            file.chmod(0o640)
        for name in ("state", "run"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name).chmod(0o755)
        flags = {f"{name}_dir": str(folder / name) for name in ("state", "run", "keys")}
        super().__init__(flags, file, {"HOME": str(folder), **(environ or {})})

    def _fact(self, name: str, usual: Any) -> Any:
        value = self.facts.get(name, usual)
        if isinstance(value, Exception):
            raise value
        return value

    def now(self) -> Moment:
        fact: Moment = self._fact("now", Moment(NOW, "0123456789ab", 7200.0))
        return fact

    def synchronised(self) -> bool | None:
        fact: bool | None = self._fact("synchronised", True)
        return fact

    def ask_status(self) -> messages.StatusReply:
        fact: messages.StatusReply
        fact = self._fact("status", RequestError("UNAVAILABLE", "cannot reach edged"))
        return fact

    def self_test(self) -> messages.SelfTestReply:
        fact: messages.SelfTestReply = self._fact("self_test", None)
        return fact

    def health(self, address: str) -> str:
        return str(self._fact("health", "SERVING"))

    def lock_owner(self, path: Path) -> str | None:
        fact: str | None = self._fact("lock_owner", None)
        return fact

    def room(self, folder: Path) -> Room:
        fact: Room = self._fact("room", Room(100_000 * MIB, 200_000 * MIB, 1_000_000))
        return fact

    def mount(self, folder: Path) -> mounts.Mount | None:
        fact: mounts.Mount | None = self._fact("mount", mounts.Mount(Path("/"), "ext4", False))
        return fact

    def reach(
        self, host: str, port: int, tls: reach.Tls | None, limit: float = reach.LIMIT
    ) -> reach.Reached:
        fact: reach.Reached = self._fact("reach", reach.Reached("ok", f"{host}:{port} answers"))
        return fact

    def can_bind(self, host: str, port: int) -> bool:
        return bool(self._fact("can_bind", True))

    def peer_certificate(self, host: str, port: int) -> bytes:
        fact: bytes = self._fact("peer_certificate", b"")
        return fact

    def memory_available(self) -> int | None:
        fact: int | None = self._fact("memory_available", 8192 * MIB)
        return fact

    def limits(self, pid: int | None) -> Mapping[str, int]:
        fact: Mapping[str, int] = self._fact("limits", {"nofile": 4096, "nproc": -1})
        return fact

    def processors(self) -> int:
        return int(self._fact("processors", 4))

    def kernels(self) -> Sequence[str]:
        fact: Sequence[str] = self._fact("kernels", ["avx2", "portable"])
        return fact

    def euid(self) -> int:
        return int(self._fact("euid", 0))

    def unit(self) -> Mapping[str, str]:
        fact: Mapping[str, str] = self._fact("unit", SkipError("systemd does not run here"))
        return fact


def status(**fields: Any) -> messages.StatusReply:
    """The status of a daemon that serves."""
    usual: dict[str, Any] = {
        "version": "0.1.0",
        "pid": 77,
        "uptime_us": 3_600_000_000,
        "state": "serving",
        "listen": ["127.0.0.1:50051"],
        "model": messages.Model(digest="sha256:" + "0" * 64, name="m", worker_pid=78),
    }
    return messages.StatusReply(**{**usual, **fields})


Look = Callable[[World], Finding | Sequence[Finding]]


def look(check: Look, world: World) -> list[Finding]:
    """What a check finds; what it skips is a finding, too."""
    try:
        found = check(world)
    except SkipError as exc:
        return [Finding(Level.SKIPPED, str(exc))]
    return [found] if isinstance(found, Finding) else list(found)


def said(check: Look, world: World) -> tuple[str, str]:
    """The level and the text of the worst finding; every bad one must say what to do."""
    order = list(Level)
    worst = max(look(check, world), key=lambda each: order.index(each.level))
    assert bool(worst.fix) == (worst.level in (Level.WARNING, Level.ERROR)), worst
    return worst.level.value, f"{worst.reason} -> {worst.fix}"
