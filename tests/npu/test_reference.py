"""The definition against the specification's own words, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edged import npu
from edged.npu.chains import AveragePool, Chain, Convolution, Norm, Tensor, Window
from edged.npu.formats import format_named
from edged.npu.listing import port
from edged.npu.reference import quantise, run, to_half


def block(*values: float) -> npt.NDArray[Any]:
    """Returns a native vector that begins with the values."""
    x = np.zeros(128, np.float16)
    x[: len(values)] = values
    return x


def test_the_largest_element_sets_the_exponent_and_ties_go_to_even() -> None:
    # m = 2: with E = 15 the step is 2^(15 - 15 - 1) = 0.5
    q, e = quantise(block(1.0, 0.25, 0.75, -1.25, 1.5), format_named("ms-fp8"))
    assert e == 15
    assert q[:5].tolist() == [2, 0, 2, -2, 3]


def test_an_element_that_would_round_up_to_a_power_of_two_saturates() -> None:
    q, e = quantise(block(1.999), format_named("ms-fp13"))
    assert q[0] == 127
    assert e == 15


def test_subnormals_share_the_smallest_exponent() -> None:
    q, e = quantise(block(2**-24, 1023 * 2**-24), format_named("ms-fp13"))
    assert e == 1
    assert q[:2].tolist() == [0, 64]
    assert quantise(block(0.0, -0.0), format_named("ms-fp13"))[1] == 1


def test_the_end_of_a_chain_saturates_counts_and_has_no_negative_zero() -> None:
    halves, saturated = to_half(np.array([65519.9, 65520, -1e9, -1e-9, 2049], np.float32))
    assert halves.tolist() == [65504, 65504, -65504, 0, 2048]
    assert saturated == 2
    assert not np.signbit(halves[3])


def _one(chain: Chain, source: Tensor, target: Tensor, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    tensors = (source, target)
    inputs, outputs = (port("x", 0, "NCHW", tensors),), (port("y", 1, "NCHW", tensors),)
    program = npu.Program("ms-fp13", "bw-cnn-a10", tensors, inputs, outputs, (chain,))
    return run(program, x)["y"]


def test_a_convolution_of_small_integers_is_exact() -> None:
    random = np.random.default_rng(0)
    weights = random.integers(-9, 10, size=(5, 3, 3, 130)).astype(np.float16)
    bias = np.arange(5, dtype=np.float16)
    x = random.integers(0, 20, size=(1, 130, 4, 5)).astype(np.float32)
    window = Window((3, 3), (1, 1), (1, 1, 1, 1))
    y = _one(Convolution(0, 1, window, weights, bias), Tensor(4, 5, 130), Tensor(4, 5, 5), x)
    padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1)))
    for r, i, j in ((0, 0, 0), (4, 3, 4), (2, 1, 2)):
        patch = padded[:, i : i + 3, j : j + 3].transpose(1, 2, 0)
        assert y[0, r, i, j] == np.float16((patch * weights[r]).sum() + r)


@pytest.mark.parametrize(("include_pad", "corner"), [(True, 4 / 9), (False, 1.0)])
def test_an_average_counts_the_pad_only_when_told(include_pad: bool, corner: float) -> None:
    chain = AveragePool(0, 1, Window((3, 3), (1, 1), (1, 1, 1, 1)), include_pad)
    y = _one(chain, Tensor(4, 4, 1), Tensor(4, 4, 1), np.ones((1, 1, 4, 4), np.float32))
    assert y[0, 0, 0, 0] == np.float16(corner)
    assert y[0, 0, 1, 1] == np.float16(np.float32(9) * (np.float32(1) / np.float32(9)))


def test_a_norm_of_zeros_is_zero_and_of_one_channel_its_sign() -> None:
    x = np.zeros((1, 20, 1, 2), np.float32)
    x[0, 3, 0, 1] = -7
    y = _one(Norm(0, 1), Tensor(1, 2, 20), Tensor(1, 2, 20), x)
    assert not y[0, :, 0, 0].any()
    assert y[0, 3, 0, 1] == -1
