"""Extraction: parts of the folded graph as ONNX models that onnxruntime runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edged.compiler.evaluate import is_filled
from edged.compiler.graph import Constants, Graph, Node

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

IR_VERSION = 8
"""Of what is written: initializers need not be inputs, and every onnxruntime we allow reads it."""
FILL_FROM = 1024
"""Elements from which on a filled constant is written as ConstantOfShape."""


def extract(graph: Graph, nodes: Sequence[Node], outputs: Sequence[str], name: str) -> ModelProto:
    """Returns the model of some nodes, batch 1; what they read and do not make are its inputs.

    Args:
        graph: the folded graph.
        nodes: in order.
        outputs: names of values that the nodes make.
        name: of the new graph.
    """
    from onnx import helper

    made = {each for node in nodes for each in node.outputs}
    read = list(dict.fromkeys(each for node in nodes for each in node.reads if each not in made))
    constants = [each for each in read if each in graph.constants]
    fills, tensors = _constants(graph.constants, constants)
    opsets = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
    result = helper.make_model(
        helper.make_graph(
            [*fills, *(node.proto for node in nodes)],
            name,
            [_info(graph, each) for each in read if each not in graph.constants],
            [_info(graph, each) for each in outputs],
        ),
        opset_imports=opsets,
        ir_version=IR_VERSION,
        producer_name="edged",
    )
    result.graph.initializer.extend(tensors)  # last: they may be large, and this copies them once
    return result


def _constants(
    constants: Constants, names: Sequence[str]
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Returns constants as initializers, large filled ones as nodes that make them."""
    from onnx import helper, numpy_helper

    nodes, tensors = [], []
    for name in names:
        stored = constants.tensor(name)
        if stored is not None:
            tensors.append(stored)
            continue
        array = constants[name]
        if is_filled(array) and array.size >= FILL_FROM:
            shape = f"{name}/shape"
            tensors.append(numpy_helper.from_array(np.array(array.shape, np.int64), shape))
            value = numpy_helper.from_array(array.reshape(-1)[:1].copy())
            nodes.append(helper.make_node("ConstantOfShape", [shape], [name], value=value))
        else:
            tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return nodes, tensors


def _info(graph: Graph, name: str) -> ValueInfoProto:
    from onnx import helper

    found = graph.type_of(name)
    return helper.make_tensor_value_info(name, found.element, found.shape)
