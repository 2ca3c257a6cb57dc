"""``edged tokens``: who may call over the network, and what they may do."""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.cli._table import table
from edged.errors import ConfigError

if TYPE_CHECKING:
    from edged.access.tokens import Pair

HELP = "make, show, replace and revoke the tokens of callers over the network"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the actions and their flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="names, roles and dates; tokens are not kept")
    create = actions.add_parser("create", help="make both tokens of a new name; shown once")
    create.add_argument("--role", required=True, metavar="predict|status|admin")
    rotate = actions.add_parser("rotate", help="replace one token of a name; shown once")
    revoke = actions.add_parser("revoke", help="refuse a name's tokens from now on")
    for action in (create, rotate, revoke):
        action.add_argument("name", metavar="NAME", help="of whoever calls, such as line4")
    for action in (rotate, revoke):
        action.add_argument(
            "--slot",
            choices=("primary", "secondary"),
            help="which of the two" + ("; the older one" if action is rotate else "; both"),
        )
    for action in (create, rotate):
        action.add_argument(
            "--expires", type=_duration, metavar="TIME", help="from now on, such as 90d or 12h"
        )
        action.add_argument(
            "--given", type=Path, metavar="FILE", help="with a token to use instead of a new one"
        )
    for action in (listed, create, rotate, revoke):
        action.add_argument("--state-dir", type=Path, metavar="DIR", help="where they are kept")
        action.add_argument("--config", type=Path, metavar="FILE", help="configuration file")
        action.add_argument("--json", action="store_true", help="print facts as JSON")


def run(args: argparse.Namespace) -> int:
    """Does what was asked for.

    Raises:
        ConfigError: there is no such name, or the tokens cannot be changed.
    """
    from edged.access import tokens

    state = _state(args)
    if args.action == "list":
        pairs = list(tokens.read(tokens.path(state)).pairs.values())
        _print(args, {"tokens": [_facts(each) for each in pairs]}, _listing(pairs, state))
        return 0
    made = _change(args, state)
    _record(args, state)
    told = {"create": "made", "rotate": "replaced", "revoke": "revoked"}[args.action]
    lines = [f"{args.name}: {told}; shown once, edged keeps a hash"] if made else []
    lines += [f"{slot}: {token}" for slot, token in made.items()]
    _print(args, {"name": args.name, **made}, "\n".join(lines or [f"{args.name}: {told}"]))
    return 0


def _change(args: argparse.Namespace, state: Path) -> dict[str, str]:
    """Changes the file; returns the new tokens by slot."""
    from edged.access import tokens
    from edged.access.roles import Role

    name, now = tokens.check_name(args.name), time.time()
    with tokens.editing(state) as pairs:
        if args.action == "create":
            if name in pairs:
                raise ConfigError(f"cannot create {name}: it exists; 'edged tokens rotate {name}'")
            try:
                pairs[name] = tokens.Pair(name, Role.named(args.role))
            except ValueError as exc:
                raise ConfigError(f"cannot use --role: {exc}") from exc
            slots = tokens.SLOTS[:1] if args.given else tokens.SLOTS
        elif name not in pairs:
            known = ", ".join(sorted(pairs)) or "none"
            raise ConfigError(f"cannot {args.action} {name}: there is no such name; known: {known}")
        elif args.action == "revoke":
            _revoke(pairs, name, args.slot)
            return {}
        else:
            slots = (args.slot or tokens.older(pairs[name]),)
        expires = None if args.expires is None else int(now + args.expires)
        made = {slot: _given(args.given) if args.given else tokens.make() for slot in slots}
        for slot, token in made.items():
            if tokens.Tokens(pairs).find(token, now):
                raise ConfigError("cannot use the given token: it is in use already")
            pairs[name] = tokens.put(pairs[name], slot, token, now, expires)
    return made


def _revoke(pairs: dict[str, Pair], name: str, slot: str | None) -> None:
    from dataclasses import replace

    left = {each: token for each, token in pairs[name].tokens.items() if slot and each != slot}
    if left:
        pairs[name] = replace(pairs[name], tokens=left)
    else:
        del pairs[name]


def _record(args: argparse.Namespace, state: Path) -> None:
    from edged.access.audit import Act, Audit, own_name

    what = f"tokens {args.action}"
    name = " ".join(filter(None, [args.name, getattr(args, "slot", None)]))
    Audit(state).keep(Act(own_name(), "edged tokens", what, name))


def _state(args: argparse.Namespace) -> Path:
    """Returns the state folder that edged run would use, whatever else its settings say."""
    from edged import config

    if args.state_dir is not None:
        return Path(args.state_dir)
    examined = config.examine({}, file=args.config)
    return Path(examined.settings["state_dir"].value)


def _given(file: Path) -> str:
    from edged.access import tokens
    from edged.cli._token import read_token

    return tokens.check_given(read_token(file))


def _duration(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"expected a time such as 90d, 12h or 30m, got {text!r}")
    return int(found[1]) * UNITS[found[2]]


def _facts(pair: Pair) -> dict[str, Any]:
    slots = {
        slot: {
            "created_unix": token.created_unix,
            "expires_unix": token.expires_unix,
            "expired": token.has_expired(time.time()),
        }
        for slot, token in pair.tokens.items()
    }
    return {"name": pair.name, "role": pair.role.label, "tokens": slots}


def _listing(pairs: list[Pair], state: Path) -> str:
    if not pairs:
        return f"no tokens in {state}; make some with 'edged tokens create NAME --role predict'"
    rows = [
        [pair.name, pair.role.label, slot, _day(token.created_unix), _end(token.expires_unix)]
        for pair in pairs
        for slot, token in pair.tokens.items()
    ]
    return table(["name", "role", "token", "made", "expires"], rows)


def _end(expires_unix: int | None) -> str:
    if expires_unix is None:
        return "never"
    return _day(expires_unix) + (" (expired)" if time.time() >= expires_unix else "")


def _day(unix: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(unix))


def _print(args: argparse.Namespace, facts: dict[str, Any], text: str) -> None:
    print(json.dumps(facts, indent=1) if args.json else text)
