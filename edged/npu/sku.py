"""Device builds ("bitstreams") that programs are compiled for (NPU.md 1.9).

A SKU is a small JSON document beside this module. Devices run shipped SKUs only: a name that is
not shipped is refused, as the original service refused arbitrary bitstreams.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from edged.errors import ModelError

DEFAULT_SKU = "bw-cnn-a10"
SKUS: tuple[str, ...] = (DEFAULT_SKU,)
"""Names of the shipped SKUs."""


@dataclass(frozen=True)
class Sku:
    """One device build.

    Attributes:
        name: its name, which programs state.
        native_dimension: channels of a native vector.
        formats: names of the number formats it runs.
        macs: multiply-accumulate units.
        clock_hz: cycles per second.
        memory_bytes: room for weights and activations together.
        dram_bytes_per_second: bandwidth of the memory that holds the weights.
        weight_bits: that one weight takes in that memory.
        efficiency: share of the time in which the slower of arithmetic and memory works, from 0
            to 1; ``edged.npu.timing`` says how it was fitted.
    """

    name: str
    native_dimension: int
    formats: tuple[str, ...]
    macs: int
    clock_hz: int
    memory_bytes: int
    dram_bytes_per_second: int
    weight_bits: int
    efficiency: float


@cache
def sku_named(name: str) -> Sku:
    """Returns the shipped SKU of that name.

    Raises:
        ModelError: it is not shipped; the text lists those that are.
    """
    if name not in SKUS:
        raise ModelError(f"cannot use SKU {name!r}: expected one of {', '.join(SKUS)}")
    document = json.loads(resources.files("edged.npu").joinpath(f"skus/{name}.json").read_bytes())
    return Sku(
        name=document["name"],
        native_dimension=document["native_dimension"],
        formats=tuple(document["formats"]),
        macs=document["macs"],
        clock_hz=document["clock_hz"],
        memory_bytes=document["memory_bytes"],
        dram_bytes_per_second=document["dram_bytes_per_second"],
        weight_bits=document["weight_bits"],
        efficiency=document["efficiency"],
    )
