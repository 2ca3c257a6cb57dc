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
import json
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING

from edged import config as configuration
from edged.access.audit import Act
from edged.config import Config
from edged.containers.logs import Logs
from edged.containers.process import ProcessRuntime
from edged.containers.runtime import MIB, Runtime, half_of_memory
from edged.containers.runtime import Limits as WorkerLimits
from edged.deploy import check, incoming, schema
from edged.deploy.admission import Trust
from edged.deploy.device import Npu
from edged.deploy.history import Record
from edged.deploy.hold import Hold
from edged.deploy.quarantine import Entry
from edged.deploy.reconciler import Reconciler
from edged.deploy.records import Records
from edged.deploy.store import Store
from edged.deploy.types import Limits as Times
from edged.deploy.types import Options, Progress
from edged.deploy.vouch import Voucher
from edged.errors import DeviceError, EdgedError, ModelError, RequestError, StoreError
from edged.model.catalogue import Catalogue
from edged.model.heartbeat import Heartbeat
from edged.model.process import Facts, ModelProcess, Worker
from edged.model.service import Condition, Service
from edged.oci.registries import Registries
from edged.osutil import atomic, lock, systemd
from edged.rpc.front import Front, Limits
from edged.supervision import Supervision

if TYPE_CHECKING:
    from edged import messages
    from edged.rpc.edge import Edge

logger = logging.getLogger(__name__)

STOP_LIMIT = 10.0  # seconds for the requests that were accepted
CONTROL_STOP_LIMIT = 1.0
SLOW_LIMIT = 300.0  # for a step of start or stop on a slow disk, if the service manager asks
FAULTS_LIMIT = 20  # of the store that are told
SELF_TEST_LIMIT = 15.0  # seconds, the request that runs included


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

    async def run(self) -> None:
        """Runs until a signal; see ``run``."""
        with contextlib.ExitStack() as stack:
            self._take(stack)
            folder = self._config.state_dir
            store = await systemd.extending(asyncio.to_thread(Store, folder), SLOW_LIMIT)
            self._compose(store)
            await systemd.extending(self._runtime.reclaim(), SLOW_LIMIT)
            self._stop_on_signals()
            self._begin()
            try:
                self._edge = await self._listen()
                self._write_facts()
                stack.callback(self._remove_facts)
                self._start_task("reload", self._reload_on_signal())
                self._say_ready()
                # What is loaded stays: the collector need not look at it again during requests.
                gc.collect()
                gc.freeze()
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

    def _compose(self, store: Store) -> None:
        config = self._config
        limits = _limits(config)
        self._runtime = runtime = _runtime(config, limits)
        worker = Worker(
            runtime,
            self._module,
            threads=config.threads,
            isa=config.isa,
            strict=config.strict,
            limits=limits,
            logs=Logs(config.state_dir / "logs"),
        )
        times = Times(window=config.window)
        trust = Trust(config.keys_dir if config.verify == "required" else None)
        if trust.keys_dir is None:
            logger.warning("signatures of images are not verified (verify = off)")
        self._store = store
        self._incoming = incoming.prepare(config.state_dir)
        self._records = Records(config.state_dir, Npu.named(config.sku), trust)
        self._front = Front(Limits(ahead=1))
        self._service = Service(self._front, worker, times)
        self._heartbeat = Heartbeat(self._service)
        self._supervision = Supervision(
            self._service, self._front.latencies, self._heartbeat.trouble
        )
        self._service.vouch = Voucher(store, trust)
        self._catalogue = Catalogue(self._service, lambda: store.current)
        self._registries = Registries.from_tables(config.registries)
        self._reconciler: Reconciler[ModelProcess] = Reconciler(
            self._service,
            store,
            self._records,
            times,
            registries=self._registries,
        )

    def _begin(self) -> None:
        """Starts the current model, and whoever changes it after that."""
        store = self._store
        begun = self._start_task("begin", self._service.begin(store.current, store.previous))
        self._reconciling = self._start_task(
            "reconcile", self._reconciler.run(begun, self._examine_store)
        )
        self._start_task("heartbeat", self._heartbeat.run())
        self._start_task("supervision", self._supervision.run())

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
        from edged.rpc import metadata, predict, status
        from edged.rpc.edge import Edge
        from edged.rpc.health import Health

        health, known, strict = Health(), self._catalogue, self._config.strict

        def tell_health(now: Condition) -> None:
            model = known.model()
            health.set(serving=now.serving, model=model.name if model else "")

        self._service.on_change.append(tell_health)
        tell_health(self._service.condition)
        services = [
            predict.handlers(self._front),
            metadata.handlers(known, strict=strict),
            status.handlers(known, strict=strict),
            health.handlers(),
        ]
        edge = Edge(self._config, services, self)
        await edge.start()
        return edge

    def _stop_on_signals(self) -> None:
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
            self._edge.recorded.note(Act("a signal", "SIGHUP", "reload", outcome=outcome))
            self._supervision.ready()

    def _take_over(self, new: Config) -> str:
        """Applies what can be without a restart; returns in words what was, and what was not."""
        change = configuration.between(self._config, new)
        registries = Registries.from_tables(change.applied.registries)
        self._edge.change(change.applied)
        self._registries.adopt(registries)
        logging.getLogger("edged").setLevel(change.applied.log_level.upper())
        self._config = change.applied
        return str(change)

    # -- the end

    async def _stop_serving(self) -> None:
        """Refuses what is new, answers what was accepted."""
        self._front.shut()
        # First, since a swap that is given up lets the requests it parked through to the old model.
        await _cancel(self._reconciling)
        await self._edge.stop(STOP_LIMIT, CONTROL_STOP_LIMIT)

    async def _end(self) -> None:
        await _cancel(*self._tasks)
        await self._service.end()
        logger.info("stopped", extra={"event": "stopped"})

    # -- facts for callers on this host

    def _write_facts(self) -> None:
        """Says where to reach us: with port 0 nobody else knows."""
        facts = {
            "pid": os.getpid(),
            "listen": self._edge.addresses,
            "control": f"unix:{self._config.control_socket}",
            "incoming": str(self._incoming) if self._incoming else None,
        }
        path = self._config.run_dir / "daemon.json"
        atomic.write_file(path, json.dumps(facts, indent=2).encode() + b"\n")

    def _remove_facts(self) -> None:
        (self._config.run_dir / "daemon.json").unlink(missing_ok=True)

    # -- edged.rpc.control.Operations

    async def deploy(self, reference: str, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment and yields its progress to the end."""
        async for progress in self._reconciler.deploy(reference, options).watch():
            yield progress

    async def rollback(self, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment of the previous model and yields its progress to the end."""
        async for progress in self._reconciler.rollback(options).watch():
            yield progress

    async def undeploy(self, options: Options) -> str:
        """Takes the model out of service; returns its digest, empty if there was none."""
        return await self._reconciler.undeploy(options)

    def history(self) -> list[Record]:
        """Returns what was done, oldest first."""
        return self._records.history.records

    def hold(self, owner: str, reason: str, ttl: float, *, force: bool) -> Hold:
        """Refuses deployments for ``ttl`` seconds."""
        return self._records.holds.take(owner, reason, ttl, force=force)

    def release(self) -> Hold | None:
        """Ends the hold; returns it, None if there was none."""
        return self._records.holds.release()

    def quarantine(self, clear: str) -> list[Entry]:
        """Returns the images in quarantine, or those that it takes out."""
        kept = self._records.quarantine
        return kept.clear(clear) if clear else kept.entries

    async def self_test(self) -> messages.SelfTestReply:
        """Runs the golden test of the model in service, which goes on serving.

        Raises:
            RequestError: no model is in service, or a deployment changes that just now.
        """
        from edged import messages

        process, began = self._service.process, time.monotonic()
        if process is None or self._reconciler.under_way is not None:
            why = "a deployment is under way" if process else "no model is in service"
            raise RequestError("FAILED_PRECONDITION", f"cannot run the golden test: {why}")
        reason = ""
        try:
            await process.probe(SELF_TEST_LIMIT)
        except (ModelError, DeviceError) as exc:
            reason = str(exc)
            logger.error("self-test: %s", exc, extra={"event": "self_test"})  # noqa: TRY400
        return messages.SelfTestReply(
            passed=not reason,
            reason=reason,
            digest=process.digest,
            elapsed_us=round((time.monotonic() - began) * 1e6),
        )

    def status(self) -> messages.StatusReply:
        """Returns what the daemon is doing."""
        from edged import messages
        from edged.config import version
        from edged.rpc import report

        condition, under_way = self._service.condition, self._reconciler.under_way
        previous, records = self._store.previous, self._records
        last = records.history.last
        return messages.StatusReply(
            version=version.text(),
            pid=os.getpid(),
            uptime_us=round((time.monotonic() - self._began) * 1e6),
            state="stopping" if self._stop.is_set() else condition.state,
            reason=condition.reason,
            runtime=self._config.runtime,
            listen=self._edge.addresses,
            model=self._model(),
            previous_digest=previous.digest if previous else "",
            deployment=under_way.progress.state.value if under_way else "",
            deployments_waiting=self._reconciler.waiting,
            counters=self._counters(),
            verify=self._config.verify,
            sandbox=self._runtime.describe(),
            hold=report.held(records.holds.current),
            previous=report.slot(previous),
            last_deployment=report.record(last) if last else None,
            worst_blackout_us=records.history.worst_blackout_us,
            window_left_us=round(self._reconciler.trial.left * 1e6),
            standby_digest=self._service.standby,
            quarantined=len(records.quarantine.entries),
            store_faults=self._store_faults,
            heartbeat_age_us=_microseconds(self._heartbeat.age),
            p99_us=_microseconds(self._front.latencies.quantile(0.99)),
        )

    def _model(self) -> messages.Model | None:
        from edged import messages

        slot, process = self._service.serving, self._service.process
        if slot is None:
            return None
        facts = process.facts if process else Facts()
        return messages.Model(
            digest=slot.digest,
            reference=slot.reference,
            name=facts.name or slot.name,
            version=facts.version or slot.version,
            format=facts.format,
            sku=facts.sku,
            memory_bytes=facts.memory_bytes,
            isa=facts.isa,
            worker_pid=process.pid if process else 0,
            deployed_unix_us=slot.deployed_unix_us,
        )

    def _counters(self) -> messages.Counters:
        from edged import messages

        front, counts = self._front, self._front.counts
        return messages.Counters(
            answered=counts.answered,
            failed=counts.failed,
            refused=counts.refused,
            expired=counts.expired,
            cancelled=counts.cancelled,
            queued=front.queued,
            queued_bytes=front.queued_bytes,
            worker_deaths=self._service.deaths,
            deployments=self._reconciler.deployments,
            reverts=self._reconciler.reverts + self._reconciler.trial.reverts,
        )


def _limits(config: Config) -> WorkerLimits:
    """Returns what a model's process may use."""
    memory = half_of_memory() if config.memory_limit is None else config.memory_limit * MIB
    return WorkerLimits(memory_bytes=memory, cpus=config.cpu_limit, pids=config.process_limit)


def _runtime(config: Config, limits: WorkerLimits) -> Runtime:
    """Returns what runs the worker, as configured: there is no second choice in secret.

    Raises:
        ConfigError: this host lacks what it needs.
    """
    if config.runtime == "process":
        return ProcessRuntime()
    from edged.containers.runc.runtime import RuncRuntime

    return RuncRuntime(config.run_dir, limits, root=config.runtime == "runc-root")


def _microseconds(seconds: float | None) -> int:
    return round((seconds or 0.0) * 1e6)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
