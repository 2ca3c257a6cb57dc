"""Builds the daemon's parts from its configuration; nothing runs yet."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from edged.access.audit import Audit
from edged.access.recorder import Recorder
from edged.config import Config
from edged.containers.logs import Logs
from edged.containers.process import ProcessRuntime
from edged.containers.runtime import MIB, Runtime, half_of_memory
from edged.containers.runtime import Limits as WorkerLimits
from edged.deploy import incoming
from edged.deploy.admission import Trust
from edged.deploy.device import Npu
from edged.deploy.reconciler import Reconciler
from edged.deploy.records import Records
from edged.deploy.store import Store
from edged.deploy.types import Limits as Times
from edged.deploy.vouch import Voucher
from edged.model.catalogue import Catalogue
from edged.model.heartbeat import Heartbeat
from edged.model.process import ModelProcess, Worker
from edged.model.service import Service
from edged.oci.registries import Registries
from edged.rpc.front import Front, Limits

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """The parts that last for the daemon's life.

    Attributes:
        config: what they were built from.
        runtime: runs the model's process.
        store: has the models.
        records: what is remembered of them.
        front: the queue before the NPU.
        service: keeps the one model in service.
        heartbeat: sees to it that the model's process lives.
        catalogue: what callers may know of it.
        registries: how registries are spoken to.
        reconciler: changes what is in service.
        recorder: of administrative acts.
        incoming: folder for images that operators hand over; None if it cannot be had.
    """

    config: Config
    runtime: Runtime
    store: Store
    records: Records
    front: Front
    service: Service
    heartbeat: Heartbeat
    catalogue: Catalogue
    registries: Registries
    reconciler: Reconciler[ModelProcess]
    recorder: Recorder
    incoming: Path | None


def compose(config: Config, module: str, store: Store) -> Parts:
    """Returns the parts.

    Args:
        config: where, and with what.
        module: the worker's program.
        store: of that configuration's state folder.

    Raises:
        ConfigError: this host lacks what it needs.
        StoreError: the state folder cannot be used.
    """
    limits = _limits(config)
    runtime = _runtime(config, limits)
    worker = Worker(
        runtime,
        module,
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
    records = Records(config.state_dir, Npu.named(config.sku), trust)
    front = Front(Limits(ahead=1))
    service = Service(front, worker, times)
    service.vouch = Voucher(store, trust)
    registries = Registries.from_tables(config.registries)
    reconciler: Reconciler[ModelProcess] = Reconciler(
        service, store, records, times, registries=registries
    )
    catalogue = Catalogue(service, lambda: store.current)
    return Parts(
        config=config,
        runtime=runtime,
        store=store,
        records=records,
        front=front,
        service=service,
        heartbeat=Heartbeat(service),
        catalogue=catalogue,
        registries=registries,
        reconciler=reconciler,
        recorder=Recorder(Audit(config.state_dir)),
        incoming=incoming.prepare(config.state_dir),
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
