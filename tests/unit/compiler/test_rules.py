"""Each operator of the NPU: what runs there answers as onnxruntime, what does not says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edged import compiler
from edged.errors import ModelError
from edged.npu import reference
from edged.npu.chains import AveragePool, Convolution, Copy, MaxPool, Window
from tests.conftest import ONNXRUNTIME
from tests.unit.compiler.graphs import (
    check_program,
    feeds_for,
    kinds,
    model,
    node,
    norm_constants,
    run_onnx,
    weights,
)

W = {"w": weights(4, 3, 3, 3)}


def integers(*values: int) -> Any:
    return np.array(values, np.int64)


def refused(made: onnx.ModelProto, reason: str) -> None:
    """The whole model cannot be compiled, for that reason at node 'y'."""
    op = next(each.op_type for each in made.graph.node if each.name == "y")
    with pytest.raises(ModelError, match=rf"cannot compile node 'y' \({op}\): .*{reason}"):
        compiler.compile(made)


# Convolutions


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((4, 3, 1, 1), {}),
        ((4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((4, 3, 3, 3), {"pads": [0, 2, 1, 0], "strides": [2, 1]}),
        ((4, 3, 5, 2), {"pads": [2, 0, 2, 1], "dilations": [1, 3]}),
        ((4, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((4, 3, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
        ((4, 3, 3, 3), {"auto_pad": "VALID"}),
        ((4, 3, 8, 8), {"kernel_shape": [8, 8]}),
        ((1, 3, 7, 7), {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
    ],
)
def test_convolutions_of_any_kernel_stride_dilation_and_padding(
    shape: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    made = model(
        [node("Conv", "x w b", "y", **attributes)],
        constants={"w": weights(*shape), "b": weights(shape[0])},
    )

    assert kinds(check_program(made)) == ["Convolution"]


def test_same_padding_counts_the_dilated_kernel() -> None:
    made = model([node("Conv", "x w", "y", auto_pad="SAME_UPPER", dilations=[2, 2])], constants=W)

    program = compiler.compile(made)

    assert program.outputs[0].shape == (1, 4, 8, 8)
    assert isinstance(program.chains[0], Convolution)
    assert program.chains[0].window.pads == (2, 2, 2, 2)


def test_more_than_16_channels_and_more_than_128() -> None:
    made = model(
        [node("Conv", "x w", "y")],
        inputs={"x": [1, 130, 5, 5]},
        constants={"w": weights(131, 130, 2, 2, scale=0.1)},
    )

    check_program(made)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (
            model([node("Conv", "x w", "y", group=3)], constants={"w": weights(3, 1, 3, 3)}),
            "group is 3, the NPU runs group 1",
        ),
        (
            model([node("Conv", "x w", "y", kernel_shape=[5, 5])], constants=W),
            "kernel_shape is",
        ),
        (
            model([node("Conv", "x w", "y")], constants={"w": weights(4, 2, 3, 3)}),
            "2 channels of 3",
        ),
        (
            model([node("Conv", "x w b", "y")], constants={**W, "b": weights(9)}),
            r"bias has shape \[9\]",
        ),
        (
            model(
                [node("Conv", "x w", "y")],
                inputs={"x": [1, 3, 2048, 4]},
                constants={"w": weights(1, 3, 1025, 1)},
            ),
            "kernel is larger than 1024",
        ),
        (
            model(
                [node("Conv", "x w", "y")],
                inputs={"x": [1, 3, 9]},
                constants={"w": weights(4, 3, 3)},
            ),
            r"\[1, 3, 9\]",
        ),
        (
            model([node("Conv", "x w", "y")], inputs={"x": [1, 3, 8, 8], "w": [1, 3, 3, 3]}),
            "weights 'w' are not constant",
        ),
        (
            model(
                [node("Conv", "x w b", "y")],
                inputs={"x": [1, 3, 8, 8], "b": ["n"]},
                constants=W,
            ),
            "operand 'b' is not constant",
        ),
        (
            model([node("Conv", "k w", "y")], constants={**W, "k": weights(1, 3, 4, 4)}),
            "operand 'k' is constant",
        ),
    ],
)
def test_convolutions_that_the_npu_cannot_run(made: onnx.ModelProto, reason: str) -> None:
    refused(made, reason)


@pytest.mark.parametrize("factor", [np.inf, 1e6])
def test_weights_beyond_float16_are_an_error_that_names_them(factor: float) -> None:
    made = model([node("Conv", "x w", "y")], constants={"w": (W["w"] * factor).astype(np.float32)})

    with pytest.raises(
        ModelError, match=r"node 'y' \(Conv\): \d+ of its folded weights \(from 'w'\)"
    ):
        compiler.partition(made)


def test_weights_beyond_the_devices_memory_are_refused_before_they_are_made() -> None:
    nodes = [
        node("ConstantOfShape", "s", "v"),
        *(node("Conv", f"x{i} v", f"x{i + 1}", auto_pad="SAME_UPPER") for i in range(9)),
    ]
    made = model(
        nodes,
        inputs={"x0": [1, 1024, 2, 2]},
        outputs=["x9"],
        constants={"s": integers(1024, 1024, 15, 15)},
    )

    with pytest.raises(ModelError, match="weights take 4246732800 bytes, bw-cnn-a10 has"):
        compiler.compile(made)


# Gemm and MatMul


@pytest.mark.parametrize("options", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}])
@pytest.mark.parametrize("bias", ["-", "b", "b2", "b1"])
def test_gemm_on_a_feature_vector_is_a_convolution_on_one_pixel(
    options: dict[str, Any], bias: str
) -> None:
    matrix = weights(20, 7)
    made = model(
        [node("Gemm", f"x m {bias}", "y", **options)],
        inputs={"x": ["n", 20]},
        constants={
            "m": np.ascontiguousarray(matrix.T) if options.get("transB") else matrix,
            "b": weights(7),
            "b2": weights(1, 7),
            "b1": weights(1),
        },
    )

    program = check_program(made)

    assert kinds(program) == ["Convolution"]
    assert (program.inputs[0].layout, program.outputs[0].layout) == ("NC", "NC")


@pytest.mark.parametrize("nhwc", [False, True])
def test_gemm_after_flatten_is_a_convolution_as_large_as_the_map(nhwc: bool) -> None:
    flatten = [node("Flatten", "c", "f")]
    if nhwc:
        flatten = [node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("Flatten", "t", "f")]
    made = model(
        [node("Conv", "x w", "c", strides=[2, 1]), *flatten, node("Gemm", "f m", "y")],
        constants={**W, "m": weights(4 * 3 * 6, 5)},
    )

    program = check_program(made)

    assert kinds(program) == ["Convolution", "Convolution"]
    assert isinstance(program.chains[1], Convolution)
    assert program.chains[1].window == Window(kernel=(3, 6))


def test_matmul_and_add_are_a_gemm_with_bias() -> None:
    made = model(
        [node("MatMul", "x m", "p"), node("Add", "p b", "s"), node("Relu", "s", "y")],
        inputs={"x": [1, 20]},
        constants={"m": weights(20, 7), "b": weights(7)},
    )

    assert kinds(check_program(made)) == ["Convolution"]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (
            model(
                [node("Gemm", "x m", "y", transA=1)],
                inputs={"x": [1, 1]},
                constants={"m": weights(1, 7)},
            ),
            "transA",
        ),
        (
            model([node("Gemm", "x m", "y")], inputs={"x": [1, 1], "m": [1, 7]}),
            "weights 'm' are not constant",
        ),
        (
            model([node("MatMul", "x m", "y")], constants={"m": weights(8, 5)}),
            "not one flattened map",
        ),
        (
            model(
                [node("MatMul", "x m", "y")],
                inputs={"x": [1, 8]},
                constants={"m": weights(2, 8, 5)},
            ),
            "have 3 axes",
        ),
    ],
)
def test_products_that_the_npu_cannot_run(made: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        compiler.compile(made)


# Per-channel scale and offset


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (3, 1, 1), (1,), (), (1, 1, 1, 1)])
@pytest.mark.parametrize("op", ["Mul", "Add"])
@pytest.mark.parametrize("first", [True, False])
def test_mul_and_add_by_one_value_per_channel(shape: tuple[int, ...], op: str, first: bool) -> None:
    made = model(
        [node(op, "x k" if first else "k x", "y")], constants={"k": weights(*shape, seed=1)}
    )

    assert kinds(check_program(made)) == ["Scale"]


def test_mul_on_channels_last() -> None:
    made = model(
        [
            node("Mul", "x k", "m"),
            node("Transpose", "m", "t", perm=[0, 3, 1, 2]),
            node("Conv", "t w", "y"),
        ],
        inputs={"x": [1, 8, 7, 3]},
        constants={**W, "k": weights(3)},
    )

    program = check_program(made)

    assert kinds(program) == ["Scale", "Convolution"]
    assert program.inputs[0].layout == "NHWC"


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (8,), (1, 1, 8, 1), (1, 1, 3, 1, 1)])
def test_constants_that_vary_over_pixels_are_not_the_npus(shape: tuple[int, ...]) -> None:
    refused(model([node("Mul", "x k", "y")], constants={"k": weights(*shape)}), "per channel")


def test_the_product_of_two_feature_maps_is_not_the_npus() -> None:
    refused(model([node("Mul", "x x", "y")]), "neither operand is constant")


@pytest.mark.parametrize("shape", [[1, 3, 8, 8], [1, 3]])
def test_batch_norm_alone_is_a_pre_activation(shape: list[int]) -> None:
    made = model(
        [node("BatchNormalization", "x gamma beta mean variance", "y", epsilon=1e-3)],
        inputs={"x": shape},
        constants=norm_constants(3),
    )

    assert kinds(check_program(made)) == ["Scale"]


def test_batch_norm_in_training_mode_is_not_the_npus() -> None:
    made = model(
        [node("BatchNormalization", "x gamma beta mean variance", "y m v", training_mode=1)],
        constants=norm_constants(3),
    )

    refused(made, "training_mode")


def test_batch_norm_on_channels_last_is_not_the_npus() -> None:
    made = model(
        [
            node("Conv", "x w", "c"),
            node("Transpose", "c", "t", perm=[0, 2, 3, 1]),
            node("BatchNormalization", "t gamma beta mean variance", "y"),
        ],
        constants={**W, **norm_constants(6)},
    )

    refused(made, "channels last")


def test_a_negative_variance_is_an_error_that_names_the_node() -> None:
    constants = norm_constants(3)
    constants["variance"] -= 10
    made = model(
        [node("BatchNormalization", "x gamma beta mean variance", "y")], constants=constants
    )

    refused(made, "NaN")


# Activations, sums, norm


def test_relu_alone() -> None:
    assert kinds(check_program(model([node("Relu", "x", "y")]))) == ["Activate"]


@pytest.mark.parametrize("opset", [9, 17])
def test_clip_to_six(opset: int) -> None:
    if opset == 9:
        nodes = [node("Clip", "x", "y", min=0.0, max=6.0)]
    else:
        nodes = [node("Clip", "x low high", "y")]
    constants = {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    made = model(nodes, constants=constants, opset=opset)

    assert kinds(check_program(made)) == ["Activate"]


@pytest.mark.parametrize(
    ("operands", "reason"),
    [
        ("x low", r"0\.\.inf"),
        ("x - high", r"-inf\.\.6"),
        ("x high high", r"6\.\.6"),
        ("x b", "not constant"),
    ],
)
def test_other_clips_are_not_the_npus(operands: str, reason: str) -> None:
    constants = {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    made = model([node("Clip", operands, "y")], constants=constants)
    if " b" in operands:
        made.graph.input.append(onnx.helper.make_tensor_value_info("b", TensorProto.FLOAT, []))

    refused(made, reason)


@pytest.mark.parametrize("operands", ["x z", "x x", "x z q", "x z q x"])
def test_sums_of_feature_maps(operands: str) -> None:
    op = "Add" if operands.count(" ") == 1 else "Sum"
    made = model(
        [node(op, operands, "y")],
        inputs={name: [1, 3, 4, 5] for name in dict.fromkeys(operands.split())},
    )

    assert set(kinds(check_program(made))) == {"Add"}


@pytest.mark.parametrize(
    ("inputs", "between"),
    [
        ({"x": [1, 3, 4, 4], "z": [1, 3, 1, 1]}, []),
        ({"x": [1, 3, 4, 4], "z": [1, 3, 4, 1]}, []),
    ],
)
def test_sums_that_broadcast_are_not_the_npus(
    inputs: dict[str, list[int]], between: list[onnx.NodeProto]
) -> None:
    refused(
        model([*between, node("Add", "x z", "y")], inputs=inputs), "not feature maps of one size"
    )


def test_sums_of_different_layouts_are_not_the_npus() -> None:
    made = model(
        [
            node("Conv", "x w", "c"),
            node("Transpose", "c", "t", perm=[0, 2, 3, 1]),
            node("Add", "c t", "y"),
        ],
        inputs={"x": [1, 3, 6, 6]},
        constants=W,
    )

    refused(made, "not feature maps of one size and layout")


@pytest.mark.parametrize("axis", [1, -3])
def test_norm_over_channels(axis: int) -> None:
    made = model([node("LpNormalization", "x", "y", axis=axis)])

    assert kinds(check_program(made)) == ["Norm"]


@pytest.mark.parametrize("attributes", [{"axis": 1, "p": 1}, {"axis": -1}])
def test_other_norms_are_not_the_npus(attributes: dict[str, int]) -> None:
    refused(model([node("LpNormalization", "x", "y", **attributes)]), "p = 2 over the channels")


# Pools and means


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 3], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [2, 4], "strides": [2, 3], "auto_pad": "SAME_LOWER"},
        {"kernel_shape": [2, 3], "dilations": [3, 2]},
        {"kernel_shape": [10, 9], "pads": [3, 2, 3, 2]},
    ],
)
def test_pools_of_any_window(op: str, attributes: dict[str, Any]) -> None:
    made = model([node(op, "x", "y", **attributes)], inputs={"x": [1, 5, 8, 9]}, opset=19)

    assert kinds(check_program(made)) == [op]


@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 1, 2, 0]])
@pytest.mark.parametrize("ceil", [0, 1])
def test_average_pools_may_count_their_padding(pads: list[int], ceil: int) -> None:
    if ceil and ONNXRUNTIME < (1, 29):
        pytest.skip("this onnxruntime counts the overhang of ceil_mode")
    made = model(
        [
            node(
                "AveragePool",
                "x",
                "y",
                kernel_shape=[3, 3],
                strides=[2, 2],
                pads=pads,
                ceil_mode=ceil,
                count_include_pad=1,
            )
        ]
    )

    program = check_program(made)

    assert isinstance(program.chains[0], AveragePool)
    assert program.chains[0].include_pad


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_window_wholly_outside_the_image_is_an_error(op: str) -> None:
    made = model(
        [node(op, "x", "y", kernel_shape=[2, 1], dilations=[2, 1], pads=[1, 0, 1, 0])],
        inputs={"x": [1, 3, 1, 4]},
        opset=19,
    )

    with pytest.raises(ModelError, match=rf"node 'y' \({op}\): a window lies wholly outside"):
        compiler.partition(made)


def test_a_window_that_no_pixel_fits_is_an_error() -> None:
    made = model(
        [node("MaxPool", "x", "y", kernel_shape=[9, 1], strides=[1, 1])], inputs={"x": [1, 3, 4, 4]}
    )

    with pytest.raises(ModelError, match=r"\(MaxPool\): its window does not fit"):
        compiler.load(made)


@pytest.mark.parametrize("op", ["AveragePool", "Conv"])
def test_same_pads_that_would_cut_the_image_are_left_to_the_cpu(op: str) -> None:
    window = {"kernel_shape": [1, 1], "strides": [3, 3], "auto_pad": "SAME_UPPER"}
    made = model(
        [node(op, "x w" if op == "Conv" else "x", "y", **window)],
        inputs={"x": [1, 3, 6, 6]},
        constants={"w": weights(4, 3, 1, 1)},
    )

    refused(made, "leaps over pixels")


def test_a_stride_that_leaps_over_the_last_pixel_only_is_the_npus() -> None:
    made = model(
        [node("MaxPool", "x", "y", kernel_shape=[1, 1], strides=[2, 2], auto_pad="SAME_UPPER")]
    )
    program = compiler.compile(made)
    feeds = feeds_for(program.inputs)

    # TensorFlow's way of subsampling; onnxruntime refuses to run it.
    assert np.array_equal(reference.run(program, feeds)["y"], feeds["x"][:, :, ::2, ::2])


def test_the_indices_of_a_max_pool_are_not_the_npus() -> None:
    made = model([node("MaxPool", "x", "y i", kernel_shape=[2, 2])], outputs=["y", "i"])
    made.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64

    refused(made, "first output only, 'i' is read too")


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_the_mean_of_a_map_has_two_names(opset: int, keepdims: int, axes: list[int]) -> None:
    if opset == 13:
        mean = node("ReduceMean", "x", "y", axes=axes, keepdims=keepdims)
    else:
        mean = node("ReduceMean", "x axes", "y", keepdims=keepdims)
    made = model([mean], constants={"axes": integers(*axes)}, opset=opset)
    pooled = model([node("GlobalAveragePool", "x", "y")])

    programs = check_program(made), check_program(pooled)

    assert programs[0].chains == programs[1].chains
    assert programs[0].outputs[0].shape == ((1, 3, 1, 1) if keepdims else (1, 3))


@pytest.mark.parametrize("axes", [[1], [1, 2], [2], [0, 2, 3], None])
def test_other_means_are_not_the_npus(axes: list[int] | None) -> None:
    attributes = {} if axes is None else {"axes": axes}

    refused(model([node("ReduceMean", "x", "y", **attributes)]), "mean over rows and columns")


def test_the_mean_of_channels_last() -> None:
    made = model(
        [
            node("Conv", "x w", "c"),
            node("Transpose", "c", "t", perm=[0, 2, 3, 1]),
            node("ReduceMean", "t", "y", axes=[1, 2]),
        ],
        constants=W,
    )

    program = check_program(made)

    assert kinds(program) == ["Convolution", "AveragePool"]
    assert program.outputs[0].shape == (1, 1, 1, 4)
    assert program.outputs[0].layout == "NHWC"


# Concat, Pad, Slice


@pytest.mark.parametrize("axis", [1, -3])
def test_concat_of_channels(axis: int) -> None:
    made = model(
        [node("Relu", "x", "r"), node("Concat", "x r z x", "y", axis=axis)],
        inputs={"x": [1, 3, 4, 5], "z": [1, 130, 4, 5]},
    )

    program = check_program(made)

    assert kinds(program) == ["Activate", *["Copy"] * 4]
    assert program.outputs[0].shape == (1, 139, 4, 5)


def test_concat_of_feature_vectors() -> None:
    made = model([node("Relu", "x", "r"), node("Concat", "x r", "y", axis=1)], inputs={"x": [1, 6]})

    check_program(made)


@pytest.mark.parametrize("axis", [2, 3])
def test_concat_of_rows_or_columns_is_not_the_npus(axis: int) -> None:
    refused(model([node("Concat", "x x", "y", axis=axis)]), "not that of the channels")


def test_concat_with_a_constant_is_not_the_npus() -> None:
    made = model([node("Concat", "x k", "y", axis=1)], constants={"k": weights(1, 2, 8, 8)})

    refused(made, "operand 'k' is constant")


@pytest.mark.parametrize("opset", [9, 13, 18])
@pytest.mark.parametrize("pads", [[0, 0, 1, 2, 0, 0, 0, 3], [0, 2, 0, 0, 0, 1, 0, 0], [0, 1] * 4])
def test_pads_of_zeros(opset: int, pads: list[int]) -> None:
    nodes = [node("Pad", "x", "y", pads=pads)] if opset == 9 else [node("Pad", "x p", "y")]
    made = model(nodes, constants={"p": integers(*pads)}, opset=opset)

    assert kinds(check_program(made)) == ["Copy"]


def test_pads_of_some_axes() -> None:
    made = model(
        [node("Pad", "x p zero axes", "y")],
        constants={
            "p": integers(1, 2, 3, 4),
            "zero": np.array(0, np.float32),
            "axes": integers(-1, 1),
        },
        opset=18,
    )

    assert check_program(made).outputs[0].shape == (1, 9, 8, 12)


@pytest.mark.parametrize(
    ("pads", "attributes", "value", "reason"),
    [
        ([0, 0, 1, 1, 0, 0, 1, 1], {"mode": "reflect"}, 0.0, "mode 'reflect'"),
        ([0, 0, 1, 1, 0, 0, 1, 1], {}, 1.0, "with 1, the NPU with zeros"),
        ([0, 0, -1, 1, 0, 0, 1, 1], {}, 0.0, "negative"),
        ([1, 0, 0, 0, 0, 0, 0, 0], {}, 0.0, "pads the batch"),
    ],
)
def test_pads_that_are_not_the_npus(
    pads: list[int], attributes: dict[str, str], value: float, reason: str
) -> None:
    made = model(
        [node("Pad", "x p v", "y", **attributes)],
        constants={"p": integers(*pads), "v": np.array(value, np.float32)},
    )

    refused(made, reason)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ([0, 0], [1 << 62, 1 << 62], [2, 3], [2, 2]),
        ([1, 2], [-1, 7], [3, 2], [1, 2]),
        ([-2], [9], [1], [1]),
        ([1], [3], [1], None),
        ([0, 1, 0, 3], [1, 2, 5, 8], None, None),
    ],
)
@pytest.mark.parametrize("opset", [9, 13])
def test_slices_forward(
    starts: list[int],
    ends: list[int],
    axes: list[int] | None,
    steps: list[int] | None,
    opset: int,
) -> None:
    if opset == 9:
        if steps:
            pytest.skip("slices had no steps then")
        given = {"starts": starts, "ends": ends, **({"axes": axes} if axes else {})}
        made = model([node("Slice", "x", "y", **given)], opset=9)
    else:
        constants = {"s": starts, "e": ends, "a": axes, "t": steps}
        names = " ".join(name if value else "-" for name, value in constants.items())
        made = model(
            [node("Slice", f"x {names}", "y")],
            constants={name: integers(*value) for name, value in constants.items() if value},
        )

    assert kinds(check_program(made)) == ["Copy"]


@pytest.mark.parametrize(
    ("cut", "reason"), [((7, 0, 2, -1), "step is -1"), ((5, 5, 2, 1), "nothing is left of axis 2")]
)
def test_slices_that_are_not_the_npus(cut: tuple[int, int, int, int], reason: str) -> None:
    constants = {name: integers(value) for name, value in zip("seat", cut, strict=True)}
    made = model([node("Slice", "x s e a t", "y")], constants=constants)

    refused(made, reason)


def test_a_slice_of_everything_is_nothing() -> None:
    constants = {"s": integers(0), "e": integers(100), "a": integers(2)}
    made = model(
        [node("Slice", "x s e a", "c"), node("Conv", "c w", "y")], constants={**W, **constants}
    )

    assert kinds(check_program(made)) == ["Convolution"]


# Layout


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Flatten", "p", "y")],
        [node("Reshape", "p flat", "y")],
        [node("Squeeze", "p spatial", "y")],
        [node("Squeeze", "p spatial", "s"), node("Unsqueeze", "s spatial", "y")],
        [node("Transpose", "p", "y", perm=[0, 2, 3, 1])],
        [node("Transpose", "p", "y", perm=[0, 3, 2, 1])],
    ],
)
def test_views_of_one_pixel_cost_nothing(nodes: list[onnx.NodeProto]) -> None:
    made = model(
        [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "p"), *nodes],
        constants={**W, "flat": integers(1, -1), "spatial": integers(2, 3)},
    )

    assert kinds(check_program(made)) == ["Convolution", "AveragePool"]


def test_transposes_there_and_back_cost_nothing() -> None:
    made = model(
        [
            node("Conv", "x w", "c"),
            node("Transpose", "c", "t", perm=[0, 2, 3, 1]),
            node("Add", "t b", "s"),
            node("Relu", "s", "r"),
            node("Transpose", "r", "u", perm=[0, 3, 1, 2]),
            node("Conv", "u v", "y"),
        ],
        constants={**W, "b": weights(4), "v": weights(2, 4, 2, 2)},
    )

    program = check_program(made)

    # The bias and the Relu joined the convolution, through the transposes.
    assert kinds(program) == ["Convolution", "Convolution"]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (model([node("Transpose", "x", "y", perm=[0, 1, 3, 2])]), "moves more than the channels"),
        (model([node("Transpose", "x", "y")]), "moves more than the channels"),
        (
            model([node("Reshape", "x s", "y")], constants={"s": integers(1, 12, 4, 4)}),
            r"makes \[1, 12, 4, 4\] of \[1, 3, 8, 8\]",
        ),
        (
            model(
                [
                    node("Conv", "x w", "c"),
                    node("Flatten", "c", "f"),
                    node("Relu", "f", "y"),
                ],
                constants=W,
            ),
            "is a flattened map",
        ),
    ],
)
def test_layouts_that_are_not_the_npus(made: onnx.ModelProto, reason: str) -> None:
    refused(made, reason)


def test_a_flattened_map_is_no_output_of_a_program() -> None:
    made = model([node("Conv", "x w", "c"), node("Flatten", "c", "y")], constants=W)

    with pytest.raises(ModelError, match=r"'y' of shape .* is a flattened feature map"):
        compiler.compile(made)


def test_what_onnx_calls_nchw_must_be_it() -> None:
    made = model(
        [
            node("Conv", "x w", "c"),
            node("Transpose", "c", "t", perm=[0, 2, 3, 1]),
            node("MaxPool", "t", "y", kernel_shape=[2, 2]),
        ],
        constants=W,
    )

    refused(made, "not NCHW")


@pytest.mark.parametrize(
    ("inputs", "element", "reason"),
    [
        ({"x": [1, 3, 8, 8]}, TensorProto.FLOAT16, "not float32"),
        ({"x": [3, 8]}, TensorProto.FLOAT, ""),
        ({"x": [1, 3, 8, 8, 8]}, TensorProto.FLOAT, "4 axes"),
        ({"x": [1, 3, 8]}, TensorProto.FLOAT, "4 axes"),
    ],
)
def test_what_may_enter_the_npu(inputs: dict[str, list[int]], element: int, reason: str) -> None:
    made = model([node("Relu", "x", "y")], inputs=inputs, element=element)
    if not reason:
        assert compiler.compile(made).inputs[0].shape == (1, 8)
    else:
        refused(made, reason)


def test_an_operator_without_a_rule_is_named() -> None:
    refused(model([node("Softmax", "x", "y")]), "not an operator of the NPU")


def test_maps_beyond_the_npus_limits_are_refused_by_node() -> None:
    pads = integers(0, 0, 0, 0, 0, 0, 70000, 0)

    refused(model([node("Pad", "x p", "y")], constants={"p": pads}), "beyond the NPU")


def test_several_inputs_and_outputs_keep_their_names_layouts_and_order() -> None:
    made = model(
        [
            node("Conv", "b w", "c"),
            node("Relu", "a", "r"),
            node("Add", "c r", "second"),
            node("Transpose", "second", "first", perm=[0, 2, 3, 1]),
        ],
        inputs={"a": [1, 4, 6, 6], "b": [1, 3, 8, 8]},
        outputs=["first", "second"],
        constants=W,
    )

    program = check_program(made)

    assert [(port.name, port.shape) for port in program.inputs] == [
        ("a", (1, 4, 6, 6)),
        ("b", (1, 3, 8, 8)),
    ]
    assert [(port.name, port.layout) for port in program.outputs] == [
        ("first", "NHWC"),
        ("second", "NCHW"),
    ]


def test_a_program_may_hand_its_input_out() -> None:
    made = model(
        [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "y")],
        inputs={"x": [1, 8, 8, 3]},
        outputs=["t", "y"],
        constants=W,
    )
    program = compiler.compile(made)
    feeds = feeds_for(program.inputs)

    found = reference.run(program, feeds)

    assert np.array_equal(found["t"], run_onnx(made, feeds)["t"])


def test_windows_of_a_pool_are_onnxruntimes_in_the_program() -> None:
    made = model(
        [node("MaxPool", "x", "y", kernel_shape=[1, 1], strides=[3, 3], ceil_mode=1)],
        inputs={"x": [1, 3, 5, 5]},
    )

    program = check_program(made)

    assert isinstance(program.chains[0], MaxPool)
    assert program.outputs[0].shape == (1, 3, 2, 2)


def test_copies_move_strided_boxes() -> None:
    made = model(
        [node("Slice", "x s e a t", "y")],
        constants={
            "s": integers(1, 2),
            "e": integers(8, 8),
            "a": integers(2, 1),
            "t": integers(3, 1),
        },
    )

    assert check_program(made).chains == (
        Copy(0, 1, extent=(3, 8, 1), start=(1, 0, 2), step=(3, 1, 1)),
    )
