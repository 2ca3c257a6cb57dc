"""What a reload changes: what can be applied at once, and what needs a restart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edged.config import keys
from edged.config.keys import Key
from edged.config.settings import ALL, Config

TABLES = "registries"  # applied as a whole
ONSET = ("tls.cert_file", "tls.key_file")  # with them the port speaks another protocol


@dataclass(frozen=True)
class Change:
    """The way from one configuration to another.

    Attributes:
        applied: the configuration that holds from now on: of before, with what can change.
        live: names of what changes at once.
        waiting: names of what needs a restart.
    """

    applied: Config
    live: tuple[str, ...]
    waiting: tuple[str, ...]

    def __str__(self) -> str:
        said = [f"applied {', '.join(self.live)}"] if self.live else []
        if self.waiting:
            said.append(f"{', '.join(self.waiting)} need a restart")
        return "; ".join(said) or "nothing has changed"


def between(old: Config, new: Config) -> Change:
    """Returns what a reload from ``old`` to ``new`` comes to."""
    changed = [key for key in ALL.values() if _value(old, key) != _value(new, key)]
    live = [key for key in changed if _is_live(key, old, new)]
    applied = _with(old, {key.path: _value(new, key) for key in live})
    names = [key.name for key in live]
    if old.registries != new.registries:
        applied = dataclasses.replace(applied, registries=new.registries)
        names.append(TABLES)
    waiting = tuple(key.name for key in changed if key not in live)
    return Change(applied, tuple(names), waiting)


def _is_live(key: Key, old: Config, new: Config) -> bool:
    if key.name in ONSET and None in (_value(old, key), _value(new, key)):
        return False
    return key.live


def _value(config: Any, key: Key) -> Any:
    for name in key.path:
        config = getattr(config, name)
    return config


def _with(config: Any, values: dict[tuple[str, ...], Any], path: tuple[str, ...] = ()) -> Any:
    """Returns the dataclass, and those within it, with other values."""
    return dataclasses.replace(config, **dict(_changed(config, values, path)))


def _changed(
    config: Any, values: dict[tuple[str, ...], Any], path: tuple[str, ...]
) -> Iterator[tuple[str, Any]]:
    for name in keys.tables(type(config)):
        yield name, _with(getattr(config, name), values, (*path, name))
    for each, value in values.items():
        if each[:-1] == path:
            yield each[-1], value
