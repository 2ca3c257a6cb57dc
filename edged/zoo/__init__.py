"""The models edged knows by name, as ONNX graphs made here.

- ``network``: ResNet-50 as data, and which ResNet-50 it is; ``graph``: as ONNX;
- ``weights``: where its variables come from: ``seeded``, or a file (``npz``);
- ``resnet``: with the names and the preprocessing of the original service.

Needs the extra ``edged[build]`` (onnx).
"""

from __future__ import annotations

import os

from edged.errors import ConfigError
from edged.zoo import resnet
from edged.zoo.extra import need_onnx
from edged.zoo.model import ZooModel
from edged.zoo.weights import read

__all__ = ["NAMES", "ZooModel", "make", "need_onnx"]

NAMES = ("resnet50",)
"""What ``make`` knows."""


def make(
    name: str, *, weights: str | os.PathLike[str] = "random:0", classes: int | None = None
) -> ZooModel:
    """Returns the model of that name.

    Args:
        name: one of ``NAMES``.
        weights: ``random:SEED``, where the same seed gives the same model, or the path of an .npz
            file with trained ones by TensorFlow's names (``resnet_v1_50/conv1/weights``, HWIO).
        classes: of the classifier; None for as many as the file has, or a thousand.

    Raises:
        ConfigError: the name or the weights are not known, or onnx is not installed.
        ModelError: the file does not hold this model's variables.
    """
    need_onnx()
    if name not in NAMES:
        raise ConfigError(f"cannot make model {name!r}: expected one of {', '.join(NAMES)}")
    return resnet.resnet50(read(weights, classes))
