"""A bar for each of many values, as PNG: enough to see which layer stands out."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

SIZE = (1000, 420)
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 70, 40  # room around the axes, in pixels
_INK, _FAINT, _GRID, _BAR = (30, 30, 30), (110, 110, 110), (222, 222, 222), (0, 114, 178)
_TICKS = 5


def bars(values: Sequence[float], *, title: str, subtitle: str, unit: str) -> bytes:
    """Returns a PNG with the values from left to right; zero is in the picture.

    Args:
        values: finite.
        title: above the plot.
        subtitle: below the title, smaller.
        unit: of the values.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", SIZE, "white")
    canvas = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(20), ImageFont.load_default(14)
    canvas.text((_LEFT, 14), title, _INK, large)
    canvas.text((_LEFT, 42), subtitle, _FAINT, small)
    ticks = _ticks(min(0.0, *values, 0.0), max(0.0, *values, 0.0))
    low, high = ticks[0], ticks[-1]

    def row(value: float) -> float:
        return SIZE[1] - _BOTTOM - (SIZE[1] - _TOP - _BOTTOM) * (value - low) / (high - low)

    for tick in ticks:
        canvas.line([(_LEFT, row(tick)), (SIZE[0] - _RIGHT, row(tick))], _GRID)
        canvas.text((_LEFT - 8, row(tick)), f"{tick:g}", _INK, small, anchor="rm")
    canvas.text((_LEFT - 8, _TOP - 12), unit, _INK, small, anchor="rb")
    step = (SIZE[0] - _LEFT - _RIGHT) / max(len(values), 1)
    for index, value in enumerate(values):
        left = _LEFT + step * (index + 0.1)
        ends = sorted((row(0.0), row(value)))
        canvas.rectangle((left, ends[0], left + max(step * 0.8, 1.0), ends[1]), _BAR)
        if index % max(1, math.ceil(len(values) / 20)) == 0:
            at = (left + step * 0.4, SIZE[1] - _BOTTOM + 8)
            canvas.text(at, str(index + 1), _INK, small, anchor="mt")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``."""
    rough = max(high - low, 1e-9) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
