"""Chains: what a program consists of, one frozen value per kind (NPU.md 1.4 to 1.8).

A chain reads feature maps, optionally multiplies by a matrix, applies multi-function operations in
float32 and writes one feature map, rounded to float16 once. Feature maps are indices into
``Program.tensors``; every one is written before it is read and, but for several ``Copy`` chains
that fill it piece by piece, by one chain only.

Arrays are NumPy, float16, C-contiguous and must not be changed after they were handed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Activation = Literal["none", "relu", "relu6"]
ACTIVATIONS: tuple[Activation, ...] = ("none", "relu", "relu6")
Halves = npt.NDArray[np.float16]

EXPANDER_BELOW = 16
"""A convolution with fewer input channels reads whole windows through the expander (1.5)."""


@dataclass(frozen=True)
class Window:
    """A sliding window: kernel, stride, zero padding and dilation, in pixels."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """top, left, bottom, right"""
    dilation: tuple[int, int] = (1, 1)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Returns the height and width of the output where every window lies in the padded map."""
        top, left, bottom, right = self.pads
        spans = [self.dilation[i] * (self.kernel[i] - 1) + 1 for i in (0, 1)]
        return (
            (height + top + bottom - spans[0]) // self.stride[0] + 1,
            (width + left + right - spans[1]) // self.stride[1] + 1,
        )


@dataclass(frozen=True)
class Tensor:
    """A feature map of height x width pixels and that many channels."""

    height: int
    width: int
    channels: int


@dataclass(frozen=True, eq=False)
class Convolution:
    """mv_mul, then + bias, + residual, activation; always in this order.

    Attributes:
        weights: float16 ``[output channels, kernel height, kernel width, input channels]``.
        bias: float16 ``[output channels]``.
        residual: a feature map of the target's shape that is added, or None.
    """

    source: int
    target: int
    window: Window
    weights: Halves = field(repr=False)
    bias: Halves = field(repr=False)
    residual: int | None = None
    activation: Activation = "none"

    @property
    def expander(self) -> bool:
        """Whether windows, not pixels, are cut into blocks."""
        return bool(self.weights.shape[3] < EXPANDER_BELOW)


@dataclass(frozen=True, eq=False)
class Scale:
    """Pre-activation: x * scale, + bias, activation; scale and bias are float16 ``[channels]``."""

    source: int
    target: int
    scale: Halves = field(repr=False)
    bias: Halves = field(repr=False)
    activation: Activation = "none"


@dataclass(frozen=True)
class Add:
    """Sum of two feature maps of one shape, then the activation."""

    source: int
    other: int
    target: int
    activation: Activation = "none"


@dataclass(frozen=True)
class Activate:
    """An activation that no chain before it could absorb."""

    source: int
    target: int
    activation: Activation


@dataclass(frozen=True)
class MaxPool:
    """Maximum over a window; positions outside the image take no part.

    The target's size may be larger than ``window.output_size`` says (ceil_mode), but every window
    holds at least one position of the image.
    """

    source: int
    target: int
    window: Window


@dataclass(frozen=True)
class AveragePool:
    """Mean over a window, row-major float32 sum times float32(1 / count).

    ``include_pad`` counts the positions inside the padded image, else those inside the image.
    """

    source: int
    target: int
    window: Window
    include_pad: bool = False


@dataclass(frozen=True, eq=False)
class Norm:
    """L2 normalisation over the channels of each pixel, then * scale where there is one."""

    source: int
    target: int
    scale: Halves | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Copy:
    """A strided box of the source goes to ``offset`` in the target; the rest of the target is zero.

    Triples are (row, column, channel). Concat, zero-pad and slice are made of these.
    """

    source: int
    target: int
    extent: tuple[int, int, int]
    start: tuple[int, int, int] = (0, 0, 0)
    step: tuple[int, int, int] = (1, 1, 1)
    offset: tuple[int, int, int] = (0, 0, 0)


Chain: TypeAlias = Convolution | Scale | Add | Activate | MaxPool | AveragePool | Norm | Copy


def sources(chain: Chain) -> tuple[int, ...]:
    """Returns the feature maps that a chain reads, the mv_mul's or first operand first."""
    if isinstance(chain, Add):
        return (chain.source, chain.other)
    if isinstance(chain, Convolution) and chain.residual is not None:
        return (chain.source, chain.residual)
    return (chain.source,)
