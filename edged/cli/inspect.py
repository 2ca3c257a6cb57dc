"""``edged inspect REF``: what an image holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edged.cli._layers import layers
from edged.cli._registries import registries
from edged.cli._table import size, table

if TYPE_CHECKING:
    from edged.build.describe import Description

HELP = "Show what a model image holds: signature, stages, chains of the NPU, build report."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument(
        "reference",
        metavar="REF",
        help="oci:DIR[:TAG], oci-archive:FILE or docker://HOST/NAME:TAG|@DIGEST",
    )
    parser.add_argument("--chains", action="store_true", help="every chain of the NPU's program")
    parser.add_argument(
        "--layers",
        action="store_true",
        help="run the program here, and show what each chain took beside what a board would take",
    )
    parser.add_argument("--report", action="store_true", help="every node of the graph")
    parser.add_argument("--quality", action="store_true", help="SQNR of every convolution")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Shows the image."""
    from edged.build.describe import describe

    found = describe(args.reference, registries(args.reference))
    document = found.document()
    if args.layers:
        document |= _measured(found)
    if args.json:
        print(json.dumps(document, indent=1, ensure_ascii=False))
        return 0
    _show(found)
    if args.layers:
        print("\n" + layers(document["layers"]))
        print(
            f"\nthis machine's emulator ({document['emulator']}): "
            f"{document['measured_us'] / 1e3:.3f} ms; predicted on a board: "
            f"{document['predicted_us'] / 1e3:.3f} ms"
        )
    if args.chains:
        print("\n" + _chains(found.chains()))
    if args.quality and found.quality:
        rows = [[x.chain, _dims(x.output), f"{x.sqnr_db:.1f}"] for x in found.quality.layers]
        print("\n" + table(["chain", "output", "SQNR (dB)"], rows))
    if args.report:
        rows = [[row["node"], row["op"], row["where"], row["rule"]] for row in found.rows]
        missing = "the image keeps no report"
        print("\n" + (table(["node", "operator", "runs on", "rule"], rows) if rows else missing))
    return 0


def _measured(found: Description) -> dict[str, Any]:
    """Returns the microseconds of the NPU's program on this machine, by chain and in all."""
    from edged.bench import chains

    spent, emulator = chains.measured(found.program)
    return {
        "emulator": emulator,
        "measured_us": round(sum(spent), 2),
        "layers": chains.rows(found.program, spent),
    }


def _show(found: Description) -> None:
    manifest, limit = found.manifest, found.program.device_build.memory_bytes
    document = found.document()
    print(f"{manifest.name} {manifest.version}\n{found.digest}")
    print(
        f"{manifest.sku}, {manifest.format}, {size(manifest.memory)} of {size(limit)} NPU memory, "
        f"{len(document['chains'])} chains, {document['tile_operations']} tile operations, "
        f"{document['macs'] / 1e9:.3f} GMAC, predicted on a board: "
        f"{document['predicted_us'] / 1e3:.3f} ms"
    )
    print("\n" + table(["", "name", "type", "shape", "aliases"], _signature(document["signature"])))
    rows = [
        [row["kind"], ", ".join(row["inputs"]), ", ".join(row["outputs"]), _content(row)]
        for row in document["stages"]
    ]
    print("\n" + table(["stage", "reads", "makes", "content"], rows))
    print(f"\nlabels: {manifest.labels or 'none'}; golden test: {document['golden']}")
    print(f"counter: {found.counter}; signatures: {found.signatures}")
    print(f"quality: {found.quality.sentence() if found.quality else 'no report'}")


def _signature(signature: dict[str, Any]) -> list[list[object]]:
    return [
        [side[:-1], spec["name"], spec["type"], spec["shape"], ", ".join(spec["aliases"]) or None]
        for side, specs in signature.items()
        for spec in specs
    ]


def _content(row: dict[str, Any]) -> str:
    if "file" in row:
        return f"{row['file']}, {size(row['bytes'])}"
    settings = row["preprocess"]
    height, width = settings["size"]
    kind, to = settings["resize"]["kind"], settings["resize"].get("to")
    text = f"shorter side to {to}, " if to else "resize, " if kind == "exact" else ""
    crop = "crop " if settings["crop"] else ""
    return f"{text}{crop}{width} x {height}, {settings['order']}, {settings['layout']}"


def _dims(value: Sequence[int] | None) -> str | None:
    return None if value is None else " x ".join(map(str, value))


def _chains(rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            row["chain"],
            row["kind"],
            _dims(row["input"]),
            _dims(row["output"]),
            _dims(row["kernel"]),
            _dims(row["stride"]),
            row["activation"],
            row["tile_operations"],
            row["constant_bytes"],
            row["predicted_us"],
        ]
        for row in rows
    ]
    headers = ["chain", "kind", "input", "output", "kernel", "stride", "activation"]
    return table([*headers, "tile ops", "constants (B)", "predicted us"], cells)
