"""What does not depend on the input is computed once, within limits; shapes are all known after."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edged import compiler
from edged.compiler import evaluate
from edged.compiler.evaluate import is_filled
from edged.errors import ModelError
from tests.unit.compiler.graphs import (
    check_program,
    feeds_for,
    model,
    node,
    run_onnx,
    run_partition,
    weights,
)

W = {"w": weights(4, 3, 3, 3)}
CONV = node("Conv", "x w", "c")


def operators(made: onnx.ModelProto) -> list[str]:
    return [each.operator for each in compiler.load(made).nodes]


def rows(made: onnx.ModelProto) -> dict[str, str]:
    return {row.node: f"{row.where}: {row.rule}" for _, row in compiler.load(made).folded}


def integers(*values: int) -> Any:
    return np.array(values, np.int64)


def test_shape_arithmetic_of_a_dynamic_batch_is_folded() -> None:
    made = model(
        [
            CONV,
            node("Shape", "c", "s"),
            node("Gather", "s zero", "n"),
            node("Unsqueeze", "n first", "n1"),
            node("Mul", "n1 one", "n2"),
            node("Cast", "n2", "n3", to=TensorProto.INT64),
            node("Concat", "n3 rest", "shape", axis=0),
            node("Reshape", "c shape", "r"),
            node("Gemm", "r g", "y"),
        ],
        inputs={"x": ["batch", 3, 8, 8]},
        constants={
            **W,
            "zero": np.int64(0),
            "first": integers(0),
            "one": integers(1),
            "rest": integers(-1),
            "g": weights(144, 5),
        },
    )

    assert operators(made) == ["Conv", "Reshape", "Gemm"]
    assert set(rows(made).values()) == {"folded: constant", "folded: passes its input on"}
    assert check_program(made).outputs[0].shape == (1, 5)


@pytest.mark.parametrize(("start", "end", "expected"), [(1, None, [3, 8, 8]), (-2, -1, [8])])
def test_parts_of_shapes_are_folded(start: int, end: int | None, expected: list[int]) -> None:
    bounds = {"start": start} if end is None else {"start": start, "end": end}
    made = model([node("Shape", "x", "s", **bounds), node("Identity", "s", "y")])
    graph = compiler.load(made)

    assert [each.operator for each in graph.nodes] == ["Identity"]
    assert graph.constants[graph.nodes[0].inputs[0]].tolist() == expected


def test_size_is_folded() -> None:
    made = model([node("Size", "x", "s"), node("Mul", "x k", "a"), node("Conv", "a w", "y")])
    made.graph.initializer.extend(
        [
            numpy_helper.from_array(W["w"], "w"),
            numpy_helper.from_array(np.array(2, np.float32), "k"),
        ]
    )

    assert rows(made) == {"s": "folded: constant"}


@pytest.mark.parametrize(
    "between",
    [
        [node("Identity", "c", "y")],
        [node("Dropout", "c", "y")],
        [node("Dropout", "c ratio off", "y m")],
        [node("Identity", "c", "i"), node("Dropout", "i", "d"), node("Identity", "d", "y")],
        [node("Cast", "c", "y", to=TensorProto.FLOAT)],
        [node("CastLike", "c w", "y")],
        [node("Concat", "c", "y", axis=1)],
        [node("Sum", "c", "y")],
        [node("Max", "c", "y")],
        [node("Pad", "c nothing", "y")],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_what_passes_its_input_on_is_folded_and_the_output_keeps_its_name(
    between: list[onnx.NodeProto],
) -> None:
    constants = {
        **W,
        "ratio": np.array(0.5, np.float32),
        "off": np.bool_(False),
        "nothing": np.zeros(8, np.int64),
    }
    made = model([CONV, *between], constants=constants)

    program = check_program(made)

    assert operators(made) == ["Conv"]
    assert [port.name for port in program.outputs] == ["y"]


def test_pads_of_nothing_as_an_attribute_are_folded() -> None:
    made = model([CONV, node("Pad", "c", "y", pads=[0] * 8)], constants=W, opset=9)

    assert operators(made) == ["Conv"]


def test_dropout_whose_mask_is_read_stays() -> None:
    made = model([CONV, node("Dropout", "c", "y mask")], constants=W, outputs=["y", "mask"])
    made.graph.output[1].type.tensor_type.elem_type = TensorProto.BOOL

    assert operators(made) == ["Conv", "Dropout"]


def test_dropout_in_training_mode_stays() -> None:
    constants = {**W, "ratio": np.array(0.5, np.float32), "on": np.bool_(True)}
    made = model([CONV, node("Dropout", "c ratio on", "y")], constants=constants)

    assert operators(made) == ["Conv", "Dropout"]


def test_two_outputs_of_one_value_are_both_answered() -> None:
    made = model(
        [CONV, node("Identity", "c", "y"), node("Identity", "c", "z")],
        constants=W,
        outputs=["y", "z"],
    )

    parts = compiler.partition(made)
    answers = run_partition(parts, feeds_for(parts.inputs), "float32")

    assert [port.name for port in parts.program.outputs] == ["y"]
    assert np.array_equal(answers["y"], answers["z"])


def test_an_output_that_is_constant_is_answered() -> None:
    made = model(
        [CONV, node("Shape", "x", "s"), node("Identity", "k", "z")],
        constants={**W, "k": np.array([1, 2], np.float32)},
        outputs=["c", "s", "z"],
    )
    made.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64

    parts = compiler.partition(made)
    answers = run_partition(parts, feeds_for(parts.inputs), "float32")

    assert answers["s"].tolist() == [1, 3, 8, 8]
    assert answers["z"].tolist() == [1, 2]


def test_an_input_that_is_an_output_too_stays_float32() -> None:
    made = model([CONV, node("Identity", "x", "y")], constants=W, outputs=["c", "y"])

    parts = compiler.partition(made)
    feeds = {"x": np.full((1, 3, 8, 8), 1 / 3, np.float32)}

    assert np.array_equal(run_partition(parts, feeds, "bfp")["y"], feeds["x"])


def test_nodes_that_no_output_needs_are_dropped() -> None:
    made = model([CONV, node("Softmax", "c", "s"), node("Relu", "c", "y")], constants=W)

    program = check_program(made)

    # The value of the convolution has one use then, and the chain takes the Relu in.
    assert len(program.chains) == 1
    assert rows(made) == {"s": "folded: no output needs it"}


@pytest.mark.parametrize(
    "attribute",
    [
        {"value_float": 0.5},
        {"value": numpy_helper.from_array(np.array(0.5, np.float32))},
        {"value_floats": [0.5]},
    ],
    ids=str,
)
def test_all_forms_of_constants_are_folded(attribute: dict[str, Any]) -> None:
    made = model([node("Constant", "", "k", **attribute), CONV, node("Mul", "c k", "y")])
    made.graph.initializer.append(numpy_helper.from_array(W["w"], "w"))

    assert operators(made) == ["Conv", "Mul"]
    check_program(made)


def test_integer_and_text_constants_are_folded() -> None:
    nodes = [
        node("Constant", "", "axis", value_ints=[1]),
        node("Constant", "", "i", value_int=3),
        node("Constant", "", "t", value_strings=["a", "b"]),
        node("Unsqueeze", "v axis", "u"),
        node("Add", "x u", "z"),
    ]
    made = model(
        [*nodes, node("Identity", "t", "y"), node("Identity", "i", "j")],
        outputs=["y", "z", "j"],
        constants={"v": np.ones((1, 8, 8), np.float32)},
    )

    assert operators(made) == ["Add", "Identity", "Identity"]


def test_sparse_constants_are_refused() -> None:
    values = numpy_helper.from_array(np.array([1], np.float32), "v")
    indices = numpy_helper.from_array(integers(2), "i")
    sparse = helper.make_sparse_tensor(values, indices, [4])
    made = model([node("Constant", "", "y", sparse_value=sparse)])

    with pytest.raises(ModelError, match="sparse_value is not supported"):
        compiler.load(made)


def test_filled_weights_take_no_memory_and_stay_filled_on_the_cpu() -> None:
    made = model(
        [
            node(
                "ConstantOfShape",
                "shape",
                "big",
                value=numpy_helper.from_array(np.array([2], np.float32)),
            ),
            CONV,
            node("GlobalAveragePool", "c", "p"),
            node("Flatten", "p", "f"),
            node("Gemm", "f big", "y"),
        ],
        constants={**W, "shape": integers(4, 1 << 20)},
    )

    parts = compiler.partition(made)

    assert is_filled(compiler.load(made).constants["big"])
    assert parts.post is not None
    assert parts.post.ByteSize() < 1000
    feeds = feeds_for(parts.inputs)
    answer = run_partition(parts, feeds, "float32")["y"]
    assert np.allclose(answer, run_onnx(made, feeds)["y"], rtol=1e-3, atol=1e-3)


def test_filled_convolution_weights_are_lowered() -> None:
    shape = integers(4, 3, 3, 3)
    made = model(
        [
            node("ConstantOfShape", "s", "v", value=helper.make_tensor("", 1, [1], [0.25])),
            node("Conv", "x v", "y"),
        ],
        constants={"s": shape},
    )

    check_program(made)


@pytest.mark.parametrize("sizes", [(1 << 40, 1 << 40), (-1, 4), (1 << 31,)])
def test_filled_tensors_that_are_out_of_bounds_are_refused(sizes: tuple[int, ...]) -> None:
    made = model([node("ConstantOfShape", "s", "y")], constants={"s": integers(*sizes)})

    with pytest.raises(ModelError, match=r"node 'y' \(ConstantOfShape\): a tensor of"):
        compiler.load(made)


def test_what_would_be_too_large_is_left_to_run_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "TENSOR_LIMIT", 1000)
    made = model(
        [node("Tile", "k times", "t"), node("Mul", "x t", "a"), node("Conv", "a w", "y")],
        constants={**W, "k": np.ones((1, 1, 1, 8), np.float32), "times": integers(1, 3, 8, 1)},
    )

    assert operators(made) == ["Mul", "Conv"]
    monkeypatch.setattr(evaluate, "TENSOR_LIMIT", 100)
    assert operators(made) == ["Tile", "Mul", "Conv"]


def test_all_folded_tensors_together_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "TOTAL_LIMIT", 1200)
    made = model(
        [
            node("Tile", "k times", "t"),
            node("Exp", "t", "e"),
            node("Mul", "x e", "a"),
            node("Conv", "a w", "y"),
        ],
        constants={**W, "k": np.ones((1, 1, 1, 8), np.float32), "times": integers(1, 3, 8, 1)},
    )

    assert operators(made) == ["Exp", "Mul", "Conv"]


@pytest.mark.parametrize(
    ("op", "operand", "sizes"),
    [
        ("Tile", "w", integers(1 << 40, 1, 1, 1)),
        ("Pad", "x", integers(*[0] * 7, 1 << 62)),
        ("Pad", "x", integers(*[0] * 7, -20)),
        ("Expand", "w", integers(1 << 31, 4, 3, 3, 3)),
    ],
)
def test_tensors_that_would_overflow_are_refused(op: str, operand: str, sizes: Any) -> None:
    made = model([node(op, f"{operand} sizes", "y")], constants={**W, "sizes": sizes})

    with pytest.raises(ModelError, match=rf"\({op}\): it makes a tensor of"):
        compiler.load(made)


def test_arithmetic_that_fails_is_named() -> None:
    constants = {"a": np.int64(0), "b": np.int64(4), "zero": np.int64(0)}
    made = model([node("Range", "a b zero", "y")], constants=constants)

    with pytest.raises(ModelError, match=r"node 'y' \(Range\)"):
        compiler.load(made)


def test_nonzero_of_a_small_constant_is_folded_and_of_a_large_one_is_not() -> None:
    small = model([node("NonZero", "k", "n"), node("Identity", "n", "y")])
    small.graph.initializer.append(numpy_helper.from_array(integers(0, 5, 7), "k"))
    large = model([node("NonZero", "k", "y")], constants={"k": np.ones(5000, np.float32)})

    graph = compiler.load(small)

    assert graph.constants[graph.nodes[0].inputs[0]].tolist() == [[1, 2]]
    assert operators(large) == ["NonZero"]


@pytest.mark.parametrize(
    ("shape", "named"),
    [([1, 3, "height", 8], r"dimension 2 \(height\)"), ([1, 3, 8, 0], "dimension 3")],
)
def test_only_the_batch_may_vary(shape: list[int | str], named: str) -> None:
    with pytest.raises(ModelError, match=f"input 'x': {named}"):
        compiler.load(model([CONV], inputs={"x": shape}, outputs=["c"], constants=W))


def test_an_input_without_a_shape_is_refused() -> None:
    made = model([CONV], outputs=["c"], constants=W)
    made.graph.input[0].type.tensor_type.ClearField("shape")

    with pytest.raises(ModelError, match="shape"):
        compiler.load(made)


def test_an_input_that_is_too_large_is_refused() -> None:
    with pytest.raises(ModelError, match=r"input 'x': .* is too large"):
        compiler.load(model([node("Relu", "x", "y")], inputs={"x": [1, 3, 1 << 16, 1 << 16]}))


def test_a_fixed_batch_becomes_1_also_where_a_reshape_holds_it() -> None:
    made = model(
        [CONV, node("Reshape", "c s", "r"), node("Gemm", "r g", "y")],
        inputs={"x": [4, 3, 8, 8]},
        constants={**W, "s": integers(4, 144), "g": weights(144, 5)},
    )
    graph = compiler.load(made)

    assert graph.type_of("r").static == (1, 144)
    assert graph.ports["x"].shape == (-1, 3, 8, 8)
    assert graph.ports["y"].shape == (-1, 5)
    program = compiler.compile(made)
    one = feeds_for(program.inputs)["x"]
    expected = run_onnx(made, {"x": np.repeat(one, 4, axis=0)})["y"][:1]
    from edged.npu import reference

    found = reference.run(program, one, numerics="float32")["y"]
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_batch_that_stays_in_the_answer_is_refused() -> None:
    made = model(
        [node("Reshape", "x s", "y")],
        inputs={"x": [4, 3, 8, 8]},
        constants={"s": integers(-1, 4)},
    )
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [192, 4]))

    with pytest.raises(ModelError, match=r"output 'y': a batch of 1 gives \[48, 4\]"):
        compiler.load(made)


def test_a_node_that_does_not_fit_its_inputs_is_named() -> None:
    made = model(
        [node("MatMul", "x m", "y", name="mm")], constants={"m": np.ones((5, 5), np.float32)}
    )

    with pytest.raises(ModelError, match=r"node 'mm' \(MatMul\): it does not fit its inputs"):
        compiler.load(made)


def branches(taken: onnx.NodeProto, other: onnx.NodeProto) -> dict[str, onnx.GraphProto]:
    found = {}
    for key, each in (("then_branch", taken), ("else_branch", other)):
        info = helper.make_tensor_value_info(each.output[0], TensorProto.FLOAT, None)
        graph = helper.make_graph([each], key, [], [info])
        graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
        found[key] = graph
    return found


@pytest.mark.parametrize(("condition", "expected"), [(True, "Relu"), (False, "Mul")])
def test_a_branch_that_is_always_taken_takes_the_place_of_its_if(
    condition: bool, expected: str
) -> None:
    made = model(
        [
            CONV,
            node("If", "cond", "i", **branches(node("Relu", "c", "b"), node("Mul", "c half", "b"))),
            node("If", "cond", "y", **branches(node("Relu", "i", "b"), node("Mul", "i half", "b"))),
        ],
        constants={**W, "cond": np.bool_(condition)},
    )

    assert operators(made) == ["Conv", expected, expected]
    check_program(made)


def test_a_branch_that_depends_on_the_input_runs_on_the_cpu_with_what_it_captures() -> None:
    made = model(
        [
            CONV,
            node("Identity", "c", "alias"),
            node("ReduceMax", "x", "top", keepdims=0),
            node("Greater", "top zero", "cond"),
            node("If", "cond", "y", **branches(node("Neg", "alias", "b"), node("Abs", "c", "b"))),
        ],
        constants={**W, "zero": np.float32(0)},
    )
    parts = compiler.partition(made)
    feeds = feeds_for(parts.inputs)

    answer = run_partition(parts, feeds, "float32")["y"]

    assert np.allclose(answer, run_onnx(made, feeds)["y"], rtol=1e-3, atol=1e-3)
    assert [port.name for port in parts.program.outputs] == ["c"]


def test_a_program_can_end_before_the_models_outputs() -> None:
    made = model(
        [CONV, node("Dropout", "c", "d"), node("Relu", "d", "r"), node("Softmax", "r", "y")],
        constants=W,
    )

    program = compiler.compile(made, outputs=["d", "r"])

    assert [port.name for port in program.outputs] == ["d", "r"]
    again = compiler.compile(compiler.load(made), outputs=["d", "r"])
    assert again.to_bytes() == program.to_bytes()


@pytest.mark.parametrize(
    ("outputs", "reason"), [(["q"], "'q': no such"), ([], "none"), (["c"] * 2, "twice")]
)
def test_outputs_that_make_no_sense_are_refused(outputs: list[str], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        compiler.compile(model([CONV], outputs=["c"], constants=W), outputs=outputs)


def test_operators_that_onnx_has_no_inference_for_get_their_shapes() -> None:
    made = model(
        [CONV, node("MeanVarianceNormalization", "c", "m"), node("Conv", "m v", "y")],
        constants={**W, "v": weights(2, 4, 1, 1)},
    )
    graph = compiler.load(made)

    assert graph.type_of("m").static == (1, 4, 6, 6)


def test_operators_that_only_onnxruntime_knows_are_left_to_it() -> None:
    made = model([CONV, node("Gelu", "c", "y", domain="com.microsoft")], constants=W)
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 6, 6])
    made.graph.output[0].CopyFrom(info)
    parts = compiler.partition(made)
    feeds = feeds_for(parts.inputs)

    assert [row.op for row in parts.report] == ["Conv", "com.microsoft.Gelu"]
    assert parts.outputs[0].shape == (-1, 4, 6, 6)
    assert np.allclose(
        run_partition(parts, feeds, "float32")["y"], run_onnx(made, feeds)["y"], atol=1e-3
    )
