"""The models edged knows by name, as ONNX graphs made here.

- ``layers``: networks as data; ``resnet``, ``vgg``, ``densenet``, ``ssd``: which networks they are;
- ``graph``: as ONNX;
- ``weights``: where their variables come from: ``seeded``, or a file (``npz``);
- ``models``: with the names and the preprocessing of the original service.

Needs the extra ``edged[build]`` (onnx).
"""

from __future__ import annotations

import os

from edged.errors import ConfigError
from edged.zoo.extra import need_onnx
from edged.zoo.model import ZooModel
from edged.zoo.models import RECIPES
from edged.zoo.weights import read

__all__ = ["NAMES", "ZooModel", "make", "need_onnx"]

NAMES = tuple(RECIPES)
"""What ``make`` knows."""


def make(
    name: str, *, weights: str | os.PathLike[str] = "random:0", classes: int | None = None
) -> ZooModel:
    """Returns the model of that name.

    Args:
        name: one of ``NAMES``.
        weights: ``random:SEED``, where the same seed gives the same model, or the path of an .npz
            file with trained ones by TensorFlow's names (``resnet_v1_50/conv1/weights``, HWIO).
        classes: that it tells apart; None for as many as the file has, or as it was trained with.

    Raises:
        ConfigError: the name or the weights are not known, or onnx is not installed.
        ModelError: the file does not hold this model's variables.
    """
    need_onnx()
    if name not in NAMES:
        raise ConfigError(f"cannot make model {name!r}: expected one of {', '.join(NAMES)}")
    recipe = RECIPES[name]
    return recipe.make(name, read(recipe.network, weights, classes))
