"""On which line of a TOML file each key is set.

The standard library's parser keeps no positions. It parses here too, statement by statement: a
statement (a header or a key with its value) begins on a line of its own, may be parsed alone, and
is incomplete, hence no valid TOML, until its last line has come. So a key is never searched for in
the text, and what looks like one inside a string or a comment is none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Path: TypeAlias = tuple[str, ...]


def lines(text: str) -> dict[Path, int]:
    """Returns the line, from 1 on, of every key and table by its path.

    Args:
        text: of a file that was parsed without an error.

    A table of an array of tables has its number, from 0 on, as a part of the path. A table that
    only dotted keys or deeper headers imply has the line of the first of these.
    """
    found: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    for number, statement in _statements(text):
        document = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _header(document, arrays)
            _note(found, table, number)
        else:
            for path in _paths(document):
                _note(found, table + path, number)
    return found


def _note(found: dict[Path, int], path: Path, number: int) -> None:
    for depth in range(1, len(path) + 1):
        found.setdefault(path[:depth], number)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yields each statement with the number of its first line."""
    began, collected = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        if not collected:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            began = number
        collected += line + "\n"
        if _is_whole(collected):
            yield began, collected
            collected = ""


def _is_whole(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _header(document: Mapping[str, Any], arrays: dict[Path, int]) -> Path:
    """Returns the path of the table that a header begins."""
    path: Path = ()
    value: Any = document
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        path += (name,)
        if isinstance(value, list):  # only the last part of a header can begin a new one
            for deeper in [each for each in arrays if each[: len(path)] == path and each != path]:
                del arrays[deeper]  # they count anew in the new table
            arrays[path] = arrays.get(path, -1) + 1
            return (*_within(path[:-1], arrays), path[-1], str(arrays[path]))
    return _within(path, arrays)


def _within(path: Path, arrays: Mapping[Path, int]) -> Path:
    """Returns the path with the numbers of the tables of arrays it leads through."""
    whole: Path = ()
    for depth, name in enumerate(path, 1):
        whole += (name,)
        if path[:depth] in arrays:
            whole += (str(arrays[path[:depth]]),)
    return whole


def _paths(document: Mapping[str, Any]) -> Iterator[Path]:
    for name, value in document.items():
        yield (name,)
        if isinstance(value, dict):
            for path in _paths(value):
                yield (name, *path)
