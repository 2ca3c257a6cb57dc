"""What a program lists: feature maps, ports and chains; plain values, nothing checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from edged.npu.chains import Chain, Convolution, Halves, Norm, Scale, Tensor, sources
from edged.npu.formats import NATIVE_DIMENSION, Format, format_named
from edged.npu.isa import DATA_UNIT, Memory
from edged.npu.sku import Sku, sku_named

Layout = Literal["NCHW", "NHWC", "NC"]
LAYOUTS: tuple[Layout, ...] = ("NCHW", "NHWC", "NC")


@dataclass(frozen=True)
class Port:
    """An input or output of a program, in the graph's own name and layout.

    Attributes:
        name: the graph's name for it.
        tensor: the feature map behind it.
        layout: how the graph lays it out; ``NC`` is for a map of one pixel.
        shape: the graph's shape with a batch of 1.
    """

    name: str
    tensor: int
    layout: Layout
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Listing:
    """The parts of a program.

    Attributes:
        format: name of the number format of its blocks.
        sku: name of the device build it is for.
        tensors: all feature maps.
        inputs, outputs: ports; input ports' feature maps are written by the device on entry.
        chains: in the order in which they run.
    """

    format: str
    sku: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    chains: tuple[Chain, ...]

    @property
    def number_format(self) -> Format:
        """The format's parameters."""
        return format_named(self.format)

    @property
    def device_build(self) -> Sku:
        """The SKU's parameters."""
        return sku_named(self.sku)

    @cached_property
    def memories(self) -> tuple[Memory, ...]:
        """Which memories hold each feature map: a map is kept only where something reads it."""
        found = [Memory(0)] * len(self.tensors)
        for chain in self.chains:
            for position, tensor in enumerate(sources(chain)):
                matrix = isinstance(chain, Convolution) and not chain.expander and position == 0
                found[tensor] |= Memory.BLOCK if matrix else Memory.FLOAT16
        for port in self.outputs:
            found[port.tensor] |= Memory.OUTPUT
        return tuple(found)

    @cached_property
    def memory_bytes(self) -> int:
        """Bytes on the device: constants as they are stored, and every feature map in its memories.

        Feature maps are counted without reuse, so this is an upper bound that needs no plan.
        """
        constants = sum(padded(array.nbytes) for array in self.constants())
        maps = sum(_map_bytes(t, m) for t, m in zip(self.tensors, self.memories, strict=True))
        return constants + maps

    def constants(self) -> list[Halves]:
        """Returns all constants in the order in which the file holds them."""
        found: list[Halves] = []
        for chain in self.chains:
            if isinstance(chain, Convolution):
                found += [chain.weights, chain.bias]
            elif isinstance(chain, Scale):
                found += [chain.scale, chain.bias]
            elif isinstance(chain, Norm) and chain.scale is not None:
                found.append(chain.scale)
        return found


def port_shape(tensor: Tensor, layout: Layout) -> tuple[int, ...]:
    """Returns the graph's shape, batch of 1 first, of a feature map in a layout."""
    if layout == "NCHW":
        return (1, tensor.channels, tensor.height, tensor.width)
    if layout == "NHWC":
        return (1, tensor.height, tensor.width, tensor.channels)
    return (1, tensor.channels)


def port(name: str, tensor: int, layout: Layout, tensors: tuple[Tensor, ...]) -> Port:
    """Returns the port for a feature map, its shape worked out."""
    return Port(name, tensor, layout, port_shape(tensors[tensor], layout))


def padded(length: int) -> int:
    """Returns a length rounded up to whole data units."""
    return -(-length // DATA_UNIT) * DATA_UNIT


def _map_bytes(tensor: Tensor, memories: Memory) -> int:
    pixels = tensor.height * tensor.width
    blocks = -(-tensor.channels // NATIVE_DIMENSION)
    halves = 2 * pixels * tensor.channels if memories & (Memory.FLOAT16 | Memory.OUTPUT) else 0
    return halves + (pixels * blocks * (NATIVE_DIMENSION + 1) if memories & Memory.BLOCK else 0)
