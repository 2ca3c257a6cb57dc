"""``edged quarantine``: images that were at fault on this device."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from edged.cli import _control
from edged.cli._table import table

if TYPE_CHECKING:
    from edged import messages

HELP = "list the images that were at fault here and are refused; or clear them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    listed = actions.add_parser("list", help="show them (the default)")
    clear = actions.add_parser("clear", help="allow an image to be deployed again")
    clear.add_argument("digest", metavar="DIGEST|all", help="sha256:..., its first digits, or all")
    for each, default in ((parser, False), (listed, argparse.SUPPRESS), (clear, argparse.SUPPRESS)):
        each.add_argument("--json", action="store_true", default=default, help="print JSON")
    _control.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Lists or clears; returns 0 when that was done."""
    clear = arguments.digest if arguments.action == "clear" else ""
    with _control.Control(arguments) as control:
        images = control.quarantine(clear)
    if arguments.json:
        print(json.dumps([_facts(each) for each in images], indent=2))
    elif clear:
        lines = [f"{each.digest} may be deployed again" for each in images]
        print("\n".join(lines) or "no image was in quarantine")
    elif images:
        rows = [
            [each.digest, f"{each.name} {each.version}", _day(each), each.reason] for each in images
        ]
        print(table(["digest", "model", "since", "reason"], rows))
    else:
        print("no image is in quarantine")
    return 0


def _facts(image: messages.Quarantined) -> dict[str, object]:
    return {name: getattr(image, name) for name in image.DESCRIPTOR.fields_by_name}


def _day(image: messages.Quarantined) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(image.since_unix_us / 1e6))
