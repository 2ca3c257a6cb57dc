"""``edged build SOURCE -o OUT``: from an ONNX graph to a model image."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edged.cli._passphrase import add_passphrase, passphrase
from edged.cli._table import size, table
from edged.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from edged.compiler import ReportRow

HELP = "Build a model image from an ONNX file, or from a model edged knows by name."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    from edged.npu.formats import DEFAULT_FORMAT, FORMATS
    from edged.npu.sku import DEFAULT_SKU, SKUS

    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="an .onnx file, or resnet50, resnet152, vgg16, densenet121, ssd-vgg300",
    )
    parser.add_argument(
        "-o", "--out", required=True, metavar="OUT", help="oci:DIR[:TAG] or oci-archive:FILE"
    )
    parser.add_argument("--name", help="name of the model (default: the file's)")
    parser.add_argument(
        "--counter",
        type=int,
        default=0,
        metavar="N",
        help="of the release: devices refuse an older one of the same name (default: 0)",
    )
    parser.add_argument("--license", metavar="SPDX", help="of the model, such as Apache-2.0")
    parser.add_argument(
        "--annotation",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the image; may be given more than once",
    )
    parser.add_argument(
        "--sample", metavar="PATH", help="picture or folder of them, to measure quality on"
    )
    parser.add_argument("--version", default="1", help="version of the model (default: 1)")
    parser.add_argument("--format", default=DEFAULT_FORMAT, choices=FORMATS, help="of the NPU")
    parser.add_argument("--sku", default=DEFAULT_SKU, choices=SKUS, help="device to build for")
    parser.add_argument("--labels", metavar="FILE", help="class names, one a line")
    parser.add_argument(
        "--preprocess",
        metavar="JSON",
        help="from picture to tensor: JSON, a file of it, or a preset "
        "(resnet, vgg, densenet, ssd, torchvision); without it the model takes tensors",
    )
    parser.add_argument(
        "--classifier", default="cpu", choices=("cpu", "npu"), help="where Gemm runs (default: cpu)"
    )
    parser.add_argument(
        "--weights",
        metavar="FILE.npz|random:SEED",
        help="of a model known by name: trained ones, keyed by TensorFlow's names of variables, or "
        "random ones, with which its answers mean nothing (default: random:0)",
    )
    parser.add_argument(
        "--output-tensor",
        action="append",
        metavar="NAME",
        help="value of the graph to answer with instead of the graph's outputs; "
        "may be given more than once",
    )
    parser.add_argument(
        "--sign", metavar="KEY", type=Path, help="private key to sign with ('edged keys generate')"
    )
    add_passphrase(parser)
    parser.add_argument("--report", metavar="FILE", type=Path, help="write the report as JSON")
    parser.add_argument("--json", action="store_true", help="print facts as JSON")


def run(args: argparse.Namespace) -> int:
    """Builds the image and shows where every node runs."""
    from edged import oci
    from edged.build import assemble, report

    oci.Reference.parse(args.out).check_writable()  # a wrong one is told before the work
    key = oci.keys.read_private(args.sign, passphrase(args)) if args.sign else None
    built = assemble(
        args.source,
        format=args.format,
        name=args.name,
        version=args.version,
        labels=args.labels,
        preprocess=args.preprocess,
        classifier=args.classifier,
        sku=args.sku,
        weights=args.weights,
        outputs=args.output_tensor,
        counter=args.counter,
        annotations=_annotations(args),
        sample=args.sample,
    )
    for note in built.notes:
        print(f"edged: {note}", file=sys.stderr)
    digest = built.write(args.out, sign=key)
    if args.report is not None:
        _write_report(args.report, report.to_json(built.rows))
    manifest, counts = built.manifest, report.counts(built.rows)
    if args.json:
        facts = {
            "digest": str(digest),
            "out": args.out,
            "signed_by": oci.keys.key_id(key.public_key()) if key else None,
            "name": manifest.name,
            "version": manifest.version,
            "sku": manifest.sku,
            "format": manifest.format,
            "memory": manifest.memory,
            "counter": built.counter,
            "quality": built.quality.document(),
            "nodes": counts,
            "notes": list(built.notes),
            "report": json.loads(report.to_json(built.rows))["nodes"],
        }
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return 0
    print(table(["node", "operator", "runs on", "rule"], [_row(row) for row in built.rows]))
    print(
        f"\nnodes: {counts['npu']} on the NPU, {counts['cpu']} on the CPU, {counts['folded']} "
        f"folded; {size(manifest.memory)} of NPU memory, {manifest.format}, {manifest.sku}"
    )
    print(f"quality: {built.quality.sentence()}")
    print(f"{manifest.name} {manifest.version} -> {args.out}\n{digest}")
    return 0


def _annotations(args: argparse.Namespace) -> dict[str, str]:
    from edged.build.provenance import LICENSES

    found = {LICENSES: args.license} if args.license else {}
    for each in args.annotation:
        name, equals, value = each.partition("=")
        if not equals:
            raise ConfigError(f"cannot annotate {each!r}: expected NAME=VALUE")
        found[name] = value
    return found


def _row(row: ReportRow) -> list[object]:
    return [row.node, row.op, row.where, row.rule]


def _write_report(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as exc:
        raise StoreError(f"cannot write report {path}: {exc.strerror}") from exc
    print(f"report: {path}", file=sys.stderr)
