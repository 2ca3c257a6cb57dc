"""Random programs for tests: any chain after any other, on feature maps small enough for NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from edged.npu import FORMATS, Program
from edged.npu.chains import (
    Activate,
    Activation,
    Add,
    AveragePool,
    Chain,
    Convolution,
    Copy,
    Halves,
    MaxPool,
    Norm,
    Scale,
    Tensor,
    Window,
)
from edged.npu.listing import Layout, Port, port

EDGE_CHANNELS = (1, 2, 3, 4, 15, 16, 17, 31, 32, 63, 64, 65, 127, 128, 129, 192, 255, 256, 257, 300)
LAYOUT: tuple[Layout, Layout] = ("NCHW", "NHWC")
CHANNELS = st.one_of(st.sampled_from(EDGE_CHANNELS), st.integers(1, 300))
ACTIVATION: st.SearchStrategy[Activation] = st.sampled_from(("none", "relu", "relu6"))


class Builder:
    """A program in the making; every method appends one chain and returns its target."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.tensors: list[Tensor] = []
        self.chains: list[Chain] = []

    def tensor(self, height: int, width: int, channels: int) -> int:
        """Returns a new feature map."""
        self.tensors.append(Tensor(height, width, channels))
        return len(self.tensors) - 1

    def halves(self, *shape: int, spread: float = 1.0) -> Halves:
        """Returns constants with an outlier here and there."""
        values = self.random.normal(scale=spread, size=shape)
        values *= np.where(self.random.random(shape) < 0.01, 50, 1)
        return np.asarray(values, np.float16)

    def convolve(
        self, source: int, rows: int, window: Window, residual: int | None, activation: Activation
    ) -> int:
        """Appends a convolution; a residual of another shape is left out."""
        x = self.tensors[source]
        height, width = window.output_size(x.height, x.width)
        target = self.tensor(height, width, rows)
        if residual is not None and self.tensors[residual] != self.tensors[target]:
            residual = None
        spread = 1 / np.sqrt(x.channels * window.kernel[0] * window.kernel[1])
        weights = self.halves(rows, *window.kernel, x.channels, spread=spread)
        bias = self.halves(rows)
        self.chains.append(Convolution(source, target, window, weights, bias, residual, activation))
        return target

    def join(self, sources: Sequence[int]) -> int:
        """Appends a concatenation of maps of one size along their channels."""
        x, at = self.tensors[sources[0]], 0
        target = self.tensor(x.height, x.width, sum(self.tensors[i].channels for i in sources))
        for source in sources:
            channels = self.tensors[source].channels
            extent = (x.height, x.width, channels)
            self.chains.append(Copy(source, target, extent, offset=(0, 0, at)))
            at += channels
        return target

    def program(self, form: str, inputs: tuple[Port, ...]) -> Program:
        """Returns the program; every map that nothing reads is an output, and some others are."""
        tensors = tuple(self.tensors)
        read = {c.source for c in self.chains}
        read |= {c.other for c in self.chains if isinstance(c, Add)}
        read |= {c.residual for c in self.chains if isinstance(c, Convolution) and c.residual}
        last = [i for i in range(len(tensors)) if i not in read]
        also = [i for i in range(1, len(tensors)) if i in read and self.random.random() < 0.15]
        outputs = tuple(
            port(f"y{i}", i, LAYOUT[int(self.random.random() < 0.3)], tensors)
            for i in sorted({*last, *also})
        )
        return Program(form, "bw-cnn-a10", tensors, inputs, outputs, tuple(self.chains))


@st.composite
def windows(draw: st.DrawFn, height: int, width: int, pool: bool = False) -> Window:
    """Any window that fits a map; a pool's windows each hold a position of the image."""
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    spans = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    if pool:  # with gaps or wide pads a window could miss the image
        dilation, spans = (1, 1), list(kernel)
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    pads = [draw(st.integers(0, min(spans[i % 2] - 1, 2) if pool else 3)) for i in range(4)]
    for axis, size in enumerate((height, width)):
        if pool:
            pads[axis] = min(pads[axis], size - 1)
            pads[axis + 2] = min(pads[axis + 2], size - 1)
        missing = spans[axis] - (size + pads[axis] + pads[axis + 2])
        if missing > 0 and not pool:
            pads[axis] += missing
        if missing > 0 and pool:
            kernel = (1, kernel[1]) if axis == 0 else (kernel[0], 1)
            pads[axis] = pads[axis + 2] = 0
    return Window(kernel, stride, (pads[0], pads[1], pads[2], pads[3]), dilation)


def _row_chain(draw: st.DrawFn, b: Builder, source: int) -> None:
    x = b.tensors[source]
    kind = draw(st.sampled_from(("scale", "activate", "norm", "add")))
    same = [i for i, t in enumerate(b.tensors) if t == x]
    target = b.tensor(x.height, x.width, x.channels)
    if kind == "scale":
        scale, bias = b.halves(x.channels), b.halves(x.channels)
        b.chains.append(Scale(source, target, scale, bias, draw(ACTIVATION)))
    elif kind == "activate":
        b.chains.append(Activate(source, target, draw(st.sampled_from(("relu", "relu6")))))
    elif kind == "norm":
        b.chains.append(Norm(source, target, b.halves(x.channels) if draw(st.booleans()) else None))
    else:
        b.chains.append(Add(source, draw(st.sampled_from(same)), target, draw(ACTIVATION)))


def _pool(draw: st.DrawFn, b: Builder, source: int) -> None:
    x = b.tensors[source]
    window = draw(windows(x.height, x.width, pool=True))
    if draw(st.booleans()) and x.height * x.width < 50:
        window = Window((x.height, x.width))
    target = b.tensor(*window.output_size(x.height, x.width), x.channels)
    if draw(st.booleans()):
        b.chains.append(MaxPool(source, target, window))
    else:
        b.chains.append(AveragePool(source, target, window, draw(st.booleans())))


def _concat(draw: st.DrawFn, b: Builder, source: int) -> None:
    x = b.tensors[source]
    alike = [i for i, t in enumerate(b.tensors) if (t.height, t.width) == (x.height, x.width)]
    b.join([source, *draw(st.lists(st.sampled_from(alike), max_size=2))])


def _pad_or_slice(draw: st.DrawFn, b: Builder, source: int) -> None:
    t = b.tensors[source]
    sides = (t.height, t.width, t.channels)
    start = tuple(draw(st.integers(0, side - 1)) for side in sides)
    step = tuple(draw(st.integers(1, 3)) for _ in sides)
    extent = tuple(-(-(sides[i] - start[i]) // step[i]) for i in range(3))
    offset = tuple(draw(st.integers(0, 2)) for _ in sides)
    more = tuple(draw(st.integers(0, 2)) for _ in sides)
    into = [offset[i] + extent[i] + more[i] for i in range(3)]
    target = b.tensor(into[0], into[1], into[2])
    b.chains.append(Copy(source, target, extent, start, step, offset))  # type: ignore[arg-type]


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Random programs of one input and two to seven steps."""
    b = Builder(draw(st.integers(0, 2**32 - 1)))
    first = b.tensor(draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(CHANNELS))
    layout = draw(st.sampled_from(LAYOUT))
    for _ in range(draw(st.integers(2, 7))):
        source = draw(st.integers(0, len(b.tensors) - 1))
        x = b.tensors[source]
        kind = draw(st.sampled_from(("conv", "conv", "conv", "row", "pool", "concat", "box")))
        if kind == "conv":
            window = draw(windows(x.height, x.width)) if draw(st.booleans()) else Window()
            residual = draw(st.one_of(st.none(), st.integers(0, len(b.tensors) - 1)))
            rows = b.tensors[residual].channels if residual is not None else draw(CHANNELS)
            b.convolve(source, rows, window, residual, draw(ACTIVATION))
        elif kind == "row":
            _row_chain(draw, b, source)
        elif kind == "pool":
            _pool(draw, b, source)
        elif kind == "concat":
            _concat(draw, b, source)
        else:
            _pad_or_slice(draw, b, source)
    return b.program(draw(st.sampled_from(FORMATS)), (port("x", first, layout, tuple(b.tensors)),))
