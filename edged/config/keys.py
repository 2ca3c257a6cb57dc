"""How a setting is declared: a field of a frozen dataclass, with what it is for and may be.

A table of the TOML file is a dataclass whose fields are made by ``setting``; a field made by
``table`` is a table within it, one made by ``entries`` a table of tables whose names are the
operator's. Everything that knows the settings (reading, checking, showing, the shipped file) goes
through ``keys``, ``own``, ``tables`` and ``free``.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edged.config.kinds import Kind

BARE = re.compile("[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Key:
    """One setting.

    Attributes:
        path: names of its tables and its own.
        kind: what its value may be.
        default: its value if nobody sets it.
        meaning: one or more sentences for the operator.
        unit: of its value, if it has one.
        shown: the default in words, if its value would not say it.
        example: a value to show, in TOML, where there is no default.
        live: whether a change is applied by a reload; the others need a restart.
        secret: whether its value must not be shown.
    """

    path: tuple[str, ...]
    kind: Kind
    default: Any
    meaning: str
    unit: str = ""
    shown: str = ""
    example: str = ""
    live: bool = False
    secret: bool = False

    @property
    def name(self) -> str:
        """With its tables, as in ``tls.cert_file``; parts that TOML has quoted are."""
        return dotted(self.path)

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "EDGED_" + "_".join(self.path).upper()


def dotted(path: tuple[str, ...]) -> str:
    """Returns a path as TOML writes it."""
    return ".".join(part if BARE.fullmatch(part) else json.dumps(part) for part in path)


def setting(
    kind: Kind,
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    shown: str = "",
    example: str = "",
    live: bool = False,
    secret: bool = False,
) -> Any:
    """A field that is a setting; see ``Key``."""
    key = Key((), kind, default, meaning, unit, shown, example, live, secret)
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata={"key": key})
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: dict(default), metadata={"key": key})
    return dataclasses.field(default=default, metadata={"key": key})


def table(kind: type[Any], meaning: str) -> Any:
    """A field that is a table of its own, a dataclass whose fields are settings."""
    return dataclasses.field(default_factory=kind, metadata={"table": kind, "meaning": meaning})


def entries(kind: type[Any], meaning: str, name: str) -> Any:
    """A field that has tables of one kind by names of the operator's; ``name`` says what they are.

    The field's value is a mapping by name of mappings, which have the given keys alone.
    """
    return dataclasses.field(
        default_factory=dict, metadata={"entries": kind, "meaning": meaning, "name": name}
    )


def keys(kind: type[Any], path: tuple[str, ...] = ()) -> Iterator[Key]:
    """Yields the settings of a dataclass and its tables, not those of ``entries``."""
    for field in dataclasses.fields(kind):
        if "key" in field.metadata:
            yield dataclasses.replace(field.metadata["key"], path=(*path, field.name))
        elif "table" in field.metadata:
            yield from keys(field.metadata["table"], (*path, field.name))


def own(kind: type[Any], path: tuple[str, ...] = ()) -> dict[str, Key]:
    """Returns the settings of a dataclass itself, by name."""
    return {
        field.name: dataclasses.replace(field.metadata["key"], path=(*path, field.name))
        for field in dataclasses.fields(kind)
        if "key" in field.metadata
    }


def tables(kind: type[Any]) -> dict[str, type[Any]]:
    """Returns the tables within a dataclass, by name."""
    return _marked(kind, "table")


def free(kind: type[Any]) -> dict[str, type[Any]]:
    """Returns what is within a dataclass under names of the operator's, by the table's name."""
    return _marked(kind, "entries")


def meaning(kind: type[Any], name: str) -> str:
    """Returns what a table within a dataclass is for."""
    found = next(field for field in dataclasses.fields(kind) if field.name == name)
    return str(found.metadata["meaning"])


def names(kind: type[Any], name: str) -> str:
    """Returns what the names in a field of ``entries`` are, as in ``HOST``."""
    found = next(field for field in dataclasses.fields(kind) if field.name == name)
    return str(found.metadata["name"])


def _marked(kind: type[Any], mark: str) -> dict[str, type[Any]]:
    return {
        field.name: field.metadata[mark]
        for field in dataclasses.fields(kind)
        if mark in field.metadata
    }
