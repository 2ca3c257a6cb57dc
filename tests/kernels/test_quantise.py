"""Every kernel set quantises as the definition does, where lengths and values are extreme."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edged.npu import FORMATS, _native
from edged.npu.formats import format_named
from edged.npu.reference import quantise

# 16 is a vector, 64 the padding of a block, 128 a whole one; each with its neighbours.
LENGTHS = (1, 2, 15, 16, 17, 31, 32, 63, 64, 65, 127, 128)


def fills(length: int) -> dict[str, npt.NDArray[np.float16]]:
    """Returns float16 values that reach the corners of the format."""
    random = np.random.default_rng(length)
    outlier = random.normal(size=length)
    outlier[length // 2] = 60000
    patterns = {
        "zeros": np.zeros(length),
        "all largest": np.full(length, 65504.0),
        "all least": np.full(length, -65504.0),
        "alternating": np.where(np.arange(length) % 2, 65504.0, -65504.0),
        "one outlier": outlier,
        "random": random.normal(size=length),
        "subnormal": random.integers(-1023, 1024, size=length) * 2.0**-24,
        "smallest": np.full(length, 2.0**-24),
        "ties": random.integers(-300, 300, size=length) * 0.5,
        "wide": random.normal(size=length) * 2.0 ** random.integers(-20, 14, size=length),
    }
    return {name: values.astype(np.float16) for name, values in patterns.items()}


@pytest.mark.parametrize("isa", _native.available())
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("zero", [0, 128])
def test_a_block_is_the_definition_s(isa: str, form: str, zero: int) -> None:
    bits = format_named(form).mantissa_bits
    for length in LENGTHS:
        for name, values in fills(length).items():
            padded = np.zeros(128, np.float16)
            padded[:length] = values
            q, exponent = quantise(padded, format_named(form))
            block, scale = _native.quantise(values.view(np.uint16), bits, zero, isa)
            assert len(block) == -(-length // 64) * 64
            got = block.astype(np.int32) - zero
            got = np.where(got > 127, got - 256, got)  # bytes of a signed element with zero 0
            assert np.array_equal(got[:length], q[:length]), (name, length)
            assert not got[length:].any(), (name, length)
            assert scale == 2.0 ** (int(exponent) - 15 - (bits - 1)), (name, length)


@pytest.mark.parametrize("isa", _native.available())
def test_every_float16_alone_in_its_block(isa: str) -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)][::7]
    form = format_named("ms-fp13")
    padded = np.zeros((len(finite), 128), np.float16)
    padded[:, 0] = finite
    q, exponents = quantise(padded, form)
    for value, element, exponent in zip(finite, q[:, 0], exponents, strict=True):
        block, scale = _native.quantise(value.reshape(1).view(np.uint16), 7, 128, isa)
        assert int(block[0]) - 128 == element
        assert scale == 2.0 ** (int(exponent) - 21)


def test_lengths_and_names_are_checked() -> None:
    with pytest.raises(ValueError, match="1 to 128"):
        _native.quantise(np.zeros(129, np.uint16), 7, 0, "portable")
    with pytest.raises(ValueError, match=r"no kernels 'abacus' on this CPU, there are .*portable"):
        _native.quantise(np.zeros(1, np.uint16), 7, 0, "abacus")
