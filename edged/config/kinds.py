"""What a setting's value may be: its type and range, in words and as the function that reads it.

Values come from TOML with a type, and as texts from flags and variables; both are read alike.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CREDENTIAL = "credential:"
CREDENTIALS = "/run/credentials/edged.service"
ADDRESS = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:]+):[0-9]{1,5}")


@dataclass(frozen=True)
class Kind:
    """One sort of values.

    Attributes:
        expected: what a value must be, in words that follow "expected".
        read: returns the value in its field's type, given what came and the folder that relative
            files start from; a ``ValueError`` or ``TypeError`` means that it is none.
        choices: all there are, if they can be listed.
    """

    expected: str
    read: Callable[[Any, Path], Any]
    choices: tuple[str, ...] = ()


def _text(value: Any, _base: Path) -> str:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError
    return str(value)


def _folder(value: Any, base: Path) -> Path:
    return Path(_text(value, base)).expanduser().absolute()


def _file(value: Any, base: Path) -> Path:
    text = _text(value, base)
    if not text.startswith(CREDENTIAL):
        return base.absolute() / Path(text).expanduser()
    name = text.removeprefix(CREDENTIAL)
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise ValueError
    # As systemd names what LoadCredential=edged:FOLDER has; without it in our own environment (an
    # operator's command) it is where systemd keeps it for the service.
    return Path(os.environ.get("CREDENTIALS_DIRECTORY") or CREDENTIALS) / f"edged_{name}"


def _switch(value: Any, _base: Path) -> bool:
    known = {"true": True, "false": False, True: True, False: False}
    if not isinstance(value, str | bool) or value not in known:
        raise ValueError
    return known[value]


def _address(value: Any, base: Path) -> str:
    text = _text(value, base)
    if not ADDRESS.fullmatch(text) or int(text.rpartition(":")[2]) > 65535:
        raise ValueError
    return text


def _mode(value: Any, base: Path) -> int:
    text = _text(value, base)
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError
    return int(text, 8)


TEXT = Kind("a text", _text)
FOLDER = Kind("a text", _folder)
FILE = Kind("a text: a path, or credential:NAME", _file)
SWITCH = Kind("true or false", _switch)
ADDRESS_AND_PORT = Kind("HOST:PORT", _address)
MODE = Kind('a text of octal digits, such as "0660"', _mode)


def choice(*valid: str) -> Kind:
    """One of some texts."""

    def read(value: Any, base: Path) -> str:
        if _text(value, base) not in valid:
            raise ValueError
        return str(value)

    return Kind(f"one of {', '.join(valid)}", read, valid)


def whole(least: int, most: int) -> Kind:
    """A whole number in a range."""

    def read(value: Any, _base: Path) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError
        return value

    return Kind(f"a number from {least} to {most}", read)


def number(least: float, most: float, unit: str = "a number") -> Kind:
    """A number in a range, with a fraction or without."""

    def read(value: Any, _base: Path) -> float:
        found = math.nan if isinstance(value, bool) else float(value)
        if not least <= found <= most:
            raise ValueError
        return found

    return Kind(f"{unit} from {least:g} to {most:g}", read)


def named(values: Kind, what: str) -> Kind:
    """A table of names that the operator chooses; as a text: ``NAME=VALUE,NAME=VALUE``."""

    def read(value: Any, base: Path) -> dict[str, Any]:
        if isinstance(value, str):
            pairs = [each.rpartition("=") for each in value.split(",") if each.strip()]
            value = {name.strip(): each.strip() for name, _, each in pairs}
        if not isinstance(value, dict) or not all(value):
            raise TypeError
        return {name: values.read(each, base) for name, each in value.items()}

    return Kind(f"a table of {what}, each {values.expected}", read)
