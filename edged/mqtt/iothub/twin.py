"""What becomes of a twin's properties by patches (JSON merge patch, RFC 7396). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEPTH_LIMIT = 32  # levels; the hub allows ten


def merge(base: Mapping[str, Any], patch: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Returns the properties after a patch; None removes. Neither argument is changed.

    Raises:
        ValueError: the patch is too deep.
    """
    if depth > DEPTH_LIMIT:
        raise ValueError(f"expected at most {DEPTH_LIMIT} levels")
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            old = merged.get(key)
            merged[key] = merge(old if isinstance(old, Mapping) else {}, value, depth + 1)
        else:
            merged[key] = value
    return merged


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the patch that makes ``new`` of ``old``; neither has None in it."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if (inner := difference(before, value)) or not (value or before == value):
                patch[key] = inner
        elif key not in old or not _same(before, value):
            patch[key] = value
    return patch


def plain(properties: object) -> dict[str, Any]:
    """Returns properties without what the hub adds (``$version``, ``$metadata``).

    Raises:
        TypeError: these are no properties.
    """
    if not isinstance(properties, Mapping):
        raise TypeError(f"expected an object, got {type(properties).__name__}")
    return {key: value for key, value in properties.items() if not key.startswith("$")}


def version(properties: Mapping[str, Any]) -> int:
    """Returns ``$version`` of properties.

    Raises:
        ValueError: there is none.
    """
    found = properties.get("$version")
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise ValueError(f"expected $version to be a number, got {found!r}")
    return found


def _same(old: object, new: object) -> bool:
    return type(old) is type(new) and old == new  # 1, 1.0 and True are equal to Python
