"""ResNet-50 by name: the original service's network, and random weights that compute something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, shape_inference

from edged import compiler, zoo
from edged.build.describe import chain_row
from edged.errors import ConfigError
from edged.zoo import resnet as family
from edged.zoo import seeded
from edged.zoo.layers import INPUT
from edged.zoo.models import RECIPES
from edged.zoo.seeded import Moments

NETWORK = RECIPES["resnet50"].network
(OUTPUT,) = NETWORK.outputs
FEATURES = family.features(50)
STEM = "resnet_v1_50/conv1/weights"

UNIT = "resnet_v1_50/block{}/unit_{}/bottleneck_v1"


@pytest.fixture(scope="module")
def variables() -> Mapping[str, npt.NDArray[np.float32]]:
    return seeded.draw(NETWORK, 7, 10)


@pytest.fixture(scope="module")
def resnet() -> zoo.ZooModel:
    return zoo.make("resnet50", weights="random:7", classes=10)


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    inferred = shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)[1:]
        for value in [*inferred.value_info, *inferred.output]
    }


def run(model: onnx.ModelProto, pictures: npt.NDArray[Any], names: list[str]) -> list[Any]:
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    del wider.graph.output[:]
    wider.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(
        wider.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(names, {INPUT: pictures}))


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
        if tensor.name.endswith("weights") and "/logits/" not in tensor.name
    )
    assert weights == 23_454_912


def test_every_layer_has_the_size_that_the_original_services_firmware_states(
    resnet: zoo.ZooModel,
) -> None:
    found = shapes(resnet.graph)
    assert found["resnet_v1_50/conv1/Relu"] == (64, 112, 112)
    assert found["resnet_v1_50/pool1/MaxPool"] == (64, 55, 55)
    for block, count, before, after in (
        (1, 3, 55, 28),
        (2, 4, 28, 14),
        (3, 6, 14, 7),
        (4, 3, 7, 7),
    ):
        depth = 32 << block
        for number in range(1, count + 1):
            unit, size = UNIT.format(block, number), after if number == count else before
            assert found[f"{unit}/conv1/Relu"] == (depth, before, before)
            assert found[f"{unit}/conv2/Relu"] == (depth, size, size)
            assert found[f"{unit}/Relu"] == (depth * 4, size, size)
    assert found["resnet_v1_50/pool5:0"] == (1, 1, 2048)
    assert found["classifier_1/resnet_v1_50/predictions/Softmax:0"] == (10,)


def test_convolutions_pad_as_much_before_as_after_and_pools_not_at_all(
    resnet: zoo.ZooModel,
) -> None:
    for node in resnet.graph.graph.node:
        fields = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Conv":
            assert fields["pads"] == [fields["kernel_shape"][0] // 2] * 4
            strided = fields["kernel_shape"] in ([3, 3], [7, 7])
            assert fields["strides"] == [1, 1] or strided
        if node.op_type == "MaxPool":
            assert (fields["strides"], "pads" in fields) == ([2, 2], False)


def test_it_costs_the_npu_what_the_docstring_says(resnet: zoo.ZooModel) -> None:
    program = compiler.partition(resnet.graph).program
    rows = [chain_row(program, chain) for chain in program.chains]
    assert sum(row["tile_operations"] for row in rows) == 293_525
    assert sum(row["macs"] for row in rows) == 3_462_475_776


def test_variables_have_the_names_and_layouts_of_tf_slims(
    variables: Mapping[str, npt.NDArray[np.float32]],
) -> None:
    expected = NETWORK.variables()
    assert list(variables) == list(expected)
    assert len(expected) == 53 * 5 + 2
    for name, shape in (
        ("resnet_v1_50/conv1/weights", (7, 7, 3, 64)),
        ("resnet_v1_50/conv1/BatchNorm/moving_variance", (64,)),
        ("resnet_v1_50/block1/unit_1/bottleneck_v1/shortcut/weights", (1, 1, 64, 256)),
        ("resnet_v1_50/block2/unit_1/bottleneck_v1/conv1/weights", (1, 1, 256, 128)),
        ("resnet_v1_50/block4/unit_3/bottleneck_v1/conv2/weights", (3, 3, 512, 512)),
        ("resnet_v1_50/block4/unit_3/bottleneck_v1/conv3/BatchNorm/gamma", (2048,)),
    ):
        assert expected[name] == shape
        assert variables[name].shape == shape
    assert variables["resnet_v1_50/logits/weights"].shape == (1, 1, 2048, 10)
    assert variables["resnet_v1_50/logits/biases"].shape == (10,)
    assert "resnet_v1_50/block1/unit_2/bottleneck_v1/shortcut/weights" not in expected
    assert all(array.dtype == np.float32 for array in variables.values())


def test_the_graph_computes_with_a_variables_values_where_tensorflow_does(
    resnet: zoo.ZooModel, variables: Mapping[str, npt.NDArray[np.float32]]
) -> None:
    picture = np.random.default_rng(3).normal(0, 60, (1, 3, 224, 224)).astype(np.float32)
    names = ["resnet_v1_50/conv1/Conv2D", FEATURES, "resnet_v1_50/logits"]
    convolved, features, logits = run(resnet.graph, picture, names)
    padded = np.pad(picture[0].transpose(1, 2, 0), ((3, 3), (3, 3), (0, 0)))
    kernel = variables["resnet_v1_50/conv1/weights"]
    for y, x in ((0, 0), (0, 111), (50, 61), (111, 111)):
        window = padded[2 * y : 2 * y + 7, 2 * x : 2 * x + 7]
        expected = np.tensordot(window, kernel, 3)
        assert convolved[0, :, y, x] == pytest.approx(expected, rel=1e-3, abs=0.05)
    assert features.shape == (1, 1, 1, 2048)
    weights = variables["resnet_v1_50/logits/weights"][0, 0]
    assert logits[0] == pytest.approx(features[0, 0, 0] @ weights, rel=1e-3, abs=1e-3)


def test_activations_neither_vanish_nor_explode_and_answers_depend_on_the_picture(
    resnet: zoo.ZooModel,
) -> None:
    names = [n.output[0] for n in resnet.graph.graph.node if n.op_type in {"Relu", "Gemm"}]
    # Smooth pictures, as photographs are: small noise enlarged.
    noise = np.random.default_rng(0).normal(0, 60, (2, 3, 14, 14)).astype(np.float32)
    pictures = noise.repeat(16, axis=2).repeat(16, axis=3)
    scores, *values = run(resnet.graph, pictures, [OUTPUT, *names])
    for name, value in zip(names, values, strict=True):
        assert 0.1 < value.std() < 20, name
    assert scores.sum(axis=1) == pytest.approx([1, 1], abs=1e-4)
    assert 0.1 < scores.max() < 0.999
    assert np.abs(scores[0] - scores[1]).max() > 0.01


def test_a_seed_always_draws_the_same_weights_and_another_one_others(
    variables: Mapping[str, npt.NDArray[np.float32]],
) -> None:
    again, other = seeded.draw(NETWORK, 7, 10), seeded.draw(NETWORK, 8, 10)
    for name, array in variables.items():
        assert np.array_equal(array, again[name])
    assert not np.array_equal(variables[STEM], other[STEM])


def test_models_of_equal_seeds_are_equal(resnet: zoo.ZooModel) -> None:
    again = zoo.make("resnet50", weights="random:7", classes=10)
    for one, other in zip(
        resnet.graph.graph.initializer, again.graph.graph.initializer, strict=True
    ):
        assert one.name == other.name
        assert np.array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))


def test_moments_after_relu_are_those_of_a_cut_normal() -> None:
    values = np.maximum(np.random.default_rng(1).normal(0.3, 2.0, 1_000_000), 0)
    expected = Moments(np.array([0.3]), np.array([4.0])).after_relu
    assert expected.mean == pytest.approx([values.mean()], rel=0.01)
    assert expected.variance == pytest.approx([values.var()], rel=0.01)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="expected one of resnet50"):
        zoo.make("resnet51")
