"""Nodes that move values: Concat, Pad, Slice."""

from __future__ import annotations

from edged.compiler.graph import Node
from edged.compiler.rules.scope import Scope, Unfit
from edged.compiler.steps import Copies, Relabel, Step, ZeroPad
from edged.compiler.view import View
from edged.npu.chains import Copy, Tensor

Triple = tuple[int, int, int]


def concat(scope: Scope, node: Node) -> tuple[Step, View]:
    """Concat of feature maps along their channels."""
    views = [scope.map_view(name) for name in node.inputs]
    first = views[0]
    axis = node.attributes["axis"] % len(first.shape)
    layouts = {each.layout for each in views}
    pixels = {(each.tensor.height, each.tensor.width) for each in views}
    if len(layouts) != 1 or len(pixels) != 1 or axis != first.channel_axis:
        raise Unfit(f"axis {axis} is not that of the channels, or layouts differ")
    height, width = first.tensor.height, first.tensor.width
    total = sum(each.tensor.channels for each in views)
    target = first.resized(scope.new_map(), Tensor(height, width, total))
    boxes, offset = [], 0
    for each in views:
        extent = (height, width, each.tensor.channels)
        boxes.append(Copy(each.map, target.map, extent, offset=(0, 0, offset)))
        offset += each.tensor.channels
    return Copies(target.map, tuple(boxes)), target


def pad(scope: Scope, node: Node) -> tuple[Step, View]:
    """Pad with zeros: borders, or more channels."""
    source = scope.map_view(node.inputs[0])
    mode = node.attributes.get("mode", "constant")
    value = scope.number(node, 2, "value", 0.0)
    if mode != "constant" or value != 0.0:
        raise Unfit(f"it pads by mode {mode!r} with {value:g}, the NPU with zeros")
    before, after = _amounts(scope, node, source)
    if min(before + after) < 0:
        raise Unfit("its pads are negative")
    extent = _sizes(source)
    sizes = tuple(extent[i] + before[i] + after[i] for i in range(3))
    target = source.resized(scope.new_map(), Tensor(*sizes))
    box = Copy(source.map, target.map, extent, offset=before)
    if before[2] or after[2]:
        return Copies(target.map, (box,)), target
    pads = (before[0], before[1], after[0], after[1])
    return ZeroPad(source.map, target.map, pads, box), target


def slice_(scope: Scope, node: Node) -> tuple[Step, View]:
    """Slice forward, with any step, along rows, columns and channels."""
    source = scope.map_view(node.inputs[0])
    start, step, extent = [0, 0, 0], [1, 1, 1], list(_sizes(source))
    for axis, cut in _cuts(scope, node, len(source.shape)):
        if cut.step < 1:
            raise Unfit(f"its step is {cut.step}, the NPU slices forward")
        positions = range(*cut.indices(source.shape[axis]))
        if not positions:
            raise Unfit(f"nothing is left of axis {axis}")
        if axis:
            each = source.map_axes[axis]
            start[each], step[each], extent[each] = positions.start, cut.step, len(positions)
    if tuple(extent) == _sizes(source):
        return Relabel(), source
    target = source.resized(scope.new_map(), Tensor(*extent))
    box = Copy(source.map, target.map, _triple(extent), _triple(start), _triple(step))
    return Copies(target.map, (box,)), target


def _sizes(view: View) -> Triple:
    return view.tensor.height, view.tensor.width, view.tensor.channels


def _triple(values: list[int]) -> Triple:
    return values[0], values[1], values[2]


def _amounts(scope: Scope, node: Node, source: View) -> tuple[Triple, Triple]:
    """Returns what is added before and after the rows, columns and channels."""
    rank = len(source.shape)
    pads = scope.integers(node, 1, "pads")
    axes = scope.integers(node, 3, "axes")
    axes = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    if pads is None or len(pads) != 2 * len(axes):
        raise Unfit(f"its pads {pads} do not fit {len(axes)} axes")
    before, after = [0, 0, 0], [0, 0, 0]
    for i, axis in enumerate(axes):
        low, high = pads[i], pads[len(axes) + i]
        if axis == 0 and (low or high):
            raise Unfit("it pads the batch")
        if axis:
            before[source.map_axes[axis]], after[source.map_axes[axis]] = low, high
    return _triple(before), _triple(after)


def _cuts(scope: Scope, node: Node, rank: int) -> list[tuple[int, slice]]:
    """Returns (axis of the graph, what to take of it)."""
    starts, ends = scope.integers(node, 1, "starts"), scope.integers(node, 2, "ends")
    if starts is None or ends is None:
        raise Unfit("starts or ends are missing")
    axes = scope.integers(node, 3, "axes") or list(range(len(starts)))
    steps = scope.integers(node, 4, "steps") or [1] * len(starts)
    return [
        (axis % rank, slice(start, end, step))
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    ]
