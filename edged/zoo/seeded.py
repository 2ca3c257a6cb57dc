"""Random weights under which a deep network still computes something.

Convolutions are drawn after He et al. (2015), "Delving Deep into Rectifiers": normal with variance
2 / fan_in. Beyond the first layer each is centred over its input channels, so that the mean that
every channel has after Relu does not add up to a constant that drowns the picture. The statistics
of each batch normalization are what its input has if that input is as expected: the network is
normalised by calculation, no picture is run, and the same seed gives the same model everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edged.zoo.network import FEATURES, LOGITS, STEM, UNITS, Convolution, Unit

Array = npt.NDArray[np.float32]

_BRANCH = 0.5  # deviation of a residual branch: the sum grows slowly over a block's units
_SPREAD = 1.5  # deviation of the logits, so that the scores are neither flat nor one


@dataclass(frozen=True)
class Moments:
    """Expected mean and variance of a tensor's values within a channel."""

    mean: float
    variance: float

    @property
    def after_relu(self) -> Moments:
        """Of max(x, 0) for normal x."""
        deviation = math.sqrt(self.variance)
        ratio = self.mean / deviation
        density = math.exp(-0.5 * ratio * ratio) / math.sqrt(2 * math.pi)
        part = 0.5 * math.erfc(-ratio / math.sqrt(2))
        mean = self.mean * part + deviation * density
        square = (self.mean**2 + self.variance) * part + self.mean * deviation * density
        return Moments(mean, square - mean * mean)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.mean + other.mean, self.variance + other.variance)


_PIXELS = Moments(0.0, 60.0**2)  # of photographs after the mean is subtracted


def draw(seed: int, classes: int) -> dict[str, Array]:
    """Returns every variable by name, in TensorFlow's layouts; equal seeds draw equal ones.

    Args:
        seed: not negative.
        classes: of the classifier.
    """
    drawing = _Drawing(seed)
    moments = drawing.convolution(STEM, _PIXELS, centred=False).after_relu
    for unit in UNITS:
        moments = drawing.unit(unit, moments)
    drawing.classifier(classes, moments)
    return drawing.variables


class _Drawing:
    """Draws variables one after the other, and follows what values they would lead to."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))
        self.variables: dict[str, Array] = {}

    def unit(self, unit: Unit, before: Moments) -> Moments:
        """Draws a bottleneck and returns the moments after it."""
        shortcut = before
        if unit.shortcut is not None:
            shortcut = self.convolution(unit.shortcut, before)
        for convolution in unit.branch[:2]:
            before = self.convolution(convolution, before).after_relu
        branch = self.convolution(unit.branch[2], before, scale=_BRANCH)
        return (shortcut + branch).after_relu

    def convolution(
        self,
        convolution: Convolution,
        before: Moments,
        *,
        scale: float = 1.0,
        centred: bool = True,
    ) -> Moments:
        """Draws one and the normalization after it; returns the moments after both."""
        deviation = math.sqrt(2 / (convolution.inputs * convolution.kernel**2))
        shape = (convolution.outputs, convolution.inputs, *(convolution.kernel,) * 2)
        weights: Array = self._random.standard_normal(shape, np.float32) * np.float32(deviation)
        if centred:
            weights -= weights.mean(axis=1, keepdims=True)
        self.variables[convolution.weights] = weights.transpose(2, 3, 1, 0)  # OIHW to HWIO
        energy = np.square(weights.astype(np.float64)).sum(axis=(1, 2, 3))
        self._batch_norm(convolution, energy * before.variance, scale)
        return Moments(0.0, scale * scale)

    def _batch_norm(
        self, convolution: Convolution, variance: npt.NDArray[np.float64], scale: float
    ) -> None:
        """Draws a scale and a shift around what leads to the deviation ``scale``."""
        drawn = self._random.standard_normal((3, convolution.outputs))
        values = (
            scale * np.exp(0.2 * drawn[0]),
            0.1 * scale * drawn[1],
            0.1 * np.sqrt(variance) * drawn[2],
            variance,
        )
        for name, value in zip(convolution.batch_norm, values, strict=True):
            self.variables[name] = value.astype(np.float32)

    def classifier(self, classes: int, before: Moments) -> None:
        """Draws it so that the logits have the deviation ``_SPREAD``."""
        deviation = _SPREAD / math.sqrt(FEATURES * before.variance)
        drawn = self._random.standard_normal((classes, FEATURES), np.float32)
        weights: Array = drawn * np.float32(deviation)
        weights -= weights.mean(axis=1, keepdims=True)
        self.variables[LOGITS[0]] = weights.T.reshape(1, 1, FEATURES, classes)
        self.variables[LOGITS[1]] = np.zeros(classes, np.float32)
