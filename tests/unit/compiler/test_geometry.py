"""Sizes and positions of windows are onnxruntime's, also where ONNX's own inference differs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edged.compiler.geometry import Axis, axis_pads, conv_axis, pool_axis, within
from tests.unit.compiler.graphs import Array, model, node, run_onnx

RULES = ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]


def along_one_axis(op: str, size: int, kernel: int, **attributes: object) -> Array:
    """What onnxruntime answers for the picture 1, 2, .. size."""
    inputs = "x w" if op == "Conv" else "x"
    made = model(
        [node(op, inputs, "y", kernel_shape=[kernel, 1], **attributes)],
        inputs={"x": [1, 1, size, 1]},
        constants={"w": np.ones((1, 1, kernel, 1), np.float32)} if op == "Conv" else {},
        opset=21,
    )
    picture = np.arange(1, size + 1, dtype=np.float32).reshape(1, 1, size, 1)
    return run_onnx(made, {"x": picture})["y"].ravel()


def windows(axis: Axis, size: int, kernel: int, stride: int, dilation: int) -> list[list[float]]:
    """The values inside each window."""
    starts = [i * stride - axis.before for i in range(axis.positions)]
    reached = [[start + j * dilation for j in range(kernel)] for start in starts]
    return [[at + 1.0 for at in each if 0 <= at < size] for each in reached]


axes = {
    "size": st.integers(1, 9),
    "kernel": st.integers(1, 4),
    "stride": st.integers(1, 4),
    "dilation": st.integers(1, 2),
    "rule": st.sampled_from(RULES),
    "explicit": st.tuples(st.integers(0, 3), st.integers(0, 3)),
}


@given(**axes)
def test_convolutions_have_onnxruntimes_windows(
    size: int, kernel: int, stride: int, dilation: int, rule: str, explicit: tuple[int, int]
) -> None:
    # onnxruntime refuses SAME with a dilation.
    assume(dilation == 1 or not rule.startswith("SAME"))
    pads = [explicit[0], 0, explicit[1], 0] if rule == "NOTSET" else []
    axis = conv_axis(size, kernel, stride, dilation, axis_pads(rule, pads, 0))
    assume(axis.positions > 0 and min(axis.before, axis.after) >= 0)

    options = {"pads": pads} if pads else {"auto_pad": rule}
    answer = along_one_axis(
        "Conv", size, kernel, strides=[stride, 1], dilations=[dilation, 1], **options
    )

    assert answer.tolist() == [sum(each) for each in windows(axis, size, kernel, stride, dilation)]


@given(**axes, ceil=st.booleans(), op=st.sampled_from(["MaxPool", "AveragePool"]))
def test_pools_have_onnxruntimes_windows(
    size: int,
    kernel: int,
    stride: int,
    dilation: int,
    rule: str,
    explicit: tuple[int, int],
    ceil: bool,
    op: str,
) -> None:
    pads = [explicit[0], 0, explicit[1], 0] if rule == "NOTSET" else []
    axis = pool_axis(size, kernel, stride, dilation, axis_pads(rule, pads, 0), ceil=ceil)
    options = {"pads": pads} if pads else {"auto_pad": rule}
    # onnxruntime refuses the rest, or its pools disagree about negative pads.
    assume(axis.positions > 0 and max(explicit) < kernel and min(axis.before, axis.after) >= 0)
    answer = along_one_axis(
        op,
        size,
        kernel,
        strides=[stride, 1],
        dilations=[dilation, 1],
        ceil_mode=int(ceil),
        **options,
    )

    assert len(answer) == axis.positions
    inside = windows(axis, size, kernel, stride, dilation)
    assume(all(inside))
    expected = [max(each) if op == "MaxPool" else sum(each) / len(each) for each in inside]
    assert answer.tolist() == pytest.approx(expected)


def test_a_last_window_behind_the_image_is_dropped_again() -> None:
    assert pool_axis(5, 1, 3, 1, axis_pads("NOTSET", [], 0), ceil=True).positions == 2


def test_negative_pads_count_only_where_they_move_windows() -> None:
    cut_at_the_end, cut_at_both = Axis(0, -1, 4), Axis(-1, -2, 2)

    assert within(cut_at_the_end, dilated=False) == Axis(0, 0, 4)
    assert within(cut_at_the_end, dilated=True) is None
    assert within(cut_at_both, dilated=False) is None
