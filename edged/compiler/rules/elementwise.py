"""Sums of feature maps, activations, and the norm over channels."""

from __future__ import annotations

import math

from edged.compiler.graph import Node
from edged.compiler.rules.affine import add_constant
from edged.compiler.rules.scope import Scope, Unfit
from edged.compiler.steps import Normalise, Step, Sum
from edged.compiler.view import View
from edged.npu.chains import Activate, Activation


def add(scope: Scope, node: Node) -> tuple[Step, View]:
    """Add of two feature maps, or of one value per channel."""
    if any(scope.is_constant(name) for name in node.inputs):
        return add_constant(scope, node)
    return sum_(scope, node)


def sum_(scope: Scope, node: Node) -> tuple[Step, View]:
    """Sum of feature maps of one size; nothing is broadcast."""
    views = [scope.map_view(name) for name in node.inputs]
    for each in views[1:]:
        if not each.same_values_as(views[0]):
            shapes = " and ".join(str(list(view.shape)) for view in (views[0], each))
            raise Unfit(f"its operands {shapes} are not feature maps of one size and layout")
    target = views[0].on(scope.new_map())
    return Sum(tuple(each.map for each in views), target.map), target


def relu(scope: Scope, node: Node) -> tuple[Step, View]:
    """max(x, 0)."""
    return _activate(scope, node, "relu")


def clip(scope: Scope, node: Node) -> tuple[Step, View]:
    """Clip to 0..6, the bounds being attributes or constants."""
    low = scope.number(node, 1, "min", -math.inf)
    high = scope.number(node, 2, "max", math.inf)
    if (low, high) != (0.0, 6.0):
        raise Unfit(f"it clips to {low:g}..{high:g}, the NPU to 0..6")
    return _activate(scope, node, "relu6")


def _activate(scope: Scope, node: Node, activation: Activation) -> tuple[Step, View]:
    source = scope.map_view(node.inputs[0])
    target = source.on(scope.new_map())
    return Activate(source.map, target.map, activation), target


def lp_normalization(scope: Scope, node: Node) -> tuple[Step, View]:
    """The L2 norm over channels."""
    source = scope.map_view(node.inputs[0])
    order, axis = node.attributes.get("p", 2), node.attributes.get("axis", -1)
    if order != 2 or axis % len(source.shape) != source.channel_axis:
        raise Unfit(f"p is {order} and axis {axis}; the NPU runs p = 2 over the channels")
    target = source.on(scope.new_map())
    return Normalise(source.map, target.map), target
