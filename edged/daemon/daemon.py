"""The composition root: builds the daemon's parts, starts them in order, stops them in reverse.

Order of start: folders and locks, the model's worker, and only then grpc, since importing it takes
as long as the worker needs to load; READY once the sockets accept calls. Requests that come before
the model is loaded wait for it.

Order of stop: new requests are refused, those accepted are answered within ``STOP_LIMIT``, then the
worker ends, and the locks go last.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edged import config as configuration
from edged.config import Config
from edged.daemon import status
from edged.daemon.parts import compose
from edged.deploy import check
from edged.deploy.history import Record
from edged.deploy.hold import Hold
from edged.deploy.quarantine import Entry
from edged.deploy.types import Options, Progress
from edged.errors import StoreError
from edged.model.condition import Condition
from edged.osutil import atomic, lock, systemd

if TYPE_CHECKING:
    from edged import messages
    from edged.config.mqtt import Mqtt
    from edged.daemon.remote import Remote
    from edged.rpc.server import Server

logger = logging.getLogger(__name__)

STOP_LIMIT = 10.0  # seconds for the requests that were accepted
CONTROL_STOP_LIMIT = 1.0
FAULTS_LIMIT = 20  # of the store that are told


def run(config: Config, module: str = "edged.worker") -> None:
    """Runs the daemon until SIGTERM or SIGINT.

    Args:
        config: where, and with what.
        module: the worker's program.

    Raises:
        ConfigError: it cannot listen where it was told to.
        DeviceError: another daemon has the NPU.
        StoreError: the folders cannot be used.
    """
    asyncio.run(Daemon(config, module).run())


@dataclass
class Servers:
    """What listens."""

    data: Server
    control: Server


class Daemon:
    """One daemon, for one ``run``."""

    def __init__(self, config: Config, module: str) -> None:
        self._config = config
        self._module = module
        self._began = time.monotonic()
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._store_faults: list[str] = []
        self._remote: Remote | None = None

    async def run(self) -> None:
        """Runs until a signal; see ``run``."""
        with contextlib.ExitStack() as stack:
            self._take(stack)
            self._parts = parts = compose(self._config, self._module)
            parts.service.on_change.append(_tell)
            await parts.runtime.reclaim()
            self._stop_on_signals()
            self._begin()
            try:
                self._servers = await self._listen()
                self._write_facts()
                stack.callback(self._remove_facts)
                self._say_ready()
                if self._config.mqtt is not None:
                    self._start_task("mqtt", self._run_remote(self._config.mqtt))
                # What is loaded stays: the collector need not look at it again during requests.
                gc.collect()
                gc.freeze()
                await self._stop.wait()
                systemd.notify(STOPPING="1")
                logger.info("stopping", extra={"event": "stopping"})
                await self._stop_serving()
            finally:
                await self._end()
        if self._failure is not None:
            raise self._failure

    def _say_ready(self) -> None:
        fields = {"event": "ready", "listen": ",".join(self._servers.data.addresses)}
        logger.info("ready after %.0f ms", (time.monotonic() - self._began) * 1e3, extra=fields)
        systemd.notify(READY="1", STATUS=_sentence(self._parts.service.condition))

    # -- the parts

    def _take(self, stack: contextlib.ExitStack) -> None:
        """Makes the folders and takes the locks: of the NPU, and of the store."""
        config = self._config
        for folder in (config.state_dir, config.run_dir):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise StoreError(f"cannot make folder {folder}: {exc.strerror}") from exc
        for path, what in (
            (config.run_dir / "fpga0.lock", "the NPU"),
            (config.state_dir / "edged.lock", f"the store {config.state_dir}"),
        ):
            taken = lock.acquire(path, what=what, owner="edged run")
            stack.callback(taken.release)

    def _begin(self) -> None:
        """Starts the current model, and whoever changes it after that."""
        parts, store = self._parts, self._parts.store
        begun = self._start_task("begin", parts.service.begin(store.current, store.previous))
        self._reconciling = self._start_task(
            "reconcile", parts.reconciler.run(begun, self._examine_store)
        )
        interval = systemd.watchdog_interval()
        if interval is not None:
            self._start_task("watchdog", _watchdog(interval))

    async def _run_remote(self, settings: Mqtt) -> None:
        """Keeps the link to a controller; it begins when everything that serves has."""
        # In a thread, as the imports take a while and requests are served already.
        remote = await asyncio.to_thread(importlib.import_module, "edged.daemon.remote")
        self._remote = remote.Remote(self._parts, settings)
        await self._remote.run()

    async def _examine_store(self) -> None:
        self._store_faults = await asyncio.to_thread(self._check_store)

    def _check_store(self) -> list[str]:
        found: list[str] = []
        for fault in check.faults(self._config.state_dir):
            if len(found) == FAULTS_LIMIT or self._stop.is_set():
                break
            logger.error("store: %s", fault, extra={"event": "store_fault"})
            found.append(fault)
        return found

    def _start_task(self, name: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(self._note_failure)
        self._tasks.append(task)
        return task

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        """Stops the daemon on a fault of its own: whoever started it can start it again."""
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("%s failed", task.get_name(), exc_info=error)
            self._failure = error
            self._stop.set()

    async def _listen(self) -> Servers:
        await asyncio.sleep(0)  # lets the worker's process start; what follows blocks for a while
        from edged.rpc import control, metadata, predict
        from edged.rpc import status as model_status
        from edged.rpc.health import Health
        from edged.rpc.server import CONTROL_LIMIT, Server

        health, known, strict = Health(), self._parts.catalogue, self._config.strict

        def tell_health(now: Condition) -> None:
            model = known.model()
            health.set(serving=now.serving, model=model.name if model else "")

        self._parts.service.on_change.append(tell_health)
        tell_health(self._parts.service.condition)
        services = [
            predict.handlers(self._parts.front),
            metadata.handlers(known, strict=strict),
            model_status.handlers(known, strict=strict),
            health.handlers(),
        ]
        servers = Servers(
            Server(services),
            Server([control.handlers(self)], CONTROL_LIMIT),
        )
        config = self._config
        servers.data.listen_tcp(*configuration.split_address(config.listen))
        # Whoever may open a connection to loopback may open this one too.
        with _umask(0o111):
            servers.data.listen_unix(config.grpc_socket)
        # Operators only: the owner and the group of the folder.
        with _umask(0o117):
            servers.control.listen_unix(config.control_socket)
        await servers.data.start()
        await servers.control.start()
        return servers

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    # -- the end

    async def _stop_serving(self) -> None:
        """Refuses what is new, answers what was accepted."""
        self._parts.front.shut()
        # First, since a swap that is given up lets the requests it parked through to the old model.
        await _cancel(self._reconciling)
        await self._servers.data.stop(STOP_LIMIT)
        await self._servers.control.stop(CONTROL_STOP_LIMIT)

    async def _end(self) -> None:
        await _cancel(*self._tasks)
        await self._parts.service.end()
        logger.info("stopped", extra={"event": "stopped"})

    # -- facts for callers on this host

    def _write_facts(self) -> None:
        """Says where to reach us: with port 0 nobody else knows."""
        facts = {
            "pid": os.getpid(),
            "listen": self._servers.data.addresses,
            "control": f"unix:{self._config.control_socket}",
        }
        path = self._config.run_dir / "daemon.json"
        atomic.write_file(path, json.dumps(facts, indent=2).encode() + b"\n")

    def _remove_facts(self) -> None:
        (self._config.run_dir / "daemon.json").unlink(missing_ok=True)

    # -- edged.rpc.control.Operations

    async def deploy(self, reference: str, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment and yields its progress to the end."""
        async for progress in self._parts.reconciler.deploy(reference, options).watch():
            yield progress

    async def rollback(self, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment of the previous model and yields its progress to the end."""
        async for progress in self._parts.reconciler.rollback(options).watch():
            yield progress

    async def undeploy(self, options: Options) -> str:
        """Takes the model out of service; returns its digest, empty if there was none."""
        return await self._parts.reconciler.undeploy(options)

    def history(self) -> list[Record]:
        """Returns what was done, oldest first."""
        return self._parts.records.history.records

    def hold(self, owner: str, reason: str, ttl: float, *, force: bool) -> Hold:
        """Refuses deployments for ``ttl`` seconds."""
        taken = self._parts.records.holds.take(owner, reason, ttl, force=force)
        self._changed()
        return taken

    def release(self) -> Hold | None:
        """Ends the hold; returns it, None if there was none."""
        released = self._parts.records.holds.release()
        self._changed()
        return released

    def quarantine(self, clear: str) -> list[Entry]:
        """Returns the images in quarantine, or those that it takes out."""
        kept = self._parts.records.quarantine
        if not clear:
            return kept.entries
        cleared = kept.clear(clear)
        self._changed()
        return cleared

    def _changed(self) -> None:
        if self._remote is not None:
            self._remote.changed()

    def status(self) -> messages.StatusReply:
        """Returns what the daemon is doing."""
        return status.reply(
            self._parts,
            uptime=time.monotonic() - self._began,
            listen=self._servers.data.addresses,
            stopping=self._stop.is_set(),
            faults=self._store_faults,
            remote=self._remote,
        )


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _watchdog(interval: float) -> None:
    while True:
        systemd.notify(WATCHDOG="1")
        await asyncio.sleep(interval)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Makes files with this mask; other threads are not running yet."""
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def _tell(condition: Condition) -> None:
    logger.info("%s", _sentence(condition), extra={"event": "state"})
    systemd.notify(STATUS=_sentence(condition))


def _sentence(condition: Condition) -> str:
    return condition.state + (f": {condition.reason}" if condition.reason else "")
