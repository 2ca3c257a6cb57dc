"""Models that clients are tried on, as images in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tests.e2e.device import ROOT

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

DEMO = ROOT / "packaging" / "demo"
PICTURES = sorted((DEMO / "pictures").glob("*.jpg"))

# Names as TensorFlow's graphs have them: clients use them as they are.
INPUT = "net/Placeholder:0"
SCORES = "net/predictions/Softmax:0"
FEATURES = "net/block_4/features:0"
MAPS = "net/block_1/Relu:0"
INPUT_SHAPE = (3, 224, 224)
OUTPUT_SHAPES = {SCORES: (4,), FEATURES: (16, 1, 1), MAPS: (3, 224, 224)}
NET_VERSION = 3

# ResNet-50's names in the original service's samples: the quickstart's, Data Box Edge's,
# transfer learning's, the C# client's, and what every client asks for if it is told nothing.
ORIGINAL_NAMES = (
    ("Placeholder:0", "classifier_1/resnet_v1_50/predictions/Softmax:0"),
    ("Placeholder:0", "classifier/resnet_v1_50/predictions/Softmax:0"),
    ("Placeholder:0", "classifier_output/Softmax:0"),
    ("Placeholder:0", "output_alias"),
    ("images", "output_alias"),
)


def build_surface(folder: Path, format: str = "ms-fp13") -> str:  # noqa: A002
    """The demo model, which takes pictures; returns its reference."""
    import edged

    reference = f"oci:{folder / f'surface-{format}'}"
    edged.build(
        DEMO / "surface.onnx",
        reference,
        format=format,
        name="surface",
        version="1",
        labels=DEMO / "labels.txt",
        preprocess=DEMO / "preprocess.json",
    )
    return reference


def build_net(folder: Path) -> str:
    """A small net that takes 150,528 floats and has three outputs; returns its reference."""
    import edged

    reference = f"oci:{folder / 'net'}"
    edged.build(net(), reference, name="net", version=str(NET_VERSION))
    return reference


def build_resnet50(folder: Path) -> str:
    """The zoo's ResNet-50 with weights that mean nothing; returns its reference."""
    import edged

    reference = f"oci:{folder / 'resnet50'}"
    edged.build("resnet50", reference, weights="random:1")
    return reference


def net() -> ModelProto:
    """The graph of ``build_net``: two convolutions beside each other, features, scores."""
    from onnx import TensorProto, checker, helper, numpy_helper

    random = np.random.default_rng(1)

    def constant(name: str, *sizes: int) -> TensorProto:
        values: npt.NDArray[np.float64] = random.normal(0.0, 0.1, sizes)
        return numpy_helper.from_array(values.astype(np.float32), name)

    def port(name: str, sizes: tuple[int, ...]) -> ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *sizes])

    nodes = [
        helper.make_node("Conv", [INPUT, "w1"], ["thin"], kernel_shape=[1, 1]),
        helper.make_node("Relu", ["thin"], [MAPS]),
        helper.make_node(
            "Conv", [INPUT, "w2"], ["wide"], kernel_shape=[7, 7], strides=[4, 4], pads=[3, 3, 3, 3]
        ),
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], [FEATURES]),
        helper.make_node("Flatten", [FEATURES], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [SCORES]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [port(INPUT, INPUT_SHAPE)],
        [port(name, sizes) for name, sizes in OUTPUT_SHAPES.items()],
        [constant("w1", 3, 3, 1, 1), constant("w2", 16, 3, 7, 7), constant("w3", 16, 4)],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    checker.check_model(model)
    return model
