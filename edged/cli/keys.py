"""``edged keys``: the keys that sign images, and those a device trusts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edged.cli._passphrase import add_passphrase, passphrase
from edged.cli._table import table

HELP = "Make keys that sign images; say which of them this device trusts."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = verbs.add_parser("generate", help="make PATH.key (keep it) and PATH.pub (give it away)")
    make.add_argument("path", metavar="PATH", type=Path, help="of the two files, without suffix")
    add_passphrase(make)
    trust = verbs.add_parser("trust", help="accept images signed with this key")
    trust.add_argument("file", metavar="FILE", type=Path, help="a public key, PEM")
    listed = verbs.add_parser("list", help="show the keys this device trusts")
    for verb in (trust, listed):
        verb.add_argument("--keys-dir", metavar="DIR", type=Path, help="where trusted keys are")
    for verb in (make, trust, listed):
        verb.add_argument("--json", action="store_true", help="print facts as JSON")


def run(args: argparse.Namespace) -> int:
    """Does what was asked for."""
    from edged.oci import keys

    if args.action == "generate":
        made = keys.generate(args.path, passphrase(args))
        paths = [f"{args.path}{suffix}" for suffix in (keys.PRIVATE, keys.PUBLIC)]
        _print(args, {"id": made.id, "files": paths}, f"{paths[0]}\n{paths[1]}\nid {made.id}")
        return 0
    folder = args.keys_dir or default_folder()
    if args.action == "trust":
        key = keys.trust(args.file, folder)
        _print(args, {"id": key.id, "name": key.name}, f"trusted: {key}, in {folder}")
        return 0
    trusted = keys.TrustedKeys.load(folder)
    facts = [{"name": key.name, "id": key.id} for key in trusted.keys]
    rows = [[key.name, key.id] for key in trusted.keys]
    nobody = f"no key is trusted: {folder} has none"
    _print(
        args, {"folder": str(folder), "keys": facts}, table(["key", "id"], rows) if rows else nobody
    )
    return 0


def default_folder() -> Path:
    """Returns where the keys are that the caller's device trusts."""
    from edged import config

    return config.load({}).keys_dir


def _print(args: argparse.Namespace, facts: dict[str, object], text: str) -> None:
    print(json.dumps(facts, indent=1) if args.json else text)
