"""Instructions of the NPU and how chains are written in them; the twin of ``ext/npu/isa.h``.

An instruction is 64 bytes, little-endian: opcode u16, flags u16 (zero), fifteen i32 operands.
Names follow the public descriptions of Brainwave (NPU.md 2.2); where they have none for a step
of a CNN, ours is marked with *. A chain is::

    read -> [mv_mul] -> multi-function operations -> one v_wr per memory -> end_chain

============  ==============================================================================
opcode        operands
============  ==============================================================================
v_rd_queue    port: the graph's input, float32, enters as float16
v_rd1d        tensor: pixel by pixel
v_rd2d        tensor, start y x c, step y x c, extent y x c: a strided box
v_rd3d        tensor, kernel h w, stride h w, pads t l b r, dilation h w: im2col
v_rd_window*  as v_rd3d, through the expander: one vector per window
mv_mul        data, rows: float16 weights [row, kernel y, kernel x, channel] at that data unit
vv_add        kind (0 constant, 1 tensor), data unit or tensor
vv_mul        kind (0 constant), data unit
vv_max*       maximum over the window that was read
v_mean*       include_pad: mean over the window that was read
v_norm*       L2 norm over channels
v_relu        max(x, 0)
v_clip6*      min(max(x, 0), 6)
v_wr          memory (1 float16, 2 block, 4 output queue), tensor or port, offset y x c
end_chain
============  ==============================================================================

Data units are 64 bytes: constants start at multiples of that.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable

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
    Window,
)

DATA_UNIT = 64
_RECORD = struct.Struct("<HH15i")
INSTRUCTION_BYTES = _RECORD.size


class Op(enum.IntEnum):
    """Opcodes."""

    V_RD_QUEUE = 1
    V_RD1D = 2
    V_RD2D = 3
    V_RD3D = 4
    V_RD_WINDOW = 5
    MV_MUL = 16
    VV_ADD = 17
    VV_MUL = 18
    VV_MAX = 19
    V_MEAN = 20
    V_NORM = 21
    V_RELU = 22
    V_CLIP6 = 23
    V_WR = 32
    END_CHAIN = 33


class Memory(enum.IntFlag):
    """Where a v_wr writes."""

    FLOAT16 = 1
    BLOCK = 2
    OUTPUT = 4


Instruction = tuple[Op, tuple[int, ...]]
Place = Callable[[Halves], int]
"""Puts a constant into the data section and returns its data unit."""


def encode(instructions: Iterable[Instruction]) -> bytes:
    """Returns the instructions as bytes."""
    return b"".join(
        _RECORD.pack(op, 0, *operands, *([0] * (15 - len(operands))))
        for op, operands in instructions
    )


def decode(data: bytes) -> list[tuple[int, int, tuple[int, ...]]]:
    """Returns (opcode, flags, operands) of each record; nothing is checked but the length."""
    return [(r[0], r[1], tuple(r[2:])) for r in _RECORD.iter_unpack(data)]


def _window(source: int, window: Window) -> tuple[int, ...]:
    return (source, *window.kernel, *window.stride, *window.pads, *window.dilation)


def _activation(activation: Activation) -> list[Instruction]:
    if activation == "none":
        return []
    return [(Op.V_RELU if activation == "relu" else Op.V_CLIP6, ())]


def _convolution(chain: Convolution, place: Place) -> list[Instruction]:
    read = Op.V_RD_WINDOW if chain.expander else Op.V_RD3D
    operands = _window(chain.source, chain.window)
    if not chain.expander and chain.window == Window():
        read, operands = Op.V_RD1D, (chain.source,)
    body: list[Instruction] = [
        (read, operands),
        (Op.MV_MUL, (place(chain.weights), chain.weights.shape[0])),
        (Op.VV_ADD, (0, place(chain.bias))),
    ]
    if chain.residual is not None:
        body.append((Op.VV_ADD, (1, chain.residual)))
    return body + _activation(chain.activation)


def _pool(chain: MaxPool | AveragePool) -> list[Instruction]:
    reduce: Instruction = (
        (Op.VV_MAX, ()) if isinstance(chain, MaxPool) else (Op.V_MEAN, (int(chain.include_pad),))
    )
    return [(Op.V_RD3D, _window(chain.source, chain.window)), reduce]


def body(chain: Chain, place: Place) -> list[Instruction]:
    """Returns a chain's instructions up to and without its writes."""
    if isinstance(chain, Convolution):
        return _convolution(chain, place)
    if isinstance(chain, (MaxPool, AveragePool)):
        return _pool(chain)
    if isinstance(chain, Copy):
        box = (*chain.start, *chain.step, *chain.extent)
        return [(Op.V_RD2D, (chain.source, *box))]
    return _row(chain, place)


def _row(chain: Scale | Add | Activate | Norm, place: Place) -> list[Instruction]:
    read: list[Instruction] = [(Op.V_RD1D, (chain.source,))]
    if isinstance(chain, Scale):
        read += [(Op.VV_MUL, (0, place(chain.scale))), (Op.VV_ADD, (0, place(chain.bias)))]
        return read + _activation(chain.activation)
    if isinstance(chain, Add):
        return [*read, (Op.VV_ADD, (1, chain.other)), *_activation(chain.activation)]
    if isinstance(chain, Activate):
        return read + _activation(chain.activation)
    read.append((Op.V_NORM, ()))
    if chain.scale is not None:
        read.append((Op.VV_MUL, (0, place(chain.scale))))
    return read
