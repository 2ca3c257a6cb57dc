"""Pools and means over rows and columns."""

from __future__ import annotations

import numpy as np

from edged.compiler.geometry import Axis, axis_pads, pool_axis, within
from edged.compiler.graph import Node
from edged.compiler.rules.scope import Scope, Unfit
from edged.compiler.steps import Step
from edged.compiler.view import View
from edged.errors import ModelError
from edged.npu.chains import AveragePool, MaxPool, Tensor, Window


def max_pool(scope: Scope, node: Node) -> tuple[Step, View]:
    """MaxPool over rows and columns."""
    source = scope.nchw(node.inputs[0])
    window, size = _window(node, source, include_pad=False)
    target = source.resized(scope.new_map(), Tensor(*size, source.tensor.channels))
    return MaxPool(source.map, target.map, window), target


def average_pool(scope: Scope, node: Node) -> tuple[Step, View]:
    """AveragePool over rows and columns."""
    source = scope.nchw(node.inputs[0])
    include_pad = bool(node.attributes.get("count_include_pad", 0))
    window, size = _window(node, source, include_pad=include_pad)
    target = source.resized(scope.new_map(), Tensor(*size, source.tensor.channels))
    return AveragePool(source.map, target.map, window, include_pad), target


def global_average_pool(scope: Scope, node: Node) -> tuple[Step, View]:
    """The mean of a whole map."""
    source = scope.nchw(node.inputs[0])
    target = source.resized(scope.new_map(), Tensor(1, 1, source.tensor.channels))
    return _mean(source, target.map), target


def reduce_mean(scope: Scope, node: Node) -> tuple[Step, View]:
    """ReduceMean over rows and columns, which is the same."""
    source = scope.map_view(node.inputs[0])
    axes = scope.integers(node, 1, "axes")
    spatial = {axis for axis, each in source.map_axes.items() if each < 2}
    if axes is None or len(spatial) != 2 or {a % len(source.shape) for a in axes} != spatial:
        raise Unfit(f"axes are {axes}; the NPU runs the mean over rows and columns")
    target = source.resized(scope.new_map(), Tensor(1, 1, source.tensor.channels))
    if not node.attributes.get("keepdims", 1):
        target = View(target.map, target.tensor, "CHW", (1, source.tensor.channels))
    return _mean(source, target.map), target


def _mean(source: View, target: int) -> AveragePool:
    kernel = (source.tensor.height, source.tensor.width)
    return AveragePool(source.map, target, Window(kernel=kernel))


def _window(node: Node, source: View, *, include_pad: bool) -> tuple[Window, tuple[int, int]]:
    """Returns the window and the size of the output."""
    attributes = node.attributes
    kernel = attributes["kernel_shape"]
    strides, dilations = (attributes.get(key) or (1, 1) for key in ("strides", "dilations"))
    rule, explicit = attributes.get("auto_pad", "NOTSET"), attributes.get("pads", ())
    sizes = (source.tensor.height, source.tensor.width)
    axes = []
    for i, size in enumerate(sizes):
        axis = pool_axis(
            size,
            kernel[i],
            strides[i],
            dilations[i],
            axis_pads(rule, explicit, i),
            ceil=bool(attributes.get("ceil_mode", 0)),
        )
        if not (kept := within(axis, dilated=dilations[i] > 1)):
            raise Unfit("its stride leaps over pixels that its padding rule would cut off")
        axes.append(kept)
        inside = (-axis.before, size + axis.after) if include_pad else (0, size)
        if not _all_meet(axis, kernel[i], strides[i], dilations[i], inside):
            raise ModelError(f"cannot compile {node}: a window lies wholly outside the image")
    rows, columns = axes
    window = Window(
        (kernel[0], kernel[1]),
        (strides[0], strides[1]),
        (rows.before, columns.before, rows.after, columns.after),
        (dilations[0], dilations[1]),
    )
    return window, (rows.positions, columns.positions)


def _all_meet(axis: Axis, kernel: int, stride: int, dilation: int, inside: tuple[int, int]) -> bool:
    """Whether every window along an axis has a position inside."""
    starts = np.arange(axis.positions) * stride - axis.before
    skipped = np.maximum(0, -(-(inside[0] - starts) // dilation))
    return bool(((skipped < kernel) & (starts + skipped * dilation < inside[1])).all())
