"""ResNets of the original service: TF-slim's ``resnet_v1_50`` and ``resnet_v1_152``.

Which ResNets: TF-slim's, with ``VALID`` padding in ``pool1``, because that is what the original
service ran. In detail:

- **Strides** are on the 3x3 convolution of a block's *last* unit, as in TF-slim (He et al. have
  them on the 1x1 convolutions of a block's first). The shortcut of that unit is subsampled.
- **Strided convolutions** pad explicitly by ``kernel // 2`` on both sides and convolve ``VALID``
  (TF-slim's ``conv2d_same``): 3 and 3 around the picture, 1 and 1 around a 3x3. Unstrided ones are
  ``SAME``, which is the same number.
- **pool1**, 3x3 with stride 2, is ``VALID``: 112 -> 55. TF-slim's default is ``SAME``, 112 -> 56,
  and its ``resnet_arg_scope`` says how to have the other. Both pool the same windows; ``SAME`` has
  one more at the right and the bottom edge, so weights trained with either fit here.

The source for the last point, and for the strides: the service's published firmware, the ResNet-50
of onnxruntime's BrainSlice provider (2018), states every layer's size: ``pool1`` 55 x 55 with no
padding, ``res2c_branch2b`` (block1, unit_3, conv2) 55 -> 28 with stride 2 and padding 1, both 1x1
convolutions that follow it in block 2 on 28 x 28. This makes 293,525 tile operations and 3.46 GMAC.
He et al.'s strides with the same pool would be 333,464 and 3.83, which is neither TF-slim's network
nor the service's. No firmware of ResNet-152 was published; its weights came from the same family of
checkpoints, so it is taken to be built alike: 746,677 tile operations instead of 786,616.

Names: a service made with the original's quickstart has the placeholder ``Placeholder:0`` in and
``classifier_1/resnet_v1_50/predictions/Softmax:0`` out (``classifier/...`` on a fresh graph;
``classifier_output/Softmax:0`` is the classifier of its notebook on training), with the keys
``images`` and ``output_alias``.

Its features ``[N, 1, 1, 2048]`` were an output there only where somebody had named them as one when
converting the model. So it is here: ``edged build --output-tensor resnet_v1_50/pool5:0``. They are
not a second output by default because the original's C# client asks for all outputs and fails on
any that has not the rank of the scores.
"""

from __future__ import annotations

from collections.abc import Iterator

from edged.zoo.layers import (
    INPUT,
    Add,
    BatchNorm,
    ChannelsLast,
    Convolution,
    Dense,
    Flatten,
    Layer,
    Mean,
    Network,
    PerClass,
    Pool,
    Relu,
    Softmax,
)

FEATURES = 2048
"""Channels of what the classifier reads."""
EPSILON = 1e-5
"""Added to a variance, as TF-slim's ``resnet_arg_scope`` has it."""

_SIZE = 224
_STEM = 64  # channels
_EXPANSION = 4
_UNITS = {50: (3, 4, 6, 3), 152: (3, 8, 36, 3)}
_DEPTHS, _STRIDES = (64, 128, 256, 512), (2, 2, 2, 1)


def network(depth: int, output: str) -> Network:
    """Returns the ResNet of that many layers.

    Args:
        depth: 50 or 152.
        output: name of the scores ``[N, classes]``.
    """
    scope = f"resnet_v1_{depth}"
    layers = (*_body(scope, _UNITS[depth]), *_classifier(scope, output))
    return Network(scope, _SIZE, tuple(layers), {output: (PerClass(),)})


def features(depth: int) -> str:
    """Returns the name of what the featurizer gives: ``[N, 1, 1, 2048]``, as TensorFlow has it."""
    return f"resnet_v1_{depth}/pool5:0"


def _body(scope: str, units: tuple[int, ...]) -> Iterator[Layer]:
    yield from _convolution(f"{scope}/conv1", INPUT, 3, _STEM, 7, 2)
    yield Relu(f"{scope}/conv1/Relu", f"{scope}/conv1/BatchNorm")
    pool = Pool(f"{scope}/pool1/MaxPool", f"{scope}/conv1/Relu", "max", 3, 2)
    yield pool
    value, inputs = pool.output, _STEM
    for block, (depth, count, stride) in enumerate(zip(_DEPTHS, units, _STRIDES, strict=True), 1):
        for number in range(1, count + 1):
            name = f"{scope}/block{block}/unit_{number}/bottleneck_v1"
            yield from _unit(name, value, inputs, depth, stride if number == count else 1)
            value, inputs = f"{name}/Relu", depth * _EXPANSION
    yield Mean(f"{scope}/pool5/Mean", value)


def _unit(name: str, value: str, inputs: int, depth: int, stride: int) -> Iterator[Layer]:
    """A bottleneck: relu(shortcut + branch); the shortcut is the input where sizes are equal."""
    outputs, shortcut = depth * _EXPANSION, value
    if inputs != outputs:
        yield from _convolution(f"{name}/shortcut", value, inputs, outputs, 1, stride)
        shortcut = f"{name}/shortcut/BatchNorm"
    elif stride != 1:
        shortcut = f"{name}/shortcut/MaxPool"
        yield Pool(shortcut, value, "max", 1, stride)
    sizes = ((inputs, depth, 1, 1), (depth, depth, 3, stride), (depth, outputs, 1, 1))
    for number, (before, after, kernel, step) in enumerate(sizes, 1):
        part = f"{name}/conv{number}"
        yield from _convolution(part, value, before, after, kernel, step)
        value = f"{part}/BatchNorm"
        if number < len(sizes):
            yield Relu(f"{part}/Relu", value)
            value = f"{part}/Relu"
    yield Add(f"{name}/add", (shortcut, value))
    yield Relu(f"{name}/Relu", f"{name}/add")


def _convolution(
    name: str, source: str, inputs: int, outputs: int, kernel: int, stride: int
) -> Iterator[Layer]:
    side = kernel // 2
    made = Convolution(name, source, inputs, outputs, kernel, stride, (side, side, side, side))
    yield made
    yield BatchNorm(f"{name}/BatchNorm", made.output, outputs, EPSILON)


def _classifier(scope: str, output: str) -> Iterator[Layer]:
    pooled, flat = f"{scope}/pool5:0", f"{scope}/logits/Flatten"
    yield ChannelsLast(pooled, f"{scope}/pool5/Mean")
    yield Flatten(flat, pooled)
    yield Dense(f"{scope}/logits", flat, FEATURES, PerClass(), 1, f"{scope}/logits")
    yield Softmax(output, f"{scope}/logits")
