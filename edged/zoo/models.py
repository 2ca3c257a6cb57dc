"""The zoo's models: networks, with names and preprocessing as on the original service.

There a graph was put together of three parts: pictures to tensor (``Placeholder:0`` in), the
featurizer, and a classifier imported as ``classifier`` (``classifier_1`` where the name was taken,
``classifier_output`` where it was made by hand). SSD had no classifier, and kept its own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edged.manifest import PRESETS, Preprocess
from edged.zoo import densenet, graph, resnet, ssd, vgg
from edged.zoo.layers import Network
from edged.zoo.model import ZooModel
from edged.zoo.weights import Weights

_INPUT_NAMES = ("Placeholder:0", "images")
_TARGET_NODE = "brainwave_target_node_1_Version_0.1:0"  # what a converted featurizer was called


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a model is made.

    Attributes:
        network: of the model.
        preset: of the preprocessing.
        output_aliases: more names of values that may be outputs.
    """

    network: Network
    preset: str
    output_aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def preprocess(self) -> Preprocess:
        """From a picture to the graph's input."""
        return replace(PRESETS[self.preset], layout="nchw")

    def make(self, name: str, weights: Weights) -> ZooModel:
        """Returns the model with these weights."""
        return ZooModel(
            name=name,
            graph=graph.write(self.network, weights.variables, weights.classes),
            preprocess=self.preprocess,
            input_names=_INPUT_NAMES,
            output_aliases=self.output_aliases,
            notes=weights.notes,
            classes=weights.classes,
        )


def _aliases(
    tail: str, features: str, *, first: str = "classifier", second: str = "classifier_1"
) -> dict[str, tuple[str, ...]]:
    """Returns those of the scores, under the first of their names, and of the features."""
    scores = (f"{second}/{tail}", "classifier_output/Softmax:0")
    return {f"{first}/{tail}": scores, features: (_TARGET_NODE,)}


_RESNET50 = _aliases(
    "resnet_v1_50/predictions/Softmax:0",
    resnet.features(50),
    first="classifier_1",
    second="classifier",
)
_RESNET152 = _aliases("resnet_v1_152/predictions/Softmax:0", resnet.features(152))
_VGG16 = _aliases("vgg_16/fc8/squeezed:0", vgg.FEATURES)
_DENSENET121 = _aliases("densenet121/predictions/Softmax:0", densenet.FEATURES)


def _scores(aliases: Mapping[str, tuple[str, ...]]) -> str:
    return next(iter(aliases))


RECIPES: dict[str, Recipe] = {
    "resnet50": Recipe(resnet.network(50, _scores(_RESNET50)), "resnet", _RESNET50),
    "resnet152": Recipe(resnet.network(152, _scores(_RESNET152)), "resnet", _RESNET152),
    "vgg16": Recipe(vgg.network(_scores(_VGG16)), "vgg", _VGG16),
    "densenet121": Recipe(densenet.network(_scores(_DENSENET121)), "densenet", _DENSENET121),
    "ssd-vgg300": Recipe(ssd.network(), "ssd"),
}
"""By the name that ``edged build`` takes."""
