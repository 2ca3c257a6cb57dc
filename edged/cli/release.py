"""``edged release``: ends a hold."""

from __future__ import annotations

import argparse
import json

from edged.cli import _control, _held

HELP = "allow deployments again after 'edged hold'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    _control.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Releases the device; returns 0, also if nobody held it."""
    with _control.Control(arguments) as control:
        hold = control.release()
    if arguments.json:
        print(json.dumps({"released": _held.facts(hold) if hold else None}))
    else:
        print(f"released; it was {_held.sentence(hold)}" if hold else "nobody held the device")
    return 0
