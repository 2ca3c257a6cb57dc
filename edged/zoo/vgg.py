"""VGG-16 of the original service: TF-slim's ``vgg_16``; and the layers that SSD takes from it.

Thirteen 3x3 convolutions, ``SAME``, with biases; five 2x2 pools; ``fc6`` over 7 x 7, ``fc7`` and
``fc8``. The answer is ``fc8/squeezed``: logits, not probabilities. The featurizer gives what
``pool5`` makes, ``[N, 7, 7, 512]``.
"""

from __future__ import annotations

from collections.abc import Iterator

from edged.zoo.layers import (
    INPUT,
    ChannelsLast,
    Convolution,
    Dense,
    Flatten,
    Layer,
    Network,
    PerClass,
    Pool,
    Relu,
    same,
)

SCOPE = "vgg_16"
FEATURES = f"{SCOPE}/pool5/MaxPool:0"
"""Name of what the featurizer gives: ``[N, 7, 7, 512]``."""

HIDDEN = 4096

_SIZE = 224
_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions, channels


def network(output: str, hidden: int = HIDDEN) -> Network:
    """Returns the network.

    Args:
        output: name of the logits ``[N, classes]``.
        hidden: what ``fc6`` and ``fc7`` make; theirs are nine tenths of all parameters.
    """
    layers = (*blocks(SCOPE, _SIZE), *_classifier(output, hidden))
    return Network(SCOPE, _SIZE, layers, {output: (PerClass(),)})


def blocks(scope: str, size: int) -> Iterator[Layer]:
    """Yields the convolutions and pools; the last pool is 2x2 with stride 2."""
    value, inputs = INPUT, 3
    for block, (count, channels) in enumerate(_BLOCKS, 1):
        for number in range(1, count + 1):
            name = f"{scope}/conv{block}/conv{block}_{number}"
            yield from convolution(name, value, inputs, channels, 3, same(size, 3))
            value, inputs = f"{name}/Relu", channels
        pool = f"{scope}/pool{block}/MaxPool"
        yield Pool(pool, value, "max", 2, 2, same(size, 2, 2))
        value, size = pool, -(-size // 2)


def convolution(
    name: str,
    source: str,
    inputs: int,
    outputs: int,
    kernel: int,
    pads: tuple[int, int, int, int],
    *,
    stride: int = 1,
    dilation: int = 1,
) -> Iterator[Layer]:
    """Yields a convolution with bias and its relu."""
    made = Convolution(name, source, inputs, outputs, kernel, stride, pads, dilation, bias=True)
    yield made
    yield Relu(f"{name}/Relu", made.output)


def _classifier(output: str, hidden: int) -> Iterator[Layer]:
    yield ChannelsLast(FEATURES, f"{SCOPE}/pool5/MaxPool")
    value, side = f"{SCOPE}/fc6/Flatten", _SIZE >> len(_BLOCKS)
    yield Flatten(value, FEATURES)
    for name, inputs, kernel in (("fc6", 512, side), ("fc7", hidden, 1)):
        scope = f"{SCOPE}/{name}"
        yield Dense(scope, value, inputs, hidden, kernel, f"{scope}/BiasAdd")
        yield Relu(f"{scope}/Relu", f"{scope}/BiasAdd")
        value = f"{scope}/Relu"
    yield Dense(f"{SCOPE}/fc8", value, hidden, PerClass(), 1, output)
