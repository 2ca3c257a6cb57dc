"""From arrays as the graph lays them out to feature maps, and back (NPU.md 1.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from edged.errors import RequestError
from edged.npu.listing import Port

Array = npt.NDArray[np.float32]


def bind(
    ports: tuple[Port, ...], x: npt.ArrayLike | Mapping[str, npt.ArrayLike]
) -> Iterator[list[Array]]:
    """Yields each item's arrays, batch of 1, in the order of the ports.

    Args:
        ports: a program's inputs.
        x: one array for a program with one input, or arrays by name.

    Raises:
        RequestError: a name, shape, type or batch is wrong; the text says expected and got.
    """
    arrays = _arrays(ports, x)
    batches = {array.shape[0] for array in arrays}
    if len(batches) != 1 or batches == {0}:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"inputs have batches of {sorted(batches)}: expected one size from 1 up",
        )
    for index in range(batches.pop()):
        yield [array[index : index + 1] for array in arrays]


def _arrays(ports: tuple[Port, ...], x: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> list[Array]:
    if not isinstance(x, Mapping):
        if len(ports) != 1:
            raise RequestError(
                "INVALID_ARGUMENT", f"one array came, expected {len(ports)} inputs by name"
            )
        x = {ports[0].name: x}
    names = {port.name for port in ports}
    if set(x) != names:
        raise RequestError(
            "INVALID_ARGUMENT", f"inputs are named {sorted(x)}, expected {sorted(names)}"
        )
    return [_array(port, x[port.name]) for port in ports]


def _array(port: Port, value: npt.ArrayLike) -> Array:
    try:
        array = np.ascontiguousarray(value, np.float32)
    except (TypeError, ValueError) as exc:
        raise RequestError(
            "INVALID_ARGUMENT", f"input {port.name!r} is not an array of numbers: {exc}"
        ) from exc
    if array.ndim != len(port.shape) or array.shape[1:] != port.shape[1:]:
        expected = ", ".join(map(str, ("N", *port.shape[1:])))
        raise RequestError(
            "INVALID_ARGUMENT",
            f"input {port.name!r} has shape {array.shape}, expected ({expected})",
        )
    return array


def not_finite(port: Port) -> RequestError:
    """Returns the error for an input that float16 cannot hold."""
    return RequestError(
        "INVALID_ARGUMENT",
        f"input {port.name!r} holds a value that is NaN, infinite or beyond float16 (+-65504)",
    )


def to_map(port: Port, array: Array, *, half: bool) -> Array:
    """Returns one item as a feature map ``[height, width, channels]``.

    Args:
        port: where it enters.
        array: float32, the port's shape.
        half: round to float16 values, nearest even, with -0 as +0.

    Raises:
        RequestError: a value is NaN, infinite, or beyond float16 after rounding.
    """
    if port.layout == "NCHW":
        pixels = array[0].transpose(1, 2, 0)
    else:
        pixels = array.reshape(array.shape[1:] if port.layout == "NHWC" else (1, 1, -1))
    with np.errstate(over="ignore", invalid="ignore"):
        halves = pixels.astype(np.float16)
    if not np.isfinite(halves).all():
        raise not_finite(port)
    entered: Array = np.add(halves if half else pixels, np.float32(0), dtype=np.float32)
    return entered


def from_map(port: Port, values: Array) -> Array:
    """Returns a feature map in the port's own layout, batch of 1 first."""
    ordered = values.transpose(2, 0, 1) if port.layout == "NCHW" else values
    return np.ascontiguousarray(ordered, np.float32).reshape(port.shape)
