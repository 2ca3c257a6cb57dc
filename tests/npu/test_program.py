"""Programs: one byte string each, and nothing invalid gets past the door."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import ModelError
from edged.npu import Program
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
    Tensor,
    Window,
)
from edged.npu.listing import Port, port
from tests.npu.graphs import programs

HALF = np.ones(4, np.float16)
WEIGHTS = np.ones((4, 1, 1, 20), np.float16)
MAPS = (Tensor(3, 3, 20), Tensor(3, 3, 4), Tensor(3, 3, 4))


def program(*chains: Chain, tensors: tuple[Tensor, ...] = MAPS, **changes: Any) -> Program:
    """Returns a convolution 20 -> 4 channels and what follows, changed as told."""
    first = Convolution(0, 1, Window(), WEIGHTS, HALF)
    parts: dict[str, Any] = {
        "format": "ms-fp13",
        "sku": "bw-cnn-a10",
        "tensors": tensors,
        "inputs": (port("x", 0, "NCHW", tensors),),
        "outputs": (port("y", 2, "NCHW", tensors),),
        "chains": (first, *chains),
    }
    return Program(**{**parts, **changes})


RELU = Activate(1, 2, "relu")


@given(programs())
def test_bytes_and_program_are_the_same_thing(random: Program) -> None:
    data = random.to_bytes()
    again = Program.from_bytes(data)
    assert again.to_bytes() == data
    assert again.memories == random.memories
    assert again.inputs == random.inputs
    assert again.outputs == random.outputs


def test_a_program_survives_the_disk(tmp_path: Path) -> None:
    program(RELU).save(tmp_path / "program.npu")
    assert Program.load(tmp_path / "program.npu").to_bytes() == program(RELU).to_bytes()
    with pytest.raises(ModelError, match=r"cannot read program .*No such file"):
        Program.load(tmp_path / "missing.npu")


@given(st.data())
def test_a_damaged_program_is_refused_or_still_a_program(data: st.DataObject) -> None:
    good = bytearray(program(RELU).to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = Program.from_bytes(bytes(good))
    except ModelError:
        return
    assert found.to_bytes() == bytes(good)


def test_nothing_hides_between_the_constants() -> None:
    good = program(RELU).to_bytes()
    bias = max(
        chain.bias.nbytes for chain in program(RELU).chains if isinstance(chain, Convolution)
    )
    assert bias % 64 != 0
    for at in (len(good) - 1, len(good) - 64 + bias % 64):
        changed = bytearray(good)
        changed[at] = 1
        with pytest.raises(ModelError, match="no padding"):
            Program.from_bytes(bytes(changed))


@given(st.integers(0, 3000))
def test_a_truncated_program_is_refused(length: int) -> None:
    data = program(RELU).to_bytes()
    with pytest.raises(ModelError, match="cannot read program"):
        Program.from_bytes(data[: length % len(data)])


def test_what_the_header_says_must_hold() -> None:
    data = program(RELU).to_bytes()
    for at, says in ((8, "version"), (12, "out of bounds"), (32, "announces"), (40, "memory size")):
        changed = bytearray(data)
        struct.pack_into("<I", changed, at, 0x7FFFFFFF)
        with pytest.raises(ModelError, match=says):
            Program.from_bytes(bytes(changed))


def _ports(name: str, tensor: int) -> tuple[Port, ...]:
    return (port(name, tensor, "NCHW", MAPS),)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "ms-fp16"}, "expected one of ms-fp8"),
        ({"sku": "gpu"}, "expected one of bw-cnn-a10"),
        ({"inputs": ()}, "at least one input"),
        ({"outputs": ()}, "at least one input and one output"),
        ({"outputs": _ports("y", 2) * 2}, "share a name"),
        ({"outputs": _ports("", 2)}, "1 to 1024 bytes"),
        ({"outputs": (Port("y", 9, "NCHW", (1, 1, 1, 1)),)}, "no tensor"),
        ({"outputs": (Port("y", 2, "NC", (1, 4)),)}, "not one pixel"),
        ({"outputs": (Port("y", 2, "NCHW", (1, 4, 9, 9)),)}, "has shape"),
        ({"outputs": _ports("y", 1)}, "nothing reads tensor 2"),
        ({"inputs": (*_ports("x", 0), *_ports("z", 0))}, "share a tensor"),
        ({"inputs": (*_ports("x", 0), *_ports("z", 1))}, "writes 1 a second time"),
    ],
)
def test_ports_and_names_are_checked(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        program(RELU, **changes)


def _big(*sides: int) -> tuple[Tensor, ...]:
    return (MAPS[0], MAPS[1], Tensor(*sides))


@pytest.mark.parametrize(
    ("chain", "tensors", "says"),
    [
        (Activate(2, 1, "relu"), MAPS, "reads 2 before a write"),
        (Activate(7, 2, "relu"), MAPS, "reads 7"),
        (Activate(1, 1, "relu"), MAPS, "writes 1 after a read"),
        (Activate(1, 9, "relu"), MAPS, "writes 9"),
        (Activate(1, 2, "none"), MAPS, "does nothing"),
        (Activate(1, 2, "tanh"), MAPS, "not one of none, relu, relu6"),  # type: ignore[arg-type]
        (Activate(1, 2, "relu"), _big(3, 3, 5), "expected Tensor"),
        (Activate(1, 2, "relu"), _big(3, 3, 0), "sides must be"),
        (Activate(1, 2, "relu"), _big(60000, 60000, 1), "elements at most"),
        (Add(1, 0, 2), MAPS, "second operand"),
        (Scale(1, 2, HALF[:3], HALF), MAPS, "scale are float16"),
        (Scale(1, 2, HALF, HALF.astype(np.float32)), MAPS, "bias are float32"),
        (Scale(1, 2, HALF, HALF * np.float16(np.nan)), MAPS, "NaN, infinite"),
        (Norm(1, 2, HALF[:1]), MAPS, "scale are"),
        (
            Convolution(1, 2, Window((3, 3)), np.ones((4, 3, 3, 4), np.float16), HALF),
            MAPS,
            "output",
        ),
        (Convolution(1, 2, Window(), np.ones((4, 1, 1, 5), np.float16), HALF), MAPS, "weights"),
        (Convolution(1, 2, Window(stride=(0, 1)), WEIGHTS, HALF), MAPS, "stride"),
        (Convolution(1, 2, Window(pads=(-1, 0, 0, 0)), WEIGHTS, HALF), MAPS, "pads"),
        (Convolution(1, 2, Window(), WEIGHTS[:, :, :, :4], HALF, 0), MAPS, "residual"),
        (MaxPool(1, 2, Window((2, 2))), _big(4, 4, 4), "output side is 4, expected 2 or one more"),
        (MaxPool(1, 2, Window((1, 1), pads=(1, 1, 1, 1))), _big(5, 5, 4), "wholly outside"),
        (AveragePool(1, 2, Window((1, 1), (2, 2), (0, 0, 0, 0))), _big(3, 3, 4), "outside"),
        (AveragePool(1, 2, Window()), _big(3, 3, 5), "channels"),
        (Copy(1, 2, (4, 3, 4)), MAPS, "leaves the source"),
        (Copy(1, 2, (3, 3, 4), start=(0, -1, 0)), MAPS, "leaves the source"),
        (Copy(1, 2, (3, 3, 4), offset=(1, 0, 0)), MAPS, "leaves the target"),
        (Copy(1, 2, (2, 2, 2), step=(0, 1, 1)), MAPS, "leaves the source"),
    ],
)
def test_chains_are_checked(chain: Chain, tensors: tuple[Tensor, ...], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        program(chain, tensors=tensors)


def test_a_program_must_fit_the_device() -> None:
    side = Tensor(1 << 14, 1 << 14, 1)
    tensors = (side,) * 6
    chains = tuple(Activate(i, i + 1, "relu") for i in range(5))
    with pytest.raises(ModelError, match=r"needs \d+ bytes, SKU bw-cnn-a10 has 2147483648"):
        Program(
            "ms-fp13",
            "bw-cnn-a10",
            tensors,
            (port("x", 0, "NCHW", tensors),),
            (port("y", 5, "NCHW", tensors),),
            chains,
        )


def test_a_program_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        program(RELU).format = "ms-fp8"  # type: ignore[misc]
