"""The JSON form of a manifest's parts, read and written.

Invariants:
- What is read from a written part equals it.
- Every name, path, count and dimension that is read is within its limits.
"""

from __future__ import annotations

import re
from typing import Any

from edged.manifest.document import Node
from edged.manifest.parts import (
    TYPES,
    Golden,
    ImageStage,
    NpuStage,
    OnnxStage,
    Stage,
    TensorSpec,
)
from edged.manifest.preprocess import Preprocess

MAX_TENSORS = 64  # of one side of the signature or of one stage
MAX_ALIASES = 16
MAX_RANK = 8
MAX_DIMENSION = 2**31 - 1

_SHA256 = re.compile("[0-9a-f]{64}")


def read_specs(node: Node) -> tuple[TensorSpec, ...]:
    """Returns one side of the signature."""
    return tuple(_read_spec(each) for each in node.items(MAX_TENSORS, 1))


def _read_spec(node: Node) -> TensorSpec:
    fields = node.fields(["name", "aliases", "type", "shape"])
    return TensorSpec(
        name=fields["name"].text(),
        aliases=tuple(each.text() for each in fields["aliases"].items(MAX_ALIASES)),
        type=fields["type"].choice(*TYPES),
        shape=tuple(_dimension(each) for each in fields["shape"].items(MAX_RANK)),
    )


def _dimension(node: Node) -> int:
    size = node.integer(-1, MAX_DIMENSION)
    if size == 0:
        raise node.error("expected -1 or at least 1, got 0")
    return size


def spec(value: TensorSpec) -> dict[str, Any]:
    """Returns the JSON form of one tensor of the signature."""
    return {
        "name": value.name,
        "aliases": list(value.aliases),
        "type": value.type,
        "shape": list(value.shape),
    }


def read_stage(node: Node) -> Stage:
    """Returns one stage."""
    kind = node.member("kind").choice("image", "npu", "onnx")
    if kind == "image":
        fields = node.fields(["kind", "input", "output", "preprocess"])
        preprocess = fields["preprocess"]
        return ImageStage(
            fields["input"].text(),
            fields["output"].text(),
            Preprocess.from_json(preprocess.value, preprocess.where),
        )
    file = "program" if kind == "npu" else "model"
    fields = node.fields(["kind", file, "inputs", "outputs"])
    inputs, outputs = _names(fields["inputs"]), _names(fields["outputs"])
    made = NpuStage if kind == "npu" else OnnxStage
    return made(fields[file].path(), inputs, outputs)


def _names(node: Node) -> tuple[str, ...]:
    return tuple(each.text() for each in node.items(MAX_TENSORS, 1))


def stage(value: Stage) -> dict[str, Any]:
    """Returns the JSON form of one stage."""
    if isinstance(value, ImageStage):
        return {
            "kind": value.kind,
            "input": value.input,
            "output": value.output,
            "preprocess": value.preprocess.to_json(),
        }
    file = {"program": value.program} if isinstance(value, NpuStage) else {"model": value.model}
    return {
        "kind": value.kind,
        **file,
        "inputs": list(value.inputs),
        "outputs": list(value.outputs),
    }


def read_golden(node: Node) -> Golden:
    """Returns the golden test."""
    fields = node.fields(["npu", "pipeline"])
    npu = fields["npu"].fields(["inputs", "outputs", "sha256"])
    pipeline = fields["pipeline"].fields(["inputs", "outputs", "tolerance"])
    tolerance = pipeline["tolerance"].number()
    if not 0 <= tolerance <= 1:
        raise pipeline["tolerance"].error(f"expected 0 to 1, got {tolerance}")
    digests = npu["sha256"].members(MAX_TENSORS)
    return Golden(
        npu_inputs=npu["inputs"].path(),
        npu_outputs=npu["outputs"].path(),
        npu_sha256=tuple((name, _sha256(digests[name])) for name in sorted(digests)),
        pipeline_inputs=pipeline["inputs"].path(),
        pipeline_outputs=pipeline["outputs"].path(),
        tolerance=tolerance,
    )


def _sha256(node: Node) -> str:
    text = node.text()
    if not _SHA256.fullmatch(text):
        raise node.error(f"expected 64 hexadecimal digits in lower case, got {text!r:.80}")
    return text


def golden(value: Golden) -> dict[str, Any]:
    """Returns the JSON form of the golden test."""
    return {
        "npu": {
            "inputs": value.npu_inputs,
            "outputs": value.npu_outputs,
            "sha256": dict(value.npu_sha256),
        },
        "pipeline": {
            "inputs": value.pipeline_inputs,
            "outputs": value.pipeline_outputs,
            "tolerance": value.tolerance,
        },
    }
