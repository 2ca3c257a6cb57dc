"""A controller far away sees and steers the device, over MQTT: joins ``edged.mqtt`` to the parts.

Invariants:
- Imported only where MQTT is configured: nobody else pays for paho.
- Nothing that goes wrong here ends the daemon, or is waited for by a request: it is logged, said in
  the status, and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edged.access.roles import Caller, Role
from edged.config import version
from edged.config.mqtt import Mqtt
from edged.daemon.changes import Changes
from edged.daemon.parts import Parts
from edged.deploy.types import Slot
from edged.model.condition import Condition
from edged.model.process import Facts
from edged.mqtt import plain
from edged.mqtt.agent import Agent
from edged.mqtt.backoff import Backoff
from edged.mqtt.device import Counters, Npu, Snapshot
from edged.mqtt.dialect import Dialect
from edged.mqtt.link import Link
from edged.mqtt.meter import Meter
from edged.mqtt.outbox import Outbox
from edged.mqtt.telemetry import Settings, Telemetry
from edged.mqtt.wallclock import Wallclock
from edged.oci.facts import ModelFacts
from edged.oci.image import open_image
from edged.oci.registries import Credentials, Registries
from edged.osutil import atomic
from edged.rpc.front import Reply

if TYPE_CHECKING:
    from edged import messages

logger = logging.getLogger(__name__)

AGAIN = 30.0  # seconds after a fault of ours
STOP_LIMIT = 3.0  # seconds
LEAVE_LIMIT = 1.0  # seconds for last words
EDGE_AGENT = "$edgeAgent"  # the module identity whose twin has deployment manifests


class PartsDevice(Changes):
    """The daemon's parts, as ``edged.mqtt.device.Device``.

    Args:
        parts: of the daemon.
        meter: counts answers.
        who: returns the controller, for the records of what it did.
    """

    def __init__(self, parts: Parts, meter: Meter, who: Callable[[], Caller]) -> None:
        super().__init__(parts.reconciler, parts.recorder, who)
        self.logs = parts.config.state_dir / "logs"
        self.on_change: list[Callable[[], None]] = []
        self._parts = parts
        self._meter = meter
        self._version = version.VERSION
        parts.service.on_change.append(self._condition_changed)
        parts.reconciler.on_change.append(self.changed)

    def close(self) -> None:
        """Looks on no longer."""
        self._parts.service.on_change.remove(self._condition_changed)
        self._parts.reconciler.on_change.remove(self.changed)
        self._parts.front.on_answer = None

    def _condition_changed(self, _condition: Condition) -> None:
        self.changed()

    def changed(self) -> None:
        """Tells of a change."""
        for tell in list(self.on_change):
            try:
                tell()
            except Exception:  # whoever serves must not suffer from those who look on
                logger.exception("cannot tell of a change")

    def snapshot(self) -> Snapshot:
        """Returns what is known now."""
        parts, records = self._parts, self._parts.records
        under_way = parts.reconciler.under_way
        condition = parts.service.condition
        return Snapshot(
            version=self._version,
            state=condition.state,
            reason=condition.reason,
            npu=self._npu(),
            runtime=parts.config.runtime,
            sandbox=parts.runtime.describe(),
            verify=parts.config.verify,
            model=parts.service.serving,
            previous=parts.store.previous,
            progress=under_way.progress if under_way else None,
            reference=str(under_way) if under_way else "",
            last=records.history.last,
            hold=records.holds.current,
            window_left=parts.reconciler.trial.left,
            quarantined=frozenset(each.digest for each in records.quarantine.entries),
            counters=self._counters(),
        )

    def _npu(self) -> Npu:
        process, slot = self._parts.service.process, self._parts.service.serving
        facts = process.facts if process else Facts()
        return Npu(
            self._parts.config.sku,
            facts.isa,
            facts.format,
            facts.predicted_us,
            self._meter.npu_us(slot.digest) if slot else 0.0,
        )

    def _counters(self) -> Counters:
        parts, counts = self._parts, self._parts.front.counts
        return Counters(
            answered=counts.answered,
            failed=counts.failed,
            refused=counts.refused,
            expired=counts.expired,
            cancelled=counts.cancelled,
            queued=parts.front.queued,
            deaths=parts.service.deaths,
            deployments=parts.reconciler.deployments,
            reverts=parts.reconciler.reverts + parts.reconciler.trial.reverts,
        )

    async def look_up(
        self, reference: str, credentials: Mapping[str, Credentials]
    ) -> tuple[str, ModelFacts]:
        """Returns an image's digest and what it says of its model, from its manifest alone."""
        registries = self._parts.registries.signed_in(credentials)
        return await asyncio.to_thread(_look_up, reference, registries)

    async def restart(self) -> Slot:
        """Starts the model's process anew."""
        with self._recorder.act(self._who(), "restart") as outcome:
            slot = await self._parts.reconciler.upkeep.restart()
            outcome.text = slot.digest
            return slot

    async def self_test(self) -> float:
        """Runs the golden test of the model in service."""
        return await self._parts.reconciler.upkeep.self_test()


def _look_up(reference: str, registries: Registries) -> tuple[str, ModelFacts]:
    image = open_image(reference, registries)
    return str(image.digest), image.facts


@dataclass(frozen=True)
class _Way:
    """What reports say of the link; see ``edged.mqtt.report.Link``."""

    host: str
    attempts: int
    skew: float | None


class Remote:
    """The device's link to its controller, for the daemon's life.

    Args:
        parts: of the daemon.
        settings: of MQTT.
    """

    def __init__(self, parts: Parts, settings: Mqtt) -> None:
        self._parts = parts
        self._settings = settings
        self._fault = ""
        self._work: _Work | None = None

    async def run(self) -> None:
        """Keeps the link until it is cancelled."""
        while True:
            meter = Meter()
            device = PartsDevice(self._parts, meter, self._controller)
            try:
                self._work = _Work(self._parts, self._settings, device, meter)
                self._fault = ""
                await self._work.run()
            except Exception as exc:
                logger.exception("MQTT failed; again in %g s", AGAIN)
                self._fault = f"{type(exc).__name__}: {exc}"
            finally:
                work, self._work = self._work, None
                if work is not None:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(work.stop(), STOP_LIMIT)
                device.close()
            await asyncio.sleep(AGAIN)

    def _controller(self) -> Caller:
        """Returns who acts over the link."""
        host = self._work.host if self._work is not None else ""
        return Caller(f"the controller at {host or 'an unknown host'}", Role.ADMIN, "mqtt")

    def changed(self) -> None:
        """Tells of a change that no part tells of: a hold, the quarantine."""
        if self._work is not None:
            self._work.device.changed()

    def sentence(self) -> str:
        """Returns how the link is, in a few words."""
        if self._work is None:
            return "mqtt failed" if self._fault else ""
        return self._work.sentence()

    def status(self) -> messages.Link:
        """Returns how the link is."""
        from edged import messages

        facts = messages.Link(dialect=self._settings.dialect, device=self._settings.device)
        if self._work is None:
            facts.reason = self._fault and f"cannot run MQTT: {self._fault}"
            facts.fix = "see the device's log; it is tried again" if self._fault else ""
            return facts
        self._work.tell(facts)
        return facts


class _Work:
    """The parts of one attempt at MQTT."""

    def __init__(self, parts: Parts, settings: Mqtt, device: PartsDevice, meter: Meter) -> None:
        folder = parts.config.state_dir / "mqtt"
        atomic.make_folder(folder)
        self._clock = Wallclock(folder)
        self.device = device
        self._agent = Agent(
            self.device,
            folder,
            self._clock,
            settings.report_ttl,
            is_edge=settings.module == EDGE_AGENT,
        )
        self._outbox = Outbox(folder, settings.outbox_limit * 1024 * 1024)
        self._dialect = _dialect(settings, self._agent, self._clock, folder)
        self._link = Link(
            self._dialect,
            self._outbox,
            backoff=Backoff(longest=settings.retry_limit),
        )
        self._agent.link = self._way
        self._agent.delivery = self._delivery
        rate = settings.results_rate if settings.results else 0.0
        self._telemetry = Telemetry(
            self.device,
            meter,
            self._outbox,
            Settings(settings.telemetry_interval, rate),
            self._agent.boot_id,
            self._agent.time,
        )
        parts.front.on_answer = self._answered

    async def run(self) -> None:
        """Works until it is cancelled, or something fails."""
        await self._outbox.start()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._telemetry.run(), name="telemetry"),
            loop.create_task(self._link.run(), name="link"),
        ]
        try:
            # Not awaited itself, as it must outlive our being cancelled by the last words. And
            # telemetry may have nothing to do; the link always has.
            await asyncio.wait([self._tasks[1]])
            self._tasks[1].result()
        except asyncio.CancelledError:
            await self._leave()
            raise
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _leave(self) -> None:
        """Says goodbye to the controller, if it can be told."""
        leaving = asyncio.ensure_future(self._dialect.leave())
        await asyncio.wait([leaving], timeout=LEAVE_LIMIT)
        if leaving.done() and (error := leaving.exception()) is not None:
            logger.info("cannot say goodbye: %s", error)
        leaving.cancel()

    async def stop(self) -> None:
        """Ends what is left."""
        await self._agent.stop()
        await self._outbox.stop()

    def _answered(self, reply: Reply, digest: str, seconds: float) -> None:
        self._telemetry.answered(reply.times, reply.top, digest, seconds)

    def _way(self) -> _Way:
        state = self._link.state
        return _Way(state.host, state.attempts, self._clock.skew)

    def _delivery(self) -> dict[str, int]:
        return {"pending": self._outbox.pending, "dropped": self._outbox.dropped}

    @property
    def host(self) -> str:
        """Where the link goes to, as far as that is known."""
        return self._link.state.host

    def sentence(self) -> str:
        """Returns whether the link stands, in a few words."""
        state = self._link.state
        why = f" ({state.reason})" if state.reason else ""
        return "mqtt connected" if state.up else f"mqtt not connected{why}"

    def tell(self, facts: messages.Link) -> None:
        """Fills in how the link is."""
        state, standing = self._link.state, self._agent.controller.standing
        facts.host = state.host
        facts.up = state.up
        facts.reason = state.reason
        facts.fix = state.fix
        facts.since_us = round(state.seconds * 1e6)
        facts.attempts = state.attempts
        facts.next_try_us = round(state.next_try_in * 1e6)
        facts.connections = state.connections
        facts.pending = self._outbox.pending
        facts.dropped = self._outbox.dropped
        facts.outbox_fault = self._outbox.fault
        facts.clock_doubt = self._clock.doubt
        facts.skew_s = self._clock.skew or 0.0
        facts.desired = standing.outcome
        facts.desired_error = standing.error


def _dialect(settings: Mqtt, agent: Agent, clock: Wallclock, folder: Path) -> Dialect:
    if settings.dialect == "plain":
        return plain.make(settings, agent, agent.boot_id)
    from edged.mqtt import iothub

    return iothub.make(settings, agent, clock, folder)
