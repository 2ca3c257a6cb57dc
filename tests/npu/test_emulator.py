"""The emulator equals the reference on the bits, whatever the program, kernels and threads."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged import npu
from edged.errors import DeviceError, RequestError
from edged.npu import _native
from edged.npu.chains import Convolution, Tensor, Window
from edged.npu.listing import port
from tests.npu.graphs import programs

ISAS = _native.available()


def same_bits(one: dict[str, npt.NDArray[Any]], other: dict[str, npt.NDArray[Any]]) -> bool:
    """Whether both hold the same names, shapes and float32 bits."""
    return one.keys() == other.keys() and all(
        one[n].shape == other[n].shape and one[n].tobytes() == other[n].tobytes() for n in one
    )


def inputs_for(program: npu.Program, seed: int, spread: float = 2.0) -> npt.NDArray[Any]:
    """Returns two items, one of them with many zeros and subnormals."""
    random = np.random.default_rng(seed)
    shape = (2, *program.inputs[0].shape[1:])
    x = random.normal(scale=spread, size=shape)
    x[1] *= random.choice([0, 1e-7, 1e-4, 1, 100], size=shape[1:])
    return x.astype(np.float32)


@given(programs(), st.integers(0, 2**31), st.integers(1, 4))
def test_every_kernel_set_gives_the_reference_s_bits(
    program: npu.Program, seed: int, threads: int
) -> None:
    x = inputs_for(program, seed)
    expected = npu.reference.run(program, x)
    for isa in ISAS:
        device = npu.open(threads=threads, isa=isa)
        device.load(program)
        assert same_bits(device.run(x), expected), isa


@settings(max_examples=30)
@given(programs(), st.integers(0, 2**31))
def test_float32_mode_agrees_with_the_reference_s(program: npu.Program, seed: int) -> None:
    x = inputs_for(program, seed)
    device = npu.open(threads=2, numerics="float32")
    device.load(program)
    expected = npu.reference.run(program, x, numerics="float32")
    # Sums are taken in another order. What that may change depends on the program, which may clip
    # or normalise what almost cancels: as much as a little noise in the inputs does.
    noise = np.random.default_rng(seed)
    near = x * (1 + 2.0**-18 * noise.choice((-1, 1), x.shape)).astype(np.float32)
    moved = npu.reference.run(program, near, numerics="float32")
    for name, y in device.run(x).items():
        scale = max(1.0, float(np.abs(expected[name]).max()))
        bound = 1e-4 * scale + 8 * float(np.abs(moved[name] - expected[name]).max())
        assert float(np.abs(y - expected[name]).max()) <= bound


def _layer(channels: int = 64, rows: int = 64, gain: float = 1.0) -> npu.Program:
    random = np.random.default_rng(3)
    tensors = (Tensor(6, 7, channels), Tensor(6, 7, rows))
    weights = (gain * random.normal(size=(rows, 3, 3, channels))).astype(np.float16)
    window = Window((3, 3), (1, 1), (1, 1, 1, 1))
    chain = Convolution(0, 1, window, weights, np.zeros(rows, np.float16))
    inputs, outputs = (port("x", 0, "NHWC", tensors),), (port("y", 1, "NCHW", tensors),)
    return npu.Program("ms-fp13", "bw-cnn-a10", tensors, inputs, outputs, (chain,))


@pytest.mark.parametrize("isa", ISAS)
def test_values_beyond_float16_saturate_and_are_counted(isa: str) -> None:
    program = _layer(gain=1000.0)
    x = np.full(program.inputs[0].shape, 1000.0, np.float32)
    device = npu.open(isa=isa, threads=2)
    device.load(program)
    y = device.run(x)["y"]
    assert same_bits({"y": y}, npu.reference.run(program, x))
    maps = {0: np.asarray(x[0])}
    assert device.counters()["saturated"] == npu.reference.run_maps(program, maps)[1] > 0
    assert np.abs(y).max() == 65504


def test_counters_tell_runs_chains_and_tile_operations() -> None:
    device = npu.open(threads=1)
    assert device.counters() == {}
    device.load(_layer(channels=200, rows=130))
    device.run(np.zeros((3, 6, 7, 200), np.float32))
    counted = device.counters()
    assert counted["runs"] == 3
    assert counted["chains"] == 3
    assert counted["tile_operations"] == 3 * 42 * 9 * 2 * 2


def test_a_program_may_have_any_number_of_outputs() -> None:
    program = _layer()
    outputs = tuple(port(f"y{i}", 1, "NCHW", program.tensors) for i in range(300))
    many = dataclasses.replace(program, outputs=outputs)
    x = np.random.default_rng(1).normal(size=many.inputs[0].shape).astype(np.float32)
    device = npu.open(threads=1)
    device.load(many)
    assert same_bits(device.run(x), npu.reference.run(many, x))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65520.0, 1e30])
def test_an_input_float16_cannot_hold_is_refused_by_name_and_the_next_is_served(
    value: float,
) -> None:
    program = _layer()
    device = npu.open(threads=2)
    device.load(program)
    x = np.zeros(program.inputs[0].shape, np.float32)
    x[0, 5, 6, 63] = value
    with pytest.raises(RequestError, match=r"'x'.*float16"):
        device.run(x)
    with pytest.raises(RequestError, match=r"'x'.*float16"):
        npu.reference.run(program, x)
    x[0, 5, 6, 63] = 65519
    assert same_bits(device.run(x), npu.reference.run(program, x))


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.zeros((1, 6, 7, 63), np.float32), r"shape \(1, 6, 7, 63\), expected \(N, 6, 7, 64\)"),
        (np.zeros((6, 7, 64), np.float32), "expected"),
        (np.zeros((0, 6, 7, 64), np.float32), "batches"),
        ({"z": np.zeros((1, 6, 7, 64))}, r"named \['z'\], expected \['x'\]"),
        (np.array([["a"]]), "not an array of numbers"),
    ],
)
def test_wrong_inputs_are_refused_with_expected_and_got(x: object, says: str) -> None:
    device = npu.open(threads=1)
    device.load(_layer())
    with pytest.raises(RequestError, match=says):
        device.run(x)  # type: ignore[arg-type]


def test_a_device_says_what_it_lacks() -> None:
    with pytest.raises(DeviceError, match=r"no kernels 'abacus', expected one of .*portable"):
        npu.open(isa="abacus")
    with pytest.raises(DeviceError, match="threads"):
        npu.open(threads=1000)
    with pytest.raises(DeviceError, match="no program"):
        npu.open().run(np.zeros(1))


def test_the_environment_forces_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_ISA", "portable")
    assert npu.open().isa == "portable"
    assert npu.open(isa=ISAS[0]).isa == ISAS[0]


def test_a_closed_device_loads_again() -> None:
    program = _layer()
    device = npu.open(threads=2)
    device.load(program)
    x = np.ones(program.inputs[0].shape, np.float32)
    before = device.run(x)
    device.close()
    with pytest.raises(DeviceError):
        device.run(x)
    device.load(program)
    assert same_bits(device.run(x), before)
