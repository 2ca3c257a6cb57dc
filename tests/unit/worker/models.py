"""Small models for tests, built from graphs as the command line builds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edged.build import assemble
from edged.manifest import Preprocess

CLASSES = ("ok", "scratch", "dent", "stain", "crack")
PICTURES = Preprocess(size=(12, 12), scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def classifier() -> ModelProto:
    """Convolution, pooling, and a classifier that edged leaves to the CPU: 12 x 12 to 5 classes."""
    random = np.random.default_rng(7)

    def constant(name: str, *shape: int) -> TensorProto:
        values: npt.NDArray[np.float32] = random.normal(0, 0.5, shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["features"]),
        helper.make_node("Flatten", ["features"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 5])],
        [constant("w", 8, 3, 3, 3), constant("v", 5, 8)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def write(folder: Path, *, pictures: bool = True, classifier_on: str = "cpu") -> Path:
    """Writes a model's files to a folder and returns it."""
    built = assemble(
        classifier(),
        name="small",
        version="3",
        labels=CLASSES,
        preprocess=PICTURES if pictures else None,
        classifier="cpu" if classifier_on == "cpu" else "npu",
    )
    for path, data in built.files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder
