"""Scale and offset per channel: BatchNormalization, Mul and Add by a constant."""

from __future__ import annotations

import numpy as np

from edged.compiler.graph import Node
from edged.compiler.rules.scope import Scope, Unfit
from edged.compiler.steps import Affine, Doubles, Step
from edged.compiler.view import View


def batch_norm(scope: Scope, node: Node) -> tuple[Step, View]:
    """Inference form: gain = gamma / sqrt(variance + epsilon), in float64 (NPU.md 1.7)."""
    source = scope.map_view(node.inputs[0])
    if source.channel_axis != 1:
        raise Unfit(f"its operand of shape {list(source.shape)} has its channels last")
    if node.attributes.get("training_mode", 0):
        raise Unfit("training_mode is not 0")
    gamma, beta, mean, variance = (scope.doubles(name) for name in node.inputs[1:5])
    if {each.shape for each in (gamma, beta, mean, variance)} != {(source.tensor.channels,)}:
        raise Unfit(
            f"its parameters are not one value for each of {source.tensor.channels} channels"
        )
    with np.errstate(all="ignore"):
        gain = gamma / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    target = source.on(scope.new_map())
    return Affine("batch norm", source.map, target.map, mean, gain, beta), target


def mul(scope: Scope, node: Node) -> tuple[Step, View]:
    """Mul by one value per channel."""
    source, value = _operands(scope, node)
    target = source.on(scope.new_map())
    zeros = np.zeros_like(value)
    return Affine("mul", source.map, target.map, zeros, value, zeros), target


def add_constant(scope: Scope, node: Node) -> tuple[Step, View]:
    """Add of one value per channel."""
    source, value = _operands(scope, node)
    target = source.on(scope.new_map())
    zeros = np.zeros_like(value)
    return Affine("add", source.map, target.map, zeros, np.ones_like(value), value), target


def _operands(scope: Scope, node: Node) -> tuple[View, Doubles]:
    """Returns the feature map and the constant of a node with two operands, in either order."""
    first, second = node.inputs
    if scope.is_constant(first):
        first, second = second, first
    if not scope.is_constant(second):
        raise Unfit("neither operand is constant")
    source = scope.map_view(first)
    return source, _per_channel(scope.doubles(second), source)


def _per_channel(value: Doubles, source: View) -> Doubles:
    """Returns a constant as one value per channel of the map that it is broadcast to."""
    axis, channels = source.channel_axis, source.tensor.channels
    shape = (1,) * (len(source.shape) - value.ndim) + value.shape
    expected = tuple(channels if each == axis else 1 for each in range(len(source.shape)))
    if len(shape) != len(expected) or any(
        size not in {1, want} for size, want in zip(shape, expected, strict=True)
    ):
        raise Unfit(f"its constant of shape {list(value.shape)} is not one value per channel")
    return np.broadcast_to(value.ravel(), (channels,))
