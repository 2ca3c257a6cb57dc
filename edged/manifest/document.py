"""Reading a JSON document that nobody vouches for, with errors that say what is wrong where.

Invariants:
- A reader either returns a value of the type and range it is named for or raises ``ModelError``.

The module does not know what any field means.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn, TypeVar

from edged.errors import ModelError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Node:
    """One value of a JSON document and where it stands, for errors that say so.

    Attributes:
        value: what ``json.loads`` gave.
        where: path from the document's root, such as ``"manifest.stages[1].program"``.
    """

    value: Any
    where: str

    def error(self, cause: str) -> ModelError:
        """Returns the error that this value is at fault for."""
        return ModelError(f"cannot read {self.where}: {cause}")

    def fields(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Node]:
        """Returns the fields of an object that has all of the first names, and no others."""
        found = self.members()
        missing = [name for name in required if name not in found]
        unknown = sorted(set(found) - {*required, *optional})
        if missing or unknown:
            raise self.error(f"missing fields {missing}, unknown fields {unknown}"[:500])
        return found

    def members(self, most: int = 64) -> dict[str, Node]:
        """Returns the fields of an object, whatever their names."""
        if not isinstance(self.value, dict):
            raise self.error(f"expected an object, got {_kind(self.value)}")
        if len(self.value) > most:
            raise self.error(f"expected at most {most} fields, got {len(self.value)}")
        return {name: Node(item, f"{self.where}.{name}") for name, item in self.value.items()}

    def member(self, name: str) -> Node:
        """Returns one field of an object that may have others."""
        found = self.members()
        if name not in found:
            raise self.error(f"missing fields {[name]}")
        return found[name]

    def items(self, most: int, least: int = 0) -> list[Node]:
        """Returns the items of a list with so many of them."""
        if not isinstance(self.value, list):
            raise self.error(f"expected a list, got {_kind(self.value)}")
        if not least <= len(self.value) <= most:
            raise self.error(f"expected {least} to {most} items, got {len(self.value)}")
        return [Node(item, f"{self.where}[{index}]") for index, item in enumerate(self.value)]

    def text(self) -> str:
        """Returns a string of 1 to 256 printable characters."""
        if not isinstance(self.value, str):
            raise self.error(f"expected a string, got {_kind(self.value)}")
        if not 0 < len(self.value) <= 256 or not self.value.isprintable():
            raise self.error("expected 1 to 256 printable characters")
        return self.value

    def choice(self, *choices: str) -> str:
        """Returns a string that is one of the choices."""
        if self.value not in choices:
            raise self.error(f"expected one of {', '.join(choices)}; got {self.value!r:.80}")
        return str(self.value)

    def integer(self, least: int, most: int) -> int:
        """Returns an integer in this range."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.error(f"expected an integer, got {_kind(self.value)}")
        if not least <= self.value <= most:
            raise self.error(f"expected {least} to {most}, got {self.value!s:.80}")
        return self.value

    def number(self) -> float:
        """Returns a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.error(f"expected a number, got {_kind(self.value)}")
        if abs(self.value) > 1e9 or math.isnan(self.value):
            raise self.error(f"expected a number up to 1e9 in size, got {self.value!s:.80}")
        return float(self.value)

    def path(self) -> str:
        """Returns a relative path, in normal form, that stays in its folder."""
        text = self.text()
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts or str(path) != text or text == ".":
            raise self.error(f"expected a path inside the model's folder, got {text!r}")
        return text

    def optional(self, read: Callable[[Node], _T]) -> _T | None:
        """Returns None for null, else what ``read`` makes of the value."""
        return None if self.value is None else read(self)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


def parse(data: bytes, name: str, limit: int) -> Node:
    """Returns the root of a document.

    Args:
        data: UTF-8 JSON.
        name: what errors call the document.
        limit: bytes it may have.

    Raises:
        ModelError: it is too long or not JSON, or an object has a name twice.
    """
    if len(data) > limit:
        raise ModelError(f"cannot read {name}: {len(data)} bytes, limit {limit}")
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise ModelError(f"cannot read {name}: it is not JSON: {exc}") from exc
    return Node(value, name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("an object has a name twice")
    return fields


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")
