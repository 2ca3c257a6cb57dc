"""Conv, and Gemm and MatMul written as one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edged.compiler.geometry import axis_pads, conv_axis, within
from edged.compiler.graph import Array, Node
from edged.compiler.rules.scope import Scope, Unfit
from edged.compiler.steps import Convolve, Doubles, Step
from edged.compiler.view import View
from edged.npu.chains import Tensor, Window


def conv(scope: Scope, node: Node) -> tuple[Step, View]:
    """Two-dimensional, any kernel, stride, dilation and padding by zeros, one group."""
    source = scope.nchw(node.inputs[0])
    group = node.attributes.get("group", 1)
    if group != 1:
        raise Unfit(f"group is {group}, the NPU runs group 1")
    weights = _weights(scope, node.inputs[1], 4)
    window, positions = _window(node, source, (weights.shape[2], weights.shape[3]))
    if weights.shape[1] != source.tensor.channels:
        raise Unfit(f"its weights take {weights.shape[1]} channels of {source.tensor.channels}")
    rows = weights.shape[0]
    has_bias = len(node.inputs) > 2 and node.inputs[2]
    bias = scope.doubles(node.inputs[2]) if has_bias else np.zeros(rows)
    if bias.shape != (rows,):
        raise Unfit(f"its bias has shape {list(bias.shape)} for {rows} output channels")
    target = source.resized(scope.new_map(), Tensor(*positions, rows))
    return Convolve(source.map, target.map, window, weights, bias), target


def gemm(scope: Scope, node: Node) -> tuple[Step, View]:
    """Gemm with constant weights and bias: a convolution over the whole map in front of it."""
    _check_classifier(scope)
    if node.attributes.get("transA", 0):
        raise Unfit("transA is not 0")
    matrix = _weights(scope, node.inputs[1], 2)
    if not node.attributes.get("transB", 0):
        matrix = matrix.T
    rows = matrix.shape[0]
    bias: npt.NDArray[np.float64] = np.zeros(rows)
    if len(node.inputs) > 2 and node.inputs[2]:
        found = scope.doubles(node.inputs[2])
        if found.size not in {1, rows}:
            raise Unfit(f"its bias has {found.size} values for {rows} output channels")
        bias = np.broadcast_to(found.ravel(), (rows,)) * float(node.attributes.get("beta", 1.0))
    alpha = float(node.attributes.get("alpha", 1.0))
    gain = None if alpha == 1.0 else np.full(rows, alpha)
    return _fully_connected(scope, node, matrix, bias, gain)


def matmul(scope: Scope, node: Node) -> tuple[Step, View]:
    """A feature vector times a constant matrix: a Gemm without bias."""
    _check_classifier(scope)
    matrix = _weights(scope, node.inputs[1], 2).T
    return _fully_connected(scope, node, matrix, np.zeros(matrix.shape[0]), None)


def _check_classifier(scope: Scope) -> None:
    if not scope.classifier:
        raise Unfit("the classifier stays on the CPU (classifier='npu' takes it in)")


def _weights(scope: Scope, name: str, rank: int) -> Array:
    if not scope.is_constant(name):
        raise Unfit(f"its weights {name!r} are not constant")
    weights = scope.graph.constants[name]
    if weights.ndim != rank:
        raise Unfit(f"its weights {name!r} have {weights.ndim} axes, the NPU runs {rank}")
    return weights


def _fully_connected(
    scope: Scope, node: Node, matrix: Array, bias: Doubles, gain: Doubles | None
) -> tuple[Step, View]:
    """Returns the convolution whose kernel is the whole map.

    The matrix is ``[rows, elements of the map]``, the elements in the order of the node's operand.
    """
    source = scope.view(node.inputs[0])
    height, width, channels = source.tensor.height, source.tensor.width, source.tensor.channels
    if not source.flat or matrix.shape[1] != height * width * channels:
        raise Unfit(f"its operand of shape {list(source.shape)} is not one flattened map")
    rows = matrix.shape[0]
    if source.order == "CHW":
        weights = matrix.reshape(rows, channels, height, width)
    else:
        weights = matrix.reshape(rows, height, width, channels).transpose(0, 3, 1, 2)
    target = View(scope.new_map(), Tensor(1, 1, rows), "CHW", (1, rows))
    window = Window(kernel=(height, width))
    return Convolve(source.map, target.map, window, weights, bias, gain), target


def _window(node: Node, source: View, kernel: tuple[int, int]) -> tuple[Window, tuple[int, int]]:
    """Returns the window and the size of the output."""
    attributes = node.attributes
    strides = attributes.get("strides") or (1, 1)
    dilations = attributes.get("dilations") or (1, 1)
    if tuple(attributes.get("kernel_shape") or kernel) != kernel:
        raise Unfit(f"kernel_shape is {attributes['kernel_shape']}, its weights are {kernel}")
    rule, explicit = attributes.get("auto_pad", "NOTSET"), attributes.get("pads", ())
    sizes = (source.tensor.height, source.tensor.width)
    rows, columns = (
        within(
            conv_axis(sizes[i], kernel[i], strides[i], dilations[i], axis_pads(rule, explicit, i)),
            dilated=False,
        )
        for i in (0, 1)
    )
    if rows is None or columns is None:
        raise Unfit("its stride leaps over pixels that its padding rule would cut off")
    pads = (rows.before, columns.before, rows.after, columns.after)
    if min(rows.positions, columns.positions) < 1:
        raise Unfit(f"its window does not fit an input of {sizes[0]} x {sizes[1]}")
    window = Window(kernel, (strides[0], strides[1]), pads, (dilations[0], dilations[1]))
    return window, (rows.positions, columns.positions)
