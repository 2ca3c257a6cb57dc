"""Trained weights from a file: they become the model, and a wrong file says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edged import compiler, zoo
from edged.errors import ConfigError, ModelError
from edged.zoo import seeded, weights
from edged.zoo.layers import sized
from edged.zoo.models import RECIPES

Arrays = dict[str, Any]
NETWORK = RECIPES["resnet50"].network
STEM, STEM_NORM = NETWORK.layers[:2]
CONV1 = "resnet_v1_50/conv1/weights"
BIASES = "resnet_v1_50/logits/biases"


@pytest.fixture(scope="module")
def drawn() -> Mapping[str, npt.NDArray[np.float32]]:
    return seeded.draw(NETWORK, 7, 10)


@pytest.fixture(scope="module")
def checkpoint(
    drawn: Mapping[str, npt.NDArray[np.float32]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A file as a training run leaves it: the variables by ``v.name``, and what is beside them."""
    path = tmp_path_factory.mktemp("weights") / "trained.npz"
    arrays: Arrays = {f"{name}:0": array for name, array in drawn.items()}
    arrays |= {
        "global_step:0": np.array(90_000),
        "resnet_v1_50/mean_rgb:0": np.zeros(3, np.float32),
        f"{CONV1}/Momentum:0": np.full((2, 2), np.nan),
        "resnet_v1_50/logits/biases/Adam_1:0": np.zeros(10, np.float32),
    }
    np.savez(path, **arrays)
    return path


def small() -> Arrays:
    """All names, with arrays too small to be the variables."""
    return {name: np.zeros(1, np.float32) for name in NETWORK.variables()}


def save(folder: Path, arrays: Arrays) -> Path:
    path = folder / "w.npz"
    np.savez(path, **arrays)
    return path


def test_random_weights_from_a_file_make_the_same_program_as_from_their_seed(
    checkpoint: Path,
) -> None:
    read = zoo.make("resnet50", weights=checkpoint)
    seed = zoo.make("resnet50", weights="random:7", classes=10)
    programs = [compiler.partition(each.graph).program.to_bytes() for each in (read, seed)]
    assert programs[0] == programs[1]
    assert read.graph.SerializeToString() == seed.graph.SerializeToString()


def test_what_a_training_run_leaves_beside_the_variables_is_passed_over_and_said(
    checkpoint: Path, drawn: Mapping[str, npt.NDArray[np.float32]]
) -> None:
    found = weights.read(NETWORK, checkpoint)
    (note,) = found.notes
    assert note.startswith("267 variables read; 4 of training passed over: ")
    for name in ("global_step", "mean_rgb", "Momentum", "Adam_1"):
        assert name in note
    assert list(found.variables) == list(NETWORK.variables())
    for name, array in drawn.items():
        assert np.array_equal(found.variables[name], array), name


def test_random_weights_say_that_the_answers_mean_nothing() -> None:
    (note,) = weights.read(NETWORK, "random:1", 2).notes
    assert "random:1" in note
    assert "the answers mean nothing" in note


def test_classes_are_as_many_as_the_file_has_unless_another_number_is_asked_for(
    checkpoint: Path,
) -> None:
    assert weights.read(NETWORK, checkpoint).variables[BIASES].shape == (10,)
    with pytest.raises(ModelError, match=r"logits/weights': expected shape \[1, 1, 2048, 11\]"):
        weights.read(NETWORK, checkpoint, 11)


def test_missing_and_foreign_variables_are_listed(tmp_path: Path) -> None:
    arrays = small()
    del arrays[CONV1], arrays[BIASES]
    arrays |= {"resnet_v1_50/conv1/kernel": np.zeros(1), "dense/bias": np.zeros(1)}
    with pytest.raises(ModelError) as caught:
        weights.read(NETWORK, save(tmp_path, arrays))
    assert str(caught.value) == (
        f"cannot use weights {tmp_path / 'w.npz'}: 2 of 267 variables are missing: "
        "'resnet_v1_50/conv1/weights', 'resnet_v1_50/logits/biases'; "
        "2 are not resnet_v1_50's: 'resnet_v1_50/conv1/kernel', 'dense/bias'"
    )


def test_long_lists_are_cut(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"267 of 267 .* and 259 more; 1 are not .*'a{100}'$"):
        weights.read(NETWORK, save(tmp_path, {"a" * 300: np.zeros(1)}))


def change(name: str, array: npt.NDArray[Any]) -> Callable[[Arrays], None]:
    def apply(arrays: Arrays) -> None:
        arrays[name] = array

    return apply


@pytest.mark.parametrize(
    ("apply", "cause"),
    [
        (
            change(CONV1, np.zeros((64, 3, 7, 7), np.float32)),
            r"'resnet_v1_50/conv1/weights': expected shape \[7, 7, 3, 64\], got \[64, 3, 7, 7\]",
        ),
        (change(CONV1, np.zeros((7, 7, 3, 64))), "conv1/weights': expected float32, got float64"),
        (change(CONV1, np.zeros((7, 7, 3, 64), ">f4")), "expected float32, got big-endian >f4"),
        (change(CONV1, np.full((7, 7, 3, 64), None)), "expected float32, got object"),
        (
            change(CONV1, np.full((7, 7, 3, 64), np.inf, np.float32)),
            r"conv1/weights': expected finite values, got inf at \[0, 0, 0, 0\] \(9408 of 9408",
        ),
        (change(BIASES, np.zeros((1, 9), np.float32)), r"biases': expected shape \[classes\] .*9"),
        (change(BIASES, np.zeros(0, np.float32)), r"1 to 32768 of them, got \[0\]"),
        (change(BIASES, np.zeros(32_769, np.float32)), r"1 to 32768 of them, got \[32769\]"),
    ],
)
def test_a_variable_that_is_not_the_networks_is_named_with_expected_and_got(
    tmp_path: Path, apply: Callable[[Arrays], None], cause: str
) -> None:
    arrays = small()
    apply(arrays)
    with pytest.raises(ModelError, match=cause):
        weights.read(NETWORK, save(tmp_path, arrays))


def test_a_negative_variance_is_named(tmp_path: Path) -> None:
    arrays = small()
    name = "resnet_v1_50/conv1/BatchNorm/moving_variance"
    for variable, shape in {**STEM.variables(), **STEM_NORM.variables()}.items():
        arrays[variable] = np.zeros(sized(shape, 1), np.float32)
    arrays[name][5] = -0.5
    with pytest.raises(ModelError, match=f"{name}': expected variances, got -0.5, less than 0"):
        weights.read(NETWORK, save(tmp_path, arrays))


@pytest.mark.parametrize(
    "source", ["random", "random:", "random:-1", "random:x", "random:" + "1" * 19]
)
def test_seeds_that_are_none_are_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="the seed must be an integer, such as random:0"):
        zoo.make("resnet50", weights=source)


@pytest.mark.parametrize("source", ["none.npz", "", ".", "no\0name"])
def test_a_file_that_is_not_there_says_what_weights_may_be(source: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot use weights.*random:SEED or an \.npz"):
        zoo.make("resnet50", weights=source)


def test_a_file_may_be_called_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path, small()).rename("random")
    with pytest.raises(ModelError, match="expected shape"):
        weights.read(NETWORK, "random")
