"""Documents from the network, read key by key: what is wrong is said with its place in them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from edged.errors import RequestError

TEXT_LIMIT = 1024  # characters
SHOWN = 80  # characters of what came, in errors


class Fields:
    """One object of a document.

    Args:
        value: what came in its place.
        where: names the place in errors.

    Raises:
        RequestError: it is no object.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise wrong(where, "an object", value)
        self._value: Mapping[str, Any] = value
        self.where = where

    def __contains__(self, key: str) -> bool:
        return self._value.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)

    def only(self, known: Collection[str]) -> None:
        """Raises if there is a key that nobody asks for.

        Raises:
            RequestError: names it, and the nearest one that is known.
        """
        for key in self._value:
            if key not in known:
                near = difflib.get_close_matches(str(key)[:SHOWN], known, n=1, cutoff=0.0)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise RequestError(
                    "INVALID_ARGUMENT",
                    f"cannot use {self.where}: unknown key {_shown(key)}{hint}",
                )

    def raw(self, key: str) -> Any:
        """Returns what is there, None if nothing is."""
        return self._value.get(key)

    def fields(self, key: str) -> Fields:
        """Returns the object there; an empty one if nothing is."""
        value = self._value.get(key)
        return Fields({} if value is None else value, self._place(key))

    def text(self, key: str, default: str = "", limit: int = TEXT_LIMIT) -> str:
        """Returns the text there, without control characters and at most so long."""
        value = self._value.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > limit or not (value + " ").isprintable():
            raise wrong(self._place(key), f"a text of at most {limit} printable characters", value)
        return value

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        """Returns the text there, which is one of a few."""
        value = self._value.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or value not in choices:
            raise wrong(self._place(key), " or ".join(choices), value)
        return value

    def flag(self, key: str) -> bool:
        """Returns whether true is there; false if nothing is."""
        value = self._value.get(key)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise wrong(self._place(key), "true or false", value)
        return value

    def number(self, key: str, least: int, most: int) -> int | None:
        """Returns the whole number there, None if nothing is."""
        value = self._value.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise wrong(self._place(key), f"a whole number from {least} to {most}", value)
        return value

    def _place(self, key: str) -> str:
        shown = key if key.isascii() and key.isprintable() else ascii(key)
        return f"{self.where}: {shown[:SHOWN]}"


def parse(payload: bytes, where: str, limit: int) -> dict[str, Any]:
    """Returns the object that a payload is.

    Raises:
        RequestError: it is too long, or no JSON object.
    """
    if len(payload) > limit:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"cannot use {where}: it has {len(payload)} bytes, expected at most {limit}",
        )
    try:
        value = json.loads(payload, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        cause = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise RequestError(
            "INVALID_ARGUMENT", f"cannot use {where}: expected a JSON object: {cause[:SHOWN]}"
        ) from exc
    if not isinstance(value, dict):
        raise wrong(where, "a JSON object", value)
    return value


def wrong(where: str, expected: str, got: object) -> RequestError:
    """Returns the error for something that is not what it should be."""
    return RequestError(
        "INVALID_ARGUMENT", f"cannot use {where}: expected {expected}, got {_shown(got)}"
    )


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    text = ascii(value[: 2 * SHOWN]) if isinstance(value, str) else ascii(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")
