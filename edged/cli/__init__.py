"""The verbs of the command line: each is a module of this package with the verb's name.

A verb has ``HELP`` (one line), ``add_arguments(parser)`` and ``run(arguments) -> int``. Only the
module of the verb that is asked for is imported, and it imports what it needs in ``run``.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any

# In the order of their use. Other modules of the package are no verbs.
VERBS = (
    "run",
    "keys",
    "tokens",
    "config",
    "check-config",
    "build",
    "inspect",
    "eval",
    "deploy",
    "push",
    "rollback",
    "undeploy",
    "status",
    "images",
    "logs",
    "history",
    "hold",
    "release",
    "quarantine",
    "predict",
    "bench",
    "doctor",
    "support-bundle",
)


def verbs() -> list[str]:
    """Returns the names of the verbs there are."""
    names = {module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)}
    return [name for name in VERBS if name in names]


def main(arguments: Sequence[str]) -> int:
    """Runs the command in ``arguments`` and returns its exit status.

    Raises:
        EdgedError: it failed.
        SystemExit: wrong usage, or help was asked for.
    """
    parser = _parser(arguments[0] if arguments else "")
    parsed = parser.parse_args(arguments)
    if parsed.own_version:
        from edged.config import version

        print(f"edged {version.VERSION}")
        return 0
    if parsed.verb is None:
        parser.error("say what to do, such as: edged status")
    return int(_module(parsed.verb).run(parsed))


def _parser(first: str) -> argparse.ArgumentParser:
    """Returns the parser; it knows the other verbs' names, and their help only if asked for it."""
    parser = argparse.ArgumentParser(
        prog="edged", description="The runtime daemon of an inspection device."
    )
    # Its own name: a verb may have a --version too.
    parser.add_argument(
        "--version", action="store_true", dest="own_version", help="print the version and exit"
    )
    known = verbs()
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB")
    for name in [first] if first in known else known:
        module = _module(name)
        sub = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(sub)
    return parser


def _module(verb: str) -> Any:
    return importlib.import_module(f"{__name__}.{verb.replace('-', '_')}")
