"""One container of ``runc``.

Invariants:
- The daemon adopts the container's first process (it is a subreaper, see ``runtime``), so that its
  number stays its own until it has been reaped, and its exit status is known.
- Whatever ``start`` has come to, ``delete`` leaves nothing: no process, no cgroup, no folder.

When the first process of a container ends, the kernel ends all others in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal as signals
import sys

from edged.containers.logs import Output
from edged.containers.runc import cgroups, children
from edged.containers.runc.bundle import SOCKET, Bundle, Host
from edged.containers.runc.command import Runc
from edged.containers.runtime import MIB, Spec, State
from edged.errors import DeviceError, EdgedError

logger = logging.getLogger(__name__)

DELETE_LIMIT = 5.0  # seconds from SIGKILL to the end; a process in a broken driver may never end
NO_STATUS = -int(signals.SIGKILL)  # said of a process that somebody else has reaped


class RuncContainer:
    """A worker in a container.

    Args:
        runc: the program.
        bundle: not written yet.
        spec: what is to run.
        host: this one.
    """

    def __init__(self, runc: Runc, bundle: Bundle, spec: Spec, host: Host) -> None:
        self._runc = runc
        self._bundle = bundle
        self._spec = spec
        self._host = host
        self._pid = 0
        self._began = False
        self._deleting = asyncio.Lock()
        self._exceeded = ""
        self._output: Output | None = None
        self._stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        """The worker's process id on the host, 0 before ``start``."""
        return self._pid

    async def start(self) -> None:
        """Runs it.

        Raises:
            DeviceError: with runc's reason.
        """
        bundle, spec = self._bundle, self._spec
        self._began = True
        try:
            bundle.write()
            self._output = spec.logs.open(spec.name) if spec.logs else None
            written = self._output.descriptor if self._output else sys.stderr.fileno()
            files = {1: written, 2: written}
            if spec.socket is not None:
                files[SOCKET] = spec.socket
            await self._runc.run(
                bundle.name, bundle.folder, bundle.pid_file, bundle.log_file, files
            )
            self._adopt(bundle.read_pid())
        except (OSError, ValueError) as exc:
            raise DeviceError(f"cannot run container {bundle.name}: {exc}") from exc
        finally:
            if self._output is not None:
                self._output.handed_over()

    def state(self) -> State:
        """Returns where it is."""
        if not self._pid:
            return State.CREATED
        return State.STOPPED if self._stopped.done() else State.RUNNING

    def kill(self, signal: int) -> None:
        """Sends a signal to the worker; does nothing once it has stopped."""
        if self.state() is State.RUNNING:
            os.kill(self._pid, signal)

    async def wait(self) -> int:
        """Returns its exit status, negative for a signal, when it has stopped."""
        return await asyncio.shield(self._stopped)

    def exceeded(self) -> str:
        """Returns which of its limits the worker was ended for, empty if for none."""
        return self._exceeded

    async def last_words(self) -> str:
        """Returns the last line that it wrote, if its logs are kept."""
        return await self._output.last_words() if self._output is not None else ""

    async def delete(self) -> None:
        """Ends it and removes its cgroups and its folder.

        Raises:
            DeviceError: something of it is left; ``Runtime.reclaim`` tries again.
        """
        async with self._deleting:
            if self._began:
                await self._delete()

    async def _delete(self) -> None:
        if self.state() is State.RUNNING:
            self.kill(signals.SIGKILL)
            try:
                await asyncio.wait_for(self.wait(), DELETE_LIMIT)
            except asyncio.TimeoutError as exc:
                raise DeviceError(
                    f"cannot end container {self._bundle.name}: process {self.pid} is still there "
                    f"{DELETE_LIMIT:g} s after SIGKILL"
                ) from exc
        if self._output is not None:
            await self._output.finish()
        if self._bundle.folder.exists():
            await remove(self._runc, self._bundle, self._host)

    def _adopt(self, pid: int) -> None:
        descriptor = os.pidfd_open(pid)
        self._pid = pid
        children.watched.add(pid)
        asyncio.get_running_loop().add_reader(descriptor, self._reap, descriptor)

    def _reap(self, descriptor: int) -> None:
        """Runs when the process has ended, before its number is free again."""
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        if self._host.delegation.out_of_memory(self._bundle.name):
            limit = self._spec.limits.memory_bytes or 0
            self._exceeded = f"it needed more than {limit / MIB:.0f} MiB of memory"
            fields = {"event": "out_of_memory", "pid": self._pid}
            logger.error("the model's process was ended: %s", self._exceeded, extra=fields)
        status = NO_STATUS
        with contextlib.suppress(ChildProcessError):
            status = children.reap(self._pid)
        self._stopped.set_result(status)


async def remove(runc: Runc, bundle: Bundle, host: Host) -> None:
    """Removes all that there is of a container, whatever state it was left in.

    Raises:
        DeviceError: something of it is left.
    """
    failure: EdgedError | None = None
    try:
        await runc.delete(bundle.name, bundle.log_file, force=True)
    except DeviceError as exc:
        failure = exc
    try:
        for folder in host.delegation.folders(bundle.name):
            await asyncio.to_thread(cgroups.remove, folder)
        if failure is None:
            bundle.remove()
    except OSError as exc:
        raise DeviceError(f"cannot remove container {bundle.name}: {exc}") from exc
    if failure is not None:
        raise failure
