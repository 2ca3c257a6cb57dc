"""Random weights under which a deep network still computes something.

Weights are normal, each layer's so large that what it makes has the deviation 1 (after He et al.,
2015, "Delving Deep into Rectifiers"). Beyond the first layer each is centred over its input
channels, so that the mean that every channel has after Relu does not add up to a constant that
drowns the picture. The statistics of each batch normalization are what its input has if that input
is as expected: the network is normalised by calculation, no picture is run, and the same seed gives
the same model everywhere. Pools are taken to leave mean and variance as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edged.zoo.layers import (
    INPUT,
    Add,
    BatchNorm,
    ChannelsLast,
    Concat,
    Convolution,
    Dense,
    Flatten,
    L2Norm,
    Layer,
    Network,
    Relu,
    Reshape,
    Softmax,
    sized,
)

Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_BRANCH = 0.5  # deviation of a residual branch: the sum grows slowly over a block's units
_SPREAD = 1.5  # deviation of answers, so that scores are neither flat nor one
_LENGTH = 20.0  # of a normalised pixel, as SSD is trained from
_BY_ELEMENT = (
    ChannelsLast,
    Flatten,
    Reshape,
    Softmax,
)  # what may stand between a layer and answers


@dataclass(frozen=True)
class Moments:
    """Expected mean and variance of a map's values, per channel."""

    mean: Doubles
    variance: Doubles

    @property
    def after_relu(self) -> Moments:
        """Of max(x, 0) for normal x."""
        deviation = np.sqrt(self.variance)
        ratio = self.mean / deviation
        density = np.exp(-0.5 * ratio * ratio) / math.sqrt(2 * math.pi)
        part = 0.5 * np.vectorize(math.erfc, otypes=[float])(-ratio / math.sqrt(2))
        mean = self.mean * part + deviation * density
        square = (self.mean**2 + self.variance) * part + self.mean * deviation * density
        return Moments(mean, square - mean * mean)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.mean + other.mean, self.variance + other.variance)


def draw(network: Network, seed: int, classes: int) -> dict[str, Array]:
    """Returns every variable by name, in TensorFlow's layouts; equal seeds draw equal ones.

    Args:
        network: whose.
        seed: not negative.
        classes: that it tells apart.
    """
    drawing = _Drawing(network, seed, classes)
    drawing.moments[INPUT] = Moments(np.zeros(3), np.full(3, network.deviation**2))
    for layer in network.layers:
        drawing.moments[layer.output] = drawing.layer(layer)
    return drawing.variables


class _Drawing:
    """Draws variables one after the other, and follows what values they would lead to."""

    def __init__(self, network: Network, seed: int, classes: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._classes = classes
        layers = network.layers
        self._branches = {each.sources[-1] for each in layers if isinstance(each, Add)}
        self._read = {
            name for each in layers if not isinstance(each, _BY_ELEMENT) for name in each.sources
        }
        self.moments: dict[str, Moments] = {}
        self.variables: dict[str, Array] = {}

    def layer(self, layer: Layer) -> Moments:
        """Draws a layer's variables; returns the moments after it."""
        before = [self.moments[name] for name in layer.sources]
        if isinstance(layer, Convolution):
            made = self._convolution(layer, before[0])
        elif isinstance(layer, Dense):
            made = self._dense(layer, before[0])
        elif isinstance(layer, BatchNorm):
            made = self._batch_norm(layer, before[0])
        elif isinstance(layer, L2Norm):
            made = self._l2_norm(layer, before[0])
        elif isinstance(layer, Relu):
            made = before[0].after_relu
        elif isinstance(layer, Add):
            made = before[0] + before[1]
        elif isinstance(layer, Concat):
            mean = np.concatenate([each.mean for each in before])
            made = Moments(mean, np.concatenate([each.variance for each in before]))
        else:
            made = before[0]
        return made

    def _deviation(self, output: str, fan_in: int, before: Moments) -> np.float32:
        """Returns that of the weights under which the values made have the one they should."""
        wanted = 1.0 if output in self._read else _SPREAD
        return np.float32(wanted / math.sqrt(fan_in * float(before.variance.mean())))

    def _convolution(self, layer: Convolution, before: Moments) -> Moments:
        (outputs,) = sized((layer.outputs,), self._classes)
        shape = (outputs, layer.inputs, layer.kernel, layer.kernel)
        weights: Array = self._random.standard_normal(shape, np.float32)
        weights *= self._deviation(layer.output, layer.inputs * layer.kernel**2, before)
        if layer.source != INPUT:
            weights -= weights.mean(axis=1, keepdims=True)
        self.variables[layer.weights] = weights.transpose(2, 3, 1, 0)  # OIHW to HWIO
        energy = np.square(weights).sum(axis=(2, 3), dtype=np.float64)
        made = Moments(np.zeros(outputs), energy @ before.variance)
        return self._biased(layer, made) if layer.bias else made

    def _biased(self, layer: Convolution | Dense, made: Moments) -> Moments:
        drawn = 0.1 * np.sqrt(made.variance) * self._random.standard_normal(len(made.mean))
        self.variables[layer.biases] = drawn.astype(np.float32)
        return Moments(drawn, made.variance)

    def _dense(self, layer: Dense, before: Moments) -> Moments:
        (outputs,) = sized((layer.outputs,), self._classes)
        fan_in = layer.kernel**2 * layer.inputs
        weights: Array = self._random.standard_normal((fan_in, outputs), np.float32)
        weights *= self._deviation(layer.output, fan_in, before)
        weights -= weights.mean(axis=0)
        shape = (layer.kernel, layer.kernel, layer.inputs, outputs)
        self.variables[layer.weights] = weights.reshape(shape)
        made = Moments(np.zeros(outputs), np.ones(outputs))
        if layer.output in self._read:
            return self._biased(layer, made)
        self.variables[layer.biases] = np.zeros(outputs, np.float32)
        return made

    def _batch_norm(self, layer: BatchNorm, before: Moments) -> Moments:
        """Draws a scale and a shift around what leads to the deviation that is wanted."""
        scale = _BRANCH if layer.output in self._branches else 1.0
        drawn = self._random.standard_normal((3, layer.channels))
        gamma, beta = scale * np.exp(0.2 * drawn[0]), 0.1 * scale * drawn[1]
        mean = before.mean + 0.1 * np.sqrt(before.variance) * drawn[2]
        values = (gamma, beta, mean, before.variance)
        for name, value in zip(layer.parameters, values, strict=True):
            self.variables[name] = value.astype(np.float32)
        return Moments(beta, gamma**2)

    def _l2_norm(self, layer: L2Norm, before: Moments) -> Moments:
        drawn = self._random.standard_normal(layer.channels)
        gamma = _LENGTH * np.exp(0.2 * drawn)
        self.variables[layer.gamma] = gamma.astype(np.float32)
        factor = gamma / math.sqrt(float((before.mean**2 + before.variance).sum()))
        return Moments(before.mean * factor, before.variance * factor**2)
