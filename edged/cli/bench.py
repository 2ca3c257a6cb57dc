"""``edged bench``: how fast a ResNet-50 is served here, beside onnxruntime in the same run.

``edged bench serve`` puts load on a server; see ``edged.cli._bench_serve``. ``edged bench engine``
compares engines without a server; see ``edged.cli._bench_engine``. ``edged bench start`` measures
starts; see ``edged.cli._bench_start``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.cli import _bench_engine, _bench_serve, _bench_start, _token
from edged.cli._table import table
from edged.errors import ConfigError

if TYPE_CHECKING:
    from edged.bench.measure import Sample
    from edged.build import Built
    from edged.zoo import ZooModel

HELP = "Measure stages and end-to-end latency of a ResNet-50, beside onnxruntime float32 and int8."
READY_LIMIT = 30.0  # seconds
CALIBRATION = 4  # pictures that the int8 ranges are taken from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    from edged.npu.formats import DEFAULT_FORMAT, FORMATS

    parser.add_argument("--model", default="resnet50", help="a model edged knows by name")
    parser.add_argument(
        "--weights",
        default="random:0",
        metavar="FILE.npz|random:SEED",
        help="of the model; its time does not depend on them (default: random:0)",
    )
    parser.add_argument("--format", default=DEFAULT_FORMAT, choices=FORMATS, help="of the NPU")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="JPEG or PNG to send")
    parser.add_argument("--threads", type=_positive, metavar="N", help="of NPU and onnxruntime")
    parser.add_argument("--isa", help="kernels of the emulator")
    parser.add_argument("--rounds", type=_positive, default=9, metavar="N", help="turns of each")
    parser.add_argument("--runs", type=_positive, default=25, metavar="N", help="runs in a turn")
    parser.add_argument(
        "--target",
        metavar="HOST:PORT|unix:PATH",
        help="measure the server there, whatever model it has, instead of one started for this",
    )
    _token.add_arguments(parser)
    parser.add_argument("--no-baselines", action="store_true", help="leave onnxruntime out")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    others = parser.add_subparsers(dest="what", metavar="serve|engine", title="instead")
    serve = others.add_parser("serve", help=_bench_serve.HELP, description=_bench_serve.HELP)
    _bench_serve.add_arguments(serve)
    engine = others.add_parser("engine", help=_bench_engine.HELP, description=_bench_engine.HELP)
    _bench_engine.add_arguments(engine)
    start = others.add_parser("start", help=_bench_start.HELP, description=_bench_start.HELP)
    _bench_start.add_arguments(start)


def run(args: argparse.Namespace) -> int:
    """Measures and shows the figures, in milliseconds."""
    if args.what == "engine":
        return _bench_engine.run(args)
    if args.what == "start":
        return _bench_start.run(args)
    return _bench_serve.run(args) if args.what == "serve" else _compare(args)


def _compare(args: argparse.Namespace) -> int:
    from edged.bench.measure import draw_jpeg, measure
    from edged.bench.rounds import Plan

    if args.picture is not None and not args.picture.is_file():
        raise ConfigError(f"cannot send picture {args.picture}: no such file")
    picture = args.picture.read_bytes() if args.picture else draw_jpeg(480, 640)
    with contextlib.ExitStack() as stack:
        bench = _Bench(args, picture, stack)
        if args.target is not None:
            bench.add_server(args.target, "images")
        else:
            bench.add_own()
        _say("measure")
        figures = measure(bench.contenders, Plan(args.rounds, args.runs), _Progress())
    if args.json:
        print(json.dumps({**bench.facts, "unit": "ms", **figures}, indent=1))
    else:
        _show(bench.facts, figures)
    return 0


class _Bench:
    """Who is measured, and what is known about them."""

    def __init__(
        self, args: argparse.Namespace, picture: bytes, stack: contextlib.ExitStack
    ) -> None:
        self._args = args
        self._picture = picture
        self._stack = stack
        self._threads = args.threads or len(os.sched_getaffinity(0))
        self.contenders: dict[str, Callable[[], Sample]] = {}
        self.facts: dict[str, Any] = {
            "machine": platform.machine(),
            "threads": self._threads,
            "picture_bytes": len(picture),
        }

    def add_server(self, target: str, name: str) -> None:
        """Adds requests to a server, the picture being its input of that name."""
        from edged.bench.measure import EDGED, request

        client = self._stack.enter_context(_token.client(target, self._args))
        client.wait_ready(READY_LIMIT)
        self.contenders[EDGED] = request(client, name, self._picture)
        self.facts["target"] = target

    def add_own(self) -> None:
        """Builds the model and adds a server of our own and, if wanted, onnxruntime."""
        from edged import zoo
        from edged.build import assemble

        args = self._args
        _say(f"build {args.model} in {args.format}")
        model = zoo.make(args.model, weights=args.weights)
        for note in model.notes:
            _say(note)
        built = assemble(model, format=args.format)
        if not args.no_baselines:
            _say("quantise the same graph for onnxruntime")
            self._add_baselines(model, built)
        _say("start a daemon and deploy it")
        self._start_server(built)

    def _start_server(self, built: Built) -> None:
        from edged.bench.server import own_server

        temporary = tempfile.TemporaryDirectory(prefix="edged-bench-")
        folder = Path(self._stack.enter_context(temporary))
        image = f"oci:{folder / 'image'}"
        digest = built.write(image)
        home = folder / "home"
        home.mkdir()
        isa = ["--isa", self._args.isa] if self._args.isa else []
        flags = ["--threads", str(self._threads), *isa]
        served = self._stack.enter_context(own_server(home, image, flags))
        self.add_server(served.target, built.manifest.signature.inputs[0].name)
        self.facts |= {
            "model": built.manifest.name,
            "digest": str(digest),
            "predicted_ms": _predicted(built),
            "format": built.manifest.format,
            "isa": served.status["model"]["isa"],
            "edged": served.status["version"],
        }

    def _add_baselines(self, model: ZooModel, built: Built) -> None:
        """Adds the graph up to where the NPU's part ends, with the same picture."""
        from edged.bench import baselines
        from edged.bench.measure import FLOAT32, INT8, draw_jpeg, session_run
        from edged.worker.stages import ImageStage

        stage = ImageStage(model.preprocess)
        name = model.graph.graph.input[0].name
        others = [draw_jpeg(480, 640, seed) for seed in range(1, CALIBRATION)]
        feeds = [{name: stage.run(each)} for each in (self._picture, *others)]
        graph = baselines.cut(model.graph, built.manifest.npu.outputs)
        quantised = baselines.quantise(graph, feeds)
        for title, data in ((FLOAT32, graph.SerializeToString()), (INT8, quantised)):
            session = baselines.session(data, self._threads)
            self.contenders[title] = session_run(session, feeds[0])


def _predicted(built: Built) -> float:
    """Returns the milliseconds that a board would take for the NPU's stage."""
    from edged import npu
    from edged.npu import timing

    program = npu.Program.from_bytes(built.files[built.manifest.npu.program])
    return round(sum(timing.predicted_us(program)) / 1e3, 4)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 10000, got {text!r}")
    return int(text)


def _say(text: str) -> None:
    print(f"edged: {text}", file=sys.stderr, flush=True)


class _Progress:
    """Says on a terminal how many rounds are done."""

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\rround {done} of {total}", end=end, file=sys.stderr, flush=True)


def _show(facts: dict[str, Any], figures: dict[str, Any]) -> None:
    from edged.bench.measure import FLOAT32, INT8, NPU

    what = facts.get("model", facts["target"])
    details = [facts[key] for key in ("format", "isa") if key in facts]
    details += [f"{facts['threads']} threads", "batch 1", f"JPEG of {facts['picture_bytes']} bytes"]
    print(f"{what}: {', '.join(details)}, {figures['requests']} requests over gRPC\n")
    stages = [[name, spent] for name, spent in figures["stages"].items()]
    whole = figures["end_to_end"]
    rest = [["overhead", figures["overhead"]], ["end to end", whole["p50"]]]
    print(table(["stage", "p50 ms"], [*stages, *rest]))
    print(f"end to end p99: {whole['p99']:.3f} ms")
    if "predicted_ms" in facts:
        print(f"npu, predicted on a board: {facts['predicted_ms']:.3f} ms")
    if INT8 in figures:
        rows = [
            ["npu stage", figures[NPU]["p50"], figures[NPU]["min"], 1.0],
            *(
                [name, figures[name]["p50"], figures[name]["min"], figures[f"npu / {name}"]]
                for name in (FLOAT32, INT8)
            ),
        ]
        print("\n" + table(["same graph, same run", "p50 ms", "min ms", "npu / this"], rows))
    print(f"\nload of the machine: {' '.join(map(str, figures['load']))}")
