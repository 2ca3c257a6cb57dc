"""Models by name: the architecture that TF-slim has, weights under which it computes something."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, shape_inference

from edged import zoo
from edged.errors import ConfigError
from edged.zoo.weights import Moments, RandomWeights


@pytest.fixture(scope="module")
def resnet() -> zoo.ZooModel:
    return zoo.make("resnet50", weights="random:7", classes=10)


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    graph = shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)[1:]
        for value in [*graph.value_info, *graph.output]
    }


def test_it_is_a_valid_model(resnet: zoo.ZooModel) -> None:
    onnx.checker.check_model(resnet.graph, full_check=True)
    assert resnet.preprocess.shape == (1, 3, 224, 224)


def test_it_has_resnet_50s_layers(resnet: zoo.ZooModel) -> None:
    ops = [node.op_type for node in resnet.graph.graph.node]
    assert ops.count("Conv") == ops.count("BatchNormalization") == 53
    assert ops.count("Add") == 16
    weights = sum(
        int(np.prod(tensor.dims))
        for tensor in resnet.graph.graph.initializer
        if tensor.name.endswith("weights") and tensor.name != "logits/weights"
    )
    assert weights == 23_454_912


def test_strides_are_in_the_last_unit_of_a_block_and_pool1_pads_to_the_same_size(
    resnet: zoo.ZooModel,
) -> None:
    found = shapes(resnet.graph)
    assert found["conv1/Relu"] == (64, 112, 112)
    assert found["pool1/MaxPool"] == (64, 56, 56)
    assert found["block1/unit_2/bottleneck_v1/Relu"] == (256, 56, 56)
    assert found["block1/unit_3/bottleneck_v1/conv1/Relu"] == (64, 56, 56)
    assert found["block1/unit_3/bottleneck_v1/conv2/Relu"] == (64, 28, 28)
    assert found["block1/unit_3/bottleneck_v1/shortcut/MaxPool"] == (256, 28, 28)
    assert found["block4/unit_3/bottleneck_v1/Relu"] == (2048, 7, 7)


def test_activations_neither_vanish_nor_explode_and_answers_depend_on_the_picture(
    resnet: zoo.ZooModel,
) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(resnet.graph)
    names = [n.output[0] for n in model.graph.node if n.op_type in {"Relu", "Gemm"}]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    # Smooth pictures, as photographs are: small noise enlarged.
    noise = np.random.default_rng(0).normal(0, 60, (2, 3, 14, 14)).astype(np.float32)
    pictures = noise.repeat(16, axis=2).repeat(16, axis=3)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    scores, *values = session.run(None, {"image": pictures})
    for name, value in zip(names, values, strict=True):
        assert 0.1 < value.std() < 20, name
    assert scores.sum(axis=1) == pytest.approx([1, 1], abs=1e-4)
    assert 0.1 < scores.max() < 0.999
    assert np.abs(scores[0] - scores[1]).max() > 0.01


def test_a_seed_always_draws_the_same_weights_and_another_one_others() -> None:
    def first(seed: int) -> npt.NDArray[Any]:
        return RandomWeights.parse(f"random:{seed}").convolution(4, 3, 3)

    assert np.array_equal(first(1), first(1))
    assert not np.array_equal(first(1), first(2))


def test_models_of_equal_seeds_are_equal(resnet: zoo.ZooModel) -> None:
    again = zoo.make("resnet50", weights="random:7", classes=10)
    for one, other in zip(
        resnet.graph.graph.initializer, again.graph.graph.initializer, strict=True
    ):
        assert one.name == other.name
        assert np.array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))


def test_moments_after_relu_are_those_of_a_cut_normal() -> None:
    values = np.maximum(np.random.default_rng(1).normal(0.3, 2.0, 1_000_000), 0)
    expected = Moments(0.3, 4.0).after_relu
    assert expected.mean == pytest.approx(values.mean(), rel=0.01)
    assert expected.variance == pytest.approx(values.var(), rel=0.01)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="expected one of resnet50"):
        zoo.make("resnet51")


@pytest.mark.parametrize(
    "weights", ["weights.npz", "", "random", "random:", "random:-1", "random:x"]
)
def test_weights_that_cannot_be_drawn_are_refused(weights: str) -> None:
    with pytest.raises(ConfigError, match="cannot use weights"):
        zoo.make("resnet50", weights=weights)
