"""The definition: part 1 of the specification (NPU.md) in plain NumPy, to the bit and slowly.

Every kernel must equal it with ``==``. Feature maps are float32 arrays ``[height, width,
channels]`` that hold float16 values. ``numerics="float32"`` runs the same chains without blocks and
without rounding between chains, which tells mapping errors from rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edged.npu.chains import (
    Activate,
    Activation,
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
from edged.npu.formats import NATIVE_DIMENSION, Format
from edged.npu.listing import Port
from edged.npu.ports import bind, from_map, to_map
from edged.npu.program import Program

Array = npt.NDArray[np.float32]
Numerics = Literal["bfp", "float32"]
_HALF_MAX = np.float32(65504)


def quantise(x: npt.ArrayLike, form: Format) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Float16 ``[..., 128]`` -> signed elements of that shape and exponents ``[...]`` (1.3)."""
    bits = np.asarray(x, np.float16).view(np.uint16).astype(np.int32)
    sign, e, f = bits >> 15, bits >> 10 & 31, bits & 1023
    e1, sig = np.maximum(e, 1), f + np.where(e > 0, 1024, 0)
    exponent = np.max(np.where(sig != 0, e1, 1), axis=-1)
    shift = np.minimum(exponent[..., None] - e1 + 11 - form.mantissa_bits, 31)
    q, rest, half = sig >> shift, sig & (1 << shift) - 1, 1 << shift - 1
    q = q + ((rest > half) | (rest == half) & (q % 2 == 1))
    q = np.minimum(q, form.largest)
    return np.where(sign == 1, -q, q), exponent


def _blocks(vectors: Array, form: Format) -> tuple[Array, Array]:
    """Vectors ``[n, length]`` -> elements ``[n, blocks, 128]`` and scales ``[n, blocks]``."""
    n, length = vectors.shape
    count = -(-length // NATIVE_DIMENSION)
    padded = np.zeros((n, count * NATIVE_DIMENSION), np.float16)
    padded[:, :length] = vectors
    q, e = quantise(padded.reshape(n, count, NATIVE_DIMENSION), form)
    scale = np.ldexp(np.float32(1), e - 15 - (form.mantissa_bits - 1))
    return q.astype(np.float32), scale.astype(np.float32)


def _accumulate(total: Array, x: tuple[Array, Array], w: tuple[Array, Array]) -> Array:
    """Adds blocks in rising order (1.4): ``total [pixels, rows]``, each block one rounding."""
    for block in range(x[0].shape[1]):
        product = x[0][:, block] @ w[0][:, block].T  # integers below 2^24: exact in float32
        total = total + product * (x[1][:, block, None] * w[1][None, :, block])
    return total


def _positions(size: int, window: Window, axis: int) -> npt.NDArray[Any]:
    """Source positions ``[outputs, kernel]`` along an axis, also those outside the image."""
    starts = np.arange(size)[:, None] * window.stride[axis] - window.pads[axis]
    return starts + np.arange(window.kernel[axis])[None] * window.dilation[axis]


def _windows(
    x: Array, size: tuple[int, int], window: Window, fill: float
) -> npt.NDArray[np.float32]:
    """Windows ``[rows, columns, kernel y, kernel x, channels]``, ``fill`` outside the image."""
    ys = _positions(size[0], window, 0)
    xs = _positions(size[1], window, 1)
    taken = x[
        ys.clip(0, x.shape[0] - 1)[:, None, :, None], xs.clip(0, x.shape[1] - 1)[None, :, None, :]
    ]
    inside_y = (ys >= 0) & (ys < x.shape[0])
    inside_x = (xs >= 0) & (xs < x.shape[1])
    inside = inside_y[:, None, :, None] & inside_x[None, :, None, :]
    return np.where(inside[..., None], taken, np.float32(fill))


def _mv_mul(x: Array, chain: Convolution, size: tuple[int, int], form: Format) -> Array:
    """A of 1.4, ``[rows, columns, output channels]`` float32."""
    rows, kh, kw, channels = chain.weights.shape
    total: Array = np.zeros((size[0] * size[1], rows), np.float32)
    weights = chain.weights.astype(np.float32)
    if chain.expander:  # 1.5: quantised per window
        vectors = _windows(x, size, chain.window, 0).reshape(len(total), -1)
        total = _accumulate(total, _blocks(vectors, form), _blocks(weights.reshape(rows, -1), form))
        return total.reshape(*size, rows)
    q, scale = _blocks(x.reshape(-1, channels), form)
    q = q.reshape(*x.shape[:2], -1)
    taken = _windows(q, size, chain.window, 0)
    scales = _windows(scale.reshape(*x.shape[:2], -1), size, chain.window, 1)
    for ky in range(kh):
        for kx in range(kw):
            elements = taken[:, :, ky, kx].reshape(len(total), -1, NATIVE_DIMENSION)
            here = (elements, scales[:, :, ky, kx].reshape(len(total), -1))
            total = _accumulate(total, here, _blocks(weights[:, ky, kx], form))
    return total.reshape(*size, rows)


def _convolve_float32(x: Array, chain: Convolution, size: tuple[int, int]) -> Array:
    weights = chain.weights.astype(np.float32)
    windows = _windows(x, size, chain.window, 0).reshape(size[0] * size[1], -1)
    return (windows @ weights.reshape(len(weights), -1).T).reshape(*size, len(weights))


def _activate(t: Array, activation: Activation) -> Array:
    if activation == "none":
        return t
    t = np.maximum(t, np.float32(0))
    return np.minimum(t, np.float32(6)) if activation == "relu6" else t


def to_half(t: Array) -> tuple[Array, int]:
    """End of a chain (1.6): float16 values, saturating, -0 as +0; and how many saturated."""
    saturated = int(np.count_nonzero(np.abs(t) >= 65520))
    halves = np.clip(t, -_HALF_MAX, _HALF_MAX).astype(np.float16)
    ended: Array = np.add(halves, np.float32(0), dtype=np.float32)
    return ended, saturated


def _sum_of_window(x: Array, size: tuple[int, int], window: Window) -> Array:
    windows = _windows(x, size, window, 0)
    total = np.zeros((*size, x.shape[2]), np.float32)
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            total += windows[:, :, ky, kx]
    return total


def _average(x: Array, chain: AveragePool, size: tuple[int, int]) -> Array:
    counts = []
    for axis in (0, 1):
        before, after = (
            (chain.window.pads[axis], chain.window.pads[axis + 2]) if chain.include_pad else (0, 0)
        )
        at = _positions(size[axis], chain.window, axis)
        counts.append(((at >= -before) & (at < x.shape[axis] + after)).sum(axis=1))
    count = counts[0][:, None] * counts[1][None, :]
    factor: Array = np.float32(1) / count.astype(np.float32)
    total = _sum_of_window(x, size, chain.window)
    total *= factor[:, :, None]
    return total


def _norm(x: Array, chain: Norm) -> Array:
    channels = x.shape[2]
    p = np.zeros((*x.shape[:2], 16), np.float32)
    for c in range(channels):
        p[:, :, c % 16] += x[:, :, c] * x[:, :, c]
    for h in (8, 4, 2, 1):
        p[:, :, :h] += p[:, :, h : 2 * h]
    r: Array = np.sqrt(np.maximum(p[:, :, :1], np.float32(1e-12)), dtype=np.float32)
    r = np.divide(np.float32(1), r, dtype=np.float32)
    t: Array = x * r
    return t if chain.scale is None else t * chain.scale.astype(np.float32)


def _copy(maps: dict[int, Array], chain: Copy, shape: tuple[int, int, int]) -> Array:
    into = maps.get(chain.target, np.zeros(shape, np.float32))
    source, to = [], []
    for axis in range(3):
        start, step, extent = chain.start[axis], chain.step[axis], chain.extent[axis]
        source.append(slice(start, start + step * (extent - 1) + 1, step))
        to.append(slice(chain.offset[axis], chain.offset[axis] + extent))
    into[tuple(to)] = maps[chain.source][tuple(source)]
    return into


def _run_chain(
    chain: Chain, maps: dict[int, Array], program: Program, matrix: Callable[..., Array]
) -> Array:
    """One chain's result in float32, before it is rounded."""
    x, target = maps[chain.source], program.tensors[chain.target]
    size = (target.height, target.width)
    if isinstance(chain, Convolution):
        t = matrix(x, chain, size) + chain.bias.astype(np.float32)
        if chain.residual is not None:
            t = t + maps[chain.residual]
        return _activate(t, chain.activation)
    if isinstance(chain, MaxPool):
        windows = _windows(x, size, chain.window, -np.inf)
        return np.asarray(windows.max(axis=(2, 3)), np.float32)
    if isinstance(chain, AveragePool):
        return _average(x, chain, size)
    if isinstance(chain, Copy):
        return _copy(maps, chain, (*size, target.channels))
    return _row(chain, maps)


def _row(chain: Scale | Add | Activate | Norm, maps: dict[int, Array]) -> Array:
    x = maps[chain.source]
    if isinstance(chain, Scale):
        t = x * chain.scale.astype(np.float32) + chain.bias.astype(np.float32)
        return _activate(t, chain.activation)
    if isinstance(chain, Add):
        return _activate(x + maps[chain.other], chain.activation)
    if isinstance(chain, Activate):
        return _activate(x, chain.activation)
    return _norm(x, chain)


def run_maps(
    program: Program, inputs: Mapping[int, Array], numerics: Numerics = "bfp"
) -> tuple[dict[int, Array], int]:
    """Returns every feature map of one item, and how many values saturated.

    Args:
        program: what to run.
        inputs: feature maps of the input ports, by tensor, as ``edged.npu.ports`` makes them.
        numerics: ``"bfp"`` is the specification, ``"float32"`` has no rounding but float32's own.
    """
    form, saturated = program.number_format, 0
    maps = dict(inputs)
    exact = numerics == "float32"

    def matrix(x: Array, chain: Convolution, size: tuple[int, int]) -> Array:
        return _convolve_float32(x, chain, size) if exact else _mv_mul(x, chain, size, form)

    for chain in program.chains:
        t = _run_chain(chain, maps, program, matrix)
        if not exact:
            t, count = to_half(t)
            saturated += count
        maps[chain.target] = t
    return maps, saturated


def run(
    program: Program, x: npt.ArrayLike | Mapping[str, npt.ArrayLike], *, numerics: Numerics = "bfp"
) -> dict[str, Array]:
    """Returns the outputs by name, float32 in the graph's own layout; batch N is N runs.

    Args:
        program: what to run.
        x: the input, or inputs by name; batch first, any number of items.
        numerics: see ``run_maps``.

    Raises:
        RequestError: an input is missing, has another shape, or is not finite in float16.
    """
    items: list[list[Array]] = []
    for item in bind(program.inputs, x):
        entered = {
            port.tensor: to_map(port, array, half=numerics == "bfp")
            for port, array in zip(program.inputs, item, strict=True)
        }
        maps, _ = run_maps(program, entered, numerics)
        items.append([from_map(port, maps[port.tensor]) for port in program.outputs])
    return _stacked(program.outputs, items)


def _stacked(ports: tuple[Port, ...], items: list[list[Array]]) -> dict[str, Array]:
    return {p.name: np.concatenate([item[i] for item in items]) for i, p in enumerate(ports)}
