"""Steps that are run together, a panel at a time: the bits are the reference's.

What the steps hand to each other then exists a panel at a time, in memory of each thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from edged import npu
from edged.npu import _native
from edged.npu.chains import Activate, Activation, Add, Scale, Window
from edged.npu.listing import port
from tests.npu.graphs import Builder

ISAS = _native.available()
POINT = Window((1, 1), (1, 1), (0, 0, 0, 0))
AROUND = Window((3, 3), (1, 1), (1, 1, 1, 1))
OTHERS = {
    "larger kernel": AROUND,
    "strides": Window((1, 1), (2, 2), (0, 0, 0, 0)),
    "borders": Window((1, 1), (1, 1), (1, 0, 0, 1)),
}


class Held(Builder):
    """A program whose result is held to the reference; the first map is the input."""

    def __init__(self, height: int, width: int, channels: int, seed: int = 0) -> None:
        super().__init__(seed)
        self.entered = self.tensor(height, width, channels)

    def scale(
        self, source: int, activation: Activation = "relu", factor: float | None = None
    ) -> int:
        """Appends a scale chain, with random factors or one for all channels."""
        map_, channels = self.tensors[source], self.tensors[source].channels
        target = self.tensor(map_.height, map_.width, channels)
        factors, bias = self.halves(channels), self.halves(channels)
        if factor is not None:
            factors[:] = factor
        self.chains.append(Scale(source, target, factors, bias, activation))
        return target

    def held_to_the_reference(self, form: str = "ms-fp13", also: Sequence[int] = ()) -> int:
        """Compares every kernel set's outputs; returns how many values saturated in a run.

        Args:
            form: the number format.
            also: maps that are outputs besides those which nothing reads.
        """
        tensors = tuple(self.tensors)
        inputs = (port("x", self.entered, "NHWC", tensors),)
        made = self.program(form, inputs)
        read = {chain.source for chain in made.chains}
        outputs = tuple(each for each in made.outputs if each.tensor not in read)
        outputs += tuple(port(f"also{each}", each, "NHWC", tensors) for each in also)
        program = replace(made, outputs=outputs)
        x = np.random.default_rng(1).normal(size=inputs[0].shape).astype(np.float16)
        expected = npu.reference.run(program, x)
        counts = set()
        for isa in ISAS:
            for threads in (1, 2, 3):
                device = npu.open(threads=threads, isa=isa)
                device.load(program)
                for _ in range(2):  # what the first run left in memory must not matter
                    found = device.run(x)
                    for name, array in expected.items():
                        same = found[name].view(np.uint32) == array.view(np.uint32)
                        assert same.all(), (isa, threads, name)
                counts.add(device.counters()["saturated"])
                took = device.times_us()
                assert len(took) == len(program.chains) + 2
                assert all(0 <= each < 60e6 for each in took)
        assert len(counts) == 1, counts
        return counts.pop() // 2


class Unit(Held):
    """A scale chain, then the convolution that reads it."""

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
        super().__init__(height, width, channels, seed=channels + rows)
        self.between = self.scale(self.entered, activation, factor)
        self.result = self.convolve(self.between, rows, window, None, "none")


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


def bottleneck(made: Held, source: int, narrow: int, wide: int, residual: int | None) -> int:
    """Appends three convolutions as in residual networks; returns the map of the last."""
    reduced = made.convolve(source, narrow, POINT, None, "relu")
    inner = made.convolve(reduced, narrow, AROUND, None, "relu")
    return made.convolve(inner, wide, POINT, residual, "relu")


@pytest.mark.parametrize("side", [1, 5, 8, 17, 30])
@pytest.mark.parametrize("narrow", [16, 40, 64])
def test_residual_units(side: int, narrow: int) -> None:
    made = Held(side, side + 1, 24, seed=side)
    wide = 3 * narrow
    shortcut = made.convolve(made.entered, wide, POINT, None, "none")
    one = bottleneck(made, made.entered, narrow, wide, shortcut)
    two = bottleneck(made, one, narrow, wide, one)
    bottleneck(made, two, narrow, wide, two)
    made.held_to_the_reference()


@pytest.mark.parametrize("form", npu.FORMATS)
def test_residual_units_in_every_format(form: str) -> None:
    made = Held(13, 9, 200, seed=7)
    one = bottleneck(made, made.entered, 136, 200, made.entered)
    bottleneck(made, one, 136, 200, one)
    made.held_to_the_reference(form)


def test_what_passes_may_be_an_output_too() -> None:
    made = Held(12, 11, 32, seed=3)
    reduced = made.convolve(made.entered, 32, AROUND, None, "relu")
    wide = made.convolve(reduced, 144, POINT, None, "none")
    made.convolve(wide, 48, POINT, None, "relu")
    made.held_to_the_reference(also=(reduced, wide))


@pytest.mark.parametrize("side", [3, 9, 23])
@pytest.mark.parametrize("growth", [16, 20, 32])
def test_dense_blocks(side: int, growth: int) -> None:
    made = Held(side, side, 48, seed=side + growth)
    map_ = made.convolve(made.entered, 48, AROUND, None, "none")
    for _ in range(3):
        bottle = made.convolve(made.scale(map_), 64, POINT, None, "relu")
        map_ = made.join([map_, made.convolve(bottle, growth, AROUND, None, "none")])
    made.convolve(made.scale(map_), 40, POINT, None, "none")
    made.held_to_the_reference()


def test_rows_without_a_matrix_go_along() -> None:
    made = Held(10, 9, 72, seed=5)
    one = made.convolve(made.entered, 72, AROUND, None, "none")
    both = made.tensor(10, 9, 72)
    made.chains.append(Add(one, made.entered, both, "relu"))
    again = made.tensor(10, 9, 72)
    made.chains.append(Activate(both, again, "relu6"))
    made.convolve(again, 33, POINT, None, "relu")
    made.held_to_the_reference()


def test_weights_that_no_cache_holds_are_not_passed_by_every_panel() -> None:
    # Bits are the same where a band ends early: three times 256 x 1,024 weights.
    made = Held(40, 40, 256, seed=11)
    wide = made.convolve(made.entered, 1024, POINT, None, "relu")
    narrow = made.convolve(wide, 256, POINT, None, "relu")
    made.convolve(narrow, 1024, POINT, wide, "relu")
    made.held_to_the_reference()
