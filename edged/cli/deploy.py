"""``edged deploy REF``: brings a model into service."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edged.cli import _control, _events, _handover

HELP = "bring a model image into service, without losing a request"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "reference",
        metavar="REF",
        help="oci:DIR[:TAG], oci-archive:FILE or docker://HOST/NAME:TAG|@DIGEST",
    )
    parser.add_argument("--force", action="store_true", help="although the device is held")
    parser.add_argument(
        "--allow-downgrade",
        action="store_true",
        help="although one of the same name and key with a higher counter was in service",
    )
    parser.add_argument(
        "--trust",
        metavar="FILE",
        type=Path,
        help="first trust the public key in FILE, as 'edged keys trust' does",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per event")
    _control.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Deploys and shows the progress; returns 0 when the model is in service."""
    from edged import messages
    from edged.oci import Reference

    reference = Reference.parse(arguments.reference)
    with _control.Control(arguments) as control:
        if arguments.trust is not None:
            _trust(arguments.trust)
        here = reference.absolute()
        with _handover.readable(here, control.socket) as there:
            request = messages.DeployRequest(
                reference=str(there),
                origin="" if there == here else str(here),
                force=arguments.force,
                allow_downgrade=arguments.allow_downgrade,
            )
            events = control.deploy(request)
            return _events.follow(events, f"deploy {reference}", as_json=arguments.json)


def _trust(file: Path) -> None:
    from edged.cli.keys import default_folder
    from edged.oci import keys

    folder = default_folder()
    print(f"trusted: {keys.trust(file, folder)}, in {folder}", file=sys.stderr)
