"""``edged bench start``: from the command to the first good answer."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edged.cli._table import table
from edged.errors import ConfigError

if TYPE_CHECKING:
    from edged.oci import Image

HELP = "measure the time from edged run to the first good answer, signature and store verified"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--model",
        default="resnet50",
        metavar="REF|NAME",
        help="an image that takes a picture, or a model edged knows, with random weights",
    )
    parser.add_argument(
        "--runtime", default="process", help="process, runc or runc-root (default: process)"
    )
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="starts (default: 10)")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Measures and shows the figures."""
    from edged.bench import start
    from edged.bench.measure import draw_jpeg
    from edged.bench.rounds import percentile
    from edged.bench.target import picture_request
    from edged.config.settings import RUNTIMES

    if args.runtime not in RUNTIMES or args.rounds < 1:
        raise ConfigError(
            f"cannot measure starts: expected at least one round and one of {', '.join(RUNTIMES)}, "
            f"got {args.rounds} and {args.runtime!r}"
        )
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # a container's user has to reach the model
        image = _image(args.model, folder)
        reference, trusted = start.signed_copy(image, folder)
        home = folder / "home"
        home.mkdir()
        home.chmod(0o755)
        flags = ["--runtime", args.runtime, "--verify", "required", "--keys-dir", str(trusted)]
        body = picture_request(_input(image, folder), draw_jpeg(480, 640))
        starts, sandbox = start.measure(home, reference, body, flags, args.rounds, _tell)
    answers = [each.answer_ms for each in starts]
    ready = [each.ready_ms for each in starts]
    figures = {
        "image": str(image.digest),
        "model": image.facts.name,
        "sandbox": sandbox,
        "rounds": len(starts),
        "unit": "ms",
        "ready": [round(value, 1) for value in ready],
        "first_answer": [round(value, 1) for value in answers],
    }
    if args.json:
        print(json.dumps(figures, indent=1))
        return 0
    print(f"{image.facts.name}: {sandbox}; signature, digests and store verified at each start\n")
    rows = [
        [what, *(f"{percentile(values, part):.0f}" for part in (50, 0, 100))]
        for what, values in (("listens", ready), ("first good answer", answers))
    ]
    print(table(["after edged run (ms)", "median", "least", "most"], rows))
    return 0


def _image(model: str, folder: Path) -> Image:
    from edged import oci, zoo
    from edged.build import build

    if model not in zoo.NAMES:
        return oci.open_image(model)
    print(f"edged: build {model}", file=sys.stderr)
    build(model, f"oci:{folder}/built")
    return oci.open_image(f"oci:{folder}/built")


def _input(image: Image, folder: Path) -> str:
    from edged.manifest import ImageStage, Manifest

    image.unpack_model(folder / "model")
    manifest = Manifest.parse((folder / "model/manifest.json").read_bytes())
    inputs = manifest.signature.inputs
    pictures = [s.input for s in manifest.stages if isinstance(s, ImageStage)]
    if len(inputs) != 1 or inputs[0].name not in pictures:
        raise ConfigError("cannot measure starts: the model takes no picture")
    return inputs[0].name


def _tell(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\rstart {done} of {total}", end=end, file=sys.stderr, flush=True)
