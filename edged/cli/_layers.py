"""The table of a program's chains: what each took here, and what a board would take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edged.cli._table import table


def layers(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the table of what ``edged.bench.chains.rows`` made, with shares where it has them."""
    cells = [
        [
            row["chain"],
            row["kind"].lower(),
            _dims(row["output"]),
            _dims(row["kernel"]),
            row["gmac"],
            row["measured_us"],
            None if row.get("peak_share") is None else f"{row['peak_share']:.1%}",
            row["predicted_us"],
        ]
        for row in rows
    ]
    headers = ["chain", "kind", "output", "kernel", "GMAC", "measured us", "of peak"]
    return table([*headers, "predicted us"], cells)


def _dims(value: Sequence[int] | None) -> str | None:
    return None if value is None else " x ".join(map(str, value))
