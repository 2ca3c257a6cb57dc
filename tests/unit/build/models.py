"""Small graphs to build images of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

CLASSES = ["bent", "cracked", "fine", "stained"]
PREPROCESS: dict[str, Any] = {"size": [16, 16], "scale": 1 / 255, "mean": [0.5] * 3}


def model(
    nodes: Sequence[NodeProto],
    inputs: dict[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: Mapping[str, npt.NDArray[Any]],
) -> ModelProto:
    """A model; its outputs' shapes are left to inference."""
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def classifier(
    shape: Sequence[int | str] = ("N", 3, 16, 16), name: str = "image", channels: int = 3
) -> ModelProto:
    """Convolution, relu, pool on the NPU; Gemm and softmax for the CPU; four classes."""
    random = np.random.default_rng(5)
    nodes = [
        helper.make_node("Conv", [name, "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["features"], "flatten"),
        helper.make_node("Gemm", ["features", "g"], ["logits"], "gemm"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1),
    ]
    constants = {
        "w": random.normal(0, 0.5, (8, channels, 3, 3)).astype(np.float32),
        "g": random.normal(0, 2, (8, 4)).astype(np.float32),
    }
    made = model(nodes, {name: shape}, ["probabilities"], constants)
    made.graph.output[0].type.CopyFrom(
        helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", len(CLASSES)])
    )
    return made


def with_preprocessing() -> ModelProto:
    """The same behind an operator that only the CPU has."""
    made = classifier(name="warped")
    made.graph.node.insert(0, helper.make_node("Sin", ["image"], ["warped"], "sin"))
    made.graph.input[0].name = "image"
    return made


def two_inputs() -> ModelProto:
    """Convolutions of two inputs, added."""
    constants = {"w": np.full((8, 3, 1, 1), 0.25, np.float32)}
    nodes = [
        helper.make_node("Conv", ["left", "w"], ["l"], "left conv"),
        helper.make_node("Conv", ["right", "w"], ["r"], "right conv"),
        helper.make_node("Add", ["l", "r"], ["sum"], "add"),
    ]
    shape = ("N", 3, 4, 4)
    return model(nodes, {"left": shape, "right": shape}, ["sum"], constants)


def grouped() -> ModelProto:
    """A convolution that the NPU does not have."""
    constants = {"w": np.ones((3, 1, 3, 3), np.float32)}
    node = helper.make_node("Conv", ["image", "w"], ["y"], "depthwise", group=3)
    return model([node], {"image": ("N", 3, 16, 16)}, ["y"], constants)


def exploding() -> ModelProto:
    """A graph whose answers are no numbers."""
    made = classifier()
    made.graph.node[-1].CopyFrom(
        helper.make_node("Log", ["logits"], ["probabilities"], "log of negative numbers")
    )
    return made
