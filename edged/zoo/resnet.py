"""The zoo's ``resnet50``: network, names and preprocessing as on the original service.

Its names: a service made with the original's quickstart has the placeholder ``Placeholder:0`` in
and ``classifier_1/resnet_v1_50/predictions/Softmax:0`` out (``classifier/...`` on a fresh graph;
``classifier_output/Softmax:0`` is the classifier of its notebook on training), with the keys
``images`` and ``output_alias``.

Its features ``[N, 1, 1, 2048]`` were an output there only where somebody had named them as one when
converting the model. So it is here: ``edged build --output-tensor resnet_v1_50/pool5:0``. They are
not a second output by default because the original's C# client asks for all outputs and fails on
any that has not the rank of the scores.
"""

from __future__ import annotations

from dataclasses import replace

from edged.manifest import PRESETS
from edged.zoo import graph, network
from edged.zoo.model import ZooModel
from edged.zoo.weights import Weights

_OUTPUT_ALIASES = {
    graph.OUTPUT: (
        f"classifier/{network.SCOPE}/predictions/Softmax:0",
        "classifier_output/Softmax:0",
    ),
    graph.FEATURE_OUTPUT: ("brainwave_target_node_1_Version_0.1:0",),
}


def resnet50(weights: Weights) -> ZooModel:
    """Returns the model; input ``[N, 3, 224, 224]``, output ``[N, classes]``, softmaxed."""
    return ZooModel(
        name="resnet50",
        graph=graph.write(weights.variables),
        preprocess=replace(PRESETS["resnet"], layout="nchw"),
        input_names=("Placeholder:0", "images"),
        output_aliases=_OUTPUT_ALIASES,
        notes=weights.notes,
    )
