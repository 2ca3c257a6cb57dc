"""``edged doctor``: what is wrong with this device, and what to do about it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edged.doctor.check import Group, Result

HELP = "check the whole device, with the daemon up or down; reasons, and what to do"
_WIDTH = max(len("skipped"), len("warning"))
_INDENT = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--group", action="append", metavar="NAME", help="only these checks; several times"
    )
    parser.add_argument("--list", action="store_true", help="only name the checks there are")
    parser.add_argument(
        "--warnings-as-errors", action="store_true", help="exit 1 for warnings, too"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument("--state-dir", metavar="DIR", help="the daemon's")
    parser.add_argument("--run-dir", metavar="DIR", help="the daemon's")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the daemon's")


def run(arguments: argparse.Namespace) -> int:
    """Shows the results; returns 0 if nothing is an error.

    Raises:
        ConfigError: there is no such group.
    """
    from edged.doctor.checks import GROUPS
    from edged.doctor.examine import examine
    from edged.doctor.world import World

    groups = chosen(GROUPS, arguments.group)
    if arguments.list:
        print("\n".join(f"{group.name}/{check.name}" for group in groups for check in group.checks))
        return 0
    flags = {key: getattr(arguments, key) for key in ("state_dir", "run_dir")}
    results = examine(groups, World(flags, arguments.config))
    listed = list(results) if arguments.json else show(results)
    if arguments.json:
        print(json.dumps(document(listed), indent=1, ensure_ascii=False))
    return 1 if failed(listed, warnings_too=arguments.warnings_as_errors) else 0


def chosen(groups: Sequence[Group], names: Sequence[str] | None) -> list[Group]:
    """Returns the groups with these names, in their order; all of them for None.

    Raises:
        ConfigError: there is no such group.
    """
    known = [group.name for group in groups]
    for name in names or ():
        if name not in known:
            raise ConfigError(f"cannot check group {name!r}: expected one of {', '.join(known)}")
    return [group for group in groups if not names or group.name in names]


def show(results: Iterable[Result]) -> list[Result]:
    """Prints the results as they come; returns them."""
    listed: list[Result] = []
    for each in results:
        if not listed or listed[-1].group != each.group:
            print(("\n" if listed else "") + each.group)
        listed.append(each)
        for line in lines(each):
            print(line, flush=True)
    print("\n" + summary(listed))
    return listed


def lines(result: Result) -> list[str]:
    """Returns a result for people: one line, and one with what to do."""
    from edged.containers.lines import printable

    found = result.finding
    head = f"{'':{_INDENT}}{found.level.value:{_WIDTH}}  {result.check:12}  "
    # Reasons have names from images, files and servers in them, and go to a terminal.
    text = [head + printable(" ".join(found.reason.split()))]
    if found.fix:
        text.append(" " * len(head) + "-> " + printable(" ".join(found.fix.split())))
    return text


def counts(results: Sequence[Result]) -> dict[str, int]:
    """Returns how many results there are of each level."""
    from edged.doctor.check import Level

    return {
        level.value: sum(each.finding.level is level for each in results)
        for level in (Level.ERROR, Level.WARNING, Level.OK, Level.SKIPPED)
    }


def summary(results: Sequence[Result]) -> str:
    """Returns how many results there are of each level, in a line."""
    return ", ".join(f"{count} {level}" for level, count in counts(results).items())


def failed(results: Sequence[Result], *, warnings_too: bool) -> bool:
    """Returns whether something is so bad that a script should care."""
    found = counts(results)
    return bool(found["error"] or (warnings_too and found["warning"]))


def document(results: Sequence[Result]) -> dict[str, Any]:
    """Returns the results for programs."""
    from edged.config import version

    return {
        "version": version.VERSION,
        "counts": counts(results),
        "results": [
            {
                "group": each.group,
                "check": each.check,
                "result": each.finding.level.value,
                "reason": each.finding.reason,
                "fix": each.finding.fix or None,
                "seconds": round(each.seconds, 3),
            }
            for each in results
        ],
    }
