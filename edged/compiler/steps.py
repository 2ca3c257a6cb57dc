"""Steps: what one node asks of the NPU, before nodes are joined into chains.

Feature maps are numbers that ``place`` hands out; every step but ``Relabel`` writes a new one.
Constants are as the model has them; they are folded in float64 and rounded when chains are made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from edged.compiler.graph import Array
from edged.npu.chains import Activate, AveragePool, Copy, MaxPool, Window

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Convolve:
    """A convolution, or a Gemm written as one.

    Attributes:
        weights: ``[output channels, input channels, kernel height, kernel width]``.
        gain: a factor per output channel, or None.
        bias: per output channel.
    """

    source: int
    target: int
    window: Window
    weights: Array = field(repr=False)
    bias: Doubles = field(repr=False)
    gain: Doubles | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Affine:
    """offset + (x - mean) * gain, per channel: BatchNormalization, Mul or Add by a constant."""

    kind: Literal["batch norm", "mul", "add"]
    source: int
    target: int
    mean: Doubles = field(repr=False)
    gain: Doubles = field(repr=False)
    offset: Doubles = field(repr=False)


@dataclass(frozen=True)
class Sum:
    """The sum of two or more feature maps of one size."""

    sources: tuple[int, ...]
    target: int


@dataclass(frozen=True)
class ZeroPad:
    """Borders of zeros, top, left, bottom, right; a following convolution takes them over."""

    source: int
    target: int
    pads: tuple[int, int, int, int]
    copy: Copy


@dataclass(frozen=True)
class Copies:
    """Boxes that fill a new feature map."""

    target: int
    boxes: tuple[Copy, ...]


@dataclass(frozen=True)
class Normalise:
    """L2 norm over the channels of each pixel."""

    source: int
    target: int


@dataclass(frozen=True)
class Relabel:
    """Another view of the same feature map; nothing is computed."""


Step = (
    Convolve
    | Affine
    | Sum
    | ZeroPad
    | Copies
    | Normalise
    | Relabel
    | Activate
    | MaxPool
    | AveragePool
)
