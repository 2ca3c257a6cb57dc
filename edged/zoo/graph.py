"""Writes the network as an ONNX graph, from its variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edged.zoo.network import EPSILON, FEATURES, LOGITS, SCOPE, SIZE, STEM, UNITS, Convolution, Unit

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

Array = npt.NDArray[np.float32]

INPUT = "image"
FEATURE_OUTPUT = f"{SCOPE}/pool5:0"
"""Of shape ``[N, 1, 1, 2048]``, as TensorFlow has it: what the original service's featurizer
gave."""
OUTPUT = f"classifier_1/{SCOPE}/predictions/Softmax:0"
"""Of shape ``[N, classes]``."""

_OPSET, _IR_VERSION = 17, 8


def write(variables: Mapping[str, Array]) -> ModelProto:
    """Returns the graph: ``[N, 3, 224, 224]`` in, the scores ``[N, classes]`` out.

    Args:
        variables: by name, as ``network.variables`` lists them.
    """
    return _Graph(variables).write()


class _Graph:
    """The network while it is written: its nodes and parameters."""

    def __init__(self, variables: Mapping[str, Array]) -> None:
        self._variables = variables
        self._nodes: list[NodeProto] = []
        self._parameters: list[TensorProto] = []

    def write(self) -> ModelProto:
        from onnx import TensorProto, helper

        value = self._relu(STEM.name, self._convolution(STEM, INPUT))
        value = self._pool(f"{SCOPE}/pool1", value, 3, 2)
        for unit in UNITS:
            value = self._unit(unit, value)
        classes = self._classifier(value)
        graph = helper.make_graph(
            self._nodes,
            SCOPE,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", classes])],
            self._parameters,
        )
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(
            graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="edged"
        )

    def _unit(self, unit: Unit, value: str) -> str:
        shortcut = value
        if unit.shortcut is not None:
            shortcut = self._convolution(unit.shortcut, value)
        elif unit.stride != 1:
            shortcut = self._pool(f"{unit.name}/shortcut", value, 1, unit.stride)
        for convolution in unit.branch[:2]:
            value = self._relu(convolution.name, self._convolution(convolution, value))
        value = self._convolution(unit.branch[2], value)
        return self._relu(unit.name, self._node("Add", f"{unit.name}/add", [shortcut, value]))

    def _convolution(self, convolution: Convolution, value: str) -> str:
        kernel = self._variables[convolution.weights].transpose(3, 2, 0, 1)  # HWIO to OIHW
        convolved = self._node(
            "Conv",
            f"{convolution.name}/Conv2D",
            [value, self._parameter(convolution.weights, kernel)],
            kernel_shape=[convolution.kernel] * 2,
            strides=[convolution.stride] * 2,
            pads=[convolution.kernel // 2] * 4,
        )
        parameters = [self._parameter(n, self._variables[n]) for n in convolution.batch_norm]
        return self._node(
            "BatchNormalization",
            f"{convolution.name}/BatchNorm",
            [convolved, *parameters],
            epsilon=EPSILON,
        )

    def _relu(self, name: str, value: str) -> str:
        return self._node("Relu", f"{name}/Relu", [value])

    def _pool(self, name: str, value: str, kernel: int, stride: int) -> str:
        """Max-pool without padding."""
        return self._node(
            "MaxPool",
            f"{name}/MaxPool",
            [value],
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
        )

    def _classifier(self, value: str) -> int:
        """Writes it and returns the number of classes."""
        pooled = self._node("GlobalAveragePool", f"{SCOPE}/pool5/Mean", [value])
        features = self._node("Transpose", FEATURE_OUTPUT, [pooled], perm=[0, 2, 3, 1])
        flat = self._node("Flatten", f"{SCOPE}/logits/Flatten", [features])
        weights, biases = (self._variables[name] for name in LOGITS)
        parameters = [
            self._parameter(LOGITS[0], weights.reshape(FEATURES, -1)),
            self._parameter(LOGITS[1], biases),
        ]
        logits = self._node("Gemm", f"{SCOPE}/logits", [flat, *parameters])
        self._node("Softmax", OUTPUT, [logits], axis=1)
        return len(biases)

    def _parameter(self, name: str, array: Array) -> str:
        from onnx import numpy_helper

        self._parameters.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _node(
        self, op: str, output: str, inputs: list[str], **attributes: int | float | list[int]
    ) -> str:
        from onnx import helper

        node = helper.make_node(op, inputs, [output], name=output)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self._nodes.append(node)
        return output
