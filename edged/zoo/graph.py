"""Writes a network as an ONNX graph, from its variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edged.zoo import boxes
from edged.zoo.layers import (
    INPUT,
    Add,
    BatchNorm,
    ChannelsLast,
    Concat,
    Convolution,
    Dense,
    Detections,
    Flatten,
    L2Norm,
    Layer,
    Mean,
    Network,
    Pool,
    Relu,
    Reshape,
    Softmax,
    sized,
)
from edged.zoo.nodes import Array, Nodes

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

_OPSET, _IR_VERSION = 17, 8


def write(network: Network, variables: Mapping[str, Array], classes: int) -> ModelProto:
    """Returns the graph: ``[N, 3, size, size]`` in, the network's outputs out.

    Args:
        network: what to write.
        variables: by name, as ``network.variables`` lists them.
        classes: how many those are for.
    """
    from onnx import TensorProto, helper

    model = helper.make_model(
        helper.make_graph([], network.scope, [], []),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="edged",
    )
    # Everything is put into the model itself: a graph made first would be copied, with its weights.
    writing = Writing(model.graph, variables, classes)
    for layer in network.layers:
        writing.layer(layer)
    size, kind = network.size, TensorProto.FLOAT
    shapes = {name: sized(shape, classes) for name, shape in network.outputs.items()}
    model.graph.input.append(helper.make_tensor_value_info(INPUT, kind, ["N", 3, size, size]))
    model.graph.output.extend(
        helper.make_tensor_value_info(name, kind, ["N", *shape]) for name, shape in shapes.items()
    )
    return model


class Writing(Nodes):
    """A graph while it is written."""

    def __init__(self, graph: GraphProto, variables: Mapping[str, Array], classes: int) -> None:
        super().__init__(graph)
        self._variables = variables
        self._classes = classes

    def layer(self, layer: Layer) -> None:
        """Adds the nodes of a layer."""
        sources = list(layer.sources)
        if isinstance(layer, Convolution):
            self._convolution(layer)
        elif isinstance(layer, Dense):
            self._dense(layer)
        elif isinstance(layer, BatchNorm):
            parameters = [self.parameter(name, self._variables[name]) for name in layer.parameters]
            inputs = [*sources, *parameters]
            self.node("BatchNormalization", layer.output, inputs, epsilon=layer.epsilon)
        elif isinstance(layer, L2Norm):
            unit = f"{layer.name}/l2_normalize"
            self.node("LpNormalization", unit, sources, axis=1, p=2)
            gamma = self._variables[layer.gamma].reshape(1, -1, 1, 1)
            self.node("Mul", layer.output, [unit, self.parameter(layer.gamma, gamma)])
        elif isinstance(layer, Pool):
            self._pool(layer)
        elif isinstance(layer, Reshape):
            shape = np.array([0, *sized(layer.shape, self._classes)], np.int64)  # 0: as it is
            name = self.parameter(f"{layer.output}/shape", shape)
            self.node("Reshape", layer.output, [*sources, name])
        elif isinstance(layer, Detections):
            boxes.write(self, layer)
        else:
            self._plain(layer, sources)

    def _plain(
        self,
        layer: Relu | Mean | ChannelsLast | Flatten | Softmax | Add | Concat,
        sources: list[str],
    ) -> None:
        if isinstance(layer, ChannelsLast):
            self.node("Transpose", layer.output, sources, perm=[0, 2, 3, 1])
        elif isinstance(layer, Softmax | Concat):
            self.node(type(layer).__name__, layer.output, sources, axis=1)
        else:
            op = "GlobalAveragePool" if isinstance(layer, Mean) else type(layer).__name__
            self.node(op, layer.output, sources)

    def _convolution(self, layer: Convolution) -> None:
        kernel = self._variables[layer.weights].transpose(3, 2, 0, 1)  # HWIO to OIHW
        inputs = [layer.source, self.parameter(layer.weights, kernel)]
        if layer.bias:
            inputs.append(self.parameter(layer.biases, self._variables[layer.biases]))
        more = {"dilations": [layer.dilation] * 2} if layer.dilation != 1 else {}
        self.node(
            "Conv",
            layer.output,
            inputs,
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            pads=list(layer.pads),
            **more,
        )

    def _dense(self, layer: Dense) -> None:
        weights, biases = self._variables[layer.weights], self._variables[layer.biases]
        matrix = weights.reshape(-1, weights.shape[-1])
        parameters = [
            self.parameter(layer.weights, matrix),
            self.parameter(layer.biases, biases),
        ]
        self.node("Gemm", layer.output, [layer.source, *parameters])

    def _pool(self, layer: Pool) -> None:
        pads = {"pads": list(layer.pads)} if any(layer.pads) else {}
        self.node(
            "MaxPool" if layer.kind == "max" else "AveragePool",
            layer.output,
            [layer.source],
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            **pads,
        )
