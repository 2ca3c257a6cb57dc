"""Concatenations of concatenations: maps lie inside others, and bits are the reference's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged import npu
from edged.npu import _native
from edged.npu.chains import (
    Activate,
    Add,
    AveragePool,
    Chain,
    Convolution,
    Copy,
    MaxPool,
    Norm,
    Scale,
    Window,
)
from edged.npu.listing import Port, port
from tests.npu.graphs import Builder

ISAS = _native.available()
CHANNELS = st.sampled_from((1, 8, 15, 16, 17, 32, 48, 112, 128, 144, 256))
SIDE = 5


class Dense(Builder):
    """A program of concatenations, each joining some maps; all maps have one size."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.entered = self.tensor(SIDE, SIDE, 32)
        self.maps = [self.entered]

    def step(self, kind: str, source: int, rows: int) -> None:
        """Appends a chain of another kind that reads a map."""
        channels = self.tensors[source].channels
        if kind == "convolution":
            window = Window((3, 3), (1, 1), (1, 1, 1, 1))
            residual = self.maps[-1]
            self.maps.append(self.convolve(source, rows, window, residual, "relu"))
            return
        target = self.tensor(SIDE, SIDE, channels)
        window = Window((3, 3), (1, 1), (1, 1, 1, 1))
        chains: dict[str, Chain] = {
            "scale": Scale(source, target, self.halves(channels), self.halves(channels)),
            "add": Add(source, source, target),
            "activate": Activate(source, target, "relu6"),
            "norm": Norm(source, target, self.halves(channels)),
            "max": MaxPool(source, target, window),
            "mean": AveragePool(source, target, window),
        }
        self.chains.append(chains[kind])
        self.maps.append(target)


KINDS = ("convolution", "convolution", "scale", "add", "activate", "norm", "max", "mean")


@st.composite
def programs(draw: st.DrawFn) -> npu.Program:
    """Random programs, most of whose maps are joined, some of them twice."""
    made = Dense(draw(st.integers(0, 2**32 - 1)))
    for _ in range(draw(st.integers(2, 8))):
        source = st.sampled_from(made.maps)
        if draw(st.booleans()):
            made.maps.append(made.join(draw(st.lists(source, min_size=2, max_size=3))))
        else:
            made.step(draw(st.sampled_from(KINDS)), draw(source), draw(CHANNELS))
        if made.tensors[made.maps[-1]].channels > 2000:
            break
    inputs = (port("x", made.entered, "NHWC", tuple(made.tensors)),)
    return made.program("ms-fp13", inputs)


@settings(max_examples=60)
@given(programs(), st.integers(0, 2**31))
def test_joined_maps_hold_the_references_bits(program: npu.Program, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=program.inputs[0].shape).astype(np.float16)
    expected = npu.reference.run(program, x)
    for isa in ISAS:
        device = npu.open(threads=2, isa=isa)
        device.load(program)
        for _ in range(2):  # what the first run left in memory must not matter
            found = device.run(x)
            assert list(found) == list(expected)
            for name, array in expected.items():
                assert np.array_equal(found[name].view(np.uint32), array.view(np.uint32)), isa


@pytest.mark.parametrize("gap", [0, 16])
def test_channels_that_nothing_is_copied_to_are_zero(gap: int) -> None:
    made = Dense(3)
    made.step("convolution", made.entered, 32)
    first, target = made.maps[-1], made.tensor(SIDE, SIDE, 64 + gap)
    made.chains.append(Copy(first, target, (SIDE, SIDE, 32), offset=(0, 0, 0)))
    made.chains.append(Copy(made.entered, target, (SIDE, SIDE, 32), offset=(0, 0, 32 + gap)))
    inputs: tuple[Port, ...] = (port("x", made.entered, "NHWC", tuple(made.tensors)),)
    program = made.program("ms-fp13", inputs)
    x = np.random.default_rng(1).normal(size=program.inputs[0].shape).astype(np.float16)
    device = npu.open(threads=2)
    device.load(program)
    for _ in range(2):
        found = device.run(x)[f"y{target}"]
        assert np.array_equal(found, npu.reference.run(program, x)[f"y{target}"])
    assert isinstance(made.chains[0], Convolution)
