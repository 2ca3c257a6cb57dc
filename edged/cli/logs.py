"""``edged logs``: what the models' processes wrote, also when no daemon runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edged.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edged.containers.records import Record

HELP = "show what the models' processes wrote"
TAIL = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--follow", "-f", action="store_true", help="go on until ctrl-C")
    parser.add_argument(
        "--tail", "-n", type=_count, metavar="N", help=f"lines from the end (default {TAIL})"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    parser.add_argument("--state-dir", metavar="DIR", help="the daemon's")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the daemon's")


def run(arguments: argparse.Namespace) -> int:
    """Shows the lines, oldest first.

    Raises:
        StoreError: there are none, or they cannot be read.
    """
    from edged import config
    from edged.containers.records import Reader, follow

    settings = config.load({"state_dir": arguments.state_dir}, file=arguments.config)
    folder = settings.state_dir / "logs"
    if not folder.is_dir():
        raise StoreError(f"cannot show logs: no model has run yet, {folder} is not there")
    reader, tail = Reader(folder), TAIL if arguments.tail is None else arguments.tail
    records = reader.new()
    show(records[len(records) - tail :] if tail < len(records) else records, arguments.json)
    if arguments.follow:
        for records in follow(folder, reader):
            show(records, arguments.json)
    return 0


def show(records: Iterable[Record], as_json: bool) -> None:
    """Prints records at once: whoever reads them may be a program."""
    for record in records:
        if as_json:
            print(json.dumps(vars(record)), flush=True)
        else:
            print(f"{record.time} {record.container} {record.text}", flush=True)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a number of lines, got {text!r}")
    return int(text)
