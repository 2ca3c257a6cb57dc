"""``edged bench engine``: our device beside other engines on the same network, in one run."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.cli._table import table
from edged.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from edged.bench.comparison import Compared
    from edged.bench.engines import Spec
    from edged.bench.peak import Peak
    from edged.bench.subject import Subject

HELP = "compare our device with onnxruntime and OpenVINO on the same network, interleaved"
SAME = 0.02
"""How far from 1.00 an engine measured against itself may come out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    from edged.bench.engines import NAMES
    from edged.npu.formats import DEFAULT_FORMAT, FORMATS

    what = parser.add_argument_group("what")
    what.add_argument(
        "--model",
        action="append",
        metavar="NAME|PROGRAM|ONNX|FOLDER",
        help="a model edged knows, a program of the NPU (ours only), a graph, or what --keep "
        "kept; several times for several (default: resnet50)",
    )
    what.add_argument("--weights", default="random:0", metavar="FILE.npz|random:SEED")
    what.add_argument("--format", default=DEFAULT_FORMAT, choices=FORMATS, help="of the NPU")
    what.add_argument(
        "--engines",
        metavar="NAME[@ISA],...",
        help=f"of {', '.join(NAMES)}; edged@ISA chooses kernels, openvino-...@ISA holds it to an "
        "instruction set (default: all there are)",
    )
    what.add_argument("--isa", help="kernels of the emulator")
    what.add_argument("--keep", type=Path, metavar="DIR", help="keep the networks' files there")
    how = parser.add_argument_group("how")
    how.add_argument("--threads", type=_count, metavar="N", help="of each engine (default: CPUs)")
    how.add_argument("--rounds", type=_count, default=9, metavar="N", help="turns of each engine")
    how.add_argument("--runs", type=_count, default=20, metavar="N", help="runs in a turn")
    how.add_argument(
        "--tail", type=_count, default=0, metavar="N", help="then N runs of each, for p99 over p50"
    )
    how.add_argument(
        "--self-check",
        action="store_true",
        help=f"each engine against itself: fails unless all come to 1.00 +- {SAME}",
    )
    parser.add_argument("--layers", action="store_true", help="show every chain")
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - prints them")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the times there")


def run(args: argparse.Namespace) -> int:
    """Measures and shows; returns 1 if a self-check failed."""
    from edged.bench import peak
    from edged.bench.comparison import machine
    from edged.bench.contender import usable

    threads = args.threads or len(os.sched_getaffinity(0))
    usable(threads)
    specs, missing = _specs(args, threads)
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as temporary:
        folder = args.keep or Path(temporary)
        subjects = [_subject(each, folder, args, specs) for each in args.model or ["resnet50"]]
        most = _peak(specs, threads)
        compared = [_compare(each, specs, most, args) for each in subjects]
    document = {
        "schema": 1,
        "machine": machine(),
        "settings": _settings(args, threads),
        "missing": missing,
        "peak": None if most is None else _peak_document(most, peak.SECONDS),
        "networks": [each.figures for each in compared],
    }
    if args.plot is not None:
        from edged.bench import bars

        bars.draw(args.plot, {each.figures["network"]: each.series for each in compared})
    _put(args, document)
    return 0 if _passed(document, args) else 1


def _specs(args: argparse.Namespace, threads: int) -> tuple[list[Spec], dict[str, str]]:
    """Returns the engines to measure, and why others are missing.

    Raises:
        ConfigError: an engine was asked for by name and is not there.
    """
    from dataclasses import replace

    from edged.bench.engines import NAMES, missing, parse

    texts = [each for each in args.engines.split(",") if each] if args.engines else list(NAMES)
    specs = list(dict.fromkeys(parse(each.strip(), threads, args.isa) for each in texts))
    lacking = {spec.label: why for spec in specs if (why := missing(spec)) is not None}
    if args.engines and lacking:
        raise ConfigError("; ".join(f"cannot measure {k}: {v}" for k, v in lacking.items()))
    for label, why in lacking.items():
        _say(f"without {label}: {why}")
    specs = [spec for spec in specs if spec.label not in lacking]
    if args.self_check:
        specs = [each for spec in specs for each in (spec, replace(spec, copy=1))]
    return specs, lacking


def _subject(source: str, folder: Path, args: argparse.Namespace, specs: Sequence[Spec]) -> Subject:
    from edged.bench.subject import prepare, reopen

    if Path(source).is_dir():
        return reopen(Path(source))
    int8 = any(spec.name.endswith("int8") for spec in specs)
    place = folder / (Path(source).stem or "network")
    return prepare(source, place, format=args.format, weights=args.weights, int8=int8, say=_say)


def _peak(specs: Sequence[Spec], threads: int) -> Peak | None:
    from edged import npu
    from edged.bench import peak
    from edged.bench.engines import EDGED

    ours = next((spec for spec in specs if spec.name == EDGED), None)
    if ours is None:
        return None
    device = npu.open(threads=1, isa=ours.isa)
    return peak.measure(device.isa, threads)


def _compare(
    subject: Subject, specs: Sequence[Spec], most: Peak | None, args: argparse.Namespace
) -> Compared:
    from edged.bench.comparison import compare
    from edged.bench.contest import Plan
    from edged.bench.engines import EDGED

    taking = [spec for spec in specs if subject.graph or spec.name == EDGED]
    for spec in specs:
        if spec not in taking:
            _say(f"without {spec.label}: {subject.name} is a program, which has no graph")
    if not taking:
        raise ConfigError(f"cannot measure {subject.name}: only edged can run a program")
    for note in subject.notes:
        _say(note)
    _say(f"measure {subject.name}")
    plan = Plan(args.rounds, args.runs, tail=args.tail)
    return compare(subject, taking, plan, most, _Progress())


def _settings(args: argparse.Namespace, threads: int) -> dict[str, Any]:
    from edged.bench import contest

    return {
        "threads": threads,
        "batch": 1,
        "rounds": args.rounds,
        "runs": args.runs,
        "settle_s": contest.SETTLE,
        "processors": "each engine's process is kept to the first of them, one a thread",
        "order": "another engine begins each round; reversed when all have begun",
        "weights": args.weights,
        "self_check": args.self_check,
    }


def _peak_document(most: Peak, seconds: float) -> dict[str, Any]:
    return {
        "isa": most.isa,
        "seconds": seconds,
        "one_thread_gmac_s": round(most.one / 1e9, 1),
        "together_gmac_s": round(most.together / 1e9, 1),
        "threads": most.threads,
    }


def _passed(document: dict[str, Any], args: argparse.Namespace) -> bool:
    if not args.self_check:
        return True
    own = [
        each
        for network in document["networks"]
        for each in network["ratios"]
        if each["to"] == f"{each['of']} (again)"
    ]
    off = [each for each in own if round(abs(each["ratio"] - 1), 4) > SAME]
    for each in off:
        _say(f"{each['of']} against itself came to {each['ratio']}, expected 1.00 +- {SAME}")
    return not off


def _put(args: argparse.Namespace, document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=1)
    if args.json == "-":
        print(text)
        return
    if args.json is not None:
        try:
            Path(args.json).write_text(text + "\n")
        except OSError as exc:
            raise StoreError(f"cannot write {args.json}: {exc.strerror}") from exc
    for network in document["networks"]:
        _show(network, document, layers=args.layers)


def _show(network: dict[str, Any], document: dict[str, Any], *, layers: bool) -> None:
    settings, engines = document["settings"], network["engines"]
    print(
        f"{network['network']}: {network['format']}, {settings['threads']} threads, batch 1, "
        f"{settings['rounds']} rounds of {settings['runs']} runs; {network['gmac']:.3f} GMAC, "
        f"{network['tile_operations']} tile operations\n"
    )
    over = {each["to"]: each["ratio"] for each in network["ratios"]}
    rows = [
        [
            label,
            each["p50_ms"],
            each["min_ms"],
            f"{each['spread']:.1%}",
            each["disturbed"],
            over.get(label),
            each["load_ms"],
            each["resident_mib"],
            each.get("likeness"),
        ]
        for label, each in engines.items()
    ]
    headers = [
        "engine",
        "p50 ms",
        "min ms",
        "spread",
        "disturbed",
        "ours / this",
        "load ms",
        "MiB",
        "likeness",
    ]
    print(table(headers, rows))
    _show_work(network, document["peak"])
    _show_tail(network.get("tail"))
    if layers and "layers" in network:
        print("\n" + _layers(network["layers"]))
    print()


def _show_work(network: dict[str, Any], most: dict[str, Any] | None) -> None:
    print()
    if most is not None:
        print(
            f"peak of {most['isa']}, measured: {most['one_thread_gmac_s']:.0f} GMAC/s a core, "
            f"{most['together_gmac_s']:.0f} with {most['threads']} threads"
        )
    share = network.get("peak_share")
    if share is not None and share["convolutions"] is not None:
        print(
            f"our share of it: {share['convolutions']:.1%} over the convolutions "
            f"({network['convolutions_us'] / 1e3:.3f} ms), {share['whole']:.1%} over the whole run"
        )
    print(f"predicted on {network['sku']}, a board: {network['predicted_ms']:.3f} ms")


def _show_tail(tails: dict[str, Any] | None) -> None:
    if tails:
        headers = ["tail", "runs", "p50 ms", "p99 ms", "max ms", "p99 / p50", "disturbed"]
        rows = [[label, *each.values()] for label, each in tails.items()]
        print("\n" + table(headers, rows))


def _layers(rows: Sequence[dict[str, Any]]) -> str:
    cells = [
        [
            row["chain"],
            row["kind"].lower(),
            " x ".join(map(str, row["output"])),
            None if row["kernel"] is None else " x ".join(map(str, row["kernel"])),
            row["gmac"],
            row["measured_us"],
            None if row["peak_share"] is None else f"{row['peak_share']:.1%}",
            row["predicted_us"],
        ]
        for row in rows
    ]
    headers = ["chain", "kind", "output", "kernel", "GMAC", "measured us", "of peak"]
    return table([*headers, "predicted us"], cells)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 100000, got {text!r}")
    return int(text)


def _say(text: str) -> None:
    print(f"edged: {text}", file=sys.stderr, flush=True)


class _Progress:
    """Says on a terminal how many rounds are done."""

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            with contextlib.suppress(OSError):
                print(f"\rround {done} of {total}", end=end, file=sys.stderr, flush=True)
