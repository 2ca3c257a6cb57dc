"""``edged history``: what was in service, what was to be, and what it cost."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from edged.cli import _control
from edged.cli._table import table as as_table

if TYPE_CHECKING:
    from edged import messages

HELP = "show what was deployed, with cause, outcome, times and blackout; newest first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="records; 0 for all")
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    _control.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Shows the history; returns 0 whenever the daemon answers."""
    with _control.Control(arguments) as control:
        records = control.history(max(arguments.limit, 0))
    if arguments.json:
        print(json.dumps([facts(each) for each in records], indent=2))
    else:
        print(table(records) if records else "nothing was deployed yet")
    return 0


def facts(record: messages.Record) -> dict[str, Any]:
    """Returns a record for programs: every field, also those that are zero or empty."""
    found = {name: getattr(record, name) for name in record.DESCRIPTOR.fields_by_name}
    found["phases_us"] = dict(record.phases_us)
    return found


def table(records: list[messages.Record]) -> str:
    """Returns the records for people."""
    lines = []
    for each in records:
        model = f"{each.name} {each.version}".strip() or each.reference or "-"
        blackout = max(each.blackout_us, each.window_blackout_us)
        took = round(each.elapsed_us / 1e6, 3) if each.elapsed_us else None
        held = round(blackout / 1e3, 1) if blackout else None
        lines.append(
            [each.number, when(each), each.cause, model, each.outcome, took, held, each.reason]
        )
    headers = ["no", "began", "cause", "model", "outcome", "seconds", "blackout ms", "reason"]
    return as_table(headers, lines)


def when(record: messages.Record) -> str:
    """Returns when it began; how long after a start, where the clock was not set."""
    if not record.dated:
        return f"{record.began_up_us / 1e6:.0f} s after boot {record.boot[:8]}"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record.began_unix_us / 1e6))
