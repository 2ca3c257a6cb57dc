"""``edged bench engine``: our device beside other engines on the same network, in one run."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.cli import _bench_work
from edged.cli._bench_output import Progress, head, put, say
from edged.cli._layers import layers as layers_table
from edged.cli._table import table
from edged.errors import ConfigError, EdgedError

if TYPE_CHECKING:
    from edged.bench.comparison import Compared
    from edged.bench.engines import Spec
    from edged.bench.peak import Peak
    from edged.bench.subject import Subject

HELP = "compare our device with onnxruntime and OpenVINO on the same network, interleaved"
IMAGE = "image"
"""Folder of a network's image, among its files."""
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
        "--speedup", action="store_true", help="each engine with one thread too, in the same turns"
    )
    how.add_argument(
        "--self-check",
        action="store_true",
        help=f"each engine against itself: fails unless all come to 1.00 +- {SAME}",
    )
    how.add_argument(
        "--patience",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="wait so long in all for other work on the machine to pause (default: 60)",
    )
    how.add_argument(
        "--no-worker",
        action="store_true",
        help="leave out the memory of a worker, for which a model is built and served",
    )
    sizes = parser.add_argument_group("time against work, instead of a comparison")
    sizes.add_argument(
        "--work", action="store_true", help="resnet50 in several widths and sizes of its input"
    )
    sizes.add_argument("--widths", metavar="W,...", help="factors of its channels")
    sizes.add_argument("--sizes", metavar="S,...", help="pixels a side")
    parser.add_argument("--layers", action="store_true", help="show every chain")
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - prints them")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the times there")


def run(args: argparse.Namespace) -> int:
    """Measures and shows; returns 1 if a self-check failed."""
    from edged.bench.contender import usable

    threads = args.threads or len(os.sched_getaffinity(0))
    usable(threads)
    specs, missing = _specs(args, threads)
    most = _peak(specs, threads)
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as temporary:
        folder = args.keep or Path(temporary)
        if args.work:
            return _bench_work.run(args, folder, specs, most)
        subjects = [_subject(each, folder, args, specs) for each in args.model or ["resnet50"]]
        base = {**head(args, threads, most), "missing": missing}
        compared, failed = _each(subjects, specs, most, args, base)
    document = {**base, "networks": [each.figures for each in compared]}
    if args.plot is not None and compared:
        from edged.bench import bars

        bars.draw(args.plot, {each.figures["network"]: each.series for each in compared})
    put(args.json, document)
    return 0 if _passed(document, args) and not failed else 1


def _each(
    subjects: Sequence[Subject],
    specs: Sequence[Spec],
    most: Peak | None,
    args: argparse.Namespace,
    base: dict[str, Any],
) -> tuple[list[Compared], bool]:
    """Compares and shows one network after the other; says whether one could not be."""
    compared, failed = [], False
    for subject in subjects:
        try:
            compared.append(_compare(subject, specs, most, args))
        except EdgedError as exc:
            if len(subjects) == 1:
                raise
            failed = True
            say(str(exc))
            continue
        if args.json != "-":
            _show(compared[-1].figures, base, layers=args.layers)
    return compared, failed


def _specs(args: argparse.Namespace, threads: int) -> tuple[list[Spec], dict[str, str]]:
    """Returns the engines to measure, and why others are missing.

    Raises:
        ConfigError: an engine was asked for by name and is not there.
    """
    from dataclasses import replace

    from edged.bench.engines import AGAIN, ALONE, NAMES, missing, parse

    texts = [each for each in args.engines.split(",") if each] if args.engines else list(NAMES)
    specs = list(dict.fromkeys(parse(each.strip(), threads, args.isa) for each in texts))
    lacking = {spec.label: why for spec in specs if (why := missing(spec)) is not None}
    if args.engines and lacking:
        raise ConfigError("; ".join(f"cannot measure {k}: {v}" for k, v in lacking.items()))
    for label, why in lacking.items():
        say(f"without {label}: {why}")
    specs = [spec for spec in specs if spec.label not in lacking]
    if args.self_check:
        specs = [each for spec in specs for each in (spec, replace(spec, mark=AGAIN))]
    if args.speedup and threads > 1:
        specs += [replace(spec, threads=1, mark=ALONE) for spec in specs if not spec.mark]
    return specs, lacking


def _subject(source: str, folder: Path, args: argparse.Namespace, specs: Sequence[Spec]) -> Subject:
    from edged.bench.subject import prepare, reopen

    if Path(source).is_dir():
        return reopen(Path(source))
    int8 = any(spec.int8 for spec in specs)
    place = folder / (Path(source).stem or "network")
    made = prepare(source, place, format=args.format, weights=args.weights, int8=int8, say=say)
    if made.pictures and not args.no_worker:
        _build(source, made, args)
    return made


def _build(source: str, made: Subject, args: argparse.Namespace) -> None:
    """Builds the image that the worker's memory is measured with."""
    import shutil

    from edged.build import build

    say(f"build the image of {source}, for the memory of its worker")
    shutil.rmtree(made.folder / IMAGE, ignore_errors=True)
    build(source, f"oci:{made.folder / IMAGE}", format=args.format, weights=args.weights)


def _worker_mib(subject: Subject, threads: int) -> float | None:
    """Returns the resident MiB of a worker; None for a network that is no model's."""
    from edged.bench.measure import draw_jpeg
    from edged.bench.residence import worker_bytes
    from edged.build.describe import describe

    if not (subject.folder / IMAGE).is_dir():
        return None
    say("serve it, for the memory of its worker")
    image = f"oci:{subject.folder / IMAGE}"
    name = describe(image).manifest.signature.inputs[0].name
    return round(worker_bytes(image, name, draw_jpeg(480, 640), threads=threads) / 2**20, 1)


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
            say(f"without {spec.label}: {subject.name} is a program, which has no graph")
    if not taking:
        raise ConfigError(f"cannot measure {subject.name}: only edged can run a program")
    for note in subject.notes:
        say(note)
    say(f"measure {subject.name}")
    plan = Plan(args.rounds, args.runs, tail=args.tail, patience=args.patience)
    optional = not args.engines
    compared = compare(subject, taking, plan, most, Progress(), optional=optional)
    for label, why in compared.figures["missing"].items():
        say(f"without {label}: {why}")
    threads = next((spec.threads for spec in taking if spec.name == EDGED), None)
    if threads is not None and not args.no_worker:
        compared.figures["worker_mib"] = _worker_mib(subject, threads)
    return compared


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
        say(f"{each['of']} against itself came to {each['ratio']}, expected 1.00 +- {SAME}")
    return not off


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
        print("\n" + layers_table(network["layers"]))
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
    if network.get("worker_mib") is not None:
        print(f"resident memory of a worker with it: {network['worker_mib']:.1f} MiB")
    for label, times in network["speedup"].items():
        print(f"{label}: {times:.2f} times as fast as with one thread")


def _show_tail(tails: dict[str, Any] | None) -> None:
    if tails:
        headers = ["tail", "runs", "p50 ms", "p99 ms", "max ms", "p99 / p50", "disturbed"]
        rows = [[label, *each.values()] for label, each in tails.items()]
        print("\n" + table(headers, rows))


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 100000, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 3600, got {text!r}")
    return value
