"""A picture of a comparison: a bar for each engine, and a dot for each round's median."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edged.bench.engines import EDGED
from edged.bench.rounds import median
from edged.errors import StoreError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw as _Draw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    _Font = FreeTypeFont | ImageFont

WIDTH = 1000
_LEFT, _RIGHT, _TOP = 250, 130, 20  # room beside the bars and above, in pixels
_TITLE, _ROW, _BAR, _GAP = 34, 28, 16, 24
_INK, _FAINT, _OURS, _THEIRS = (30, 30, 30), (110, 110, 110), (0, 114, 178), (170, 170, 170)

Series = Mapping[str, Sequence[Sequence[float]]]


def draw(path: Path, networks: Mapping[str, Series]) -> None:
    """Writes a PNG.

    Args:
        path: of the file.
        networks: milliseconds of every run by engine and round, by network; at least one each.

    Raises:
        StoreError: the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    height = _TOP + sum(_TITLE + _GAP + _ROW * len(series) for series in networks.values())
    image = Image.new("RGB", (WIDTH, height), "white")
    canvas, top = ImageDraw.Draw(image), _TOP
    title, font = ImageFont.load_default(18), ImageFont.load_default(14)
    for name, series in networks.items():
        canvas.text((20, top), f"{name}, ms", _INK, title)
        top += _TITLE
        most = max(max(median(turn) for turn in turns) for turns in series.values())
        for label, turns in series.items():
            _bar(canvas, font, top, label, turns, most)
            top += _ROW
        top += _GAP
    try:
        image.save(path, "PNG")
    except OSError as exc:
        raise StoreError(f"cannot write plot {path}: {exc.strerror or exc}") from exc


def _bar(
    canvas: _Draw, font: _Font, top: int, label: str, turns: Sequence[Sequence[float]], most: float
) -> None:
    def column(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * value / most

    middle = top + _BAR / 2
    p50 = median([each for turn in turns for each in turn])
    colour = _OURS if label.startswith(EDGED) else _THEIRS
    canvas.text((_LEFT - 10, middle), label, _INK, font, anchor="rm")
    canvas.rectangle((_LEFT, top, column(p50), top + _BAR), colour)
    for turn in turns:
        x = column(median(turn))
        canvas.ellipse((x - 2, middle - 2, x + 2, middle + 2), _INK)
    right = max(column(p50), *(column(median(turn)) for turn in turns))
    canvas.text((right + 10, middle), f"{p50:.2f}", _FAINT, font, anchor="lm")
