"""How the daemon's parts are, as a message for operators."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edged.model.process import Facts

if TYPE_CHECKING:
    from edged import messages
    from edged.daemon.parts import Parts
    from edged.daemon.remote import Remote


def reply(
    parts: Parts,
    *,
    uptime: float,
    listen: Sequence[str],
    stopping: bool,
    faults: Sequence[str],
    remote: Remote | None,
) -> messages.StatusReply:
    """Returns what the daemon is doing.

    Args:
        parts: of the daemon.
        uptime: seconds since it started.
        listen: where applications reach it.
        stopping: whether it is about to end.
        faults: of the store.
        remote: its link to a controller; None if it has none.
    """
    from edged import messages
    from edged.config import version
    from edged.rpc import report

    config, records = parts.config, parts.records
    condition, under_way = parts.service.condition, parts.reconciler.under_way
    previous, last = parts.store.previous, records.history.last
    return messages.StatusReply(
        version=version.VERSION,
        pid=os.getpid(),
        uptime_us=round(uptime * 1e6),
        state="stopping" if stopping else condition.state,
        reason=condition.reason,
        runtime=config.runtime,
        listen=listen,
        model=_model(parts),
        previous_digest=previous.digest if previous else "",
        deployment=under_way.progress.state.value if under_way else "",
        deployments_waiting=parts.reconciler.waiting,
        counters=_counters(parts),
        verify=config.verify,
        sandbox=parts.runtime.describe(),
        hold=report.held(records.holds.current),
        previous=report.slot(previous),
        last_deployment=report.record(last) if last else None,
        worst_blackout_us=records.history.worst_blackout_us,
        window_left_us=round(parts.reconciler.trial.left * 1e6),
        standby_digest=parts.service.standby,
        quarantined=len(records.quarantine.entries),
        store_faults=faults,
        heartbeat_age_us=_microseconds(parts.heartbeat.age),
        p99_us=_microseconds(parts.front.latencies.quantile(0.99)),
        link=remote.status() if remote is not None else None,
    )


def _model(parts: Parts) -> messages.Model | None:
    from edged import messages

    slot, process = parts.service.serving, parts.service.process
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


def _counters(parts: Parts) -> messages.Counters:
    from edged import messages

    front, counts = parts.front, parts.front.counts
    return messages.Counters(
        answered=counts.answered,
        failed=counts.failed,
        refused=counts.refused,
        expired=counts.expired,
        cancelled=counts.cancelled,
        queued=front.queued,
        queued_bytes=front.queued_bytes,
        worker_deaths=parts.service.deaths,
        deployments=parts.reconciler.deployments,
        reverts=parts.reconciler.reverts + parts.reconciler.trial.reverts,
    )


def _microseconds(seconds: float | None) -> int:
    return round((seconds or 0.0) * 1e6)
