"""A detector's boxes are picked in a graph of their own, where others could wait for them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edged import compiler
from tests.unit.compiler.graphs import feeds_for, model, node, run_onnx, run_partition, weights

CONSTANTS = {
    "w": weights(4, 3, 3, 3),
    "v": weights(4, 3, 3, 3, seed=1),
    "flat": np.array([1, 4, -1], np.int64),
    "most": np.array([3], np.int64),
    "overlap": np.array([0.5], np.float32),
}


def detector(outputs: list[str]) -> onnx.ModelProto:
    """Scores ``s`` of four classes and boxes ``b`` from two convolutions, and what is picked."""
    return model(
        [
            node("Conv", "x w", "scores_map"),
            node("Conv", "x v", "boxes_map"),
            node("Softmax", "scores_map", "shares", axis=1),
            node("Reshape", "shares flat", "s"),
            node("Reshape", "boxes_map flat", "turned"),
            node("Transpose", "turned", "b", perm=[0, 2, 1]),
            node("NonMaxSuppression", "b s most overlap", "picked"),
            node("Cast", "picked", "y", to=onnx.TensorProto.FLOAT),
        ],
        constants=CONSTANTS,
        outputs=outputs,
    )


def names(part: onnx.ModelProto | None) -> tuple[set[str], list[str], list[str]]:
    assert part is not None
    graph = part.graph
    return (
        {each.name for each in graph.input},
        [each.op_type for each in graph.node],
        [each.name for each in graph.output],
    )


def check(made: onnx.ModelProto, parts: compiler.Partition) -> None:
    feeds = feeds_for(parts.inputs)
    expected, found = run_onnx(made, feeds), run_partition(parts, feeds, "float32")
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name] == pytest.approx(array, rel=1e-3, abs=1e-4), name


def test_who_asks_for_scores_does_not_wait_for_boxes() -> None:
    made = detector(["s", "y"])
    parts = compiler.partition(made)
    assert names(parts.post) == ({"scores_map"}, ["Softmax", "Reshape"], ["s"])
    picking = ["Reshape", "Transpose", "NonMaxSuppression", "Cast"]
    assert names(parts.boxes) == ({"s", "boxes_map"}, picking, ["y"])
    check(made, parts)


def test_what_both_need_is_computed_once() -> None:
    made = detector(["shares", "y"])
    parts = compiler.partition(made)
    assert names(parts.post) == ({"scores_map"}, ["Softmax"], ["shares"])
    reads, operators, outputs = names(parts.boxes)
    assert (reads, outputs) == ({"shares", "boxes_map"}, ["y"])
    assert "Softmax" not in operators
    check(made, parts)


def test_what_leads_to_a_plain_output_and_to_boxes_is_handed_on() -> None:
    made = detector(["s", "y"])
    made.graph.node.append(node("Sqrt", "s", "root"))
    made.graph.output[0].name = "root"
    parts = compiler.partition(made)
    assert names(parts.post) == ({"scores_map"}, ["Softmax", "Reshape", "Sqrt"], ["root", "s"])
    assert names(parts.boxes)[0] == {"s", "boxes_map"}
    check(made, parts)


def test_boxes_alone_and_scores_alone_are_one_graph() -> None:
    for outputs in (["y"], ["s"]):
        made = detector(outputs)
        parts = compiler.partition(made)
        assert parts.boxes is None
        assert names(parts.post)[2] == outputs
        check(made, parts)
