"""Nodes and constants of an ONNX graph while it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import GraphProto

Array = npt.NDArray[np.float32]


class Nodes:
    """Adds to a graph.

    Args:
        graph: to which everything goes at once, since copies would copy the weights.
    """

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph

    def parameter(self, name: str, array: Array | npt.NDArray[np.int64]) -> str:
        """Adds a constant; returns its name."""
        from onnx import helper

        self._graph.initializer.add(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            dims=array.shape,
            raw_data=array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(),
        )
        return name

    def node(
        self, op: str, output: str, inputs: list[str], **attributes: int | float | list[int]
    ) -> str:
        """Adds a node that is called like its output; returns that."""
        self.several(op, [output], inputs, **attributes)
        return output

    def several(
        self, op: str, outputs: list[str], inputs: list[str], **attributes: int | float | list[int]
    ) -> None:
        """Adds a node with several outputs that is called like the first of them."""
        from onnx import helper

        node = helper.make_node(op, inputs, outputs, name=outputs[0])
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self._graph.node.append(node)
