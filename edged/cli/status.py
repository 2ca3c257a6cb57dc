"""``edged status``: what the daemon is doing."""

from __future__ import annotations

import argparse
import functools
import json
import time
from typing import TYPE_CHECKING, Any

from edged.cli import _control, _held, _link, _watch, history

if TYPE_CHECKING:
    from edged import messages

HELP = "show state, model, kernels and counters of the daemon"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_pace,
        const=_watch.SECONDS,
        metavar="SECONDS",
        help="again and again, with rates, until ctrl-C; with --json an object a line "
        f"(default: every {_watch.SECONDS:g} s)",
    )
    _control.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Shows the status; returns 0 whenever the daemon answers."""
    with _control.Control(arguments) as control:
        if arguments.watch is not None:
            ask = functools.partial(control.status, _watch.PATIENCE)
            as_json = facts if arguments.json else None
            return _watch.watch(ask, table, as_json, arguments.watch)
        status = control.status()
    print(json.dumps(facts(status), indent=2) if arguments.json else table(status))
    return 0


def _pace(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _watch.LEAST <= seconds <= _watch.MOST:
        raise argparse.ArgumentTypeError(
            f"expected seconds from {_watch.LEAST:g} to {_watch.MOST:g}, got {text!r}"
        )
    return seconds


def facts(status: messages.StatusReply) -> dict[str, Any]:
    """Returns the status for programs: every field, also those that are zero or empty."""
    model, counters = status.model, status.counters
    return {
        "version": status.version,
        "pid": status.pid,
        "uptime_us": status.uptime_us,
        "state": status.state,
        "reason": status.reason,
        "runtime": status.runtime,
        "listen": list(status.listen),
        "model": _fields(model) if status.HasField("model") else None,
        "previous_digest": status.previous_digest or None,
        "deployment": status.deployment or None,
        "deployments_waiting": status.deployments_waiting,
        "counters": _fields(counters),
        "verify": status.verify,
        "sandbox": status.sandbox,
        "hold": _held.facts(status.hold) if status.HasField("hold") else None,
        "previous": _fields(status.previous) if status.HasField("previous") else None,
        "last_deployment": history.facts(status.last_deployment)
        if status.HasField("last_deployment")
        else None,
        "worst_blackout_us": status.worst_blackout_us,
        "window_left_us": status.window_left_us,
        "standby_digest": status.standby_digest or None,
        "quarantined": status.quarantined,
        "store_faults": list(status.store_faults),
        "link": _fields(status.link) if status.HasField("link") else None,
        "heartbeat_age_us": status.heartbeat_age_us,
        "p99_us": status.p99_us,
    }


def _last(record: messages.Record) -> str:
    named = f"{record.name} {record.version}".strip() or record.reference
    text = f"{record.cause} {named}: {record.outcome}, {history.when(record)}"
    return text + (f": {record.reason}" if record.reason else "")


def _fields(message: messages.Model | messages.Counters | messages.Link) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.DESCRIPTOR.fields_by_name}


def table(status: messages.StatusReply) -> str:
    """Returns the status for people."""
    model, counts = status.model, status.counters
    rows = [
        ("state", status.state + (f": {status.reason}" if status.reason else "")),
        ("edged", f"{status.version}, process {status.pid}, up {status.uptime_us / 1e6:.0f} s"),
        ("listens", ", ".join(status.listen)),
        ("runtime", status.runtime),
        ("sandbox", status.sandbox),
        ("signatures", "required" if status.verify == "required" else "NOT VERIFIED (verify off)"),
    ]
    if status.HasField("hold"):
        rows.append(("hold", _held.sentence(status.hold)))
    if status.HasField("model"):
        deployed = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(model.deployed_unix_us / 1e6))
        rows += [
            ("model", f"{model.name} {model.version}".strip() or "not loaded"),
            ("digest", model.digest),
            ("from", f"{model.reference}, {deployed}"),
            ("format", f"{model.format} for {model.sku}, {model.memory_bytes / 1e6:.1f} MB"),
            ("kernels", model.isa or "-"),
            ("worker", f"process {model.worker_pid}" if model.worker_pid else "not running"),
        ]
    if status.HasField("previous"):
        before = status.previous
        loaded = ", still loaded" if status.standby_digest == before.digest else ""
        named = f"{before.name} {before.version}".strip()
        rows.append(("previous", f"{named} {before.digest}".strip() + loaded))
    if status.window_left_us:
        left = f"{status.window_left_us / 1e6:.0f} s of its window of good behaviour to go"
        rows.append(("on trial", left))
    if status.deployment:
        rows.append(("deploying", f"{status.deployment}, {status.deployments_waiting} more wait"))
    if status.HasField("last_deployment"):
        rows.append(("last change", _last(status.last_deployment)))
    if status.worst_blackout_us:
        worst = f"{status.worst_blackout_us / 1e3:.1f} ms at worst"
        rows.append(("blackout", f"{worst}; 'edged history' shows each"))
    if status.quarantined:
        rows.append(("quarantine", f"{status.quarantined} images; see 'edged quarantine'"))
    rows += [("store", fault) for fault in status.store_faults]
    if status.HasField("link"):
        rows += _link.rows(status.link)
    requests = (
        f"{counts.answered} answered, {counts.failed} failed, {counts.refused} refused, "
        f"{counts.expired} expired, {counts.cancelled} cancelled, {counts.queued} waiting"
    )
    changes = (
        f"{counts.deployments} deployments, {counts.reverts} reverted, "
        f"{counts.worker_deaths} worker deaths"
    )
    rows.append(("requests", requests))
    if status.p99_us:
        rows.append(
            ("p99", f"{status.p99_us / 1e3:.1f} ms from arrival to answer, of the last ones")
        )
    rows.append(("since start", changes))
    return "\n".join(f"{name:12}{value}" for name, value in rows)
