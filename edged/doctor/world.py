"""Everything a check may look at: the configuration, the daemon, the disk, the host.

Checks ask this class and nobody else, so that a test can show them any world by overriding what it
wants to be otherwise. What costs something is asked once. What is not there raises ``SkipError``,
so that a check need not care.
"""

from __future__ import annotations

import functools
import os
import resource
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edged import config as configuration
from edged.config import folders
from edged.config.settings import Config
from edged.deploy import device
from edged.deploy.clock import Clock, Moment
from edged.doctor import mounts, reach, unit
from edged.doctor.skip import SkipError
from edged.errors import ConfigError, EdgedError, RequestError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from edged import messages
    from edged.oci import LayoutFolder

CALL_LIMIT = 5.0  # seconds for the daemon to answer a glance
SELF_TEST_LIMIT = 20.0
_Value = TypeVar("_Value")
_Reply = TypeVar("_Reply", bound="Message")
_Method = Callable[["World"], _Value]


def _once(method: _Method[_Value]) -> _Method[_Value]:
    """Has a method answer once for each world, errors included, whichever thread asks first."""

    @functools.wraps(method)
    def ask(self: World) -> _Value:
        with self.lock_of(method.__name__):
            if method.__name__ not in self.known:
                try:
                    self.known[method.__name__] = method(self), None
                except (EdgedError, SkipError) as exc:
                    self.known[method.__name__] = None, exc
        value, failure = self.known[method.__name__]
        if failure is not None:
            raise failure
        return value  # type: ignore[no-any-return]

    return ask


@dataclass(frozen=True)
class Room:
    """What a file system has.

    Attributes:
        free: bytes for ordinary users.
        total: bytes.
        files: that can still be made; None where the file system does not count them.
    """

    free: int
    total: int
    files: int | None


class World:
    """This device.

    Args:
        flags: that say which daemon is meant: ``state_dir``, ``run_dir``; None where not given.
        file: the configuration file; None for the one the daemon would take.
        environ: variables.
    """

    def __init__(
        self,
        flags: Mapping[str, Any] | None = None,
        file: Path | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.environ = environ
        self.flags = dict(flags or {})
        self.known: dict[str, tuple[Any, Exception | None]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._file = file

    def lock_of(self, name: str) -> threading.Lock:
        """The lock of what is asked once."""
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())

    # -- the configuration

    @_once
    def load(self) -> Config:
        """The configuration as the daemon would read it.

        Raises:
            ConfigError: it cannot be used.
        """
        return configuration.load(self.flags, self.environ, self._file)

    @property
    def config(self) -> Config:
        """The configuration, for checks of something else."""
        try:
            return self.load()
        except ConfigError as exc:
            raise SkipError("the configuration cannot be used") from exc

    @property
    def config_file(self) -> Path | None:
        """Where the configuration is; None if there is no file."""
        named = self._file or self.environ.get("EDGED_CONFIG")
        path = Path(named) if named else folders.default(self.environ).config / "edged.toml"
        return path if path.exists() else None

    @property
    def run_dir(self) -> Path:
        """Where the daemon's sockets are, also if the configuration cannot be used."""
        try:
            return self.load().run_dir
        except ConfigError:
            given = self.flags.get("run_dir")
            return Path(given) if given else configuration.default_run_dir(self.environ)

    @property
    def state_dir(self) -> Path:
        """Where the store is, also if the configuration cannot be used."""
        try:
            return self.load().state_dir
        except ConfigError:
            given = self.flags.get("state_dir") or self.environ.get("EDGED_STATE_DIR")
            return Path(given) if given else folders.default(self.environ).state

    @property
    def state(self) -> Path:
        """The state folder, which exists."""
        folder = self.state_dir
        if not folder.is_dir():
            raise SkipError(f"edged has not run here yet: {folder} is not there")
        return folder

    @property
    def layout(self) -> LayoutFolder:
        """The store of images."""
        from edged.oci import LayoutFolder

        folder = self.state / "images"
        if not (folder / "oci-layout").exists():
            raise SkipError("no model was deployed yet")
        return LayoutFolder(folder)

    # -- clocks

    def now(self) -> Moment:
        """The time by both clocks."""
        return Clock().now()

    def synchronised(self) -> bool | None:
        """Whether the kernel's clock follows another; None where the kernel does not say."""
        return unit.clock_synchronised()

    # -- the daemon

    @_once
    def ask_status(self) -> messages.StatusReply:
        """The daemon's status.

        Raises:
            RequestError: it does not answer.
        """
        from edged import messages

        return self._control("Status", messages.StatusRequest(), messages.StatusReply, CALL_LIMIT)

    @property
    def status(self) -> messages.StatusReply:
        """The daemon's status, for checks of something else."""
        try:
            return self.ask_status()
        except RequestError as exc:
            raise SkipError("edged does not run, or does not answer") from exc

    @property
    def running(self) -> bool:
        """Whether the daemon answers."""
        try:
            self.ask_status()
        except RequestError:
            return False
        return True

    def self_test(self) -> messages.SelfTestReply:
        """Has the daemon run the golden test of the model in service.

        Raises:
            RequestError: it cannot.
        """
        from edged import messages

        request = messages.SelfTestRequest()
        return self._control("SelfTest", request, messages.SelfTestReply, SELF_TEST_LIMIT)

    def _control(self, method: str, request: Message, reply: type[_Reply], limit: float) -> _Reply:
        import grpc

        from edged.messages.calls import request_error

        target = f"unix:{self.run_dir.absolute() / 'control.sock'}"
        with grpc.insecure_channel(target) as channel:
            call = channel.unary_unary(
                f"/edged.control.v1.Control/{method}",
                type(request).SerializeToString,
                reply.FromString,
            )
            try:
                answer: _Reply = call(request, timeout=limit)
            except grpc.RpcError as exc:
                raise request_error(exc, target, f"cannot reach edged at {target}") from exc
        return answer

    def health(self, address: str) -> str:
        """What ``grpc.health.v1`` says at an address: SERVING or NOT_SERVING.

        Raises:
            RequestError: nobody answers there, or not as a health service.
        """
        return reach.health(address, CALL_LIMIT)

    def lock_owner(self, path: Path) -> str | None:
        """Who holds the lock in a file, in the holder's words; None if nobody does."""
        from edged.osutil import lock

        return lock.owner(path)

    # -- files

    def room(self, folder: Path) -> Room:
        """What the file system of a folder has."""
        usage, status = shutil.disk_usage(folder), os.statvfs(folder)
        return Room(usage.free, usage.total, status.f_favail if status.f_files else None)

    def mount(self, folder: Path) -> mounts.Mount | None:
        """Where a folder's files are kept; None where the host does not say."""
        return mounts.of(folder)

    # -- the network

    def reach(
        self, host: str, port: int, tls: reach.Tls | None, limit: float = reach.LIMIT
    ) -> reach.Reached:
        """How far one gets on the way to another machine."""
        return reach.reach(host, port, tls, limit)

    def peer_certificate(self, host: str, port: int) -> bytes:
        """The certificate that a port of our own shows, as DER.

        Raises:
            DeviceError: nobody speaks TLS there.
        """
        return reach.peer_certificate(host, port, CALL_LIMIT)

    def can_bind(self, host: str, port: int) -> bool:
        """Whether a TCP port of this host is free."""
        return reach.can_bind(host, port)

    # -- the host

    def memory_available(self) -> int | None:
        """Bytes that can be had without swapping; None where the host does not say."""
        return device.memory_available()

    def limits(self, pid: int | None) -> Mapping[str, int]:
        """Soft limits of a process, by their name in prlimit(1); of our own for None."""
        names = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
        own = os.getpid() if pid is None else pid
        return {name: resource.prlimit(own, kind)[0] for name, kind in names.items()}

    def processors(self) -> int:
        """How many processors this process may use."""
        return len(os.sched_getaffinity(0))

    def kernels(self) -> Sequence[str]:
        """The instruction sets that the emulator has kernels for on this CPU, best first."""
        from edged.npu import _native

        return list(_native.available())

    def euid(self) -> int:
        """Who asks."""
        return os.geteuid()

    def unit(self) -> Mapping[str, str]:
        """Properties of the service's unit, as systemctl(1) shows them.

        Raises:
            SkipError: there is no systemd here, or no such unit.
        """
        return unit.properties()
