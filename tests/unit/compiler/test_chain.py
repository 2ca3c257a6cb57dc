"""The absorption rules of NPU.md 1.7, one test for each sentence, and the folding to the bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edged import compiler
from edged.npu import Program
from edged.npu.chains import Activate, Add, Convolution, Norm, Scale
from tests.unit.compiler.graphs import (
    Array,
    check_program,
    kinds,
    model,
    node,
    norm_constants,
    weights,
)

W = {"w": weights(4, 3, 3, 3), "v": weights(4, 4, 1, 1, seed=1), "b": weights(4)}
CONV = node("Conv", "x w b", "c")


def convolution(program: Program, position: int = 0) -> Convolution:
    chain = program.chains[position]
    assert isinstance(chain, Convolution)
    return chain


def report(made: onnx.ModelProto) -> dict[str, str]:
    return {row.node: row.rule for row in compiler.partition(made).report}


# What a convolution takes in


def test_a_convolution_takes_in_batch_norm_residual_and_relu() -> None:
    made = model(
        [
            node("Relu", "z", "r"),
            CONV,
            node("BatchNormalization", "c gamma beta mean variance", "n"),
            node("Add", "n r", "s"),
            node("Relu", "s", "y"),
        ],
        inputs={"x": [1, 3, 8, 8], "z": [1, 4, 6, 6]},
        constants={**W, **norm_constants(4)},
    )

    program = check_program(made)

    assert kinds(program) == ["Activate", "Convolution"]
    assert convolution(program, 1).activation == "relu"
    assert convolution(program, 1).residual == program.chains[0].target
    assert report(made) == {
        "r": "relu",
        "c": "convolution",
        "n": "batch norm folded into weights and bias of 'c'",
        "s": "residual of 'c'",
        "y": "relu of 'c'",
    }


def test_a_convolution_takes_in_several_per_channel_nodes() -> None:
    made = model(
        [
            CONV,
            node("BatchNormalization", "c gamma beta mean variance", "n"),
            node("Mul", "n k", "m"),
            node("Add", "h m", "a"),
            node("Clip", "a low high", "y"),
        ],
        constants={
            **W,
            **norm_constants(4),
            "k": weights(4, 1, 1),
            "h": weights(1, 4, 1, 1),
            "low": np.array(0, np.float32),
            "high": np.array(6, np.float32),
        },
    )

    program = check_program(made)

    assert kinds(program) == ["Convolution"]
    assert convolution(program).activation == "relu6"


def test_a_value_with_two_uses_is_written() -> None:
    made = model(
        [CONV, node("Relu", "c", "r"), node("Conv", "c v", "d"), node("Add", "r d", "y")],
        constants=W,
    )

    assert kinds(check_program(made)) == ["Convolution", "Activate", "Convolution"]


def test_a_value_used_twice_by_one_node_is_written() -> None:
    made = model([CONV, node("Add", "c c", "y")], constants=W)

    assert kinds(check_program(made)) == ["Convolution", "Add"]


def test_an_output_of_the_graph_is_written() -> None:
    made = model([CONV, node("Relu", "c", "y")], constants=W, outputs=["c", "y"])

    assert kinds(check_program(made)) == ["Convolution", "Activate"]


def test_an_output_under_another_layout_is_written_too() -> None:
    made = model(
        [CONV, node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("Relu", "c", "y")],
        constants=W,
        outputs=["t", "y"],
    )

    assert kinds(check_program(made)) == ["Convolution", "Activate"]


def test_a_value_that_the_cpu_uses_too_is_written() -> None:
    made = model(
        [CONV, node("Softmax", "c", "s"), node("Relu", "c", "y")], constants=W, outputs=["s", "y"]
    )

    parts = compiler.partition(made)

    assert kinds(parts.program) == ["Convolution", "Activate"]
    assert [port.name for port in parts.program.outputs] == ["c", "y"]


def test_after_the_residual_only_an_activation_is_taken_in() -> None:
    made = model(
        [
            CONV,
            node("Add", "c z", "s"),
            node("BatchNormalization", "s gamma beta mean variance", "n"),
            node("Relu", "n", "y"),
        ],
        inputs={"x": [1, 3, 8, 8], "z": [1, 4, 6, 6]},
        constants={**W, **norm_constants(4)},
    )

    program = check_program(made)

    assert kinds(program) == ["Convolution", "Scale"]
    assert convolution(program).residual is not None


def test_only_one_residual_is_taken_in() -> None:
    made = model(
        [CONV, node("Add", "c z", "s"), node("Add", "s z", "y")],
        inputs={"x": [1, 3, 8, 8], "z": [1, 4, 6, 6]},
        constants=W,
    )

    assert kinds(check_program(made)) == ["Convolution", "Add"]


def test_nothing_is_taken_in_after_an_activation() -> None:
    made = model(
        [
            CONV,
            node("Relu", "c", "r"),
            node("BatchNormalization", "r gamma beta mean variance", "n"),
            node("Conv", "n v", "d"),
            node("Relu", "d", "e"),
            node("Add", "e r", "s"),
            node("Relu", "s", "t"),
            node("Relu", "t", "y"),
        ],
        constants={**W, **norm_constants(4)},
    )

    program = check_program(made)

    assert kinds(program) == ["Convolution", "Scale", "Convolution", "Add", "Activate"]


def test_of_two_convolutions_the_later_one_takes_the_sum() -> None:
    nodes = [CONV, node("Conv", "x w", "d"), node("Add", "d c", "s"), node("Relu", "s", "y")]

    program = check_program(model(nodes, constants=W))

    assert kinds(program) == ["Convolution", "Convolution"]
    first, second = convolution(program, 0), convolution(program, 1)
    assert (first.residual, first.activation) == (None, "none")
    assert (second.residual, second.activation) == (first.target, "relu")
    assert not np.any(second.bias)


def test_a_sum_of_two_is_a_residual_and_a_sum_of_three_is_not() -> None:
    inputs = {"x": [1, 3, 8, 8], "z": [1, 4, 6, 6]}
    two = model([CONV, node("Sum", "z c", "y")], inputs=inputs, constants=W)
    three = model(
        [CONV, node("Sum", "z c z", "s"), node("Relu", "s", "y")], inputs=inputs, constants=W
    )

    assert kinds(check_program(two)) == ["Convolution"]
    program = check_program(three)
    assert kinds(program) == ["Convolution", "Add", "Add"]
    assert [getattr(each, "activation", None) for each in program.chains] == [
        "none",
        "none",
        "relu",
    ]


def test_a_chain_waits_for_a_residual_that_is_made_later() -> None:
    made = model(
        [
            CONV,
            node("MaxPool", "x", "p", kernel_shape=[3, 3]),
            node("Slice", "p s e a", "q"),
            node("Pad", "q pads", "r"),
            node("Add", "c r", "y"),
        ],
        constants={
            **W,
            "s": np.array([0], np.int64),
            "e": np.array([2], np.int64),
            "a": np.array([1], np.int64),
            "pads": np.array([0, 1, 0, 0, 0, 1, 0, 0], np.int64),
        },
    )

    assert kinds(check_program(made)) == ["MaxPool", "Copy", "Copy", "Convolution"]


def test_a_sum_that_no_convolution_takes_is_a_chain_with_its_activation() -> None:
    made = model(
        [node("Add", "x z", "s"), node("Relu", "s", "y")],
        inputs={"x": [1, 3, 4, 4], "z": [1, 3, 4, 4]},
    )

    assert check_program(made).chains == (Add(0, 1, 2, "relu"),)


# Pre-activations


def test_batch_norm_before_a_convolution_is_a_pre_activation_never_folded_forward() -> None:
    made = model(
        [
            node("BatchNormalization", "x gamma beta mean variance", "n"),
            node("Mul", "n k", "m"),
            node("Add", "m k", "a"),
            node("Relu", "a", "r"),
            node("Conv", "r w", "y"),
        ],
        constants={**W, **norm_constants(3), "k": weights(3, 1, 1)},
    )

    program = check_program(made)

    assert kinds(program) == ["Scale", "Convolution"]
    assert isinstance(program.chains[0], Scale)
    assert program.chains[0].activation == "relu"


def test_a_pre_activation_whose_value_has_two_uses_ends_there() -> None:
    made = model(
        [node("Mul", "x k", "m"), node("Add", "m k", "a"), node("Add", "m a", "y")],
        constants={"k": weights(3, 1, 1)},
    )

    assert kinds(check_program(made)) == ["Scale", "Scale", "Add"]


def test_norm_takes_in_one_scale() -> None:
    nodes = [
        node("LpNormalization", "x", "n", axis=1),
        node("Mul", "n k", "m"),
        node("Mul", "m k", "y"),
    ]

    program = check_program(model(nodes, constants={"k": weights(3, 1, 1, seed=2)}))

    assert kinds(program) == ["Norm", "Scale"]
    assert isinstance(program.chains[0], Norm)
    assert program.chains[0].scale is not None


def test_norm_takes_in_nothing_else() -> None:
    nodes = [node("LpNormalization", "x", "n", axis=1), node("Add", "n k", "y")]

    assert kinds(check_program(model(nodes, constants={"k": weights(3, 1, 1)}))) == [
        "Norm",
        "Scale",
    ]


def test_activations_that_nothing_takes_in_stand_alone() -> None:
    made = model([node("MaxPool", "x", "p", kernel_shape=[2, 2]), node("Relu", "p", "y")])

    assert check_program(made).chains[1] == Activate(1, 2, "relu")


# Zero pads


def pads(*values: int) -> dict[str, Array]:
    return {"p": np.array(values, np.int64), "q": np.array([0, 0, 0, 1, 0, 0, 0, 0], np.int64)}


def test_zero_pads_before_a_convolution_join_its_own() -> None:
    made = model(
        [
            node("Pad", "x p", "a"),
            node("Pad", "a q", "b2"),
            node("Conv", "b2 w", "y", pads=[1, 0, 0, 2]),
        ],
        constants={**W, **pads(0, 0, 1, 2, 0, 0, 3, 4)},
    )

    program = check_program(made)

    assert kinds(program) == ["Convolution"]
    assert convolution(program).window.pads == (2, 3, 3, 6)
    assert report(made) == {
        "a": "zero pad of 'y'",
        "b2": "zero pad of 'y'",
        "y": "convolution",
    }


def test_zero_pads_join_after_same_padding_was_worked_out() -> None:
    made = model(
        [node("Pad", "x p", "a"), node("Conv", "a w", "y", auto_pad="SAME_UPPER", strides=[2, 2])],
        constants={**W, **pads(0, 0, 1, 0, 0, 0, 0, 0)},
    )

    assert kinds(check_program(made)) == ["Convolution"]


def test_zero_pads_before_a_pool_are_copied() -> None:
    made = model(
        [node("Pad", "x p", "a"), node("MaxPool", "a", "y", kernel_shape=[2, 2])],
        constants=pads(0, 0, 1, 1, 0, 0, 1, 1),
    )

    assert kinds(check_program(made)) == ["Copy", "MaxPool"]


def test_zero_pads_that_others_need_are_copied_for_them() -> None:
    made = model(
        [
            node("Pad", "x p", "a"),
            node("MaxPool", "a", "m", kernel_shape=[3, 3]),
            node("Conv", "a w", "c"),
        ],
        constants={**W, **pads(0, 0, 1, 1, 0, 0, 1, 1)},
        outputs=["m", "c", "a"],
    )

    program = check_program(made)

    assert kinds(program) == ["Copy", "MaxPool", "Convolution"]
    assert convolution(program, 2).window.pads == (1, 1, 1, 1)
    assert convolution(program, 2).source == program.inputs[0].tensor


def test_pads_of_channels_are_copied() -> None:
    made = model(
        [node("Pad", "x p", "a"), node("Conv", "a v", "y")],
        constants={**W, **pads(0, 1, 0, 0, 0, 0, 0, 0)},
    )

    assert kinds(check_program(made)) == ["Copy", "Convolution"]


# Folding, to the bit


def test_batch_norm_is_folded_in_float64_and_rounded_by_way_of_float32() -> None:
    found = norm_constants(4, seed=9)
    gamma, beta, mean, variance = (found[key].astype(np.float64) for key in found)
    made = model(
        [CONV, node("BatchNormalization", "c gamma beta mean variance", "y", epsilon=1e-3)],
        constants={**W, **found},
    )

    chain = convolution(compiler.compile(made))

    gain = gamma / np.sqrt(variance + float(np.float32(1e-3)))
    folded = W["w"].astype(np.float64) * gain[:, None, None, None]
    expected = folded.astype(np.float32).astype(np.float16).transpose(0, 2, 3, 1)
    offset = beta + (W["b"].astype(np.float64) - mean) * gain
    assert chain.weights.tobytes() == np.ascontiguousarray(expected).tobytes()
    assert chain.bias.tobytes() == offset.astype(np.float32).astype(np.float16).tobytes()


def test_rounding_goes_by_way_of_float32() -> None:
    # Just above the middle of two float16 values, but the middle itself in float32.
    tie = 1 + 2.0**-11
    weight = np.full((1, 1, 1, 1), tie, np.float32)
    made = model(
        [node("Conv", "x w", "c"), node("Mul", "c k", "y")],
        inputs={"x": [1, 1, 2, 2]},
        constants={"w": weight, "k": np.array(1 + 2.0**-23, np.float32)},
    )

    product = float(weight.ravel()[0]) * (1 + 2.0**-23)
    expected = np.float16(np.float32(product))
    assert convolution(compiler.compile(made)).weights.ravel()[0] == expected


def test_a_pre_activation_is_rounded_from_the_unrounded_gain() -> None:
    found = norm_constants(3, seed=4)
    gamma, beta, mean, variance = (found[key].astype(np.float64) for key in found)
    made = model([node("BatchNormalization", "x gamma beta mean variance", "y")], constants=found)

    chain = compiler.compile(made).chains[0]

    gain = gamma / np.sqrt(variance + float(np.float32(1e-5)))
    assert isinstance(chain, Scale)
    assert chain.scale.tobytes() == gain.astype(np.float32).astype(np.float16).tobytes()
    bias = (beta - mean * gain).astype(np.float32).astype(np.float16)
    assert chain.bias.tobytes() == bias.tobytes()


def test_gemm_is_scaled_before_it_is_rounded() -> None:
    matrix = weights(6, 5)
    made = model(
        [node("Gemm", "x m", "y", alpha=1 / 3)], inputs={"x": [1, 6]}, constants={"m": matrix}
    )

    chain = convolution(compiler.compile(made))

    expected = matrix.T.astype(np.float64) * float(np.float32(1 / 3))
    assert np.array_equal(chain.weights[:, 0, 0, :], expected.astype(np.float32).astype(np.float16))


@pytest.mark.parametrize("name", ["ms-fp8", "ms-fp9", "ms-fp11", "ms-fp13"])
def test_the_format_and_the_sku_are_the_programs(name: str) -> None:
    program = compiler.compile(model([CONV], outputs=["c"], constants=W), format=name)

    assert (program.format, program.sku) == (name, "bw-cnn-a10")
    assert program.memory_bytes > 0


def test_weights_do_not_depend_on_the_format() -> None:
    made = model([CONV], outputs=["c"], constants=W)

    one, other = (compiler.compile(made, format=name) for name in ("ms-fp8", "ms-fp13"))

    assert convolution(one).weights.tobytes() == convolution(other).weights.tobytes()


def test_many_weights_are_rounded_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from edged.compiler import emit

    made = model([CONV], outputs=["c"], constants=W)
    whole = compiler.compile(made).to_bytes()
    monkeypatch.setattr(emit, "_ROUNDED_AT_ONCE", 30)

    assert compiler.compile(made).to_bytes() == whole
