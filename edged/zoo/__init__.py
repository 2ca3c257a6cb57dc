"""The models edged knows by name, as ONNX graphs made here, without a file.

``make("resnet50")`` gives graph, preprocessing and the names its callers use. Needs the extra
``edged[build]`` (onnx).
"""

from __future__ import annotations

from edged.errors import ConfigError
from edged.zoo import resnet
from edged.zoo.extra import need_onnx
from edged.zoo.model import ZooModel
from edged.zoo.weights import RandomWeights

__all__ = ["NAMES", "ZooModel", "make", "need_onnx"]

NAMES = ("resnet50",)
"""What ``make`` knows."""


def make(name: str, *, weights: str = "random:0", classes: int = 1000) -> ZooModel:
    """Returns the model of that name.

    Args:
        name: one of ``NAMES``.
        weights: ``random:SEED``; the same seed gives the same model.
        classes: of the classifier.

    Raises:
        ConfigError: the name or the weights are not known, or onnx is not installed.
    """
    need_onnx()
    if name not in NAMES:
        raise ConfigError(f"cannot make model {name!r}: expected one of {', '.join(NAMES)}")
    return resnet.resnet_v1_50(RandomWeights.parse(weights), classes)
