"""The configuration file that is shipped: every setting, commented out, with what it is for.

``packaging/config/edged.toml`` is this text; a test holds it to it.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from edged.config import keys
from edged.config.keys import Key
from edged.config.settings import Config

HEAD = """\
# Settings of 'edged run'. What is commented out ("#key = value") is not set and shows the default,
# or an example where there is none. A variable EDGED_KEY, or EDGED_TABLE_KEY for what is in a
# table, goes before this file, and a flag before both. Files are looked for beside this one;
# "credential:NAME" is /etc/edged/credentials/NAME as systemd hands it to the service alone.
#
# edged check-config    says what is wrong with it, by line
# edged config show     says what is in effect, and where each value is from
# systemctl reload edged (SIGHUP) applies what is marked "at once"; the rest needs a restart.
"""
WIDTH = 98


def text() -> str:
    """Returns the whole file."""
    blocks = [HEAD, *(_setting(key) for key in keys.own(Config).values())]
    for name, kind in keys.tables(Config).items():
        blocks.append(_comment(keys.meaning(Config, name)) + f"[{name}]\n")
        blocks += (_setting(key) for key in keys.keys(kind, (name,)))
    for name, kind in keys.free(Config).items():
        header = f'#[{name}."{keys.names(Config, name)}"]\n'
        blocks.append(_comment(keys.meaning(Config, name)) + header)
        blocks += (_setting(key, variable=False) for key in keys.own(kind, (name,)).values())
    return "\n".join(blocks)


def _setting(key: Key, *, variable: bool = True) -> str:
    return _comment(key.meaning) + _comment("; ".join(_facts(key, variable=variable))) + _line(key)


def _facts(key: Key, *, variable: bool) -> Iterator[str]:
    if key.kind.choices or " from " in key.kind.expected:
        unit = f", in {key.unit}" if key.unit and key.unit not in key.kind.expected else ""
        yield key.kind.expected + unit
    if key.shown or key.default is None or key.example:
        yield f"default: {key.shown or 'none'}"
    if variable:
        yield key.variable
    if key.live:
        yield "at once"


def _line(key: Key) -> str:
    return f"#{key.path[-1]} = {key.example or _value(key)}\n"


def _value(key: Key) -> str:
    if key.default is MISSING:
        return key.shown.partition(";")[0]
    if key.name.endswith("_mode"):
        return f'"{key.default:04o}"'
    return _toml(key.default)


def _toml(value: Any) -> str:
    if isinstance(value, str | Path):
        return json.dumps(str(value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _comment(words: str) -> str:
    lines = textwrap.wrap(words, WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines)
