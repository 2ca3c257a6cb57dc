"""Where every node of the original graph runs, and by which rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Where = Literal["npu", "cpu", "folded"]


@dataclass(frozen=True)
class ReportRow:
    """One node of the original graph.

    Attributes:
        node: its name, or its first output's where it has none.
        op: operator, such as ``Conv``.
        where: ``npu``, ``cpu``, or ``folded``: it is not computed at run time.
        rule: why, in a few words.
    """

    node: str
    op: str
    where: Where
    rule: str


PlacedRow = tuple[int, ReportRow]
"""A row with the node's position in the model."""


def in_order(rows: Iterable[PlacedRow]) -> tuple[ReportRow, ...]:
    """Returns the rows in the model's order."""
    return tuple(row for _, row in sorted(rows, key=lambda placed: placed[0]))
