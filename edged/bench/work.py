"""Time against work: a network of many sizes, by the width of its layers and the size of its input.

The sizes of ``resnet50``: its channels times a factor, its picture of so many pixels a side. What
is compiled is a real network of that size, with the original's weights, cut or repeated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edged.bench import baselines
from edged.bench.subject import Network
from edged.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from onnx import ModelProto
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    _Font = FreeTypeFont | ImageFont

WIDTHS = (0.25, 0.5, 1.0, 1.5)
SIZES = (96, 160, 224, 320, 448)
FEATURES = "resnet_v1_50/block4/unit_3/bottleneck_v1/Relu"
"""The value that the sized networks end with: all convolutions, nothing else."""

SIZE = (1000, 620)
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 170, 70, 70
_INK, _FAINT, _GRID = (30, 30, 30), (110, 110, 110), (222, 222, 222)
_COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233))


@dataclass(frozen=True)
class Point:
    """One size: what it is, and how long it took."""

    width: float
    size: int
    gmac: float
    milliseconds: float


def networks(
    graph: ModelProto, widths: Sequence[float], sizes: Sequence[int]
) -> Iterator[tuple[float, int, Network]]:
    """Yields resnet50 in each width and size.

    Args:
        graph: the zoo's resnet50.
        widths: factors of all numbers of channels but the picture's.
        sizes: height and width of the picture, in pixels.

    Raises:
        ConfigError: a width or a size is too small or too large to make a network of.
    """
    for width in widths:
        if not 0.05 <= width <= 4:
            raise ConfigError(f"cannot make a network of width {width}: expected 0.05 to 4")
        thin = widened(graph, width)
        for size in sizes:
            if not 32 <= size <= 1024:
                raise ConfigError(f"cannot make a network for {size} pixels: expected 32 to 1024")
            shape = {graph.graph.input[0].name: (1, 3, size, size)}
            part = baselines.cut(thin, [FEATURES], shape)
            yield width, size, Network(f"resnet50 x{width:g} {size}", part)


def widened(graph: ModelProto, factor: float) -> ModelProto:
    """Returns the graph with that many times the channels; weights are cut or repeated."""
    from onnx import numpy_helper

    result = type(graph)()
    result.CopyFrom(graph)
    del result.graph.initializer[:]
    for tensor in graph.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim == 4 or (array.ndim == 1 and array.dtype == np.float32):
            array = _sized(array, factor)
        result.graph.initializer.append(numpy_helper.from_array(array, tensor.name))
    return result


def _sized(array: np.ndarray[Any, Any], factor: float) -> np.ndarray[Any, Any]:
    """Returns it with other numbers of channels on its first axes; a picture keeps its three."""
    for axis, length in enumerate(array.shape[:2]):
        if length > 3 or axis == 0:
            picked = np.arange(max(1, round(length * factor))) % length
            array = np.take(array, picked, axis)
    return np.ascontiguousarray(array)


def draw(path: Path, points: Sequence[Point], peak: float | None, title: str) -> None:
    """Writes a PNG: milliseconds over GMAC, both in powers of ten, a line for each width.

    Args:
        path: of the file.
        points: at least one.
        peak: multiplications and additions a second of the machine, drawn as a line.
        title: above the plot.

    Raises:
        StoreError: the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", SIZE, "white")
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    canvas.text((_LEFT, 14), title, _INK, ImageFont.load_default(20))
    canvas.text((_LEFT, 42), "ms against GMAC; a dot for each size of input", _FAINT, font)
    axes = _Axes(points, peak)
    axes.draw(canvas, font)
    if peak is not None:
        ends = [(g, g * 1e12 / peak) for g in axes.span]
        canvas.line([axes.at(*end) for end in ends], _FAINT, width=2)
        x, y = axes.at(*ends[1])
        canvas.text((x + 8, y), "the peak", _FAINT, font, anchor="lm")
    for number, width in enumerate(sorted({each.width for each in points})):
        line = sorted((p.gmac, p.milliseconds) for p in points if p.width == width)
        colour = _COLOURS[number % len(_COLOURS)]
        places = [axes.at(*each) for each in line]
        canvas.line(places, colour, width=2)
        for x, y in places:
            canvas.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
        canvas.text((SIZE[0] - _RIGHT + 60, 90 + 20 * number), f"width x{width:g}", colour, font)
    try:
        image.save(path, "PNG")
    except OSError as exc:
        raise StoreError(f"cannot write plot {path}: {exc.strerror or exc}") from exc


class _Axes:
    """GMAC to the right and milliseconds upwards, in powers of ten."""

    def __init__(self, points: Sequence[Point], peak: float | None) -> None:
        work = [each.gmac for each in points]
        self.span = (min(work) / 1.3, max(work) * 1.3)
        times = [each.milliseconds for each in points]
        if peak is not None:
            times += [each * 1e12 / peak for each in self.span]
        self._bounds = (self.span, (min(times) / 1.3, max(times) * 1.3))

    def at(self, gmac: float, milliseconds: float) -> tuple[float, float]:
        """Pixels of a point."""
        shares = [
            math.log(value / low) / math.log(high / low)
            for value, (low, high) in zip((gmac, milliseconds), self._bounds, strict=True)
        ]
        x = _LEFT + (SIZE[0] - _LEFT - _RIGHT) * shares[0]
        return x, SIZE[1] - _BOTTOM - (SIZE[1] - _TOP - _BOTTOM) * shares[1]

    def draw(self, canvas: ImageDraw, font: _Font) -> None:
        """Draws ticks and labels."""
        (left, right), (low, high) = self._bounds
        for value in _ticks(left, right):
            x, _ = self.at(value, low)
            canvas.line([(x, _TOP), (x, SIZE[1] - _BOTTOM)], _GRID)
            canvas.text((x, SIZE[1] - _BOTTOM + 8), f"{value:g}", _INK, font, anchor="mt")
        for value in _ticks(low, high):
            _, y = self.at(left, value)
            canvas.line([(_LEFT, y), (SIZE[0] - _RIGHT, y)], _GRID)
            canvas.text((_LEFT - 8, y), f"{value:g}", _INK, font, anchor="rm")
        canvas.text((SIZE[0] / 2, SIZE[1] - _BOTTOM + 34), "GMAC", _INK, font, anchor="mt")


def _ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [float(f"{digit * 10.0**decade:.3g}") for decade in decades for digit in (1, 2, 5)]
    return [value for value in values if low <= value <= high]
