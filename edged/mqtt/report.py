"""Our own reported document: how the device is, in one object of less than 8 KiB.

::

    schema, boot_id, seq, ttl, up, time    whose it is, and how old it may be at most
    edged, state, reason                   the daemon, and whether it serves
    model, previous                        what is in service, what a rollback would bring
    desired                                the newest document, and what became of it
    deployment                             the one under way: phase, percent
    last_error                             the newest thing that went wrong, and what to do
    npu, runtime, sandbox, signatures      what it runs on, and what keeps it in
    hold                                   who holds the device
    link                                   to the broker

What does not apply is left out. ``boot_id`` is of this start of edged, ``seq`` grows with each
report, and another one follows within ``ttl`` seconds: a reader who knows no more than one
document, and when it was received, can tell that it is stale. ``time`` is there only while the
device's clock can be trusted; ``up`` always is: seconds since the start.

Counters are no part of it: they go to telemetry.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

from edged.deploy.types import Progress, Slot
from edged.mqtt import codes
from edged.mqtt.bounded import fit
from edged.mqtt.control import OWN_LIMIT
from edged.mqtt.device import Snapshot
from edged.mqtt.standing import NONE, Standing

SCHEMA = 1
_BAD = ("failed", "reverted")


@dataclass(frozen=True)
class Stamp:
    """Whose a report is, and how old it may be.

    Attributes:
        boot_id: of this start of edged.
        seq: grows by one with each report.
        ttl: seconds within which another one follows.
        up: seconds since the start.
        time: seconds since 1970; None while the clock cannot be trusted.
    """

    boot_id: str
    seq: int
    ttl: int
    up: float
    time: float | None


class Link(Protocol):
    """What a report says of the way it goes; see ``edged.mqtt.link.LinkState``."""

    @property
    def host(self) -> str:
        """The broker's."""

    @property
    def attempts(self) -> int:
        """How many connections failed in a row before this one."""

    @property
    def skew(self) -> float | None:
        """Seconds by which the device's clock is ahead of the other side's; None if not known."""


def build(
    stamp: Stamp,
    now: Snapshot,
    standing: Standing,
    link: Link | None = None,
    delivery: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Returns the document.

    Args:
        stamp: of this report.
        now: how the device is.
        standing: how it stands with what is desired.
        link: to the broker.
        delivery: counts of the outbox.
    """
    document: dict[str, Any] = {
        "time": None if stamp.time is None else rfc3339(stamp.time),
        "edged": now.version,
        "state": now.state,
        "reason": now.reason,
        "model": _model(now.model, now.npu.format),
        "previous": _model(now.previous, ""),
        "window_left": round(now.window_left, 1),
        "desired": _desired(standing),
        "deployment": _deployment(now.progress, now.reference),
        "last_error": _last_error(now),
        "npu": _present(
            sku=now.npu.sku,
            isa=now.npu.isa,
            predicted_ms=_ms(now.npu.predicted_us),
            measured_ms=_ms(now.npu.measured_us),
        ),
        "runtime": now.runtime,
        "sandbox": now.sandbox,
        "signatures": now.verify,
        "quarantined": len(now.quarantined),
        "hold": _hold(now),
        "link": _link(link, delivery),
    }
    stamped = {
        "schema": SCHEMA,
        "boot_id": stamp.boot_id,
        "seq": stamp.seq,
        "ttl": stamp.ttl,
        "up": round(stamp.up, 1),
    }
    return fit({**stamped, **_present(**document)}, OWN_LIMIT)


def rfc3339(unix: float) -> str:
    """Returns a time as RFC 3339 has it, in UTC, to the millisecond."""
    whole, thousandths = divmod(round(unix * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{thousandths:03}Z"


def _present(**fields: Any) -> dict[str, Any]:
    """Returns the fields that say something; false and 0 of a progress or a count do not."""
    return {key: value for key, value in fields.items() if value or value is False}


def _model(slot: Slot | None, number_format: str) -> dict[str, Any] | None:
    if slot is None:
        return None
    return _present(
        name=slot.name,
        version=slot.version,
        digest=slot.digest,
        reference=slot.reference,
        format=number_format,
        counter=slot.counter,
        deployed=rfc3339(slot.deployed_unix_us / 1e6) if slot.deployed_unix_us > 0 else "",
    )


def _desired(standing: Standing) -> dict[str, Any]:
    if standing.outcome == NONE:
        return {"outcome": NONE}
    return _present(
        outcome=standing.outcome,
        code=standing.code,
        error=standing.error,
        fix=standing.fix,
        source=standing.source,
        version=standing.version,
        id=standing.id,
        reference=standing.reference,
        digest=standing.digest,
    )


def _deployment(progress: Progress | None, reference: str) -> dict[str, Any] | None:
    if progress is None:
        return None
    done, total = progress.bytes_done, progress.bytes_total
    return {
        "phase": progress.state.value,
        "percent": percent(progress),
        **_present(
            reference=reference,
            digest=progress.digest,
            detail=progress.detail,
            bytes_done=done,
            bytes_total=total,
            elapsed_ms=progress.elapsed_us // 1000,
        ),
    }


def percent(progress: Progress) -> int:
    """Returns how much of a deployment is done: nearly all of the time goes to the fetch."""
    after = {"queued": 0, "verify": 85, "store": 90, "prepare": 94, "park": 97, "activate": 97}
    if progress.state.value != "fetch":
        return after.get(progress.state.value, 98)
    share = progress.bytes_done / progress.bytes_total if progress.bytes_total else 0.0
    return min(int(85 * share), 85)


def _last_error(now: Snapshot) -> dict[str, Any] | None:
    last = now.last
    if last is None or last.outcome not in _BAD:
        return None
    what, fix = codes.split(last.reason)
    began = last.began_unix_us
    return _present(
        what=f"{last.cause} {last.reference}".strip(),
        outcome=last.outcome,
        error=what,
        fix=fix or "'edged history' and 'edged logs' at the device show more; push another image",
        digest=last.digest,
        time=rfc3339(began / 1e6) if last.dated and began > 0 else "",
    )


def _hold(now: Snapshot) -> dict[str, Any] | None:
    hold = now.hold
    if hold is None:
        return None
    return _present(owner=hold.owner, reason=hold.reason, left_s=round(hold.left))


def _link(link: Link | None, delivery: dict[str, int] | None) -> dict[str, Any]:
    facts: dict[str, Any] = dict(delivery or {})
    if link is not None:
        facts |= _present(host=link.host, failed_attempts=link.attempts)
        if link.skew is not None:
            facts["skew_s"] = round(link.skew, 1)
    return facts


def _ms(us: float) -> float:
    return round(us / 1e3, 3)
