"""What the control path knows, as messages for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edged import messages
from edged.deploy.types import Progress, Slot, State

if TYPE_CHECKING:
    from edged.deploy import history, quarantine
    from edged.deploy.hold import Hold

OUTCOMES = {
    State.COMMITTED: messages.Outcome.COMMITTED,
    State.REVERTED: messages.Outcome.REVERTED,
    State.FAILED: messages.Outcome.FAILED,
    State.CANCELLED: messages.Outcome.CANCELLED,
}


def event(progress: Progress) -> messages.DeployEvent:
    """Returns how far a deployment is."""
    return messages.DeployEvent(
        state=progress.state.value,
        digest=progress.digest,
        detail=progress.detail,
        elapsed_us=progress.elapsed_us,
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total,
        outcome=OUTCOMES.get(progress.state, messages.Outcome.OUTCOME_UNSPECIFIED),
        error=progress.error,
        parked_us=progress.parked_us,
        phases_us=progress.phases_us,
    )


def record(kept: history.Record) -> messages.Record:
    """Returns one record of the history."""
    return messages.Record(
        number=kept.number,
        cause=kept.cause,
        reference=kept.reference,
        digest=kept.digest,
        name=kept.name,
        version=kept.version,
        outcome=kept.outcome,
        reason=kept.reason,
        before=kept.before,
        began_unix_us=max(kept.began_unix_us, 0),
        dated=kept.dated,
        boot=kept.boot,
        began_up_us=kept.began_up_us,
        elapsed_us=kept.elapsed_us,
        phases_us=kept.phases_us,
        blackout_us=kept.blackout_us,
        window=kept.window,
        window_blackout_us=kept.window_blackout_us,
        attempts=kept.attempts,
        forced=kept.forced,
    )


def held(hold: Hold | None) -> messages.Held | None:
    """Returns who holds the device."""
    if hold is None:
        return None
    until = (hold.since.unix + hold.ttl) * 1e6 if hold.since.is_dated else 0
    return messages.Held(
        owner=hold.owner, reason=hold.reason, left_s=hold.left, until_unix_us=round(until)
    )


def quarantined(entry: quarantine.Entry) -> messages.Quarantined:
    """Returns one image in quarantine."""
    return messages.Quarantined(
        digest=entry.digest,
        name=entry.name,
        version=entry.version,
        reason=entry.reason,
        since_unix_us=max(entry.since_unix_us, 0),
    )


def slot(kept: Slot | None) -> messages.Model | None:
    """Returns what the store knows of a model."""
    if kept is None:
        return None
    return messages.Model(
        digest=kept.digest,
        reference=kept.reference,
        name=kept.name,
        version=kept.version,
        deployed_unix_us=kept.deployed_unix_us,
    )
