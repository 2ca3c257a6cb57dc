"""The build report: every node of the graph, where it runs and by which rule."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from edged.errors import ModelError

if TYPE_CHECKING:
    from edged.compiler.report import ReportRow

FILE = "report.json"
_SCHEMA = 1
_SIZE_LIMIT = 16 << 20  # bytes
_FIELDS = ("node", "op", "where", "rule")


def to_json(rows: Sequence[ReportRow]) -> bytes:
    """Returns the report as a JSON document; equal reports have equal bytes."""
    document = {
        "schema": _SCHEMA,
        "nodes": [{field: getattr(row, field) for field in _FIELDS} for row in rows],
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def read_json(data: bytes) -> list[dict[str, str]]:
    """Returns the rows of a report out of an image.

    Raises:
        ModelError: it is none.
    """
    if len(data) > _SIZE_LIMIT:
        raise ModelError(f"cannot read report: {len(data)} bytes, limit {_SIZE_LIMIT}")
    try:
        rows: Any = json.loads(data.decode())["nodes"]
        return [{field: str(row[field]) for field in _FIELDS} for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ModelError(f"cannot read report: {exc!r}") from exc


def counts(rows: Iterable[ReportRow]) -> dict[str, int]:
    """Returns how many nodes run where."""
    found = {"npu": 0, "cpu": 0, "folded": 0}
    for row in rows:
        found[row.where] += 1
    return found
