"""What is wrong with a model is said with node, operator and reason."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edged import compiler
from edged.compiler import check
from edged.errors import ModelError
from tests.unit.compiler.graphs import check_program, model, node, weights

W = {"w": weights(4, 3, 3, 3)}


def refused(made: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        compiler.load(made)


@pytest.mark.parametrize("opset", [8, 999])
def test_opsets_that_are_not_known_are_refused(opset: int) -> None:
    refused(model([node("Relu", "x", "y")], opset=opset), rf"opset {opset}; expected one from 9 to")


def test_a_model_without_onnx_opset_is_refused() -> None:
    made = model([node("Relu", "x", "y")])
    made.opset_import[0].domain = "other"

    refused(made, "opset none")


def test_an_operator_that_onnx_does_not_have_is_named() -> None:
    refused(
        model([node("Rectify", "x", "y", name="r")]), r"node 'r' \(Rectify\): ONNX opset 17 has"
    )


def test_an_operator_of_a_newer_opset_is_named() -> None:
    made = model([node("Gelu", "x", "y", name="g")], opset=17)

    refused(made, r"node 'g' \(Gelu\): ONNX opset 17 has no such operator")


def test_an_operator_of_an_unknown_domain_is_named() -> None:
    made = model([node("Relu", "x", "y", domain="acme", name="r")])
    made.opset_import.append(helper.make_opsetid("acme", 1))

    refused(made, r"node 'r' \(acme\.Relu\): domain 'acme' is not known")


def test_nodes_without_a_name_are_named_by_their_output() -> None:
    made = model([helper.make_node("Rectify", ["x"], ["y"])])

    refused(made, r"node 'y' \(Rectify\)")


def test_a_cycle_is_named() -> None:
    made = model([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")])

    refused(made, r"node 'a' \(Add\): it reads 'b', .* the graph has a cycle")


def test_a_value_that_nothing_makes_is_named() -> None:
    refused(
        model([node("Add", "x lost", "y")]), r"node 'y' \(Add\): it reads 'lost', which nothing"
    )


def test_a_value_made_twice_is_named() -> None:
    made = model([node("Relu", "x", "y"), node("Neg", "x", "y", name="again")])

    refused(made, r"node 'again' \(Neg\): 'y' is made a second time")


def test_an_output_that_nothing_makes_is_named() -> None:
    refused(model([node("Relu", "x", "z")]), "nothing makes its output 'y'")


def test_a_model_without_outputs_is_refused() -> None:
    refused(model([node("Relu", "x", "y")], outputs=[]), "no output")


def test_weights_that_are_not_numbers_are_named() -> None:
    bad = W["w"].copy()
    bad[0, 0, 0, :2] = np.nan

    refused(
        model([node("Conv", "x w", "y")], constants={"w": bad}),
        "tensor 'w' .*2 of its values are NaN",
    )


def test_a_tensor_with_too_few_bytes_is_named() -> None:
    made = model([node("Conv", "x w", "y")], constants=W)
    made.graph.initializer[0].raw_data = b"\0" * 12

    refused(made, "tensor 'w'")


def test_a_tensor_with_a_negative_dimension_is_named() -> None:
    made = model([node("Conv", "x w", "y")], constants=W)
    made.graph.initializer[0].dims[0] = -4

    refused(made, "tensor 'w': a dimension")


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("strides", [0, 1]), ("dilations", [1, -1]), ("kernel_shape", [3, 1 << 40]), ("group", 0)],
)
def test_windows_that_would_divide_by_zero_or_overflow_are_refused(
    attribute: str, value: object
) -> None:
    made = model([node("Conv", "x w", "y", **{attribute: value})], constants=W)

    refused(made, rf"node 'y' \(Conv\): {attribute} is ")


def test_nodes_of_branches_are_checked_too() -> None:
    window = node("MaxPool", "x", "b", kernel_shape=[1, 1], strides=[0, 1], name="inner")
    branch = helper.make_graph(
        [window], "g", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    )
    made = model(
        [node("If", "cond", "y", then_branch=branch, else_branch=branch)],
        constants={"cond": np.bool_(True)},
    )

    refused(made, r"node 'inner' \(MaxPool\): strides is ")


@pytest.mark.parametrize("pad", [1 << 62, -1])
def test_pads_that_would_overflow_or_crop_are_refused(pad: int) -> None:
    made = model([node("Conv", "x w", "y", pads=[0, 0, pad, 0])], constants=W)

    refused(made, r"node 'y' \(Conv\): pads is ")


def test_what_onnx_itself_finds_wrong_is_passed_on() -> None:
    refused(model([node("MaxPool", "x", "y")]), "kernel_shape")


def test_too_many_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "NODE_LIMIT", 1)

    refused(model([node("Relu", "x", "a"), node("Relu", "a", "y")]), "2 nodes, at most 1")


def test_outputs_need_announce_neither_shape_nor_type() -> None:
    made = model([node("Conv", "x w", "y")], constants=W)
    made.graph.output[0].ClearField("type")

    check_program(made)


def test_local_functions_are_inlined() -> None:
    made = model([node("Conv", "x w", "c"), node("block", "c", "y", domain="local")], constants=W)
    opsets = [helper.make_opsetid("", 17)]
    body = [node("Relu", "a", "r"), node("MaxPool", "r", "b", kernel_shape=[2, 2])]
    made.functions.append(helper.make_function("local", "block", ["a"], ["b"], body, opsets))
    made.opset_import.append(helper.make_opsetid("local", 1))

    program = check_program(made)

    assert [port.shape for port in program.outputs] == [(1, 4, 5, 5)]


def with_functions(calls: dict[str, list[str]]) -> onnx.ModelProto:
    """A model that calls the first function; each one calls what is listed for it in turn."""
    made = model([node(next(iter(calls)), "x", "y", domain="local")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    for name, called in calls.items():
        values = ["a", *(f"{name}{i}" for i in range(len(called) - 1)), "b"]
        body = [
            node(each, values[i], values[i + 1], domain="local" if each in calls else "")
            for i, each in enumerate(called)
        ]
        made.functions.append(helper.make_function("local", name, ["a"], ["b"], body, opsets))
    made.opset_import.append(helper.make_opsetid("local", 1))
    return made


def test_functions_that_call_each_other_in_circles_are_refused() -> None:
    refused(with_functions({"f": ["g"], "g": ["Relu", "f"]}), "function 'f': it calls itself")


def test_functions_that_unfold_into_too_many_nodes_are_refused_before_they_do() -> None:
    doubling = {f"f{i}": [f"f{i + 1}"] * 2 for i in range(40)}

    refused(with_functions({**doubling, "f40": ["Relu"]}), f"{2**40} nodes, at most")


def test_an_input_that_is_no_tensor_is_named() -> None:
    made = model([node("SequenceAt", "s i", "y")], constants={"i": np.int64(0)}, inputs={})
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    made.graph.input.append(sequence)

    refused(made, "input 's': it is not a tensor with a shape")
