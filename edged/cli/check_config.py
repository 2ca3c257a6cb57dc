"""``edged check-config [FILE]``: what is wrong with the configuration, by line."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edged.errors import ConfigError

if TYPE_CHECKING:
    from edged.config import Config, Examined, Problem

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
    if examined.config is not None:
        examined.problems += _files(examined, examined.config)
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


def _files(examined: Examined, settings: Config) -> Iterator[Problem]:
    """Yields what is wrong with the files that the settings name, by the setting."""
    from edged.access import certificates, tokens
    from edged.config import Problem, is_gated
    from edged.oci.reference import check_host

    tls = settings.tls
    checks: list[tuple[str, Callable[[], object]]] = []
    if tls.cert_file and tls.key_file:
        files = (tls.cert_file, tls.key_file, tls.client_ca_file)
        checks.append(("tls.cert_file", lambda: certificates.load_server(*files)))
    if deny_file := tls.deny_file:
        checks.append(("tls.deny_file", lambda: certificates.denied(deny_file)))
    if is_gated(settings) and tls.client_cert == "off":
        checks.append(("listen", lambda: tokens.check_usable(settings.state_dir, settings.listen)))
    checks += [
        (name, functools.partial(check_host, each.key.path[1], each.key.path[1]))
        for name, each in examined.settings.items()
        if each.key.path[0] == "registries"
    ]
    told: set[str] = set()
    for key, check in checks:
        try:
            check()
        except ConfigError as exc:
            if str(exc) not in told:  # once for each, not for each of its keys
                told.add(str(exc))
                found = examined.settings[key]
                source = str(examined.file) if found.line is not None else found.origin
                yield Problem(source, str(exc), found.line, key)
