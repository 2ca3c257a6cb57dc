"""Sizes and pads of sliding windows, worked out as onnxruntime does (NPU.md 1.6).

ONNX's own shape inference differs in two places: with ``ceil_mode`` it keeps a last window that
would begin behind the image, and pools with ``auto_pad`` and a dilation get other pads. What the
NPU computes must match what onnxruntime would have computed, so its arithmetic is the rule here.

Pure integer arithmetic; knows neither graphs nor programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A window along one axis: where it begins, and how many positions it takes.

    Attributes:
        before, after: zero padding at both ends, in pixels.
        positions: length of the output.
    """

    before: int
    after: int
    positions: int


@dataclass(frozen=True)
class Pads:
    """How one axis is padded: explicitly, or by a rule of ``auto_pad``."""

    before: int = 0
    after: int = 0
    rule: str = "NOTSET"


def axis_pads(rule: str, explicit: Sequence[int], axis: int) -> Pads:
    """Returns the pads of one axis.

    Args:
        rule: the attribute ``auto_pad``.
        explicit: the attribute ``pads``: all begins, then all ends; may be empty.
        axis: 0 for rows, 1 for columns.
    """
    if rule != "NOTSET" or not explicit:
        return Pads(rule=rule)
    axes = len(explicit) // 2
    return Pads(explicit[axis], explicit[axes + axis])


def conv_axis(size: int, kernel: int, stride: int, dilation: int, pads: Pads) -> Axis:
    """Returns the axis of a convolution.

    SAME pads count the dilated kernel and are negative where the stride leaps over it.
    """
    span = dilation * (kernel - 1) + 1
    before, after = pads.before, pads.after
    if pads.rule.startswith("SAME"):
        before, after = _share(_same(size, span, stride), pads.rule)
    return Axis(before, after, (size + before + after - span) // stride + 1)


def pool_axis(
    size: int, kernel: int, stride: int, dilation: int, pads: Pads, *, ceil: bool
) -> Axis:
    """Returns the axis of a pool.

    SAME pads ignore the dilation and are negative where the stride leaps over the kernel. A window
    wider than the padded image still has one position. The last window that ``ceil`` adds is
    dropped again where it would begin behind the image.
    """
    before, after = pads.before, pads.after
    if pads.rule.startswith("SAME"):
        before, after = _share(_same(size, kernel, stride), pads.rule)
    room = size + before + after - dilation * (kernel - 1) - 1
    positions = (abs(room) // stride) * (1 if room >= 0 else -1) + 1
    if ceil:
        positions = -(-room // stride) + 1
        if (positions - 1) * stride >= size + before:
            positions -= 1
    return Axis(before, after, positions)


def within(axis: Axis, *, dilated: bool) -> Axis | None:
    """Returns the axis without negative pads, or None where they would move a window.

    If they only cut the end off, windows stay where they are; else runtimes, and even operators of
    one runtime, disagree on where windows begin.

    Args:
        axis: with pads as SAME works them out.
        dilated: whether the pads did not count a dilation that there is.
    """
    if axis.before < 0 or (axis.after < 0 and dilated):
        return None
    return Axis(axis.before, max(axis.after, 0), axis.positions)


def _same(size: int, span: int, stride: int) -> int:
    """Pixels that SAME adds, so that every ``stride``-th position has a window."""
    return (-(-size // stride) - 1) * stride + span - size


def _share(needed: int, rule: str) -> tuple[int, int]:
    """Splits the pixels that SAME adds; halves are rounded towards zero, as in C."""
    odd = needed if rule == "SAME_UPPER" else needed + 1
    before = odd // 2 if odd >= 0 else -(-odd // 2)
    return before, needed - before
