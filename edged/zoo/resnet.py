"""ResNet-50 as TF-slim has it (``resnet_v1_50``), which the original service offered.

What differs from other ResNet-50s: the stride of a block is on the 3x3 convolution of its **last**
unit, whose shortcut is subsampled (a 1x1 max-pool); strided convolutions pad by a fixed amount
before and after; the pool after the first convolution pads ``SAME``, at the end only.
After He et al. (2015), "Deep Residual Learning for Image Recognition".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edged.manifest import PRESETS
from edged.zoo.model import ZooModel
from edged.zoo.weights import Array, Moments, RandomWeights

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_BLOCKS = ((64, 3, 2), (128, 4, 2), (256, 6, 2), (512, 3, 1))  # depth, units, stride
_EXPANSION = 4
_EPSILON = 1e-5  # TF-slim's resnet_arg_scope
_OPSET, _IR_VERSION = 17, 8
_PIXELS = Moments(0.0, 60.0**2)  # of photographs after the mean is subtracted
_BRANCH = 0.5  # deviation of a residual branch: the sum grows slowly over a block's units
_SPREAD = 1.5  # deviation of the logits, so that the scores are neither flat nor one
_INPUT = "image"
_OUTPUT = "classifier/resnet_v1_50/predictions/Softmax:0"


def resnet_v1_50(weights: RandomWeights, classes: int) -> ZooModel:
    """Returns the network; input ``[N, 3, 224, 224]``, output ``[N, classes]``, softmaxed."""
    preprocess = replace(PRESETS["resnet"], layout="nchw")
    return ZooModel(
        name="resnet50",
        graph=_Graph(weights).build(classes, preprocess.size),
        preprocess=preprocess,
        input_aliases=("Placeholder:0",),
        output_aliases=("classifier_output/Softmax:0", "output_alias"),
    )


@dataclass(frozen=True)
class _Value:
    """A feature map of the graph, and what its values are expected to be."""

    name: str
    channels: int
    moments: Moments


class _Graph:
    """The network while it is written: its nodes and parameters."""

    def __init__(self, weights: RandomWeights) -> None:
        self._weights = weights
        self._nodes: list[NodeProto] = []
        self._parameters: list[TensorProto] = []

    def build(self, classes: int, size: tuple[int, int]) -> ModelProto:
        from onnx import TensorProto, helper

        value = _Value(_INPUT, 3, _PIXELS)
        value = self._relu("conv1", self._conv("conv1", value, 64, 7, stride=2, centred=False))
        value = self._pool("pool1", value, 3, 2, pads=(0, 0, 1, 1))
        for index, (depth, units, stride) in enumerate(_BLOCKS, 1):
            for unit in range(1, units + 1):
                name = f"block{index}/unit_{unit}/bottleneck_v1"
                value = self._unit(name, value, depth, stride if unit == units else 1)
        self._classifier(value, classes)
        graph = helper.make_graph(
            self._nodes,
            "resnet_v1_50",
            [helper.make_tensor_value_info(_INPUT, TensorProto.FLOAT, ["N", 3, *size])],
            [helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, ["N", classes])],
            self._parameters,
        )
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(
            graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="edged"
        )

    def _unit(self, name: str, value: _Value, depth: int, stride: int) -> _Value:
        channels = depth * _EXPANSION
        if value.channels != channels:
            shortcut = self._conv(f"{name}/shortcut", value, channels, 1, stride=stride)
        elif stride == 1:
            shortcut = value
        else:
            shortcut = self._pool(f"{name}/shortcut", value, 1, stride)
        branch = self._relu(f"{name}/conv1", self._conv(f"{name}/conv1", value, depth, 1))
        branch = self._conv(f"{name}/conv2", branch, depth, 3, stride=stride)
        branch = self._relu(f"{name}/conv2", branch)
        branch = self._conv(f"{name}/conv3", branch, channels, 1, scale=_BRANCH)
        total = self._node("Add", f"{name}/add", [shortcut.name, branch.name])
        return self._relu(name, _Value(total, channels, shortcut.moments + branch.moments))

    def _conv(
        self,
        name: str,
        value: _Value,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        scale: float = 1.0,
        centred: bool = True,
    ) -> _Value:
        """A convolution and its BatchNormalization; strided ones pad as unstrided ones do."""
        weights = self._weights.convolution(outputs, value.channels, kernel, centred=centred)
        convolved = self._node(
            "Conv",
            f"{name}/Conv2D",
            [value.name, self._parameter(f"{name}/weights", weights)],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )
        norm = self._weights.batch_norm(weights, value.moments, scale)
        parameters = (
            ("gamma", norm.gamma),
            ("beta", norm.beta),
            ("moving_mean", norm.mean),
            ("moving_variance", norm.variance),
        )
        names = [self._parameter(f"{name}/BatchNorm/{key}", array) for key, array in parameters]
        normed = self._node(
            "BatchNormalization", f"{name}/BatchNorm", [convolved, *names], epsilon=_EPSILON
        )
        return _Value(normed, outputs, Moments(0.0, scale * scale))

    def _relu(self, name: str, value: _Value) -> _Value:
        output = self._node("Relu", f"{name}/Relu", [value.name])
        return _Value(output, value.channels, value.moments.after_relu)

    def _pool(
        self,
        name: str,
        value: _Value,
        kernel: int,
        stride: int,
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> _Value:
        output = self._node(
            "MaxPool",
            f"{name}/MaxPool",
            [value.name],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=list(pads),
        )
        return _Value(output, value.channels, value.moments)

    def _classifier(self, value: _Value, classes: int) -> None:
        pooled = self._node("GlobalAveragePool", "pool5", [value.name])
        flat = self._node("Flatten", "global_pool", [pooled])
        weights = self._weights.dense(classes, value.channels, value.moments, _SPREAD)
        parameters = [
            self._parameter("logits/weights", weights),
            self._parameter("logits/biases", np.zeros(classes, np.float32)),
        ]
        logits = self._node("Gemm", "logits", [flat, *parameters], transB=1)
        self._node("Softmax", _OUTPUT, [logits], axis=1)

    def _parameter(self, name: str, array: Array) -> str:
        from onnx import numpy_helper

        self._parameters.append(numpy_helper.from_array(array, name))
        return name

    def _node(
        self, op: str, output: str, inputs: list[str], **attributes: int | float | list[int]
    ) -> str:
        from onnx import helper

        node = helper.make_node(op, inputs, [output], name=output)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self._nodes.append(node)
        return output
