"""What the daemon asks of whatever runs a worker, in the words of the OCI runtime specification."""

from __future__ import annotations

import enum
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edged.containers.logs import Logs

MIB = 1 << 20
NAME_LIMIT = 32


class State(enum.Enum):
    """Where a container is in its life; it only moves down."""

    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Limits:
    """What a worker may use at most; a plain process is held to none of it.

    Attributes:
        memory_bytes: main memory and swap together; None for no limit.
        cpus: processor time a second, in seconds; None for no limit.
        pids: processes and threads.
        scratch_bytes: of files in its ``/tmp``, which is memory.
    """

    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int = 256
    scratch_bytes: int = 64 * MIB


@dataclass(frozen=True)
class Spec:
    """What is to run.

    Attributes:
        module: the Python module, run with the daemon's own interpreter.
        name: of the container, which no other of this daemon's has had; letters, digits, hyphens.
        arguments: for the module.
        socket: an open file to hand in; the module is told its number there as ``--fd``.
        model: a folder to read; the module is told its path there as ``--model``.
        environ: variables, beside those the runtime passes on.
        limits: what it may use.
        logs: keeps what it writes; None for the daemon's standard error.
    """

    module: str
    name: str = field(default_factory=lambda: new_name("worker"))
    arguments: Sequence[str] = ()
    socket: int | None = None
    model: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    logs: Logs | None = None

    def arguments_at(self, socket: int | None, model: Path | None) -> list[str]:
        """Returns the module's arguments where the socket and the model have this number and path.

        Args:
            socket: used if the module is given one.
            model: likewise.
        """
        told = ["--fd", str(socket)] if self.socket is not None else []
        told += ["--model", str(model)] if self.model is not None else []
        return [*self.arguments, *told]


def half_of_memory() -> int:
    """Returns half of the machine's main memory, in bytes: during a swap there are two workers."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def new_name(what: str) -> str:
    """Returns a container's name that has not been there, for ``what`` it is made for."""
    plain = "".join(c for c in what if c.isascii() and c.isalnum())
    return f"edged-{plain[:NAME_LIMIT]}-{secrets.token_hex(4)}"


class Container(Protocol):
    """One worker. Not safe between threads; everything is called on the event loop's."""

    @property
    def pid(self) -> int:
        """The worker's process id on the host, 0 before ``start``."""

    async def start(self) -> None:
        """Runs it. Whoever calls this calls ``delete`` too, also after an error.

        Raises:
            DeviceError: it could not be run.
        """

    def state(self) -> State:
        """Returns where it is."""

    def kill(self, signal: int) -> None:
        """Sends a signal to the worker; does nothing once it has stopped."""

    async def wait(self) -> int:
        """Returns its exit status, negative for a signal, when it has stopped."""

    def exceeded(self) -> str:
        """Returns which of its limits the worker was ended for, empty if for none; once stopped."""

    async def last_words(self) -> str:
        """Returns the last line that it wrote, if its logs are kept; once stopped."""

    async def delete(self) -> None:
        """Ends it with all its children, if it is still there, and frees what it had.

        Raises:
            DeviceError: something of it is left.
        """


class Runtime(Protocol):
    """Makes containers."""

    name: str

    def create(self, spec: Spec) -> Container:
        """Returns a container that does not run yet."""

    async def reclaim(self) -> None:
        """Removes what a daemon that was killed has left behind, before anything runs.

        Raises:
            DeviceError: nothing could be run here.
        """

    def describe(self) -> str:
        """Returns what shuts a worker in, and what does not, in one line for people."""
