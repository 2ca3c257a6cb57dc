"""A deployment as an operator sees it: progress on standard error, the outcome at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edged.cli._meter import Meter
from edged.errors import DeviceError

if TYPE_CHECKING:
    from edged import messages


def follow(events: Iterable[messages.DeployEvent], what: str, *, as_json: bool) -> int:
    """Shows a deployment to its end; returns 0 when the model is in service.

    Args:
        events: as they come.
        what: is done, for errors: ``deploy oci:/x``.
        as_json: print one object per event instead.

    Raises:
        DeviceError: it did not come into service; says why.
    """
    from edged import messages

    last = None
    meter = Meter()
    for event in events:
        rate = meter.rate(event.bytes_done, event.elapsed_us) if event.state == "fetch" else None
        if as_json:
            facts = _facts(event)
            if rate is not None:
                facts["bytes_per_second"] = round(rate)
            print(json.dumps(facts), flush=True)
        elif last is None or last.state != event.state or sys.stderr.isatty():
            _show(event, rate, again=last is not None and last.state == event.state)
        last = event
    if last is None:
        raise DeviceError(f"cannot {what}: edged ended the call without an outcome")
    if last.outcome != messages.Outcome.COMMITTED:
        kept = "; what served before serves on" if last.outcome == messages.Outcome.REVERTED else ""
        raise DeviceError(f"cannot {what}: {last.error}{kept}")
    if not as_json:
        print(_done(last))
    return 0


def _show(event: messages.DeployEvent, rate: float | None, *, again: bool) -> None:
    """Writes a line for the state on standard error; again for one that moves."""
    if event.outcome:
        return
    bytes_text = ""
    if event.bytes_total:
        share = 100 * event.bytes_done / event.bytes_total
        bytes_text = (
            f"  {share:3.0f} %, {event.bytes_done / 1e6:.1f} of {event.bytes_total / 1e6:.1f} MB"
        )
        if rate is not None:
            bytes_text += f", {rate / 1e6:.1f} MB/s"
    start = "\033[F\033[K" if again else ""
    print(f"{start}{event.elapsed_us / 1e6:7.3f} s  {event.state:10}{bytes_text}", file=sys.stderr)


def _done(event: messages.DeployEvent) -> str:
    held = f"; requests waited {event.parked_us / 1e3:.0f} ms" if event.parked_us else ""
    return (
        f"{event.detail} is in service after {event.elapsed_us / 1e6:.2f} s{held}\n{event.digest}"
    )


def _facts(event: messages.DeployEvent) -> dict[str, object]:
    from edged import messages

    facts: dict[str, object] = {field.name: value for field, value in event.ListFields()}
    facts["outcome"] = messages.Outcome(event.outcome).name.lower() if event.outcome else None
    facts["phases_us"] = dict(event.phases_us)
    return facts
