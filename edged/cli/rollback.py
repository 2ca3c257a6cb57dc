"""``edged rollback``: brings the previous model back into service."""

from __future__ import annotations

import argparse

from edged.cli import _control, _events

HELP = "bring the previous model back into service, from this device's store"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--force", action="store_true", help="although the device is held")
    parser.add_argument("--json", action="store_true", help="one JSON object per event")
    _control.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Rolls back and shows the progress; returns 0 when the model is in service."""
    from edged import messages

    with _control.Control(arguments) as control:
        events = control.rollback(messages.RollbackRequest(force=arguments.force))
        return _events.follow(events, "roll back", as_json=arguments.json)
