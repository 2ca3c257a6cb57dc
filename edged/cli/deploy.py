"""``edged deploy REF``: brings a model into service."""

from __future__ import annotations

import argparse

from edged.cli import _control, _events

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
    parser.add_argument("--json", action="store_true", help="one JSON object per event")
    _control.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Deploys and shows the progress; returns 0 when the model is in service."""
    from edged import messages

    reference = _absolute(arguments.reference)
    request = messages.DeployRequest(
        reference=reference,
        force=arguments.force,
        allow_downgrade=arguments.allow_downgrade,
    )
    with _control.Control(arguments) as control:
        events = control.deploy(request)
        return _events.follow(events, f"deploy {reference}", as_json=arguments.json)


def _absolute(text: str) -> str:
    """Returns the reference with an absolute path: the daemon has another working directory."""
    from edged.oci import Reference

    return str(Reference.parse(text).absolute())
