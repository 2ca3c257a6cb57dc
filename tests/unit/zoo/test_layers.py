"""Windows as TensorFlow pads them, and sizes of every map that the networks pass through."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import shape_inference

from edged.zoo import graph, seeded, ssd
from edged.zoo.layers import same
from edged.zoo.models import RECIPES


@pytest.mark.parametrize(
    ("arguments", "pads"),
    [
        ((224, 3), (1, 1, 1, 1)),
        ((224, 1), (0, 0, 0, 0)),
        ((224, 7, 2), (2, 2, 3, 3)),  # 112 windows of 7: 229 pixels
        ((112, 3, 2), (0, 0, 1, 1)),
        ((300, 2, 2), (0, 0, 0, 0)),
        ((75, 2, 2), (0, 0, 1, 1)),  # 38 windows of 2
        ((19, 3, 1, 6), (6, 6, 6, 6)),
        ((10, 1, 3), (0, 0, 0, 0)),  # the stride leaps over pixels
    ],
)
def test_same_pads_what_is_odd_at_the_bottom_and_right(
    arguments: tuple[int, ...], pads: tuple[int, int, int, int]
) -> None:
    assert same(*arguments) == pads


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        (
            "densenet121",
            {
                "densenet121/conv1/Conv2D": (64, 112),
                "densenet121/MaxPool2D/MaxPool": (64, 56),
                "densenet121/dense_block1/conv_block6/concat": (256, 56),
                "densenet121/transition_block1/AvgPool": (128, 28),
                "densenet121/dense_block2/conv_block12/concat": (512, 28),
                "densenet121/dense_block3/conv_block24/concat": (1024, 14),
                "densenet121/dense_block4/conv_block16/concat": (1024, 7),
            },
        ),
        (
            "ssd-vgg300",
            {
                "ssd_300_vgg/pool2/MaxPool": (128, 75),
                "ssd_300_vgg/pool3/MaxPool": (256, 38),
                "ssd_300_vgg/pool4/MaxPool": (512, 19),
                "ssd_300_vgg/pool5/MaxPool": (512, 19),
                "ssd_300_vgg/conv6/Relu": (1024, 19),
                "ssd_300_vgg/block8/conv3x3/Relu": (512, 10),
                "ssd_300_vgg/block9/conv3x3/Relu": (256, 5),
                "ssd_300_vgg/block10/conv3x3/Relu": (256, 3),
                "ssd_300_vgg/block11/conv3x3/Relu": (256, 1),
            },
        ),
    ],
)
def test_maps_have_the_sizes_of_the_originals(name: str, sizes: dict[str, tuple[int, int]]) -> None:
    network = RECIPES[name].network
    model = graph.write(network, seeded.draw(network, 0, 2), 2)
    inferred = {each.name: each for each in shape_inference.infer_shapes(model).graph.value_info}
    for value, (channels, size) in sizes.items():
        dims = [each.dim_value for each in inferred[value].type.tensor_type.shape.dim]
        assert dims[1:] == [channels, size, size], value


def test_each_scale_of_ssd_looks_at_its_own_map() -> None:
    layers = {layer.output: layer for layer in RECIPES["ssd-vgg300"].network.layers}
    for scale in ssd.SCALES:
        for answer in (scale.logits, scale.localisations):
            (last,) = layers[answer].sources
            (look,) = layers[last].sources
            (seen,) = layers[look].sources
            normalised = scale.block == "block4"
            assert (layers[seen].sources[0] if normalised else seen) == scale.source
    assert sum(scale.size**2 * scale.boxes for scale in ssd.SCALES) == 8732


def test_a_pre_activation_is_not_folded_into_the_convolution_after_it() -> None:
    model = graph.write(
        RECIPES["densenet121"].network, seeded.draw(RECIPES["densenet121"].network, 0, 2), 2
    )
    nodes = {node.output[0]: node for node in model.graph.node}
    concat = nodes["densenet121/dense_block1/conv_block2/x1/BatchNorm"].input[0]
    assert nodes[concat].op_type == "Concat"
    convolution = nodes["densenet121/dense_block1/conv_block2/x1/Conv/Conv2D"]
    assert nodes[convolution.input[0]].op_type == "Relu"
    epsilon = onnx.helper.get_node_attr_value(
        nodes["densenet121/dense_block1/conv_block2/x1/BatchNorm"], "epsilon"
    )
    assert epsilon == pytest.approx(1.1e-5)
    assert np.isfinite(epsilon)
