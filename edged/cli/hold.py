"""``edged hold``: an operator's lock on deployments."""

from __future__ import annotations

import argparse
import json
import re

from edged.cli import _control, _held
from edged.errors import ConfigError

HELP = "refuse deployments, for a while and with a reason; 'edged release' ends it"
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--owner", metavar="NAME", help="who holds it; by default who you are")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for those who wait")
    parser.add_argument(
        "--ttl", default="1h", metavar="TIME", help="90, 90s, 30m, 8h or 2d; 1h by default"
    )
    parser.add_argument("--force", action="store_true", help="although somebody else holds it")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    _control.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Holds the device; returns 0 when it is held."""
    from edged import messages

    request = messages.HoldRequest(
        owner=arguments.owner if arguments.owner is not None else _user(),
        reason=arguments.reason,
        ttl_s=seconds(arguments.ttl),
        force=arguments.force,
    )
    with _control.Control(arguments) as control:
        hold = control.hold(request)
    print(json.dumps(_held.facts(hold)) if arguments.json else _held.sentence(hold))
    return 0


def seconds(text: str) -> float:
    """Returns a time such as ``30m`` in seconds.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd]?)", text)
    if found is None:
        raise ConfigError(f"cannot use --ttl {text!r}: expected a time such as 90s, 30m, 8h or 2d")
    return float(found[1]) * UNITS[found[2]]


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError) as exc:  # a user id without a name
        raise ConfigError("cannot hold: say who holds, with --owner NAME") from exc
