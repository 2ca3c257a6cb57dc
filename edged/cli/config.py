"""``edged config``: what is set, and where each value is from; every setting there is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.cli._table import table

if TYPE_CHECKING:
    from edged.config import Examined

HELP = "show the settings in effect with their origins, or every setting there is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions and their flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser(
        "show", help="each setting, its value and where it is from; secrets are hidden"
    )
    show.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    show.add_argument("--json", action="store_true", help="print a JSON object")
    actions.add_parser("template", help="a file with every setting, its default and meaning")


def run(arguments: argparse.Namespace) -> int:
    """Shows the settings; returns 2 if they cannot be used."""
    from edged import config
    from edged.config import shipped

    if arguments.action == "template":
        print(shipped.text(), end="")
        return 0
    examined = config.examine({}, file=arguments.config)
    print(json.dumps(facts(examined), indent=2) if arguments.json else _text(examined))
    return 2 if examined.problems else 0


def facts(examined: Examined) -> dict[str, Any]:
    """Returns the settings for programs; secrets are hidden."""
    return {
        "file": str(examined.file) if examined.file else None,
        "settings": {
            name: {"value": each.shown, "origin": each.origin}
            for name, each in examined.settings.items()
        },
        "problems": [each.facts() for each in examined.problems],
    }


def _text(examined: Examined) -> str:
    rows = [[name, _value(each.shown), each.origin] for name, each in examined.settings.items()]
    shown = table(["setting", "value", "from"], rows)
    return "\n".join([shown, *(f"wrong: {each}" for each in examined.problems)])


def _value(value: Any) -> object:
    return None if value is None else json.dumps(value, ensure_ascii=False)
