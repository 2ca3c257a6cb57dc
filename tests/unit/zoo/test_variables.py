"""Variables of all networks: those of the original checkpoints, read from a file by their names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edged import zoo
from edged.errors import ModelError
from edged.zoo import seeded, weights
from edged.zoo.layers import BATCH_NORM, PerClass, sized
from edged.zoo.models import RECIPES

NETWORKS = {name: recipe.network for name, recipe in RECIPES.items()}
SSD_CLASSES = "ssd_300_vgg/block4_box/conv_cls/biases"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # as published for each network
        ("resnet50", 25_557_032),
        ("resnet152", 60_192_808),
        ("vgg16", 138_357_544),
        ("densenet121", 7_978_856),
        ("ssd-vgg300", 26_285_486),
    ],
)
def test_each_network_has_as_many_parameters_as_published(name: str, parameters: int) -> None:
    network = NETWORKS[name]
    shapes = {key: sized(shape, network.classes) for key, shape in network.variables().items()}
    trained = [shape for key, shape in shapes.items() if "/moving_" not in key]
    assert sum(map(math.prod, trained)) == parameters


@pytest.mark.parametrize(
    ("name", "variable", "shape"),
    [
        ("resnet152", "resnet_v1_152/conv1/BatchNorm/gamma", (64,)),
        (
            "resnet152",
            "resnet_v1_152/block3/unit_36/bottleneck_v1/conv2/weights",
            (3, 3, 256, 256),
        ),
        ("resnet152", "resnet_v1_152/logits/weights", (1, 1, 2048, PerClass())),
        ("vgg16", "vgg_16/conv1/conv1_1/weights", (3, 3, 3, 64)),
        ("vgg16", "vgg_16/conv5/conv5_3/biases", (512,)),
        ("vgg16", "vgg_16/fc6/weights", (7, 7, 512, 4096)),
        ("vgg16", "vgg_16/fc7/weights", (1, 1, 4096, 4096)),
        ("vgg16", "vgg_16/fc8/biases", (PerClass(),)),
        ("densenet121", "densenet121/conv1/weights", (7, 7, 3, 64)),
        ("densenet121", "densenet121/BatchNorm/moving_mean", (64,)),
        (
            "densenet121",
            "densenet121/dense_block1/conv_block1/x1/BatchNorm/gamma",
            (64,),
        ),
        (
            "densenet121",
            "densenet121/dense_block3/conv_block24/x2/Conv/weights",
            (3, 3, 128, 32),
        ),
        ("densenet121", "densenet121/transition_block3/blk/Conv/weights", (1, 1, 1024, 512)),
        ("densenet121", "densenet121/final_block/BatchNorm/moving_variance", (1024,)),
        ("densenet121", "densenet121/logits/biases", (PerClass(),)),
        ("ssd-vgg300", "ssd_300_vgg/conv4/conv4_3/weights", (3, 3, 512, 512)),
        ("ssd-vgg300", "ssd_300_vgg/conv6/weights", (3, 3, 512, 1024)),
        ("ssd-vgg300", "ssd_300_vgg/block8/conv3x3/biases", (512,)),
        ("ssd-vgg300", "ssd_300_vgg/block11/conv1x1/weights", (1, 1, 256, 128)),
        ("ssd-vgg300", "ssd_300_vgg/block4_box/L2Normalization/gamma", (512,)),
        ("ssd-vgg300", "ssd_300_vgg/block7_box/conv_loc/weights", (3, 3, 1024, 24)),
        ("ssd-vgg300", SSD_CLASSES, (PerClass(4),)),
    ],
)
def test_variables_have_the_original_checkpoints_names(
    name: str, variable: str, shape: tuple[int | PerClass, ...]
) -> None:
    assert NETWORKS[name].variables()[variable] == shape


def test_normalised_convolutions_have_no_biases_and_the_others_have() -> None:
    for name, bias in (("resnet152", False), ("densenet121", False), ("ssd-vgg300", True)):
        network = NETWORKS[name]
        for convolution in network.convolutions():
            assert (f"{convolution.name}/biases" in network.variables()) == bias
    assert "/".join(BATCH_NORM) == "gamma/beta/moving_mean/moving_variance"


def save(folder: Path, arrays: dict[str, npt.NDArray[Any]]) -> Path:
    renamed: dict[str, Any] = {f"{name}:0": array for name, array in arrays.items()}
    np.savez(folder / "w.npz", **renamed)
    return folder / "w.npz"


def test_weights_from_a_file_make_the_graph_that_they_were_drawn_for(tmp_path: Path) -> None:
    drawn = seeded.draw(NETWORKS["densenet121"], 7, 5)
    found = zoo.make("densenet121", weights=save(tmp_path, dict(drawn)))
    expected = zoo.make("densenet121", weights="random:7", classes=5)
    assert found.graph.SerializeToString() == expected.graph.SerializeToString()
    assert found.notes == ()


def test_a_detectors_classes_are_counted_in_its_file(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        name: np.zeros(sized(shape, 3), np.float32)
        for name, shape in NETWORKS["ssd-vgg300"].variables().items()
    }
    path = save(tmp_path, arrays)
    found = zoo.make("ssd-vgg300", weights=path).graph
    sizes = {each.name: each.type.tensor_type.shape.dim[-1] for each in found.graph.output}
    assert sizes["ssd_300_vgg/block9_box/Reshape_1:0"].dim_value == 3
    assert sizes["ssd_300_vgg/block9_box/Reshape:0"].dim_value == 4
    with pytest.raises(ModelError, match=r"conv_cls/weights': expected shape .*, 84\], got .*12\]"):
        weights.read(NETWORKS["ssd-vgg300"], path, 21)


@pytest.mark.parametrize("size", [13, 0, 4 * 32_769])
def test_a_number_that_no_number_of_classes_makes_is_refused(tmp_path: Path, size: int) -> None:
    network = NETWORKS["ssd-vgg300"]
    arrays = {name: np.zeros(1, np.float32) for name in network.variables()}
    arrays[SSD_CLASSES] = np.zeros(size, np.float32)
    cause = rf"expected shape \[4 \* classes\] with 1 to 32768 of them, got \[{size}\]"
    with pytest.raises(ModelError, match=cause):
        weights.read(network, save(tmp_path, arrays))


@pytest.mark.parametrize("name", ["resnet152", "vgg16", "densenet121", "ssd-vgg300"])
def test_what_is_missing_and_what_belongs_to_another_network_is_listed(
    name: str, tmp_path: Path
) -> None:
    network = NETWORKS[name]
    arrays = {each: np.zeros(1, np.float32) for each in network.variables()}
    first = next(iter(arrays))
    del arrays[first]
    arrays["resnet_v1_50/conv1/weights"] = np.zeros(1, np.float32)
    with pytest.raises(ModelError) as caught:
        weights.read(network, save(tmp_path, arrays))
    for part in (
        f"1 of {len(arrays)} variables are missing: '{first}'",
        f"1 are not {network.scope}'s: 'resnet_v1_50/conv1/weights'",
    ):
        assert part in str(caught.value)
