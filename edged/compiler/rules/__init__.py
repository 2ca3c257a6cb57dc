"""Which nodes the NPU runs, and as what: one rule per operator (NPU.md 1.7).

A rule takes a ``Scope`` and a node and returns the step that the node is and the view that its
output is, or raises ``Unfit`` with the reason why the NPU cannot run it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from edged.compiler.graph import Node
from edged.compiler.rules import affine, convolution, copies, elementwise, layout, pool
from edged.compiler.rules.scope import Scope, Unfit
from edged.compiler.steps import Convolve, Step
from edged.compiler.view import View
from edged.npu.chains import AveragePool, MaxPool
from edged.npu.validate import ELEMENT_LIMIT, SIDE_LIMIT

KERNEL_LIMIT = 1024
WINDOWED = (Convolve, MaxPool, AveragePool)

Rule = Callable[[Scope, Node], tuple[Step, View]]

RULES: Mapping[str, Rule] = {
    "Add": elementwise.add,
    "AveragePool": pool.average_pool,
    "BatchNormalization": affine.batch_norm,
    "Clip": elementwise.clip,
    "Concat": copies.concat,
    "Conv": convolution.conv,
    "Flatten": layout.reshape,
    "Gemm": convolution.gemm,
    "GlobalAveragePool": pool.global_average_pool,
    "LpNormalization": elementwise.lp_normalization,
    "MatMul": convolution.matmul,
    "MaxPool": pool.max_pool,
    "Mul": affine.mul,
    "Pad": copies.pad,
    "ReduceMean": pool.reduce_mean,
    "Relu": elementwise.relu,
    "Reshape": layout.reshape,
    "Slice": copies.slice_,
    "Squeeze": layout.reshape,
    "Sum": elementwise.sum_,
    "Transpose": layout.transpose,
    "Unsqueeze": layout.reshape,
}


def apply(scope: Scope, node: Node) -> tuple[Step, View]:
    """Returns the step that a node is and the view that its output is.

    Raises:
        Unfit: the NPU cannot run it.
    """
    for name in node.inputs:
        # Before anything else, so that what follows a node of the CPU says just that.
        scope.require(name)
    rule = RULES.get(node.operator)
    if rule is None:
        raise Unfit("not an operator of the NPU")
    if any(name and scope.is_read(name) for name in node.outputs[1:]):
        raise Unfit(f"the NPU makes its first output only, {node.outputs[1]!r} is read too")
    step, view = rule(scope, node)
    sides = (view.tensor.height, view.tensor.width, view.tensor.channels)
    if min(sides) < 1 or max(sides) > SIDE_LIMIT or math.prod(sides) > ELEMENT_LIMIT:
        raise Unfit(f"it makes a map of {sides}, which is beyond the NPU")
    if max(step.window.kernel if isinstance(step, WINDOWED) else (1,)) > KERNEL_LIMIT:
        raise Unfit(f"its kernel is larger than {KERNEL_LIMIT}")
    return step, view
