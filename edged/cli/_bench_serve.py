"""``edged bench serve``: load on a server, and what became of it."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.cli import _token
from edged.cli._table import table
from edged.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from edged.bench.serve import Measured, Plan
    from edged.bench.target import Reach
    from edged.client import Client

HELP = "load a server: latency by percentile, stages, throughput, beside a bare gRPC echo"
READY_LIMIT = 30.0  # seconds
CONNECTIONS = 8  # at most, unless said otherwise
PICTURE = (384, 512)  # height and width of one of about 60 kB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    _add_server(parser.add_argument_group("server"))
    _add_load(parser.add_argument_group("load"))
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - prints them")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw latency by percentile there"
    )


def _add_server(group: argparse._ArgumentGroup) -> None:
    from edged.npu.formats import DEFAULT_FORMAT, FORMATS

    group.add_argument(
        "--target",
        metavar="HOST:PORT|unix:PATH",
        help="the server there, with the model it has, instead of one started for this",
    )
    _token.add_arguments(group)
    group.add_argument(
        "--model",
        default="resnet50",
        metavar="NAME|REF",
        help="for a server started for this: a model edged knows by name, or an image",
    )
    group.add_argument("--weights", default="random:0", metavar="FILE.npz|random:SEED")
    group.add_argument("--format", default=DEFAULT_FORMAT, choices=FORMATS, help="of the NPU")
    group.add_argument("--threads", type=_count, metavar="N", help="of the NPU")
    group.add_argument("--isa", help="kernels of the emulator")
    group.add_argument("--picture", type=Path, metavar="FILE", help="JPEG or PNG to send")
    group.add_argument("--input", metavar="NAME", help="of the picture in the model's signature")


def _add_load(group: argparse._ArgumentGroup) -> None:
    kind = group.add_mutually_exclusive_group()
    kind.add_argument(
        "--concurrency", type=_count, default=1, metavar="N", help="closed loop: so many callers"
    )
    kind.add_argument(
        "--rate", type=_positive, metavar="R", help="open loop: so many requests a second"
    )
    group.add_argument(
        "--arrivals", choices=("poisson", "fixed"), default="poisson", help="of an open loop"
    )
    group.add_argument("--seed", type=int, default=0, help="of the Poisson arrivals")
    group.add_argument("--seconds", type=_positive, metavar="S", help="for so long (default: 10)")
    group.add_argument("--requests", type=_count, metavar="N", help="until so many were sent")
    group.add_argument(
        "--warm-up", type=_seconds, default=1.0, metavar="S", help="load before it counts"
    )
    group.add_argument(
        "--deadline", type=_positive, default=10.0, metavar="S", help="of each request"
    )
    group.add_argument(
        "--connections", type=_count, metavar="N", help=f"default: a caller's own, to {CONNECTIONS}"
    )
    group.add_argument(
        "--pairs",
        type=_count_or_none,
        default=200,
        metavar="N",
        help="requests of one caller in turns with an echo, before the load; 0 for none",
    )


def run(args: argparse.Namespace) -> int:
    """Measures and shows; returns 1 if no request was answered."""
    from edged.bench.measure import draw_jpeg
    from edged.bench.serve import measure
    from edged.bench.target import picture_request

    picture = _read(args.picture) if args.picture else draw_jpeg(*PICTURE)
    plan = _plan(args)
    with contextlib.ExitStack() as stack:
        address, name, facts = _server(args, stack)
        body = picture_request(args.input or name, picture)
        found = measure(address, body, plan, _say, _reach(args))
    settings = {"picture_bytes": len(picture), "request_bytes": len(body), **_settings(plan)}
    document = {"schema": 1, **facts, "settings": settings, **found.figures()}
    if args.plot is not None and found.series():
        _plot(args.plot, found, document)
    if args.json == "-":
        print(json.dumps(document, indent=1))
        return 0 if document["load"]["answered"] else 1
    if args.json is not None:
        _write(Path(args.json), json.dumps(document, indent=1) + "\n")
    _show(document, found)
    return 0 if document["load"]["answered"] else 1


def _plan(args: argparse.Namespace) -> Plan:
    from edged.bench.load import Span
    from edged.bench.serve import Plan

    seconds = 10.0 if args.seconds is None and args.requests is None else args.seconds
    callers = CONNECTIONS if args.rate is not None else args.concurrency
    return Plan(
        callers=args.concurrency,
        rate=args.rate,
        arrivals=args.arrivals,
        seed=args.seed,
        span=Span(args.requests, seconds),
        warm_up=args.warm_up,
        deadline=args.deadline,
        connections=args.connections or min(callers, CONNECTIONS),
        pairs=args.pairs,
    )


def _settings(plan: Plan) -> dict[str, Any]:
    """Returns what matters of a plan to whoever reads the figures later."""
    loop: dict[str, Any] = {"loop": "closed", "concurrency": plan.callers}
    if plan.rate is not None:
        loop = {"loop": "open", "rate_per_s": plan.rate, "arrivals": plan.arrivals}
    return {
        **loop,
        "requests": plan.span.requests,
        "seconds": plan.span.seconds,
        "warm_up_s": plan.warm_up,
        "deadline_s": plan.deadline,
        "connections": plan.connections,
    }


def _reach(args: argparse.Namespace) -> Reach | None:
    """Returns how the server that was named is reached."""
    from edged.bench.target import Reach
    from edged.client.channel import authorization, credentials

    if args.target is None:
        return None
    token = _token.read_token(args.token) if args.token else None
    return Reach(credentials(args.tls) if args.tls else None, authorization(token))


def _server(args: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[str, str, Any]:
    """Returns where the server is, the name of its input, and what is known about it."""
    facts: dict[str, Any] = {"machine_kind": platform.machine(), "cpus": _cpus()}
    if args.target is not None:
        with _token.client(args.target, args) as client:
            client.wait_ready(READY_LIMIT)
            name = args.input or _input(client)
        return args.target, name, facts | {"target": args.target}
    from edged.bench.server import own_server

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edged-bench-")))
    image, name = _image(args, folder)
    home = folder / "home"
    home.mkdir()
    threads = ["--threads", str(args.threads)] if args.threads else []
    isa = ["--isa", args.isa] if args.isa else []
    _say("start a daemon and deploy the model")
    served = stack.enter_context(own_server(home, image, [*threads, *isa]))
    model = served.status["model"]
    facts |= {key: model[key] for key in ("name", "version", "digest", "format", "isa")}
    facts |= {"threads": args.threads or _cpus(), "edged": served.status["version"]}
    return served.target, name, facts


def _input(client: Client) -> str:
    """Returns the name of the one input that the model takes."""
    names = list(client.metadata().inputs)
    if len(names) != 1:
        raise ConfigError(f"cannot load a model with inputs {names}: say which with --input")
    return names[0]


def _image(args: argparse.Namespace, folder: Path) -> tuple[str, str]:
    """Returns the reference of the image to serve and the name of its first input."""
    if ":" in args.model:
        from edged.build.describe import describe

        return args.model, describe(args.model).manifest.signature.inputs[0].name
    from edged import zoo
    from edged.build import assemble

    _say(f"build {args.model} in {args.format}")
    model = zoo.make(args.model, weights=args.weights)
    for note in model.notes:
        _say(note)
    built = assemble(model, format=args.format)
    image = f"oci:{folder / 'image'}"
    built.write(image)
    return image, built.manifest.signature.inputs[0].name


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


def _plot(path: Path, found: Measured, document: dict[str, Any]) -> None:
    from edged.bench import plot

    what = f"{document.get('name', document.get('target'))}, {_loop(document['settings'])}"
    figures = document["load"]
    rest = f"{figures['answered']} requests, {figures['throughput_per_s']:.1f} a second"
    plot.draw(path, found.series(), what, rest)


def _loop(settings: dict[str, Any]) -> str:
    if settings["loop"] == "open":
        return f"{settings['rate_per_s']:g} requests a second ({settings['arrivals']})"
    callers = settings["concurrency"]
    return "1 caller" if callers == 1 else f"{callers} callers"


_COLUMNS = ("p50", "p90", "p99", "p99.9", "max", "mean")


def _show(document: dict[str, Any], found: Measured) -> None:
    from edged.bench import plot

    settings, figures = document["settings"], document["load"]
    known = [document[key] for key in ("format", "isa") if key in document]
    known += [_loop(settings), f"picture of {settings['picture_bytes']} bytes"]
    print(f"{document.get('name', document.get('target'))}: {', '.join(known)}\n")
    if "one_caller" in document:
        _show_one_caller(document["one_caller"])
    print(_distributions("load", figures))
    series = found.series()
    if "end to end" in series:
        print("\n" + plot.text(series["end to end"]))
    print(
        f"\n{figures['answered']} of {figures['requests']} answered in {figures['elapsed_s']:.1f} "
        f"s: {figures['throughput_per_s']:.1f} a second"
    )
    if figures["throughput_by_stages"] is not None:
        print(f"throughput / one over the stages' time: {figures['throughput_by_stages']:.3f}")
    for code, number in figures["errors"].items():
        print(f"{code}: {number}")
    machine = document["machine"]
    print(f"load of the machine: {machine['load_before']} before, {machine['load_after']} after")


def _show_one_caller(figures: dict[str, Any]) -> None:
    rows = _distributions(f"one caller, {figures['pairs']} times", figures)
    print(rows)
    if figures["above_echo_ms"] is not None:
        print(f"overhead above a bare gRPC echo: {figures['above_echo_ms']:.3f} ms (p50)\n")


def _distributions(title: str, figures: dict[str, Any]) -> str:
    named = {f"{stage}": spread for stage, spread in figures["stages_ms"].items()}
    named["queued"] = figures.get("queued_ms", {})
    named["overhead"] = figures["overhead_ms"]
    named["end to end"] = figures["end_to_end_ms"]
    named["echo"] = figures.get("echo_ms", {})
    if figures.get("lag_ms", {}).get("max"):
        named["our lag"] = figures["lag_ms"]
    rows = [[name, *(f[c] for c in _COLUMNS)] for name, f in named.items() if f]
    return table([title, *(f"{column} ms" for column in _COLUMNS)], rows)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"cannot send picture {path}: {exc.strerror}") from exc


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as exc:
        raise StoreError(f"cannot write {path}: {exc.strerror}") from exc


def _say(text: str) -> None:
    print(f"edged: {text}", file=sys.stderr, flush=True)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000_000:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 10000000, got {text!r}")
    return int(text)


def _count_or_none(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _positive(text: str) -> float:
    if (value := _seconds(text)) <= 0:
        raise argparse.ArgumentTypeError(f"expected more than 0, got {text!r}")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1000000, got {text!r}")
    return value
