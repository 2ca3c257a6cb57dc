"""What the daemon asks of whatever runs a worker, in the words of the OCI runtime specification."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class State(enum.Enum):
    """Where a container is in its life; it only moves down."""

    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Spec:
    """What is to run.

    Attributes:
        module: the Python module, run with the daemon's own interpreter.
        arguments: for it.
        descriptors: open files handed in under the same numbers.
        environ: variables, beside those the runtime passes on.
    """

    module: str
    arguments: Sequence[str]
    descriptors: Sequence[int] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


class Container(Protocol):
    """One worker. Not safe between threads; everything is called on the event loop's."""

    @property
    def pid(self) -> int:
        """The worker's process id on the host, 0 before ``start``."""

    def start(self) -> None:
        """Runs it.

        Raises:
            DeviceError: it could not be run.
        """

    def state(self) -> State:
        """Returns where it is."""

    def kill(self, signal: int) -> None:
        """Sends a signal to the worker; does nothing once it has stopped."""

    async def wait(self) -> int:
        """Returns its exit status, negative for a signal, when it has stopped."""

    async def delete(self) -> None:
        """Ends it with all its children, if it is still there, and frees what it had."""


class Runtime(Protocol):
    """Makes containers."""

    name: str

    def create(self, spec: Spec) -> Container:
        """Returns a container that does not run yet."""
