"""Nodes that only change how the graph sees a feature map."""

from __future__ import annotations

from edged.compiler.graph import Node
from edged.compiler.rules.scope import Scope, Unfit
from edged.compiler.steps import Relabel, Step
from edged.compiler.view import View


def reshape(scope: Scope, node: Node) -> tuple[Step, View]:
    """Reshape, Flatten, Squeeze, Unsqueeze: the elements keep their order."""
    source = scope.view(node.inputs[0])
    shape = scope.graph.type_of(node.outputs[0]).static
    view = source.reshaped(shape) if shape else None
    if view is None:
        raise Unfit(f"it makes {list(shape or ())} of {list(source.shape)}, no map of the NPU")
    return Relabel(), view


def transpose(scope: Scope, node: Node) -> tuple[Step, View]:
    """Transpose between NCHW and NHWC."""
    source = scope.view(node.inputs[0])
    rank = len(source.shape)
    perm = tuple(node.attributes.get("perm") or reversed(range(rank)))
    view = source.transposed(perm)
    if view is None:
        raise Unfit(f"perm {list(perm)} moves more than the channels")
    return Relabel(), view
