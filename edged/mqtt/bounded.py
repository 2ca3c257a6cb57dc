"""Documents that stay within a number of bytes, whatever the texts in them are.

Texts are cut, longest first in steps, never keys or numbers: what a reader needs to understand a
document is there in any case. Sizes are of JSON in UTF-8, as it goes to the broker.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Mapping
from typing import Any

CUTS = (1024, 600, 400, 250, 160, 100, 80)  # bytes of one text; a digest is never cut
CUT = "…"


def encode(document: Mapping[str, Any]) -> bytes:
    """Returns a document as JSON in UTF-8; its texts must have passed ``fit``."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def fit(document: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Returns the document with its texts cut so that it has at most ``limit`` bytes.

    What cannot be encoded, such as half of a surrogate pair, is replaced. A document that does not
    fit with all of its texts cut is the caller's fault: it has too many parts.
    """
    fitting: dict[str, Any] = {}
    for cut in CUTS:
        fitting = _cut(document, cut)
        if len(encode(fitting)) <= limit:
            break
    return fitting


def _cut(value: Any, limit: int) -> Any:
    if isinstance(value, Mapping):
        return {key: _cut(each, limit) for key, each in value.items()}
    return shorten(value, limit) if isinstance(value, str) else value


def shorten(text: str, limit: int) -> str:
    """Returns a text that takes at most ``limit`` bytes in JSON, its quotes among them."""
    whole = len(text) <= limit
    if not whole:
        text = text[:limit]  # a character takes a byte at least, and this one may be very long
    if _is_plain(text):
        return text if whole and len(text) + 2 <= limit else text[: limit - _size(CUT)] + CUT
    text = text.encode("utf-8", "replace").decode()
    if whole and _size(text) <= limit:
        return text
    room = limit - _size(CUT) + 2
    kept = bisect.bisect_right(range(len(text) + 1), room, key=lambda end: _size(text[:end])) - 1
    return text[: max(kept, 0)] + CUT


def _is_plain(text: str) -> bool:
    """Whether each character takes one byte in JSON."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())
