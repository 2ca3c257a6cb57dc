"""Pre-activations that their convolution does a panel at a time: the bits are the reference's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edged import npu
from edged.npu import _native
from edged.npu.chains import Activation, Add, Scale, Window
from edged.npu.listing import Port, port
from tests.npu.graphs import Builder

ISAS = _native.available()
POINT = Window((1, 1), (1, 1), (0, 0, 0, 0))
OTHERS = {
    "larger kernel": Window((3, 3), (1, 1), (1, 1, 1, 1)),
    "strides": Window((1, 1), (2, 2), (0, 0, 0, 0)),
    "borders": Window((1, 1), (1, 1), (1, 0, 0, 1)),
}


class Unit(Builder):
    """A scale chain, then the convolution that reads it.

    Args:
        height, width: of the maps.
        channels: that are scaled.
        rows: of the convolution.
        window: of the convolution.
        activation: of the scale chain.
        factor: of every channel, instead of random ones.
    """

    def __init__(
        self,
        height: int,
        width: int,
        channels: int,
        rows: int,
        window: Window = POINT,
        activation: Activation = "relu",
        factor: float | None = None,
    ) -> None:
        super().__init__(channels + rows)
        self.entered = self.tensor(height, width, channels)
        self.between = self.tensor(height, width, channels)
        scale, bias = self.halves(channels), self.halves(channels)
        if factor is not None:
            scale[:] = factor
        self.chains.append(Scale(self.entered, self.between, scale, bias, activation))
        self.result = self.convolve(self.between, rows, window, None, "none")

    def _whole(self, form: str, inputs: tuple[Port, ...]) -> npu.Program:
        """Returns the program; only what nothing reads is an output."""
        made = self.program(form, inputs)
        read = {chain.source for chain in made.chains}
        outputs = tuple(each for each in made.outputs if each.tensor not in read)
        return replace(made, outputs=outputs)

    def held_to_the_reference(self, form: str = "ms-fp13") -> int:
        """Compares every kernel set's outputs; returns how many values saturated."""
        inputs = (port("x", self.entered, "NHWC", tuple(self.tensors)),)
        program = self._whole(form, inputs)
        x = np.random.default_rng(1).normal(size=inputs[0].shape).astype(np.float16)
        expected = npu.reference.run(program, x)
        counts = set()
        for isa in ISAS:
            for threads in (1, 2):
                device = npu.open(threads=threads, isa=isa)
                device.load(program)
                for _ in range(2):  # what the first run left in memory must not matter
                    found = device.run(x)
                    for name, array in expected.items():
                        same = found[name].view(np.uint32) == array.view(np.uint32)
                        assert same.all(), (isa, threads, name)
                counts.add(device.counters()["saturated"])
        assert len(counts) == 1, counts
        return counts.pop() // 2


@pytest.mark.parametrize("channels", [1, 15, 16, 64, 100, 128, 160, 400])
@pytest.mark.parametrize("rows", [1, 32, 128])
def test_a_bottleneck_after_a_pre_activation(channels: int, rows: int) -> None:
    Unit(7, 9, channels, rows).held_to_the_reference()


@pytest.mark.parametrize("rows", [136, 256])
@pytest.mark.parametrize("side", [3, 20])
def test_a_transition_of_several_row_blocks(rows: int, side: int) -> None:
    Unit(side, side, 136, rows).held_to_the_reference()


@pytest.mark.parametrize("activation", ["none", "relu", "relu6"])
@pytest.mark.parametrize("form", npu.FORMATS)
def test_every_activation_and_format(activation: Activation, form: str) -> None:
    Unit(5, 6, 144, 48, activation=activation).held_to_the_reference(form)


@pytest.mark.parametrize("name", OTHERS)
def test_a_convolution_that_reads_otherwise(name: str) -> None:
    Unit(9, 9, 128, 64, window=OTHERS[name]).held_to_the_reference()


def test_values_that_saturate_are_counted_once() -> None:
    unit = Unit(6, 6, 128, 32, factor=40000.0)
    saturated = unit.held_to_the_reference()
    factors = unit.chains[0]
    assert isinstance(factors, Scale)
    x = np.random.default_rng(1).normal(size=(1, 6, 6, 128)).astype(np.float16).astype(np.float32)
    scaled = x * factors.scale.astype(np.float32) + factors.bias.astype(np.float32)
    assert saturated >= int((scaled >= 65520).sum()) > 0


def test_a_map_that_others_read_too_stays() -> None:
    unit = Unit(6, 7, 144, 144)
    target = unit.tensor(6, 7, 144)
    unit.chains.append(Add(unit.between, unit.result, target, "relu"))
    unit.held_to_the_reference()


def test_two_convolutions_may_read_one() -> None:
    unit = Unit(6, 7, 144, 40)
    unit.convolve(unit.between, 24, POINT, None, "relu")
    unit.held_to_the_reference()


def test_what_is_scaled_outlives_what_lies_between() -> None:
    # What is computed between the scale chain and its convolution would take the memory of what is
    # scaled, if that were thought to be done with.
    unit = Unit(8, 8, 128, 64)
    scale, convolution = unit.chains
    assert isinstance(scale, Scale)
    first = unit.tensor(8, 8, 128)
    head = Scale(unit.entered, first, scale.scale, scale.bias, "none")
    others = [unit.convolve(unit.entered, 128, POINT, None, "relu") for _ in range(3)]
    made = unit.chains[2:]
    unit.chains[:] = [head, replace(scale, source=first), *made, convolution]
    assert len(others) == len(made)
    unit.held_to_the_reference()
