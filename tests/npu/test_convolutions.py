"""Convolutions of the sizes that kernels treat apart equal the reference on the bits.

Many row blocks and panels, windows around every border, sums over more tiles than are taken at
once, threads that take each other's work: random programs are too small to have them. Fewer than
16 channels go through the expander.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edged import npu
from edged.npu import _native
from edged.npu.chains import Activation, Convolution, Tensor, Window
from edged.npu.listing import port

ISAS = _native.available()
# Height, width, input channels, rows, kernel, stride, pads, dilation.
SHAPES = [
    pytest.param(45, 37, 3, 64, (7, 7), (2, 2), (3, 3, 3, 3), (1, 1), id="stem"),
    pytest.param(20, 23, 12, 70, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), id="window of 108"),
    pytest.param(19, 17, 15, 130, (5, 5), (1, 2), (0, 4, 3, 1), (1, 1), id="window of 375"),
    pytest.param(9, 9, 14, 20, (3, 3), (3, 3), (2, 7, 2, 0), (2, 1), id="dilated rows"),
    pytest.param(12, 11, 5, 33, (3, 2), (1, 1), (1, 2, 0, 2), (1, 3), id="dilated columns"),
    pytest.param(5, 70, 1, 16, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), id="one channel"),
    pytest.param(14, 14, 256, 256, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), id="by rows"),
    pytest.param(7, 7, 320, 512, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), id="few pixels"),
    pytest.param(31, 30, 64, 300, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), id="by pixels"),
    pytest.param(29, 27, 20, 100, (3, 3), (2, 1), (1, 0, 2, 3), (1, 1), id="strided"),
    pytest.param(13, 16, 70, 33, (3, 3), (1, 1), (6, 6, 6, 6), (6, 6), id="dilated"),
    pytest.param(11, 12, 130, 130, (9, 9), (1, 1), (4, 4, 4, 4), (1, 1), id="many tiles"),
    pytest.param(7, 7, 136, 200, (7, 7), (1, 1), (0, 0, 0, 0), (1, 1), id="one pixel"),
]


def layer(shape: tuple[int, ...], window: Window, how: tuple[bool, Activation]) -> npu.Program:
    """Returns a program of a convolution and, on what it gives, a pointwise one.

    Args:
        shape: height, width, channels, rows.
        window: of the convolution.
        how: whether the second has the first as residual, activation of both.
    """
    height, width, channels, rows = shape
    residual, activation = how
    random = np.random.default_rng(rows)
    size = window.output_size(height, width)
    tensors = (Tensor(height, width, channels), Tensor(*size, rows), Tensor(*size, rows))
    count = channels * window.kernel[0] * window.kernel[1]
    weights = random.normal(scale=count**-0.5, size=(rows, *window.kernel, channels))
    weights *= random.choice([0.01, 1, 8], size=weights.shape)
    bias = random.normal(size=rows).astype(np.float16)
    first = Convolution(0, 1, window, weights.astype(np.float16), bias, None, activation)
    square = random.normal(scale=rows**-0.5, size=(rows, 1, 1, rows)).astype(np.float16)
    second = Convolution(1, 2, Window(), square, bias, 1 if residual else None, activation)
    inputs = (port("x", 0, "NCHW", tensors),)
    outputs = (port("y", 2, "NCHW", tensors), port("z", 1, "NHWC", tensors))
    return npu.Program("ms-fp13", "bw-cnn-a10", tensors, inputs, outputs, (first, second))


def picture(program: npu.Program) -> npt.NDArray[np.float32]:
    """Returns an input whose neighbourhoods differ in size: many exponents occur."""
    random = np.random.default_rng(1)
    shape = program.inputs[0].shape
    x = random.normal(size=shape) * np.exp(random.normal(scale=1.5, size=shape))
    x[..., : shape[-1] // 2] *= np.linspace(1e-6, 20, shape[-2])[:, None]
    return x.astype(np.float32)


@pytest.mark.parametrize("how", [(False, "relu"), (True, "relu"), (True, "none"), (False, "relu6")])
@pytest.mark.parametrize(
    ("height", "width", "channels", "rows", "kernel", "stride", "pads", "dilation"),
    SHAPES,
)
def test_a_convolution_gives_the_reference_s_bits(
    height: int,
    width: int,
    channels: int,
    rows: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    dilation: tuple[int, int],
    how: tuple[bool, Activation],
) -> None:
    window = Window(kernel, stride, pads, dilation)
    program = layer((height, width, channels, rows), window, how)
    x = picture(program)
    expected = npu.reference.run(program, x)
    for isa in ISAS:
        device = npu.open(threads=len(isa) % 3 + 1, isa=isa)
        device.load(program)
        found = device.run(x)
        assert all(found[name].tobytes() == expected[name].tobytes() for name in expected), isa


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    window = Window((3, 3), (1, 1), (1, 1, 1, 1))
    program = layer((14, 14, 256, 256), window, (True, "relu"))
    x = picture(program)
    expected = npu.reference.run(program, x)
    device = npu.open(threads=threads)
    device.load(program)
    for _ in range(20):
        found = device.run(x)
        assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
