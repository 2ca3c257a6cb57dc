"""``edged status``: what the daemon is doing."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from edged.cli import _control

if TYPE_CHECKING:
    from edged import messages

HELP = "show state, model, kernels and counters of the daemon"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    _control.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Shows the status; returns 0 whenever the daemon answers."""
    with _control.Control(arguments) as control:
        status = control.status()
    print(json.dumps(facts(status), indent=2) if arguments.json else table(status))
    return 0


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
    }


def _fields(message: messages.Model | messages.Counters) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.DESCRIPTOR.fields_by_name}


def table(status: messages.StatusReply) -> str:
    """Returns the status for people."""
    model, counts = status.model, status.counters
    rows = [
        ("state", status.state + (f": {status.reason}" if status.reason else "")),
        ("edged", f"{status.version}, process {status.pid}, up {status.uptime_us / 1e6:.0f} s"),
        ("listens", ", ".join(status.listen)),
        ("runtime", status.runtime),
    ]
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
    if status.previous_digest:
        rows.append(("previous", status.previous_digest))
    if status.deployment:
        rows.append(("deploying", f"{status.deployment}, {status.deployments_waiting} more wait"))
    requests = (
        f"{counts.answered} answered, {counts.failed} failed, {counts.refused} refused, "
        f"{counts.expired} expired, {counts.cancelled} cancelled, {counts.queued} waiting"
    )
    history = (
        f"{counts.deployments} deployments, {counts.reverts} reverted, "
        f"{counts.worker_deaths} worker deaths"
    )
    rows += [("requests", requests), ("since start", history)]
    return "\n".join(f"{name:12}{value}" for name, value in rows)
