"""The TOML file: read, and every key in it held to the settings there are."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edged.config import keys, locate
from edged.config.keys import Key
from edged.config.problem import Problem
from edged.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SIZE_LIMIT = 256 * 1024  # bytes
LINE = re.compile(r"at line (\d+)")  # in the parser's errors


@dataclass(frozen=True)
class Found:
    """A value as it stands in the file."""

    key: Key
    value: Any
    line: int | None


@dataclass
class Document:
    """What a file says.

    Attributes:
        path: of the file; None if there is none.
        found: the values of known keys.
        tables: names of the operator's, such as registries, by the field that has them; also
            those without any key.
        problems: what is no key.
    """

    path: Path | None = None
    found: list[Found] = field(default_factory=list)
    tables: list[tuple[str, ...]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read(path: Path, settings: type[Any]) -> Document:
    """Returns what the file says.

    Args:
        path: of the file.
        settings: the dataclass of the settings there are.

    Raises:
        ConfigError: it cannot be read, or has too many bytes.
    """
    document = Document(path)
    text = _text(path)
    try:
        content = tomllib.loads(text)
    except ValueError as exc:
        where = LINE.search(str(exc))
        line = int(where[1]) if where else text.rstrip().count("\n") + 1
        document.problems.append(Problem(str(path), f"cannot read it as TOML: {exc}", line))
        return document
    _Walk(document, locate.lines(text)).table(settings, content, ())
    return document


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise ConfigError(f"cannot read {path}: it has more than {SIZE_LIMIT} bytes")
        return data.decode().replace("\r\n", "\n")
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise ConfigError(f"cannot read {path}: line {line} is not UTF-8") from exc


class _Walk:
    """Goes through a parsed file and sorts what it finds into a document."""

    def __init__(self, document: Document, lines: Mapping[tuple[str, ...], int]) -> None:
        self._document = document
        self._lines = lines

    def table(self, kind: type[Any], content: Mapping[str, Any], path: tuple[str, ...]) -> None:
        """Sorts a table; ``path`` is where it stands in the file."""
        own, tables, free = keys.own(kind, path), keys.tables(kind), keys.free(kind)
        for name, value in content.items():
            here = (*path, name)
            if name in own:
                self._document.found.append(Found(own[name], value, self._lines.get(here)))
            elif name in tables:
                if isinstance(value, dict):
                    self.table(tables[name], value, here)
                else:
                    self._problem(here, f"expected a table [{keys.dotted(here)}], got {value!r}")
            elif name in free:
                self._entries(free[name], keys.names(kind, name), value, here)
            else:
                self._unknown(here, (*own, *tables, *free))

    def _entries(self, kind: type[Any], called: str, value: Any, path: tuple[str, ...]) -> None:
        if not isinstance(value, dict):
            value = {"": value}
        for name, content in value.items():
            if isinstance(content, dict):
                self._document.tables.append((*path, name))
                self.table(kind, content, (*path, name))
            else:
                where = (*path, name) if name else path
                said = f'expected tables [{keys.dotted(path)}."{called}"], got a value'
                self._problem(where, said)

    def _unknown(self, path: tuple[str, ...], valid: Iterable[str]) -> None:
        name = path[-1]
        near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.0)[0]
        message = f"unknown key {name!r}; the nearest is {near!r}"
        line = self._lines.get(path)
        source = str(self._document.path)
        self._document.problems.append(Problem(source, message, line, keys.dotted(path), near))

    def _problem(self, path: tuple[str, ...], message: str) -> None:
        source, line = str(self._document.path), self._lines.get(path)
        self._document.problems.append(Problem(source, message, line, keys.dotted(path)))
