"""``edged bench engine --work``: time against work, over widths and sizes of resnet50."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.cli._bench_output import head, put, say
from edged.cli._table import table
from edged.errors import ConfigError

if TYPE_CHECKING:
    from edged.bench.engines import Spec
    from edged.bench.peak import Peak


def run(args: argparse.Namespace, folder: Path, specs: Sequence[Spec], most: Peak | None) -> int:
    """Measures every size, shows and draws them.

    Raises:
        ConfigError: the model is not resnet50, or there are no such sizes.
    """
    from edged import zoo
    from edged.bench import work
    from edged.bench.comparison import compare
    from edged.bench.contest import Plan
    from edged.bench.subject import write

    if args.model not in (None, ["resnet50"]):
        raise ConfigError("cannot measure time against work: that is of resnet50 alone")
    if not args.engines:
        specs = [spec for spec in specs if spec.label.startswith("edged")]
    widths, sizes = _numbers(args.widths, work.WIDTHS), _numbers(args.sizes, work.SIZES)
    graph = zoo.make("resnet50", weights=args.weights).graph
    int8 = any(spec.int8 for spec in specs)
    plan = Plan(args.rounds, args.runs, patience=args.patience / (len(widths) * len(sizes)))
    rows: list[dict[str, Any]] = []
    for width, size, network in work.networks(graph, widths, list(map(int, sizes))):
        say(f"measure width x{width:g}, {size} pixels")
        subject = write(network, folder / f"x{width:g}-{size}", format=args.format, int8=int8)
        found = compare(subject, specs, plan, most).figures
        rows.append({"width": width, "size": size, **found})
    document = {**head(args, specs[0].threads, most), "work": rows}
    if args.plot is not None:
        _draw(args, rows, specs[0], most)
    if put(args.json, document):
        _show(rows, [spec.label for spec in specs])
    return 0


def _numbers(text: str | None, otherwise: Sequence[float]) -> list[float]:
    if text is None:
        return list(otherwise)
    try:
        return [float(each) for each in text.split(",")]
    except ValueError as exc:
        raise ConfigError(f"cannot measure sizes {text!r}: expected numbers: {exc}") from exc


def _draw(
    args: argparse.Namespace, rows: Sequence[dict[str, Any]], spec: Spec, most: Peak | None
) -> None:
    from edged.bench import work

    points = [
        work.Point(row["width"], row["size"], row["gmac"], row["engines"][spec.label]["p50_ms"])
        for row in rows
    ]
    title = f"{spec.label}: resnet50 by width and size, {spec.threads} threads"
    work.draw(args.plot, points, None if most is None else most.together, title)


def _show(rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> None:
    cells = []
    for row in rows:
        times = [row["engines"][label]["p50_ms"] for label in labels]
        share = row.get("peak_share", {}).get("whole")
        shown = None if share is None else f"{share:.1%}"
        cells.append([row["width"], row["size"], row["gmac"], *times, shown, row["predicted_ms"]])
    headers = ["width", "pixels", "GMAC", *(f"{label} ms" for label in labels)]
    print(table([*headers, "of peak", "predicted ms"], cells))
