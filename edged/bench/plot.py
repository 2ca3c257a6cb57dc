"""Pictures of latencies: a PNG for people who look closely, text for those at a terminal.

The PNG has latency against percentile, with as much room for each further nine: the tail is what
an operator asks about, and a histogram hides it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edged.bench.rounds import percentile
from edged.errors import StoreError

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

SIZE = (1000, 620)
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 150, 70, 70  # room around the axes, in pixels
_INK, _FAINT, _GRID = (30, 30, 30), (110, 110, 110), (222, 222, 222)
# Colours that people who see colours differently tell apart (Okabe and Ito, 2008).
_COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167))
_PARTS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)
_STEPS = 240  # points of a line
_BARS = "▏▎▍▌▋▊▉█"


def draw(path: Path, series: Mapping[str, Sequence[float]], title: str, subtitle: str = "") -> None:
    """Writes a PNG with a line for each series.

    Args:
        path: of the file.
        series: milliseconds, at least one each, by what they are.
        title: above the plot.
        subtitle: below the title, smaller.

    Raises:
        StoreError: the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", SIZE, "white")
    canvas = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(20), ImageFont.load_default(14)
    canvas.text((_LEFT, 14), title, _INK, large)
    canvas.text((_LEFT, 42), subtitle, _FAINT, small)
    axes = _Axes(series)
    axes.draw(canvas, small)
    labels: list[tuple[float, float]] = []
    for (name, values), colour in zip(series.items(), _COLOURS, strict=False):
        points = [(axes.x(part), axes.y(percentile(values, part))) for part in axes.parts(values)]
        canvas.line(points, colour, width=3, joint="curve")
        labels.append(_free(*points[-1], labels))
        canvas.text(labels[-1], name, colour, small, anchor="lm")
    try:
        image.save(path, "PNG")
    except OSError as exc:
        raise StoreError(f"cannot write plot {path}: {exc.strerror or exc}") from exc


class _Axes:
    """Percentiles by nines to the right, milliseconds upwards in powers of ten."""

    def __init__(self, series: Mapping[str, Sequence[float]]) -> None:
        least = min(max(min(values), 1e-3) for values in series.values())
        most = max(max(values) for values in series.values())
        self._low, self._high = math.log10(least * 0.8), math.log10(max(most, least) * 1.25)
        longest = max(len(values) for values in series.values())
        # A line ends where a single request stands for what is beyond.
        self._nines = max(1.0, math.log10(longest))

    def parts(self, values: Sequence[float]) -> list[float]:
        """The percentiles that so many values have."""
        last = max(math.log10(len(values)), 0.01)
        return [100 - 100 * 10 ** (-last * step / _STEPS) for step in range(_STEPS + 1)]

    def x(self, part: float) -> float:
        """Pixels of a percentile."""
        nines = -math.log10(max(1 - part / 100, 1e-9))
        return _LEFT + (SIZE[0] - _LEFT - _RIGHT) * nines / self._nines

    def y(self, value: float) -> float:
        """Pixels of a latency."""
        share = (math.log10(max(value, 1e-3)) - self._low) / (self._high - self._low)
        return SIZE[1] - _BOTTOM - (SIZE[1] - _TOP - _BOTTOM) * share

    def draw(self, canvas: ImageDraw.ImageDraw, font: _Font) -> None:
        """Draws axes, ticks and labels."""
        left, right = _LEFT, SIZE[0] - _RIGHT
        top, bottom = _TOP, SIZE[1] - _BOTTOM
        for value in self._ticks():
            row = self.y(value)
            canvas.line([(left, row), (right, row)], _GRID)
            canvas.text((left - 8, row), f"{value:g}", _INK, font, anchor="rm")
        for part in (p for p in _PARTS if self.x(p) <= right + 1):
            column = self.x(part)
            canvas.line([(column, top), (column, bottom)], _GRID)
            canvas.text((column, bottom + 8), f"{part:g}", _INK, font, anchor="mt")
        canvas.line([(left, top), (left, bottom), (right, bottom)], _INK, width=2)
        canvas.text(((left + right) / 2, bottom + 34), "percentile", _INK, font, anchor="mt")
        canvas.text((left - 8, top - 8), "ms", _INK, font, anchor="rb")

    def _ticks(self) -> list[float]:
        """Round numbers: 1, 2, 5 of each power of ten, with those between if that is too few."""
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        for digits in ((1, 2, 5), tuple(range(1, 10)), tuple(n / 10 for n in range(10, 100))):
            ticks = [float(f"{d * 10.0**n:.3g}") for n in decades for d in digits]
            shown = [t for t in ticks if self._low <= math.log10(t) <= self._high]
            if len(shown) >= 4:
                break
        apart: list[float] = []
        for tick in shown:
            if not apart or self.y(apart[-1]) - self.y(tick) >= 18:
                apart.append(tick)
        return apart


if TYPE_CHECKING:
    _Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _free(x: float, y: float, taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Returns where the label of a line that ends there does not hide another."""
    x += 8
    while any(abs(x - other) < 100 and abs(y - row) < 16 for other, row in taken):
        y -= 4
    return x, y


def text(values: Sequence[float], rows: int = 16, width: int = 48) -> str:
    """Returns a histogram for a terminal: milliseconds in steps of equal ratio, and their share.

    Args:
        values: milliseconds, at least one.
        rows: at most so many steps.
        width: of the longest bar, in characters.
    """
    least = max(min(values), 1e-3)
    step = max(math.log(max(*values, least) / least) / rows, math.log(1.02))
    found = Counter(
        min(int(math.log(max(value, least) / least) / step), rows - 1) for value in values
    )
    lines, below = [f"{'from':>12} {'so far':>8} {'count':>7}"], 0
    for number in range(max(found) + 1):
        below += found[number]
        start, share = least * math.exp(step * number), 100 * below / len(values)
        bar = _bar(found[number] / max(found.values()) * width) if found[number] else ""
        lines.append(f"{start:9.3f} ms {share:7.2f}% {found[number]:7}  {bar}".rstrip())
    return "\n".join(lines)


def _bar(length: float) -> str:
    whole = int(length)
    eighths = int((length - whole) * 8)
    return "█" * whole + (_BARS[eighths - 1] if eighths else "") or _BARS[0]
