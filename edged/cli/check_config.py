"""``edged check-config [FILE]``: what is wrong with the configuration, by line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = "check the configuration: file, EDGED_* variables, and the files they name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="instead of the one edged run would use"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Prints everything that is wrong; returns 0 if nothing is, 2 if something is."""
    from edged import config

    examined = config.examine({}, file=arguments.file)
    warnings = config.unknown_variables()
    if arguments.json:
        facts = {
            "file": str(examined.file) if examined.file else None,
            "ok": not examined.problems,
            "problems": [each.facts() for each in examined.problems],
            "warnings": warnings,
        }
        print(json.dumps(facts, indent=2))
    else:
        for line in (*map(str, examined.problems), *(f"warning: {each}" for each in warnings)):
            print(line)
        what = examined.file or "no configuration file; the defaults"
        count = len(examined.problems)
        told = f"{count} problem{'s' if count > 1 else ''}" if count else "nothing is wrong"
        print(f"{what}: {told}")
    return 2 if examined.problems else 0
