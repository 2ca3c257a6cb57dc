"""NumPy arrays as TensorProto and back, for those who call a model.

Strings are lists of bytes, with the shape ``[N]``. The worker reads what callers send with checks
of its own (``edged.worker.tensors``): it knows what the model expects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edged.errors import RequestError
from edged.messages import DataType, TensorProto

Array: TypeAlias = npt.NDArray[Any]

# By type: NumPy's name for it, and the field with its values one by one.
NUMBERS: dict[DataType, tuple[str, str]] = {
    DataType.DT_FLOAT: ("float32", "float_val"),
    DataType.DT_DOUBLE: ("float64", "double_val"),
    DataType.DT_HALF: ("float16", "half_val"),
    DataType.DT_INT8: ("int8", "int_val"),
    DataType.DT_INT16: ("int16", "int_val"),
    DataType.DT_INT32: ("int32", "int_val"),
    DataType.DT_INT64: ("int64", "int64_val"),
    DataType.DT_UINT8: ("uint8", "int_val"),
    DataType.DT_UINT16: ("uint16", "int_val"),
    DataType.DT_UINT32: ("uint32", "uint32_val"),
    DataType.DT_UINT64: ("uint64", "uint64_val"),
    DataType.DT_BOOL: ("bool", "bool_val"),
}
TYPES = {name: number for number, (name, _) in NUMBERS.items()}


def to_tensor(value: Array | bytes | Sequence[bytes]) -> TensorProto:
    """Returns the tensor of an array, of one string of bytes, or of several.

    Raises:
        RequestError: INVALID_ARGUMENT, for an array of a type that has no tensor.
    """
    if isinstance(value, bytes):
        value = [value]
    if isinstance(value, list | tuple) and all(isinstance(each, bytes) for each in value):
        strings = TensorProto(dtype=DataType.DT_STRING, string_val=value)
        strings.tensor_shape.dim.add(size=len(value))
        return strings
    array = np.asarray(value)
    number = TYPES.get(array.dtype.name)
    if number is None:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"cannot send an array of {array.dtype}: expected bytes, or one of {', '.join(TYPES)}",
        )
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    tensor = TensorProto(dtype=number, tensor_content=little.tobytes())
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def from_bytes(data: bytes, shape: Sequence[int], number: int) -> TensorProto:
    """Returns the tensor of one string, or of values in row-major order, little-endian.

    Args:
        data: the string's bytes, or the values'.
        shape: of the tensor.
        number: its type: one of ``DataType``, upstream's or ours.

    Raises:
        RequestError: INVALID_ARGUMENT, for bytes that are not of that type and shape.
    """
    tensor = TensorProto(dtype=number)
    if number == DataType.DT_STRING:
        tensor.string_val.append(data)
        expected, got = math.prod(shape), 1
    else:
        known = {int(each): name for name, each in TYPES.items()}
        if number not in known:
            raise RequestError("INVALID_ARGUMENT", f"cannot send a tensor of type number {number}")
        tensor.tensor_content = data
        expected, got = math.prod(shape) * np.dtype(known[number]).itemsize, len(data)
    if expected != got or any(size < 0 for size in shape):
        what = "strings" if number == DataType.DT_STRING else "bytes"
        raise RequestError(
            "INVALID_ARGUMENT",
            f"cannot send a tensor of shape {list(shape)}: it has {expected} {what}, got {got}",
        )
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def to_array(tensor: TensorProto) -> Array | list[bytes]:
    """Returns the values of a tensor, in either of the forms a server may send.

    Raises:
        RequestError: INTERNAL, for an answer that makes no sense.
    """
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == DataType.DT_STRING:
        return list(tensor.string_val)
    try:
        name, field = NUMBERS[DataType(tensor.dtype)]
    except (ValueError, KeyError) as exc:
        raise _senseless(f"type number {tensor.dtype}") from exc
    if tensor.tensor_content:
        content = tensor.tensor_content
        little = np.dtype(name).newbyteorder("<")
        if any(size < 0 for size in shape) or len(content) != math.prod(shape) * little.itemsize:
            raise _senseless(f"{len(content)} bytes of {name} for shape {shape}")
        values: Array = np.frombuffer(content, little).astype(name)
    else:
        # The buffer protocol of packed fields; a loop would take a hundred times as long.
        values = np.array(getattr(tensor, field))
        values = values.astype(np.uint16).view(name) if field == "half_val" else values.astype(name)
        if values.size == 1:
            values = np.full(math.prod(shape), values[0])
    try:
        return values.reshape(shape)
    except ValueError as exc:
        raise _senseless(f"{values.size} values for shape {shape}") from exc


def _senseless(what: str) -> RequestError:
    return RequestError("INTERNAL", f"cannot read the answer: a tensor has {what}")
