"""TensorFlow Serving's messages written and read by hand, after protobuf's encoding and no library.

What edged sends and takes is checked against this: the classes in ``edged.messages`` could be wrong
on both ends in the same way. Only what the tests need: varints, length-delimited fields, floats.

Field numbers are those of upstream's ``predict.proto``, ``model.proto`` and ``tensor.proto``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PREDICT = "/tensorflow.serving.PredictionService/Predict"
DT_FLOAT, DT_INT32, DT_STRING = 1, 3, 7

_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; negative ones as 64 bits in two's complement."""
    number &= 2**64 - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, value: int | bytes | str) -> bytes:
    """A field with an integer, or with bytes, text or a message in it."""
    if isinstance(value, int):
        return varint(number << 3 | _VARINT) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | _DELIMITED) + varint(len(data)) + data


# -- questions


def shape(sizes: Iterable[int]) -> bytes:
    """TensorShapeProto."""
    return b"".join(field(2, field(1, size)) for size in sizes)


def strings(values: Sequence[bytes], sizes: Iterable[int] | None = None) -> bytes:
    """A TensorProto of strings, of shape ``[n]`` unless told otherwise."""
    sizes = (len(values),) if sizes is None else sizes
    return (
        field(1, DT_STRING) + field(2, shape(sizes)) + b"".join(field(8, value) for value in values)
    )


def float_val(values: Sequence[float], sizes: Iterable[int], *, packed: bool = True) -> bytes:
    """A TensorProto with its values in the typed field, packed or one by one."""
    data = struct.pack(f"<{len(values)}f", *values)
    if packed:
        fields = field(5, data)
    else:
        key = varint(5 << 3 | _FOUR_BYTES)
        fields = b"".join(key + data[at : at + 4] for at in range(0, len(data), 4))
    return field(1, DT_FLOAT) + field(2, shape(sizes)) + fields


def tensor_content(data: bytes, sizes: Iterable[int]) -> bytes:
    """A TensorProto with its values as raw bytes, as TensorFlow writes arrays."""
    return field(1, DT_FLOAT) + field(2, shape(sizes)) + field(4, data)


def model_spec(name: str = "", version: int | None = None, signature: str = "") -> bytes:
    """ModelSpec; fields that are empty are absent, as in proto3."""
    parts = [field(1, name)] if name else []
    if version is not None:
        parts.append(field(2, field(1, version)))
    if signature:
        parts.append(field(3, signature))
    return b"".join(parts)


def predict_request(
    inputs: Mapping[str, bytes], outputs: Iterable[str] = (), spec: bytes | None = None
) -> bytes:
    """PredictRequest; without ``spec`` it has no ModelSpec at all."""
    return (
        (b"" if spec is None else field(1, spec))
        + b"".join(field(2, field(1, name) + field(2, value)) for name, value in inputs.items())
        + b"".join(field(3, name) for name in outputs)
    )


# -- answers


@dataclass(frozen=True)
class Tensor:
    """A TensorProto of an answer, as it is on the wire."""

    dtype: int
    shape: tuple[int, ...]
    float_val: tuple[float, ...]
    tensor_content: bytes


@dataclass(frozen=True)
class Answer:
    """A PredictResponse; ``version`` is None if it has none."""

    outputs: dict[str, Tensor]
    model: str
    version: int | None
    signature: str


def parse(data: bytes) -> dict[int, list[int | bytes]]:
    """Returns the values of each field of a message, in order."""
    fields: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value: int | bytes
        if key & 7 == _VARINT:
            value, at = _varint(data, at)
        elif key & 7 == _DELIMITED:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            length = {_FOUR_BYTES: 4, _EIGHT_BYTES: 8}[key & 7]
            value, at = data[at : at + length], at + length
        fields.setdefault(key >> 3, []).append(value)
    assert at == len(data), "the last field is cut off"
    return fields


def answer(data: bytes) -> Answer:
    """Returns what a PredictResponse's bytes say."""
    message = parse(data)
    outputs = {}
    for entry in message.get(1, []):
        pair = parse(_bytes(entry))
        outputs[_text(pair, 1)] = _tensor(_bytes(pair[2][-1]))
    assert len(outputs) == len(message.get(1, [])), "an output came twice"
    spec = parse(_bytes(message.get(2, [b""])[-1]))
    version = parse(_bytes(spec[2][-1])) if 2 in spec else None
    return Answer(
        outputs,
        _text(spec, 1),
        None if version is None else _integer(version, 1),
        _text(spec, 3),
    )


def _tensor(data: bytes) -> Tensor:
    message = parse(data)
    dims = parse(_bytes(message.get(2, [b""])[-1])).get(2, [])
    floats = b"".join(_bytes(value) for value in message.get(5, []))
    return Tensor(
        _integer(message, 1),
        tuple(_integer(parse(_bytes(dim)), 1) for dim in dims),
        struct.unpack(f"<{len(floats) // 4}f", floats),
        _bytes(message.get(4, [b""])[-1]),
    )


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return number, at


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def _text(message: Mapping[int, list[int | bytes]], number: int) -> str:
    return _bytes(message.get(number, [b""])[-1]).decode()


def _integer(message: Mapping[int, list[int | bytes]], number: int) -> int:
    value = message.get(number, [0])[-1]
    assert isinstance(value, int)
    return value
