"""Random weights under which a deep network still computes something.

Convolutions are drawn after He et al. (2015), "Delving Deep into Rectifiers": normal with variance
2 / fan_in. Beyond the first layer each is centred over its input channels, so that the mean that
every channel has after Relu does not add up to a constant that drowns the picture. The statistics
of each BatchNormalization are what its input has if that input is as expected: the network is
normalised by calculation, no picture is run, and the same seed gives the same model everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edged.errors import ConfigError

Array = npt.NDArray[np.float32]
_SEED_DIGITS = 18


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


@dataclass(frozen=True)
class BatchNorm:
    """Parameters of one BatchNormalization, one value a channel."""

    gamma: Array
    beta: Array
    mean: Array
    variance: Array


class RandomWeights:
    """Draws parameters one after the other; equal seeds draw equal ones.

    Args:
        seed: not negative.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))

    @classmethod
    def parse(cls, text: str) -> RandomWeights:
        """Reads ``random:SEED``.

        Raises:
            ConfigError: it is something else.
        """
        kind, _, seed = text.partition(":")
        if kind != "random":
            raise ConfigError(
                f"cannot use weights {text!r}: expected random:SEED (files are not supported yet)"
            )
        if not (seed.isascii() and seed.isdigit() and len(seed) <= _SEED_DIGITS):
            raise ConfigError(
                f"cannot use weights {text!r}: the seed must be an integer, such as random:0"
            )
        return cls(int(seed))

    def convolution(self, outputs: int, inputs: int, kernel: int, *, centred: bool = True) -> Array:
        """Weights ``[outputs, inputs, kernel, kernel]``."""
        deviation = math.sqrt(2 / (inputs * kernel * kernel))
        shape = (outputs, inputs, kernel, kernel)
        weights: Array = self._random.standard_normal(shape, np.float32) * np.float32(deviation)
        if centred:
            weights -= weights.mean(axis=1, keepdims=True)
        return weights

    def batch_norm(self, weights: Array, before: Moments, scale: float) -> BatchNorm:
        """Statistics that a convolution's output has, and a random scale and shift of it.

        Args:
            weights: of the convolution.
            before: moments of what it reads.
            scale: around which gamma is drawn; the output's deviation.
        """
        channels = weights.shape[0]
        energy = np.square(weights.astype(np.float64)).sum(axis=(1, 2, 3))
        variance = energy * before.variance
        draw = self._random.standard_normal((3, channels))
        return BatchNorm(
            gamma=(scale * np.exp(0.2 * draw[0])).astype(np.float32),
            beta=(0.1 * scale * draw[1]).astype(np.float32),
            mean=(0.1 * np.sqrt(variance) * draw[2]).astype(np.float32),
            variance=variance.astype(np.float32),
        )

    def dense(self, outputs: int, inputs: int, before: Moments, spread: float) -> Array:
        """Weights ``[outputs, inputs]`` whose products have the deviation ``spread``."""
        deviation = spread / math.sqrt(inputs * before.variance)
        drawn = self._random.standard_normal((outputs, inputs), np.float32)
        weights: Array = drawn * np.float32(deviation)
        weights -= weights.mean(axis=1, keepdims=True)
        return weights
