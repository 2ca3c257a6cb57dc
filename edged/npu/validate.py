"""Is a listing a program that a device can run? The one place where that is decided.

Every field of a program is untrusted. After ``validate`` returned, the executor may rely on:

- every index, extent and constant's shape is in bounds, and every size fits the integers it uses;
- a feature map is written in full before it is read, by one chain, or by ``Copy`` chains only;
- every window of a pool holds at least one position, of the image for a maximum;
- constants are finite, names are unique, format and SKU exist and the program fits the SKU.
"""

from __future__ import annotations

import numpy as np

from edged.errors import ModelError
from edged.npu.chains import (
    ACTIVATIONS,
    Activate,
    Add,
    AveragePool,
    Chain,
    Convolution,
    Copy,
    Halves,
    MaxPool,
    Norm,
    Scale,
    Tensor,
    Window,
    sources,
)
from edged.npu.formats import format_named
from edged.npu.isa import Memory
from edged.npu.listing import LAYOUTS, Listing, port_shape
from edged.npu.sku import sku_named

SIDE_LIMIT = 1 << 16
ELEMENT_LIMIT = 1 << 28
NAME_LIMIT = 1024
MAGNITUDE = np.uint16(0x7FFF)  # the bits of a float16 without its sign
INFINITY = np.uint16(0x7C00)  # its bits; those of NaN are larger


def validate(listing: Listing) -> None:
    """Returns if a device of the listing's SKU can run it.

    Raises:
        ModelError: it cannot; the text says which part is wrong and what was expected.
    """
    sku = sku_named(listing.sku)
    if format_named(listing.format).name not in sku.formats:
        raise ModelError(f"cannot use format {listing.format!r}: SKU {sku.name} does not run it")
    for index, tensor in enumerate(listing.tensors):
        _check_tensor(index, tensor)
    _check_ports(listing)
    _check_order(listing)
    for index, chain in enumerate(listing.chains):
        try:
            _check_chain(chain, listing.tensors)
        except ModelError as exc:
            kind = type(chain).__name__
            raise ModelError(f"cannot use program: chain {index} ({kind}): {exc}") from exc
    if listing.memory_bytes > sku.memory_bytes:
        raise ModelError(
            f"cannot use program: it needs {listing.memory_bytes} bytes, "
            f"SKU {sku.name} has {sku.memory_bytes}"
        )


def _check_tensor(index: int, tensor: Tensor) -> None:
    sides = (tensor.height, tensor.width, tensor.channels)
    elements = tensor.height * tensor.width * tensor.channels
    if min(sides) < 1 or max(sides) > SIDE_LIMIT or elements > ELEMENT_LIMIT:
        raise ModelError(
            f"cannot use program: tensor {index} is {sides}, sides must be 1 to {SIDE_LIMIT} "
            f"and elements at most {ELEMENT_LIMIT}"
        )


def _check_ports(listing: Listing) -> None:
    if not listing.inputs or not listing.outputs:
        raise ModelError("cannot use program: it needs at least one input and one output")
    for ports in (listing.inputs, listing.outputs):
        if len({each.name for each in ports}) != len(ports):
            raise ModelError("cannot use program: two ports of one direction share a name")
    if len({each.tensor for each in listing.inputs}) != len(listing.inputs):
        raise ModelError("cannot use program: two inputs share a tensor")
    for each in (*listing.inputs, *listing.outputs):
        if not 0 < len(each.name.encode()) <= NAME_LIMIT:
            raise ModelError(f"cannot use program: a port's name must have 1 to {NAME_LIMIT} bytes")
        if not 0 <= each.tensor < len(listing.tensors) or each.layout not in LAYOUTS:
            raise ModelError(f"cannot use program: port {each.name!r} has no tensor or layout")
        tensor = listing.tensors[each.tensor]
        if each.layout == "NC" and (tensor.height, tensor.width) != (1, 1):
            raise ModelError(f"cannot use program: port {each.name!r} is NC but not one pixel")
        if each.shape != port_shape(tensor, each.layout):
            raise ModelError(f"cannot use program: port {each.name!r} has shape {each.shape}")


def _check_order(listing: Listing) -> None:
    """Every map is complete before it is read; copies may complete one in turns."""
    count = len(listing.tensors)
    written = {each.tensor: "input" for each in listing.inputs}
    read: set[int] = set()
    for index, chain in enumerate(listing.chains):
        for tensor in sources(chain):
            if not 0 <= tensor < count or tensor not in written:
                raise ModelError(f"cannot use program: chain {index} reads {tensor} before a write")
        read.update(sources(chain))
        target = chain.target
        kind = "copy" if isinstance(chain, Copy) else "whole"
        if not 0 <= target < count or target in read:
            raise ModelError(f"cannot use program: chain {index} writes {target} after a read")
        if written.get(target, kind) != kind or (target in written and kind == "whole"):
            raise ModelError(f"cannot use program: chain {index} writes {target} a second time")
        written[target] = kind
    for port in listing.outputs:
        if port.tensor not in written:
            raise ModelError(f"cannot use program: nothing writes output {port.name!r}")
    for tensor, held in enumerate(listing.memories):
        if held == Memory(0):
            raise ModelError(f"cannot use program: nothing reads tensor {tensor}")


def _check_chain(chain: Chain, tensors: tuple[Tensor, ...]) -> None:
    source, target = tensors[chain.source], tensors[chain.target]
    if isinstance(chain, Convolution):
        _check_convolution(chain, source, target, tensors)
    elif isinstance(chain, (MaxPool, AveragePool)):
        _check_pool(chain, source, target)
    elif isinstance(chain, Copy):
        _check_copy(chain, source, target)
    else:
        _same(source, target, "target")
    if (
        isinstance(chain, (Convolution, Scale, Add, Activate))
        and chain.activation not in ACTIVATIONS
    ):
        raise ModelError(f"activation {chain.activation!r} is not one of {', '.join(ACTIVATIONS)}")
    if isinstance(chain, Add):
        _same(source, tensors[chain.other], "second operand")
    if isinstance(chain, Scale):
        _check_constant("scale", chain.scale, (source.channels,))
        _check_constant("bias", chain.bias, (source.channels,))
    if isinstance(chain, Norm) and chain.scale is not None:
        _check_constant("scale", chain.scale, (source.channels,))
    if isinstance(chain, Activate) and chain.activation == "none":
        raise ModelError("it does nothing")


def _check_convolution(
    chain: Convolution, source: Tensor, target: Tensor, tensors: tuple[Tensor, ...]
) -> None:
    _check_window(chain.window)
    shape = (target.channels, *chain.window.kernel, source.channels)
    _check_constant("weights", chain.weights, shape)
    _check_constant("bias", chain.bias, (target.channels,))
    expected = chain.window.output_size(source.height, source.width)
    if expected != (target.height, target.width):
        raise ModelError(f"output is {target.height} x {target.width}, expected {expected}")
    if chain.residual is not None:
        _same(target, tensors[chain.residual], "residual")


def _check_window(window: Window) -> None:
    sides = (*window.kernel, *window.stride, *window.dilation)
    if min(sides) < 1 or max(sides) > SIDE_LIMIT or max(window.kernel) > 1024:
        raise ModelError(f"kernel, stride or dilation out of bounds in {window}")
    if min(window.pads) < 0 or max(window.pads) > SIDE_LIMIT:
        raise ModelError(f"pads out of bounds in {window}")


def _check_pool(chain: MaxPool | AveragePool, source: Tensor, target: Tensor) -> None:
    _check_window(chain.window)
    window = chain.window
    if source.channels != target.channels:
        raise ModelError(f"{source.channels} channels come in, {target.channels} go out")
    floor = window.output_size(source.height, source.width)
    for axis, (size, inside) in enumerate(
        ((target.height, source.height), (target.width, source.width))
    ):
        if size not in (floor[axis], floor[axis] + 1):
            raise ModelError(f"output side is {size}, expected {floor[axis]} or one more")
        low, high = 0, inside
        if isinstance(chain, AveragePool) and chain.include_pad:
            low, high = -window.pads[axis], inside + window.pads[axis + 2]
        # First and last position of a window's kernel that lie from low to high - 1; not all of
        # them at once: 2^16 windows of 2^10 positions would be half a gigabyte.
        starts = np.arange(size) * window.stride[axis] - window.pads[axis]
        first = np.maximum(-((starts - low) // window.dilation[axis]), 0)
        last = np.minimum((high - 1 - starts) // window.dilation[axis], window.kernel[axis] - 1)
        if (last < first).any():
            raise ModelError("a window lies wholly outside the image")


def _check_copy(chain: Copy, source: Tensor, target: Tensor) -> None:
    into = (target.height, target.width, target.channels)
    outof = (source.height, source.width, source.channels)
    for axis in range(3):
        extent, start, step = chain.extent[axis], chain.start[axis], chain.step[axis]
        if extent < 1 or start < 0 or step < 1 or start + step * (extent - 1) >= outof[axis]:
            raise ModelError(f"the box leaves the source of {outof} on axis {axis}")
        if chain.offset[axis] < 0 or chain.offset[axis] + extent > into[axis]:
            raise ModelError(f"the box leaves the target of {into} on axis {axis}")


def _same(one: Tensor, other: Tensor, what: str) -> None:
    if one != other:
        raise ModelError(f"{what} is {other}, expected {one}")


def _check_constant(what: str, array: Halves, shape: tuple[int, ...]) -> None:
    if array.dtype != np.float16 or array.shape != shape:
        raise ModelError(f"{what} are {array.dtype} {array.shape}, expected float16 {shape}")
    # By the bits: np.isfinite looks at float16 one by one, 50 ms for the weights of ResNet-50.
    if array.size and (array.view(np.uint16) & MAGNITUDE).max() >= INFINITY:
        raise ModelError(f"{what} hold a value that is NaN, infinite or beyond float16")
