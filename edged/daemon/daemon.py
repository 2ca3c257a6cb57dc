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
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

from edged import config as configuration
from edged.access.audit import Act
from edged.config import Config
from edged.daemon import status
from edged.daemon.parts import compose
from edged.daemon.supervision import Supervision
from edged.deploy import check, schema
from edged.deploy.store import Store
from edged.errors import EdgedError, StoreError
from edged.model.condition import Condition
from edged.oci.registries import Registries
from edged.osutil import atomic, lock, memory, systemd

if TYPE_CHECKING:
    from edged import messages
    from edged.config.mqtt import Mqtt
    from edged.daemon.remote import Remote
    from edged.rpc.edge import Edge

logger = logging.getLogger(__name__)

STOP_LIMIT = 10.0  # seconds for the requests that were accepted
CONTROL_STOP_LIMIT = 1.0
SLOW_LIMIT = 300.0  # for a step of start or stop on a slow disk, if the service manager asks
FAULTS_LIMIT = 20  # of the store that are told


def run(
    config: Config, module: str = "edged.worker", reread: Callable[[], Config] | None = None
) -> None:
    """Runs the daemon until SIGTERM or SIGINT.

    Args:
        config: where, and with what.
        module: the worker's program.
        reread: returns the configuration as it is when SIGHUP asks for a reload.

    Raises:
        ConfigError: it cannot listen where it was told to.
        DeviceError: another daemon has the NPU.
        StoreError: the folders cannot be used.
    """
    memory.share_heaps()
    asyncio.run(Daemon(config, module, reread or (lambda: config)).run())


class Daemon:
    """One daemon, for one ``run``."""

    def __init__(self, config: Config, module: str, reread: Callable[[], Config]) -> None:
        self._config = config
        self._module = module
        self._reread = reread
        self._began = time.monotonic()
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._failure: BaseException | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._store_faults: list[str] = []
        self._remote: Remote | None = None

    async def run(self) -> None:
        """Runs until a signal; see ``run``."""
        with contextlib.ExitStack() as stack:
            self._take(stack)
            opening = asyncio.to_thread(Store, self._config.state_dir)
            store = await systemd.extending(opening, SLOW_LIMIT)
            self._parts = parts = compose(self._config, self._module, store)
            self._supervision = Supervision(
                parts.service, parts.front.latencies, parts.heartbeat.trouble, [self._link_in_words]
            )
            await systemd.extending(parts.runtime.reclaim(), SLOW_LIMIT)
            self._listen_to_signals()
            self._begin()
            try:
                self._edge = await self._listen()
                self._write_facts()
                stack.callback(self._remove_facts)
                self._start_task("reload", self._reload_on_signal())
                self._say_ready()
                if self._config.mqtt.is_on:
                    self._start_task("mqtt", self._run_remote(self._config.mqtt))
                # What is loaded stays: the collector need not look at it again during requests.
                gc.collect()
                gc.freeze()
                gc.enable()
                # It counts what it finds, so that it looks at the rest again soon, not first when
                # that has grown to a quarter of what is frozen.
                gc.collect()
                await self._stop.wait()
                systemd.notify(STOPPING="1", STATUS="stopping")
                logger.info("stopping", extra={"event": "stopping"})
                await systemd.extending(self._stop_serving(), SLOW_LIMIT)
            finally:
                await systemd.extending(self._end(), SLOW_LIMIT)
        if self._failure is not None:
            raise self._failure

    def _say_ready(self) -> None:
        fields = {"event": "ready", "listen": ",".join(self._edge.addresses)}
        logger.info("ready after %.0f ms", (time.monotonic() - self._began) * 1e3, extra=fields)
        self._supervision.ready()

    # -- the parts

    def _take(self, stack: contextlib.ExitStack) -> None:
        """Makes the folders and takes the locks: of the NPU, and of the store."""
        config = self._config
        schema.check(config.state_dir)  # before even a lock's file is touched
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
        self._start_task("heartbeat", parts.heartbeat.run())
        self._start_task("supervision", self._supervision.run())

    async def _run_remote(self, settings: Mqtt) -> None:
        """Keeps the link to a controller; it begins when everything that serves has."""
        # In a thread, as the imports take a while and requests are served already.
        remote = await asyncio.to_thread(importlib.import_module, "edged.daemon.remote")
        self._remote = remote.Remote(self._parts, settings)
        await self._remote.run()

    def _link_in_words(self) -> str:
        return self._remote.sentence() if self._remote is not None else ""

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

    async def _listen(self) -> Edge:
        await asyncio.sleep(0)  # lets the worker's process start; what follows blocks for a while
        # Whoever fails to shake hands is no reason for a line of grpc's in the log.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        from edged.daemon.operations import Operations
        from edged.rpc import metadata, predict
        from edged.rpc import status as model_status
        from edged.rpc.edge import Edge
        from edged.rpc.health import Health

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
        edge = Edge(self._config, services, Operations(self._parts, self.status, self._changed))
        await edge.start()
        return edge

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)

    async def _reload_on_signal(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            systemd.reloading()
            try:
                outcome = self._take_over(await asyncio.to_thread(self._reread))
                logger.info("reload: %s", outcome, extra={"event": "reload"})
            except EdgedError as exc:
                outcome = f"refused, the settings of before stay: {exc}"
                logger.error("reload: %s", outcome, extra={"event": "reload_refused"})  # noqa: TRY400
            self._parts.recorder.note(Act("a signal", "SIGHUP", "reload", outcome=outcome))
            self._supervision.ready()

    def _take_over(self, new: Config) -> str:
        """Applies what can be without a restart; returns in words what was, and what was not."""
        change = configuration.between(self._config, new)
        registries = Registries.from_tables(change.applied.registries)
        self._edge.change(change.applied)
        self._parts.registries.adopt(registries)
        logging.getLogger("edged").setLevel(change.applied.log_level.upper())
        self._config = change.applied
        return str(change)

    # -- the end

    async def _stop_serving(self) -> None:
        """Refuses what is new, answers what was accepted."""
        self._parts.front.shut()
        # First, since a swap that is given up lets the requests it parked through to the old model.
        await _cancel(self._reconciling)
        await self._edge.stop(STOP_LIMIT, CONTROL_STOP_LIMIT)

    async def _end(self) -> None:
        await _cancel(*self._tasks)
        await self._parts.service.end()
        logger.info("stopped", extra={"event": "stopped"})

    # -- facts for callers on this host

    def _write_facts(self) -> None:
        """Says where to reach us: with port 0 nobody else knows."""
        facts = {
            "pid": os.getpid(),
            "listen": self._edge.addresses,
            "control": f"unix:{self._config.control_socket}",
            "incoming": str(self._parts.incoming) if self._parts.incoming else None,
        }
        path = self._config.run_dir / "daemon.json"
        atomic.write_file(path, json.dumps(facts, indent=2).encode() + b"\n")

    def _remove_facts(self) -> None:
        (self._config.run_dir / "daemon.json").unlink(missing_ok=True)

    # -- how it is

    def status(self) -> messages.StatusReply:
        """Returns what the daemon is doing."""
        return status.reply(
            self._parts,
            uptime=time.monotonic() - self._began,
            listen=self._edge.addresses,
            stopping=self._stop.is_set(),
            faults=self._store_faults,
            remote=self._remote,
        )

    def _changed(self) -> None:
        if self._remote is not None:
            self._remote.changed()


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
