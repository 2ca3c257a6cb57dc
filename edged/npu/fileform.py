"""The file form of a program, ``program.npu``: writing it, and reading it back unchecked.

Little-endian, in this order without gaps:

- header, 128 bytes: magic ``EDGEDNPU``; version u32; tensors u32; ports u32; instructions u32;
  string bytes u32; zero u32; data bytes u64; memory bytes u64; format name 16 bytes and SKU name
  64 bytes, both ASCII padded with zeros
- tensors, 16 bytes each: height, width, channels, zero, u32
- ports, 32 bytes each: direction (0 input, 1 output; inputs first), tensor, layout (0 NCHW,
  1 NHWC, 2 NC), offset and length of the name in the strings, three zeros, u32
- instructions, 64 bytes each (``edged.npu.isa``); the chains that read the input queue come first
- strings, UTF-8, padded with zeros to a multiple of 64 bytes
- data: float16 constants, each at a multiple of 64 bytes, padded with zeros

Invariants:
- Equal listings have equal bytes.
- ``read`` never trusts a length, an offset or a count. It checks form; meaning is checked by
  ``edged.npu.validate``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import mmap

import numpy as np

from edged.errors import ModelError
from edged.npu import isa
from edged.npu.chains import (
    Activate,
    Activation,
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
)
from edged.npu.isa import DATA_UNIT, Memory, Op
from edged.npu.listing import LAYOUTS, Listing, Port, padded, port

MAGIC = b"EDGEDNPU"
VERSION = 1
HEADER = struct.Struct("<8sIIIIIIQQ16s64s")
TENSOR = struct.Struct("<IIII")
PORT = struct.Struct("<IIIII12x")
COUNT_LIMIT = 1 << 20
"""Most tensors, ports or instructions of a program; a device build could not hold more."""


def write(listing: Listing) -> bytes:
    """Returns the file form of a listing."""
    constants = []
    for array in listing.constants():
        raw = np.ascontiguousarray(array, dtype="<f2").tobytes()
        constants += [raw, bytes(padded(len(raw)) - len(raw))]
    return tables(listing) + b"".join(constants)


def data_bytes(listing: Listing) -> int:
    """Returns the size of the data section, which is the file's last."""
    return sum(padded(array.nbytes) for array in listing.constants())


def tables(listing: Listing) -> bytes:
    """Returns the file form up to the data section."""
    instructions = _instructions(listing)
    names = b"".join(each.name.encode() for each in (*listing.inputs, *listing.outputs))
    strings = names + bytes(padded(len(names)) - len(names))
    head = HEADER.pack(
        MAGIC,
        VERSION,
        len(listing.tensors),
        len(listing.inputs) + len(listing.outputs),
        len(instructions),
        len(strings),
        0,
        data_bytes(listing),
        listing.memory_bytes,
        listing.format.encode(),
        listing.sku.encode(),
    )
    tensors = b"".join(TENSOR.pack(t.height, t.width, t.channels, 0) for t in listing.tensors)
    return b"".join([head, tensors, _port_records(listing), isa.encode(instructions), strings])


def _instructions(listing: Listing) -> list[isa.Instruction]:
    unit = 0

    def place(array: Halves) -> int:
        nonlocal unit
        here, unit = unit, unit + padded(array.nbytes) // DATA_UNIT
        return here

    result: list[isa.Instruction] = []
    for index, each in enumerate(listing.inputs):
        result.append((Op.V_RD_QUEUE, (index,)))
        result += _writes(listing, each.tensor, (0, 0, 0))
    for chain in listing.chains:
        result += isa.body(chain, place)
        offset = chain.offset if isinstance(chain, Copy) else (0, 0, 0)
        result += _writes(listing, chain.target, offset)
    return result


def _writes(listing: Listing, tensor: int, offset: tuple[int, int, int]) -> list[isa.Instruction]:
    held = listing.memories[tensor]
    writes: list[isa.Instruction] = [
        (Op.V_WR, (memory, tensor, *offset)) for memory in Memory if memory & held
    ]
    return [*writes, (Op.END_CHAIN, ())]


def _port_records(listing: Listing) -> bytes:
    records, offset = [], 0
    for direction, ports in enumerate((listing.inputs, listing.outputs)):
        for each in ports:
            length = len(each.name.encode())
            layout = LAYOUTS.index(each.layout)
            records.append(PORT.pack(direction, each.tensor, layout, offset, length))
            offset += length
    return b"".join(records)


def read(data: bytes | mmap) -> Listing:
    """Returns the listing that bytes hold.

    Raises:
        ModelError: they are not the file form of any listing; the text says what and where.
    """
    try:
        listing = _Reader(data).listing()
    except (struct.error, UnicodeDecodeError, IndexError, ValueError, OverflowError) as exc:
        raise ModelError(f"cannot read program: {exc}") from exc
    return listing


class _Reader:
    """One pass over the bytes; every slice is checked against the sizes the header announces."""

    def __init__(self, data: bytes | mmap) -> None:
        if len(data) < HEADER.size or data[:8] != MAGIC:
            raise ModelError(f"cannot read program: {len(data)} bytes do not begin with {MAGIC!r}")
        fields = HEADER.unpack_from(data)
        _, version, tensors, ports, instructions, strings, zero, constants, self.memory = fields[:9]
        if version != VERSION or zero:
            raise ModelError(f"cannot read program: version {version}, expected {VERSION}")
        if max(tensors, ports, instructions) > COUNT_LIMIT or strings % DATA_UNIT:
            raise ModelError("cannot read program: counts in the header are out of bounds")
        sizes = (TENSOR.size * tensors, PORT.size * ports, isa.INSTRUCTION_BYTES * instructions)
        expected = HEADER.size + sum(sizes) + strings + constants
        if len(data) != expected:
            raise ModelError(
                f"cannot read program: the header announces {expected} bytes, there are {len(data)}"
            )
        self.names = [field.rstrip(b"\0").decode("ascii") for field in fields[9:]]
        view, self.parts = memoryview(data)[HEADER.size :], []
        for size in (*sizes, strings, constants):
            self.parts.append(view[:size])
            view = view[size:]

    def listing(self) -> Listing:
        """Returns the listing."""
        if any(record[3] for record in TENSOR.iter_unpack(self.parts[0])):
            raise ModelError("cannot read program: a reserved field of a tensor is not zero")
        tensors = tuple(Tensor(*record[:3]) for record in TENSOR.iter_unpack(self.parts[0]))
        inputs, outputs = self._ports(tensors)
        chains = tuple(self._chains(tensors, len(inputs)))
        return Listing(self.names[0], self.names[1], tensors, inputs, outputs, chains)

    def _ports(self, tensors: tuple[Tensor, ...]) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
        found: tuple[list[Port], list[Port]] = ([], [])
        for direction, tensor, layout, offset, length in PORT.iter_unpack(self.parts[1]):
            raw = self.parts[3][offset : offset + length]
            if len(raw) != length or direction > 1 or layout >= len(LAYOUTS):
                raise ModelError("cannot read program: a port's name, direction or layout is wrong")
            if tensor >= len(tensors):
                raise ModelError(f"cannot read program: a port's tensor {tensor} does not exist")
            name = bytes(raw).decode()
            found[direction].append(port(name, tensor, LAYOUTS[layout], tensors))
        return tuple(found[0]), tuple(found[1])

    def _chains(self, tensors: tuple[Tensor, ...], inputs: int) -> Iterator[Chain]:
        pending: list[tuple[int, tuple[int, ...]]] = []
        for opcode, _, operands in isa.decode(bytes(self.parts[2])):
            if opcode != Op.END_CHAIN:
                pending.append((opcode, operands))
                continue
            if pending and pending[0][0] == Op.V_RD_QUEUE and inputs:
                inputs -= 1
            else:
                yield _Decoder(pending, tensors, self.parts[4]).chain()
            pending = []
        if pending or inputs:
            raise ModelError("cannot read program: the last chain does not end")


class _Decoder:
    """Instructions of one chain -> the chain; anything left over shows when it is written again."""

    def __init__(
        self,
        instructions: list[tuple[int, tuple[int, ...]]],
        tensors: tuple[Tensor, ...],
        constants: memoryview,
    ) -> None:
        self.ops = instructions
        self.tensors = tensors
        self.constants = constants

    def chain(self) -> Chain:
        """Returns the chain."""
        read, write = self._next(), self._write()
        target, offset = write[1], _triple(write, 2)
        if read[0] == Op.V_RD2D:
            box = read[1]
            return Copy(box[0], target, _triple(box, 7), _triple(box, 1), _triple(box, 4), offset)
        window = self._window(read)
        if self._peek() == Op.MV_MUL:
            return self._convolution(read[1][0], target, window, read[0] == Op.V_RD_WINDOW)
        if self._peek() == Op.VV_MAX:
            return MaxPool(read[1][0], target, window)
        if self._peek() == Op.V_MEAN:
            return AveragePool(read[1][0], target, window, bool(self._next()[1][0]))
        return self._elementwise(read[1][0], target)

    def _elementwise(self, source: int, target: int) -> Chain:
        channels = self._tensor(source).channels
        if self._peek() == Op.V_NORM:
            self._next()
            scaled = self._peek() == Op.VV_MUL
            return Norm(source, target, self._constant((channels,)) if scaled else None)
        if self._peek() == Op.VV_MUL:
            scale, bias = self._constant((channels,)), self._constant((channels,))
            return Scale(source, target, scale, bias, self._activation())
        if self._peek() == Op.VV_ADD:
            return Add(source, self._next()[1][1], target, self._activation())
        return Activate(source, target, self._activation())

    def _convolution(self, source: int, target: int, window: Window, expander: bool) -> Chain:
        unit, rows = self._next()[1][:2]
        shape = (rows, *window.kernel, self._tensor(source).channels)
        weights, bias = self._halves(unit, shape), self._constant((rows,))
        residual = None
        if self._peek() == Op.VV_ADD:
            residual = self._next()[1][1]
        chain = Convolution(source, target, window, weights, bias, residual, self._activation())
        if chain.expander != expander:
            raise ModelError("cannot read program: the expander is for fewer than 16 channels")
        return chain

    def _constant(self, shape: tuple[int, ...]) -> Halves:
        return self._halves(self._next()[1][1], shape)

    def _halves(self, unit: int, shape: tuple[int, ...]) -> Halves:
        if unit < 0 or min(shape) < 1:
            raise ModelError(f"cannot read program: constant of shape {shape} at unit {unit}")
        count = int(np.prod(shape, dtype=object))
        raw = self.constants[unit * DATA_UNIT : unit * DATA_UNIT + 2 * count]
        if len(raw) != 2 * count:
            raise ModelError(f"cannot read program: constant at unit {unit} leaves the data")
        end = unit * DATA_UNIT + 2 * count
        if any(self.constants[end : unit * DATA_UNIT + padded(2 * count)]):
            raise ModelError(
                f"cannot read program: after the constant at unit {unit} is no padding"
            )
        return np.frombuffer(raw, "<f2").reshape(shape)

    def _window(self, read: tuple[int, tuple[int, ...]]) -> Window:
        if read[0] == Op.V_RD1D:
            return Window()
        if read[0] not in (Op.V_RD3D, Op.V_RD_WINDOW):
            raise ModelError(f"cannot read program: a chain begins with opcode {read[0]}")
        o = read[1]
        return Window((o[1], o[2]), (o[3], o[4]), (o[5], o[6], o[7], o[8]), (o[9], o[10]))

    def _activation(self) -> Activation:
        kinds: dict[int, Activation] = {Op.V_RELU: "relu", Op.V_CLIP6: "relu6"}
        return kinds[self._next()[0]] if self._peek() in kinds else "none"

    def _write(self) -> tuple[int, ...]:
        if not self.ops or self.ops[-1][0] != Op.V_WR:
            raise ModelError("cannot read program: a chain does not end with a write")
        return self.ops[-1][1]

    def _tensor(self, index: int) -> Tensor:
        if not 0 <= index < len(self.tensors):
            raise ModelError(f"cannot read program: there is no tensor {index}")
        return self.tensors[index]

    def _peek(self) -> int:
        return self.ops[0][0] if self.ops else 0

    def _next(self) -> tuple[int, tuple[int, ...]]:
        if not self.ops:
            raise ModelError("cannot read program: a chain ends before it is whole")
        return self.ops.pop(0)


def _triple(operands: tuple[int, ...], at: int) -> tuple[int, int, int]:
    return operands[at], operands[at + 1], operands[at + 2]
