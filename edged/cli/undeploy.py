"""``edged undeploy``: takes the model out of service."""

from __future__ import annotations

import argparse
import json

from edged.cli import _control

HELP = "take the model out of service; the NPU is empty then"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--force", action="store_true", help="although the device is held")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    _control.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Undeploys; returns 0, also if nothing was deployed."""
    from edged import messages

    with _control.Control(arguments) as control:
        digest = control.undeploy(messages.UndeployRequest(force=arguments.force))
    if arguments.json:
        print(json.dumps({"digest": digest or None}))
    else:
        print(f"{digest} is out of service" if digest else "no model was deployed")
    return 0
