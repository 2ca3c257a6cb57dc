"""The ``process`` runtime: a worker is a plain child process of the daemon.

Invariants:
- It leads a session and process group of its own: a terminal's Ctrl-C reaches the daemon alone, and
  ``delete`` ends whatever the worker may have started.
- It does not outlive the daemon, however that ends (``launch`` asks the kernel for it).
- It is reaped once, and its number is signalled only while it cannot have been given away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal as signals
import subprocess
import sys

from edged.containers.logs import Output
from edged.containers.runtime import Container, Spec, State
from edged.errors import DeviceError

DELETE_LIMIT = 5.0  # seconds from SIGKILL to the end; a process in a broken driver may never end
# They are between the service manager and the daemon.
WITHHELD = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")


class ProcessRuntime:
    """Runs workers without any isolation but that of processes."""

    name = "process"

    def create(self, spec: Spec) -> Container:
        """Returns a worker that does not run yet."""
        return ProcessContainer(spec)

    async def reclaim(self) -> None:
        """Does nothing: a worker dies with its daemon."""

    def describe(self) -> str:
        """Returns what shuts a worker in."""
        return "none: the worker is a child process with the daemon's rights"


class ProcessContainer:
    """One child process."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._output: Output | None = None
        self._stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        """The process id, 0 before ``start``."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Runs the process.

        Raises:
            DeviceError: there is no memory, or no process to be had.
        """
        self._start()

    def _start(self) -> None:
        environ = {k: v for k, v in os.environ.items() if k not in WITHHELD}
        launch = [sys.executable, "-m", "edged.containers.launch", str(os.getpid())]
        spec = self._spec
        try:
            self._output = spec.logs.open(spec.name) if spec.logs else None
            # Not ours: the daemon's own output may be read by a program.
            written = self._output.descriptor if self._output else sys.stderr.fileno()
            self._process = subprocess.Popen(
                [*launch, spec.module, *spec.arguments_at(spec.socket, spec.model)],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                pass_fds=() if spec.socket is None else (spec.socket,),
                env={**environ, **spec.environ},
                start_new_session=True,
            )
        except OSError as exc:
            raise DeviceError(f"cannot start {spec.module}: {exc.strerror}") from exc
        finally:
            if self._output is not None:
                self._output.handed_over()
        descriptor = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(descriptor, self._reap, descriptor)

    def state(self) -> State:
        """Returns where the process is."""
        if self._process is None:
            return State.CREATED
        return State.STOPPED if self._stopped.done() else State.RUNNING

    def kill(self, signal: int) -> None:
        """Sends a signal to the process alone; does nothing if it does not run."""
        if self._process is not None and self.state() is State.RUNNING:
            self._process.send_signal(signal)

    async def wait(self) -> int:
        """Returns the exit status, negative for a signal, when the process has ended."""
        return await asyncio.shield(self._stopped)

    def exceeded(self) -> str:
        """Returns nothing: it has no limits."""
        return ""

    async def last_words(self) -> str:
        """Returns the last line that it wrote, if its logs are kept."""
        return await self._output.last_words() if self._output is not None else ""

    async def delete(self) -> None:
        """Kills the process and its group, and waits for its end.

        Raises:
            DeviceError: it did not end within ``DELETE_LIMIT``.
        """
        if self.state() is State.RUNNING:
            self._kill_group()
            try:
                await asyncio.wait_for(self.wait(), DELETE_LIMIT)
            except asyncio.TimeoutError as exc:
                raise DeviceError(
                    f"cannot end process {self.pid}: it is still there {DELETE_LIMIT:g} s after "
                    "SIGKILL"
                ) from exc
        if self._output is not None:
            await self._output.finish()

    def _reap(self, descriptor: int) -> None:
        """Runs when the process has ended, before its number is free again."""
        process = self._process
        if (
            process is None
            or os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
        ):
            return
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        self._kill_group()
        self._stopped.set_result(process.wait())

    def _kill_group(self) -> None:
        # Nothing may be left of it but the process itself, which is waiting to be reaped.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signals.SIGKILL)
