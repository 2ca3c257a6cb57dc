"""Everything the device remembers about deployments: written here, in the words of the history.

All of it is durable and bounded, none of it is needed to serve: where the disk fails, that is said
in the log and the model serves on. May be called from threads, one call at a time.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from edged.deploy import history
from edged.deploy.admission import Admission, Trust
from edged.deploy.clock import Clock, Moment
from edged.deploy.counters import Counters
from edged.deploy.device import Npu
from edged.deploy.history import History, Record
from edged.deploy.hold import Holds
from edged.deploy.journal import Journal, Unfinished
from edged.deploy.quarantine import Entry, Quarantine
from edged.deploy.store import Store
from edged.deploy.types import Cause, Options, Progress, Slot, State
from edged.deploy.work import Work
from edged.errors import StoreError

logger = logging.getLogger(__name__)


class Records:
    """The records in the state folder ``state``.

    Args:
        state: must exist.
        npu: that models have to fit.
        trust: whose images may run.
        clock: of the device.
    """

    def __init__(self, state: Path, npu: Npu, trust: Trust, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.trust = trust
        self.history = History(state)
        self.quarantine = Quarantine(state)
        self.counters = Counters(state)
        self.holds = Holds(state, self.clock)
        self.journal = Journal(state)
        self.admission = Admission(npu, trust, self.quarantine, self.counters)

    def now(self) -> Moment:
        """Returns the time, as records keep it."""
        return self.clock.now()

    def started(self, current: Slot | None) -> None:
        """Notes what is current at a start: a power cut may have come before that was noted."""
        if current is not None:
            self.counters.note(current)

    def ended(self, work: Work[Any], progress: Progress, began: Moment) -> Record:
        """Notes the outcome of a deployment, and what follows from it."""
        slot, deployment = work.slot, work.deployment
        facts = work.admitted.facts if work.admitted else None
        record = self.history.add(
            Record(
                number=0,
                cause=deployment.cause.value,
                reference=work.reference,
                digest=work.digest,
                name=facts.name if facts else "",
                version=facts.version if facts else "",
                outcome=progress.state.value,
                reason=progress.error,
                before=work.before.digest if work.before else "",
                elapsed_us=progress.elapsed_us,
                phases_us=progress.phases_us,
                blackout_us=progress.parked_us,
                window=history.OPEN if work.is_on_trial else "",
                attempts=deployment.attempts,
                forced=_forced(deployment.options),
                **_dates(began),
            ),
            again=deployment.options.again,
        )
        if work.own_fault:
            self._to_quarantine(work.digest, record.name, record.version, progress.error)
        if progress.state is State.COMMITTED and slot is not None:
            self.counters.note(slot)
        self.journal.end()
        return record

    def undeployed(self, slot: Slot | None, options: Options) -> None:
        """Notes that the NPU is empty."""
        self.history.add(
            Record(
                number=0,
                cause=Cause.UNDEPLOY.value,
                outcome="undeployed",
                before=slot.digest if slot else "",
                forced=_forced(options),
                **_dates(self.now()),
            )
        )

    def other_serves(self, store: Store, slot: Slot, why: str) -> None:
        """Notes that the current model does not come up and the previous one serves.

        The pointer follows, so that it says what is in service; the other stays as the previous.
        """
        current = store.current
        try:
            store.commit(slot, current)
        except StoreError as exc:
            logger.error("%s", exc)  # noqa: TRY400 - the text says it all
            why = f"{why}; {exc}"
        self.history.add(
            Record(
                number=0,
                cause=Cause.START.value,
                reference=slot.reference,
                digest=slot.digest,
                name=slot.name,
                version=slot.version,
                outcome=State.REVERTED.value,
                reason=why,
                before=current.digest if current else "",
                **_dates(self.now()),
            )
        )

    def ended_after_commit(self, unfinished: Unfinished, current: Slot) -> None:
        """Notes a deployment that had committed when edged ended."""
        last = self.history.last
        if last is not None and (last.digest, last.outcome) == (current.digest, "committed"):
            self.journal.end()
            return
        self.history.add(
            Record(
                number=0,
                cause=unfinished.cause.value,
                reference=current.reference,
                digest=current.digest,
                name=current.name,
                version=current.version,
                outcome=State.COMMITTED.value,
                reason="edged ended right after the commit",
                attempts=unfinished.attempts,
                forced=_forced(unfinished.options),
                **_dates(self.now()),
            )
        )
        self.journal.end()

    def given_up(self, unfinished: Unfinished) -> None:
        """Notes a deployment that edged did not survive too often."""
        reason = f"edged ended {unfinished.attempts} times in the middle of it"
        logger.error("%s is given up: %s", unfinished.reference, reason)
        self.history.add(
            Record(
                number=0,
                cause=unfinished.cause.value,
                reference=unfinished.options.origin or unfinished.reference,
                digest=unfinished.digest,
                outcome=State.FAILED.value,
                reason=reason,
                attempts=unfinished.attempts,
                forced=_forced(unfinished.options),
                **_dates(self.now()),
            )
        )
        self.journal.end()

    def window_passed(self, number: int) -> None:
        """Notes that a model behaved well."""
        self.history.amend(number, window=history.PASSED)

    def withdrawn(
        self, number: int, slot: Slot, reason: str, blackout_us: int, *, own_fault: bool
    ) -> None:
        """Notes that a model was taken out of service within its window."""
        self.history.amend(
            number,
            outcome=State.REVERTED.value,
            reason=reason,
            window=history.BROKEN,
            window_blackout_us=blackout_us,
        )
        if own_fault:
            self._to_quarantine(slot.digest, slot.name, slot.version, reason)

    def _to_quarantine(self, digest: str, name: str, version: str, reason: str) -> None:
        since = round(self.now().unix * 1e6)
        self.quarantine.add(Entry(digest, name, version, reason, since))


def _dates(moment: Moment) -> dict[str, Any]:
    return {
        "began_unix_us": round(moment.unix * 1e6),
        "dated": moment.is_dated,
        "boot": moment.boot,
        "began_up_us": round(moment.up * 1e6),
    }


def _forced(options: Options) -> str:
    flags = {"force": options.force, "allow-downgrade": options.allow_downgrade}
    return ", ".join(name for name, given in flags.items() if given)
