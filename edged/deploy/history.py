"""What happened to the model in service: one record per change, durable, the newest ``KEPT``.

Invariants:
- A record is on the disk before anybody is told the outcome; a disk that fails is logged and costs
  the record, never the model.
- ``number`` only grows, so the order does not depend on a clock that may be wrong.
- Texts have limits, so the file has one.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edged.deploy.document import Document
from edged.errors import StoreError

logger = logging.getLogger(__name__)

KEPT = 100
TEXT_LIMIT = 1024  # characters
OPEN, PASSED, CUT, BROKEN = "open", "passed", "cut short", "reverted"  # windows


@dataclass(frozen=True)
class Record:
    """One change, or the attempt at one.

    Attributes:
        number: from 1 on, in order.
        cause: deploy, rollback, undeploy or start.
        reference: of the model that was to come into service.
        digest: of its image; empty if that never became known.
        name: of the model.
        version: of the model.
        outcome: committed, reverted, failed, cancelled or undeployed.
        reason: why it did not come into service, or did not stay.
        before: digest of what was in service before; empty if nothing was.
        began_unix_us: when it left the queue, microseconds since 1970 by the wall clock.
        dated: whether the wall clock had been set by then.
        boot: which boot of the device that was in.
        began_up_us: microseconds since that boot.
        elapsed_us: from then to the outcome.
        phases_us: how long it was in each state.
        blackout_us: how long requests were held.
        window: of good behaviour: open, passed, cut short, reverted; empty if there was none.
        window_blackout_us: how long requests were held for a revert within the window.
        attempts: more than one if edged ended in the middle of it and took it up again, or if it
            was tried again by itself and failed in the same way: that is one record.
        forced: although the device was held, or as a downgrade.
    """

    number: int
    cause: str
    reference: str = ""
    digest: str = ""
    name: str = ""
    version: str = ""
    outcome: str = ""
    reason: str = ""
    before: str = ""
    began_unix_us: int = 0
    dated: bool = True
    boot: str = ""
    began_up_us: int = 0
    elapsed_us: int = 0
    phases_us: Mapping[str, int] = field(default_factory=dict)
    blackout_us: int = 0
    window: str = ""
    window_blackout_us: int = 0
    attempts: int = 1
    forced: str = ""


class History:
    """The records in the state folder ``state``."""

    def __init__(self, state: Path) -> None:
        self._document = Document(state / "history.json")
        self._lock = threading.Lock()
        self._records: list[Record] = []
        fields = self._document.read()
        try:
            self._records = [_parse(each) for each in fields.get("records", [])][-KEPT:]
        except (TypeError, ValueError) as exc:
            self._document.put_aside(str(exc))

    @property
    def records(self) -> list[Record]:
        """All of them, oldest first."""
        return list(self._records)

    @property
    def last(self) -> Record | None:
        """The newest."""
        return self._records[-1] if self._records else None

    @property
    def next_number(self) -> int:
        """What the next record is called."""
        return self._records[-1].number + 1 if self._records else 1

    @property
    def open_window(self) -> int:
        """Number of the record whose window of good behaviour is open; 0 if none is."""
        return max((each.number for each in self._records if each.window == OPEN), default=0)

    @property
    def worst_blackout_us(self) -> int:
        """The longest time that requests were held for one change, of those kept here."""
        held = (max(each.blackout_us, each.window_blackout_us) for each in self._records)
        return max(held, default=0)

    def add(self, record: Record, *, again: bool = False) -> Record:
        """Keeps a record under the next number, which it is returned with.

        Another change of what is in service ends the window that is open.

        Args:
            record: what happened.
            again: whether it was another attempt at the same. If it failed just as the one before,
                that one's ``attempts`` count it: a link that is down for days must not push out
                the rest.
        """
        with self._lock:
            records = self._records
            if again and records and _is_again(record, records[-1]):
                attempts = records[-1].attempts + record.attempts
                self._records[-1] = dataclasses.replace(records[-1], attempts=attempts)
                self._write()
                return self._records[-1]
            if record.outcome in ("committed", "undeployed") or record.cause == "start":
                records = [_closed(each) for each in records]
            record = _cut(dataclasses.replace(record, number=self.next_number))
            self._records = [*records, record][-KEPT:]
            self._write()
            return record

    def amend(self, number: int, **changes: Any) -> None:
        """Changes a record; one that is gone is left alone."""
        with self._lock:
            for index, record in enumerate(self._records):
                if record.number == number:
                    self._records[index] = _cut(dataclasses.replace(record, **changes))
                    self._write()

    def _write(self) -> None:
        try:
            self._document.write(records=[vars(each) for each in self._records])
        except StoreError as exc:
            logger.error("%s; the history is kept in memory only", exc)  # noqa: TRY400


def _is_again(record: Record, last: Record) -> bool:
    """Whether a deployment failed just as the one before it."""
    return record.outcome == "failed" and all(
        getattr(_cut(record), name) == getattr(last, name)
        for name in ("cause", "reference", "digest", "outcome", "reason", "before", "boot")
    )


def _closed(record: Record) -> Record:
    return dataclasses.replace(record, window=CUT) if record.window == OPEN else record


def _cut(record: Record) -> Record:
    texts: dict[str, Any] = {
        name: value[:TEXT_LIMIT]
        for name, value in vars(record).items()
        if isinstance(value, str) and len(value) > TEXT_LIMIT
    }
    return dataclasses.replace(record, **texts) if texts else record


def _parse(document: Any) -> Record:
    """Returns the record in a document.

    Raises:
        TypeError, ValueError: it is none.
    """
    record = Record(**document)
    for each in dataclasses.fields(Record):
        value = getattr(record, each.name)
        wanted = {"int": int, "str": str, "bool": bool}.get(str(each.type))
        if wanted is not None and type(value) is not wanted:
            raise ValueError(f"{each.name}: expected {each.type}, got {value!r}"[:200])
    phases = record.phases_us
    if not isinstance(phases, dict) or not all(type(us) is int for us in phases.values()):
        raise ValueError("phases_us: expected numbers by name")
    return _cut(record)
