"""``edged eval REF DIR``: how well a model does on pictures sorted into folders."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edged.cli import _token
from edged.cli._registries import registries
from edged.cli._table import table

if TYPE_CHECKING:
    from edged.evaluate import Classifier, Evaluation
    from edged.worker.pipeline import Pipeline

HELP = "Measure a model on pictures in folders by class: top-1, agreement with float32, confusion."
WHOLE_MATRIX = 20  # classes up to which all of the matrix is shown
WORST = 10  # confusions shown otherwise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("reference", metavar="REF", help="oci:DIR[:TAG] or oci-archive:FILE")
    parser.add_argument("folder", metavar="DIR", type=Path, help="subfolders are named as classes")
    parser.add_argument(
        "--reference",
        dest="original",
        metavar="MODEL.onnx",
        type=Path,
        help="compare with this graph in onnxruntime float32 (default: the same program without "
        "block rounding)",
    )
    parser.add_argument(
        "--target", metavar="HOST:PORT|unix:PATH", help="ask the server there, over gRPC"
    )
    _token.add_arguments(parser)
    parser.add_argument("--threads", type=int, metavar="N", help="of the emulator")
    parser.add_argument("--isa", help="of the emulator")
    parser.add_argument("--json", action="store_true", help="print facts as JSON")


def run(args: argparse.Namespace) -> int:
    """Evaluates the model."""
    from edged import evaluate, oci

    image = oci.open_image(args.reference, registries(args.reference))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edged-eval-")))
        image = oci.blobs.at_hand(image, folder / "blobs")
        image.unpack_model(folder / "model")
        pipeline = stack.enter_context(_opened(folder / "model", args, "bfp"))
        pictures, labels = evaluate.find_pictures(args.folder, pipeline.labels)
        model: Classifier = evaluate.Local(pipeline)
        if args.target is not None:
            client = stack.enter_context(_token.client(args.target, args))
            model = evaluate.Served(client, pipeline.manifest, str(image.digest))
        original: Classifier
        if args.original is not None:
            original = evaluate.Original(args.original, pipeline.manifest)
        else:
            original = evaluate.Local(
                stack.enter_context(_opened(folder / "model", args, "float32"))
            )
        found = evaluate.evaluate(pictures, labels, model, original, _Progress())
    facts = {
        "digest": str(image.digest),
        "format": pipeline.manifest.format,
        "reference": "program without block rounding" if args.original is None else "onnxruntime",
        **found.document(),
    }
    if args.json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        _show(found, str(facts["format"]), str(facts["reference"]))
    return 0


@contextlib.contextmanager
def _opened(folder: Path, args: argparse.Namespace, numerics: str) -> Iterator[Pipeline]:
    from edged.worker.pipeline import Pipeline

    pipeline = Pipeline.open(
        folder,
        threads=args.threads,
        isa=args.isa,
        numerics="float32" if numerics == "float32" else "bfp",
    )
    try:
        yield pipeline
    finally:
        pipeline.close()


class _Progress:
    """A line on the terminal that says how far it is; nothing where there is no terminal."""

    def __init__(self) -> None:
        self._percent = -1
        self._shown = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // total
        if self._shown and percent != self._percent:
            self._percent = percent
            end = "\n" if done == total else ""
            print(f"\r{done} of {total} pictures", end=end, file=sys.stderr, flush=True)


def _show(found: Evaluation, form: str, reference: str) -> None:
    indices, matrix = found.confusion()
    if len(indices) <= WHOLE_MATRIX:
        names = [found.name(index) for index in indices]
        rows = [[name, *(int(n) for n in row)] for name, row in zip(names, matrix, strict=True)]
        print(table(["true \\ predicted", *names], rows))
    else:
        wrong = matrix.copy()
        wrong[range(len(indices)), range(len(indices))] = 0
        order = wrong.argsort(axis=None)[::-1][:WORST]
        pairs = [divmod(int(flat), len(indices)) for flat in order if wrong.flat[flat]]
        print(
            table(
                ["true", "predicted", "pictures"],
                [
                    [found.name(indices[i]), found.name(indices[j]), int(wrong[i, j])]
                    for i, j in pairs
                ],
            )
        )
    print(f"\n{len(found.truth)} pictures")
    print(f"top-1       {100 * found.top1:6.2f} %  {form}")
    print(f"top-1       {100 * found.reference_top1:6.2f} %  float32 ({reference})")
    print(f"agreement   {100 * found.agreement:6.2f} %")
