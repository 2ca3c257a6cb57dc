"""Types of values: what ONNX's shape inference says, node by node, with batch 1.

Going forward through the nodes once, with every constant known by then, does what repeated
inference over the whole graph would. Pools follow onnxruntime where ONNX differs (``geometry``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edged.compiler.evaluate import SMALL
from edged.compiler.geometry import axis_pads, pool_axis
from edged.compiler.graph import Constants, Node, ValueType
from edged.errors import ModelError

if TYPE_CHECKING:
    from onnx import OperatorSetIdProto, TensorProto, TypeProto


SIDE = 1 << 31
"""No dimension is larger; beyond, sizes would overflow."""


_NOT_INFERRED = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
"""Operators that ONNX has no inference for; their output is as their input."""


class Types:
    """Types of all values met so far.

    Args:
        opsets: version by domain.
        constants: values that are known.
    """

    def __init__(self, opsets: Mapping[str, int], constants: Constants) -> None:
        self._opsets = opsets
        self._constants = constants
        self._types: dict[str, TypeProto] = {}

    def put(self, name: str, element: int, shape: Sequence[int | None]) -> None:
        """Sets the type of a value."""
        from onnx import helper

        self._types[name] = helper.make_tensor_type_proto(element, shape)

    def put_constant(self, name: str) -> None:
        """Sets the type of a constant."""
        from onnx import helper

        stored = self._constants.tensor(name)
        if stored is not None:
            self.put(name, stored.data_type, tuple(stored.dims))
        else:
            array = self._constants[name]
            self.put(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    def alias(self, name: str, other: str) -> None:
        """Gives ``other`` the type of ``name``."""
        if name in self._types:
            self._types[other] = self._types[name]

    def __getitem__(self, name: str) -> ValueType:
        found = self._types.get(name)
        if found is None or not found.HasField("tensor_type"):
            return ValueType()
        tensor = found.tensor_type
        if not tensor.HasField("shape"):
            return ValueType(tensor.elem_type)
        dims = (d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        return ValueType(tensor.elem_type, tuple(dims))

    def all(self) -> dict[str, ValueType]:
        """Returns the types of all values."""
        return {name: self[name] for name in self._types}

    def bytes_of(self, names: tuple[str, ...]) -> int | None:
        """Returns how many bytes these values take, None where that is not known."""
        from onnx import helper

        total = 0
        for name in filter(None, names):
            found = self[name]
            if found.static is None or not found.element:
                return None
            width = np.dtype(helper.tensor_dtype_to_np_dtype(found.element)).itemsize
            total += math.prod(found.static) * width
        return total

    def infer(self, node: Node) -> None:
        """Sets the types of a node's outputs, as far as they can be told.

        Raises:
            ModelError: the node does not fit its inputs.
        """
        from onnx import checker, defs, shape_inference

        proto = node.proto
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        if not defs.has(proto.op_type, self._opsets.get(domain, 1), domain):
            return
        schema = defs.get_schema(proto.op_type, self._opsets.get(domain, 1), domain)
        known = {name: self._types[name] for name in node.reads if name in self._types}
        if len(known) < len(set(node.reads)):
            return
        try:
            found = shape_inference.infer_node_outputs(
                schema, proto, known, self._values(node), opset_imports=self._opset_list()
            )
        except (
            checker.ValidationError,
            shape_inference.InferenceError,
            RuntimeError,
            ValueError,
        ) as exc:
            reason = " ".join(str(exc).split())
            raise ModelError(f"cannot load {node}: it does not fit its inputs: {reason}") from exc
        self._types.update(found)
        if node.operator in {"MaxPool", "AveragePool"}:
            self._repair_pool(node)
        if node.operator in _NOT_INFERRED:
            self.alias(node.inputs[0], node.outputs[0])
        for name in filter(None, node.outputs):
            if any(size is not None and not 0 <= size < SIDE for size in self[name].shape or ()):
                raise ModelError(f"cannot load {node}: it makes a tensor of {self[name].shape}")

    def _values(self, node: Node) -> dict[str, TensorProto]:
        from onnx import numpy_helper

        values = {}
        for name in node.inputs:
            size = math.prod(self[name].static or ()) if name in self._constants else SMALL + 1
            if size <= SMALL:
                stored = self._constants.tensor(name)
                values[name] = stored or numpy_helper.from_array(
                    np.ascontiguousarray(self._constants[name]), name
                )
        return values

    def _opset_list(self) -> list[OperatorSetIdProto]:
        from onnx import helper

        return [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]

    def _repair_pool(self, node: Node) -> None:
        shape = self[node.inputs[0]].static
        attributes = node.attributes
        kernel = attributes.get("kernel_shape", ())
        if shape is None or len(shape) != 2 + len(kernel):
            return
        sizes = []
        for axis, size in enumerate(shape[2:]):
            pads = axis_pads(attributes.get("auto_pad", "NOTSET"), attributes.get("pads", ()), axis)
            sizes.append(
                pool_axis(
                    size,
                    kernel[axis],
                    (attributes.get("strides") or [1] * len(kernel))[axis],
                    (attributes.get("dilations") or [1] * len(kernel))[axis],
                    pads,
                    ceil=bool(attributes.get("ceil_mode", 0)),
                ).positions
            )
        if min(sizes) < 1:
            raise ModelError(f"cannot load {node}: its window does not fit an input of {shape}")
        for name in filter(None, node.outputs):
            self.put(name, self[name].element, (*shape[:2], *sizes))
