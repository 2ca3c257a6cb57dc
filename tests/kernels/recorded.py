"""Programs with an input and what the definition makes of it, in a file for ``replay.c``.

Everything is four bytes wide: numbers as int32, then float32; halves in pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edged.npu import Program, reference
from edged.npu.emulator import _fields
from edged.npu.listing import LAYOUTS, Port
from tests.npu.graphs import programs

NUMBERS = (
    *("kind", "source", "other", "target", "kernel", "stride", "pads", "dilation", "expander"),
    *("include_pad", "activation", "start", "step", "extent", "offset"),
)


def record(program: Program, inputs: Mapping[str, npt.NDArray[np.float32]]) -> bytes:
    """Returns a program, one item of input and the outputs that it must give."""
    expected = reference.run(program, inputs)
    chains = [_fields(chain) for chain in program.chains]
    counts = [len(program.tensors), len(chains), len(program.inputs), len(program.outputs)]
    parts = [_ints([program.number_format.mantissa_bits, *counts])]
    for tensor, held in zip(program.tensors, program.memories, strict=True):
        parts.append(_ints([tensor.height, tensor.width, tensor.channels, int(held)]))
    for chain in chains:
        parts.append(_ints(np.hstack([chain[name] for name in NUMBERS])))
        parts += [_halves(chain[name]) for name in ("weights", "bias", "scale")]
    parts += [_port(each) for each in (*program.inputs, *program.outputs)]
    parts += [_floats(inputs[each.name]) for each in program.inputs]
    parts += [_floats(expected[each.name]) for each in program.outputs]
    return b"".join(parts)


def examples(count: int) -> Iterable[bytes]:
    """Returns recordings of so many random programs, the same each time."""
    found: list[bytes] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(), st.integers(0, 2**31))
    def collect(program: Program, seed: int) -> None:
        random = np.random.default_rng(seed)
        values = {}
        for each in program.inputs:
            x = random.normal(scale=2, size=(1, *each.shape[1:]))
            x *= random.choice([0, 1e-7, 1e-4, 1, 1, 1, 100], size=x.shape)
            values[each.name] = x.astype(np.float32)
        found.append(record(program, values))

    collect()
    return found


def _ints(values: Sequence[int] | npt.NDArray[Any]) -> bytes:
    return np.asarray(values, "<i4").tobytes()


def _halves(values: npt.NDArray[np.uint16] | None) -> bytes:
    count = 0 if values is None else len(values)
    padded = np.zeros(count + count % 2, "<u2")
    if values is not None:
        padded[:count] = values
    return _ints([count]) + padded.tobytes()


def _floats(values: npt.NDArray[np.float32]) -> bytes:
    return _ints([values.size]) + values.astype("<f4").tobytes()


def _port(port: Port) -> bytes:
    return _ints([port.tensor, LAYOUTS.index(port.layout)])
