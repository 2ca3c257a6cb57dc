"""Models as PyTorch's two exporters and tf2onnx write them answer as onnxruntime does."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from edged import compiler
from tests.conftest import ONNXRUNTIME
from tests.unit.compiler.graphs import MODELS, feeds_for, relative_error, run_onnx, run_partition

EXPORTED = sorted(MODELS.glob("*.onnx"))


@pytest.mark.parametrize("classifier", ["cpu", "npu"])
@pytest.mark.parametrize("path", EXPORTED, ids=lambda path: path.stem)
def test_all_parts_together_answer_as_the_exported_model(
    path: Path, classifier: Literal["cpu", "npu"]
) -> None:
    if "dense" in path.stem and ONNXRUNTIME < (1, 29):
        pytest.skip("this onnxruntime counts the overhang of an average pool's ceil_mode")
    parts = compiler.partition(path, classifier=classifier)
    feeds = feeds_for(parts.inputs, seed=3)
    expected = run_onnx(path, feeds)

    mapped = run_partition(parts, feeds, "float32")
    quantised = run_partition(parts, feeds, "bfp")

    assert [port.name for port in parts.outputs] == list(expected)
    for name, answer in expected.items():
        # Without block rounding only the weights' float16 is left: the graph was mapped right.
        assert relative_error(mapped[name], answer) < 1e-3
        assert relative_error(quantised[name], answer) < 0.03


@pytest.mark.parametrize("path", EXPORTED, ids=lambda path: path.stem)
def test_every_convolution_of_an_exported_model_runs_on_the_npu(path: Path) -> None:
    report = compiler.partition(path).report

    assert {row.where for row in report if row.op == "Conv"} == {"npu"}


@pytest.mark.parametrize("path", EXPORTED, ids=lambda path: path.stem)
def test_the_report_has_one_row_for_each_exported_node(path: Path) -> None:
    import onnx

    nodes = onnx.load(path).graph.node

    report = compiler.partition(path).report

    assert [(row.node, row.op) for row in report] == [
        (each.name or each.output[0], each.op_type) for each in nodes
    ]
    assert all(row.rule for row in report)


@pytest.mark.parametrize("path", EXPORTED, ids=lambda path: path.stem)
def test_the_same_model_makes_the_same_program_from_path_bytes_and_message(path: Path) -> None:
    import onnx

    data = path.read_bytes()
    message = onnx.load_model_from_string(data)

    programs = {compiler.partition(s).program.to_bytes() for s in (path, str(path), data, message)}

    assert len(programs) == 1
    assert message.SerializeToString() == onnx.load_model_from_string(data).SerializeToString()


def test_a_dynamic_batch_is_seen_by_callers_and_is_1_inside() -> None:
    parts = compiler.partition(MODELS / "torch-residual-dynamo.onnx")

    assert [(port.name, port.shape) for port in parts.inputs] == [("image", (-1, 3, 33, 30))]
    assert [(port.name, port.shape) for port in parts.outputs] == [("answer", (-1, 5))]
    assert parts.program.inputs[0].shape == (1, 3, 33, 30)


def test_tensorflow_layout_enters_and_leaves_as_the_graph_has_it() -> None:
    parts = compiler.partition(MODELS / "tf-residual-opset18.onnx")

    assert [(port.layout, port.shape) for port in parts.program.inputs] == [
        ("NHWC", (1, 32, 28, 3))
    ]
    assert ("map", "NHWC", (1, 4, 4, 19)) in [
        (port.name, port.layout, port.shape) for port in parts.program.outputs
    ]
    rules = {row.op: row.rule for row in parts.report if row.where != "folded"}
    assert rules["Transpose"] == "layout only"
    assert rules["Sub"] == "preprocessing: not an operator of the NPU"


def test_both_pytorch_exporters_make_the_same_program() -> None:
    for name in ("residual", "dense", "plain"):
        old, new = (
            compiler.compile(MODELS / f"torch-{name}-{kind}.onnx", outputs=outputs)
            for kind, outputs in (
                ("opset17", _features(name, "opset17")),
                ("dynamo", _features(name, "dynamo")),
            )
        )

        assert [repr(chain) for chain in old.chains] == [repr(chain) for chain in new.chains]


def _features(name: str, kind: str) -> list[str]:
    parts = compiler.partition(MODELS / f"torch-{name}-{kind}.onnx")
    return [port.name for port in parts.program.outputs]
