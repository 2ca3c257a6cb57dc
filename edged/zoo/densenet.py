"""DenseNet-121 of the original service: ``densenet121`` of the port to TF-slim.

Batch normalization and relu come before each convolution. What a layer of a dense block makes is
put behind what it read; ``x1`` narrows that to 128 channels, ``x2`` makes 32 of them. A transition
halves channels, rows and columns. All windows are TensorFlow's ``SAME``: 2 rows of zeros above the
picture and 3 below it, where the original in Caffe had 3 and 3. The featurizer gives the means of
the last map, ``[N, 1, 1, 1024]``.
"""

from __future__ import annotations

from collections.abc import Iterator

from edged.zoo.layers import (
    INPUT,
    BatchNorm,
    ChannelsLast,
    Concat,
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
    same,
)

SCOPE = "densenet121"
FEATURES = f"{SCOPE}/final_block/global_avg_pool/Mean:0"
"""Name of what the featurizer gives: ``[N, 1, 1, 1024]``."""
EPSILON = 1.1e-5
"""Added to a variance, as the port's ``densenet_arg_scope`` has it."""

_SIZE, _STEM, _GROWTH = 224, 64, 32
_BLOCKS = (6, 12, 24, 16)  # layers
_DEVIATION = 60.0 * 0.017  # pixels are scaled


def network(output: str) -> Network:
    """Returns the network.

    Args:
        output: name of the scores ``[N, classes]``.
    """
    layers: list[Layer] = list(_stem())
    value, channels, size = layers[-1].output, _STEM, _SIZE // 4
    for block, count in enumerate(_BLOCKS, 1):
        for number in range(1, count + 1):
            name = f"{SCOPE}/dense_block{block}/conv_block{number}"
            layers += _layer(name, value, channels, size)
            value, channels = f"{name}/concat", channels + _GROWTH
        if block < len(_BLOCKS):
            name = f"{SCOPE}/transition_block{block}"
            layers += _convolution(f"{name}/blk", value, channels, channels // 2, 1, size)
            value, channels, size = f"{name}/AvgPool", channels // 2, size // 2
            layers.append(Pool(value, layers[-1].output, "average", 2, 2))
    layers += _end(value, channels, output)
    outputs = {output: (PerClass(),)}
    return Network(SCOPE, _SIZE, tuple(layers), outputs, deviation=_DEVIATION)


def _stem() -> Iterator[Layer]:
    first = Convolution(f"{SCOPE}/conv1", INPUT, 3, _STEM, 7, 2, same(_SIZE, 7, 2))
    yield first
    yield BatchNorm(f"{SCOPE}/BatchNorm", first.output, _STEM, EPSILON)
    yield Relu(f"{SCOPE}/Relu", f"{SCOPE}/BatchNorm")
    pads = same(_SIZE // 2, 3, 2)
    yield Pool(f"{SCOPE}/MaxPool2D/MaxPool", f"{SCOPE}/Relu", "max", 3, 2, pads)


def _layer(name: str, value: str, channels: int, size: int) -> Iterator[Layer]:
    yield from _convolution(f"{name}/x1", value, channels, 4 * _GROWTH, 1, size)
    narrow, grown = f"{name}/x1/Conv/Conv2D", f"{name}/x2/Conv/Conv2D"
    yield from _convolution(f"{name}/x2", narrow, 4 * _GROWTH, _GROWTH, 3, size)
    yield Concat(f"{name}/concat", (value, grown))


def _convolution(
    name: str, source: str, inputs: int, outputs: int, kernel: int, size: int
) -> Iterator[Layer]:
    """Yields batch normalization, relu and the convolution they precede."""
    yield BatchNorm(f"{name}/BatchNorm", source, inputs, EPSILON)
    yield Relu(f"{name}/Relu", f"{name}/BatchNorm")
    yield Convolution(
        f"{name}/Conv", f"{name}/Relu", inputs, outputs, kernel, pads=same(size, kernel)
    )


def _end(value: str, channels: int, output: str) -> Iterator[Layer]:
    name = f"{SCOPE}/final_block"
    yield BatchNorm(f"{name}/BatchNorm", value, channels, EPSILON)
    yield Relu(f"{name}/Relu", f"{name}/BatchNorm")
    yield Mean(f"{name}/global_avg_pool/Mean", f"{name}/Relu")
    yield ChannelsLast(FEATURES, f"{name}/global_avg_pool/Mean")
    flat = f"{SCOPE}/logits/Flatten"
    yield Flatten(flat, FEATURES)
    yield Dense(f"{SCOPE}/logits", flat, channels, PerClass(), 1, f"{SCOPE}/logits")
    yield Softmax(output, f"{SCOPE}/logits")
