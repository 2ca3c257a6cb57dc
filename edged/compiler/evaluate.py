"""Computing what is constant, within limits.

A model is untrusted input: sizes are known before anything is computed, and neither one tensor nor
all of them together may grow beyond a limit. What is too large is left to run time instead.
Filled tensors are broadcast views of one value and cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edged.compiler.graph import Array, Node
from edged.errors import ModelError

if TYPE_CHECKING:
    from onnx import ValueInfoProto

TENSOR_LIMIT = 256 << 20
"""Bytes of one computed constant."""
TOTAL_LIMIT = 1 << 30
"""Bytes of all computed constants of a model."""
FILL_LIMIT = 1 << 30
"""Bytes that a filled tensor would have, were it written out."""
RANK_LIMIT = 64
"""Dimensions of a NumPy array."""
SMALL = 4096
"""Elements of a tensor whose values shape inference is given."""

_NAMES = """
    Abs Add And BitShift Cast CastLike Ceil Clip Concat CumSum DequantizeLinear Div Equal Erf Exp
    Expand Flatten Floor Gather GatherElements GatherND Greater GreaterOrEqual Less LessOrEqual
    Log Max Mean Min Mod Mul Neg NonZero Not OneHot Or Pad Pow Range Reciprocal ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Round ScatterElements ScatterND Sigmoid
    Sign Slice Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Trilu Unsqueeze Where Xor
"""
FOLDABLE = frozenset(_NAMES.split())
"""Operators that are computed where all their inputs are constant: shape arithmetic, weights."""

_FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def fill(node: Node, shape: Array, value: Array) -> Array:
    """Returns ConstantOfShape's tensor as a view of its one value.

    Raises:
        ModelError: the shape is no shape, or of more than FILL_LIMIT bytes.
    """
    sizes = [int(each) for each in np.ravel(shape)[: RANK_LIMIT + 1]]
    fits = len(sizes) <= RANK_LIMIT and all(each >= 0 for each in sizes) and value.size == 1
    if not fits or math.prod(sizes) * value.itemsize > FILL_LIMIT:
        raise ModelError(f"cannot fold {node}: a tensor of {sizes} is out of bounds")
    return np.broadcast_to(value.reshape(()), sizes)


def is_filled(array: Array) -> bool:
    """Returns whether an array is a view of one value."""
    return array.size > 1 and not any(array.strides)


class Evaluator:
    """Computes nodes whose inputs are constant.

    Args:
        opsets: version by domain.
    """

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self._opsets = opsets
        self._room = TOTAL_LIMIT

    def evaluate(
        self, node: Node, arrays: Sequence[Array | None], room: int | None
    ) -> list[Array] | None:
        """Returns the node's outputs, or None where it is not one to fold or too large.

        Args:
            node: what to compute.
            arrays: its inputs, None for an absent one.
            room: bytes of its outputs, None where shape inference could not tell.

        Raises:
            ModelError: it cannot be computed.
        """
        if node.operator not in FOLDABLE:
            return None
        if room is None:
            # NonZero's size depends on values; it is at most rank times its input's.
            if node.operator != "NonZero" or any(a is not None and a.size > SMALL for a in arrays):
                return None
            room = 8 * SMALL
        if room > min(TENSOR_LIMIT, self._room):
            return None
        outputs = self._run(node, arrays)
        self._room -= sum(each.nbytes for each in outputs if not is_filled(each))
        return outputs

    def _run(self, node: Node, arrays: Sequence[Array | None]) -> list[Array]:
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        proto = node.proto
        feeds = {
            name: array
            for name, array in zip(proto.input, arrays, strict=True)
            if array is not None
        }
        graph = helper.make_graph(
            [proto],
            "constant",
            [_untyped(name) for name in feeds],
            [_untyped(name) for name in proto.output if name],
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        try:
            with np.errstate(all="ignore"):
                model = helper.make_model(graph, opset_imports=opsets)
                found = ReferenceEvaluator(model).run(None, feeds)
                return [np.asarray(each) for each in found]
        except _FAILURES as exc:
            raise ModelError(f"cannot fold {node}: {exc}") from exc


def _untyped(name: str) -> ValueInfoProto:
    from onnx import ValueInfoProto

    return ValueInfoProto(name=name)
