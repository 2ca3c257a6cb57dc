"""Twins: two documents of each identity, their versions, merge patches, and what may be in them.

Limits and rules from Microsoft's "Understand and use device twins in IoT Hub".
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LARGEST = 32 * 1024  # bytes of desired, or of reported
LONGEST = 4096  # bytes of one text
DEEPEST = 10  # levels of objects
GREATEST = 4503599627370496  # of whole numbers
_KEY = re.compile(r"[^\x00-\x1f\x7f-\x9f.$ ]{1,1024}")


class PatchError(Exception):
    """A document that a twin does not take, and why."""


@dataclass
class Twin:
    """One identity's."""

    desired: dict[str, Any] = field(default_factory=dict)
    desired_version: int = 1
    reported: dict[str, Any] = field(default_factory=dict)
    reported_version: int = 1

    def document(self) -> dict[str, Any]:
        """What GET answers."""
        return {
            "desired": {**self.desired, "$version": self.desired_version},
            "reported": {**self.reported, "$version": self.reported_version},
        }

    def desire(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merges into the desired properties; returns what the device is sent."""
        self.desired = _checked(merge(self.desired, patch))
        self.desired_version += 1
        return copy.deepcopy(dict(patch))

    def replace(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Exchanges the desired properties, as a deployment of IoT Edge does; likewise."""
        before, self.desired = self.desired, _checked(copy.deepcopy(dict(document)))
        self.desired_version += 1
        return difference(before, self.desired)

    def report(self, payload: bytes) -> dict[str, Any]:
        """Merges what the device reported, and returns it.

        Raises:
            PatchError: and nothing has changed.
        """
        try:
            patch = json.loads(payload)
        except ValueError as exc:
            raise PatchError(f"the patch is not JSON: {exc}") from None
        if not isinstance(patch, dict):
            raise PatchError(f"the patch is a {type(patch).__name__}, not an object")
        self.reported = _checked(merge(self.reported, patch))
        self.reported_version += 1
        return patch


def merge(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the document after a merge patch (RFC 7396)."""
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            below = result.get(key)
            result[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            result[key] = value
    return result


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the merge patch that makes the one into the other."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if below := difference(old, value):
                patch[key] = below
        elif key not in before or value != old:
            patch[key] = value
    return patch


def _checked(document: dict[str, Any]) -> dict[str, Any]:
    size = len(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode())
    if size > LARGEST:
        raise PatchError(f"the document would have {size} bytes; {LARGEST} are the most")
    _check(document, 1)
    return document


def _check(value: Any, depth: int) -> None:
    if isinstance(value, dict):
        if depth > DEEPEST:
            raise PatchError(f"objects lie more than {DEEPEST} deep")
        for key, below in value.items():
            if not _KEY.fullmatch(key):
                raise PatchError(f"the key {key!r} has a character that none may have")
            _check(below, depth + 1)
    elif isinstance(value, list):
        for below in value:
            _check(below, depth + 1)
    elif isinstance(value, str):
        if len(value.encode()) > LONGEST:
            raise PatchError(f"a text has {len(value.encode())} bytes; {LONGEST} are the most")
    elif isinstance(value, int) and abs(value) > GREATEST:
        raise PatchError(f"the number {value} is too great")
