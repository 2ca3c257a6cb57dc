"""Changes to valid bytes: of bytes as such, and of what they mean, so that changes get deep.

Everything comes from one ``random.Random``: the same seed gives the same bytes.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

from google.protobuf.message import DecodeError

from edged.messages import PredictRequest
from edged.npu import isa
from edged.npu.fileform import HEADER, PORT, TENSOR

Mutate = Callable[[bytes, random.Random], bytes]

NUMBERS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 64, 127, 128, 255, 256, 1000, 65535, 65536)
EDGES = (2**31 - 1, 2**31, 2**32 - 1, -1, -2, -(2**31))


def raw(data: bytes, choice: random.Random) -> bytes:
    """Changes bytes without looking at what they are."""
    changed = bytearray(data)
    for _ in range(choice.choice((1, 1, 1, 2, 4, 8))):
        size = len(changed)
        at = choice.randrange(size + 1)
        length = min(choice.choice((1, 2, 4, 16, size // 4 + 1)), size - at)
        kind = choice.randrange(7)
        if kind == 0 and at < size:
            changed[at] ^= 1 << choice.randrange(8)
        elif kind == 1 and at < size:
            changed[at] = choice.choice((0, 1, 127, 128, 255, choice.randrange(256)))
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        elif kind == 4:
            changed[at:at] = choice.randbytes(length)
        elif kind == 5:
            order = choice.choice("<>")
            changed[at : at + 4] = struct.pack(order + "I", number(choice) & 0xFFFFFFFF)
        elif choice.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def number(choice: random.Random) -> int:
    """Returns a number that is more likely than others to be one too many."""
    return choice.choice((choice.choice(NUMBERS), choice.choice(NUMBERS), choice.choice(EDGES)))


def request(data: bytes, choice: random.Random) -> bytes:
    """Changes a field of a PredictRequest, or bytes."""
    try:
        made = PredictRequest.FromString(data)
    except DecodeError:
        return raw(data, choice)
    if not made.inputs or choice.random() < 0.5:
        return raw(data, choice)
    tensor = made.inputs[choice.choice(sorted(made.inputs))]
    kind = choice.randrange(6)
    if kind == 0:
        tensor.dtype = choice.randrange(24)
    elif kind == 1:
        tensor.tensor_shape.dim.add(size=choice.choice((number(choice), 2**63 - 1, -(2**63))))
    elif kind == 2 and tensor.tensor_shape.dim:
        choice.choice(list(tensor.tensor_shape.dim)).size = number(choice)
    elif kind == 3 and tensor.string_val:
        index = choice.randrange(len(tensor.string_val))
        tensor.string_val[index] = picture(tensor.string_val[index], choice)
    elif kind == 4:
        made.inputs[choice.choice(("images", "image", "x", ""))].CopyFrom(tensor)
    else:
        tensor.tensor_content = raw(tensor.tensor_content, choice)
    return made.SerializeToString()


def picture(data: bytes, choice: random.Random) -> bytes:
    """Changes bytes; of a PNG, mostly so that the sums of its chunks are right again."""
    changed = raw(data, choice)
    return summed(changed) if choice.random() < 0.8 else changed


def summed(data: bytes) -> bytes:
    """Returns a PNG with the right sum behind each chunk; other bytes as they are."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    made, at = bytearray(data), 8
    while at + 12 <= len(made):
        length = struct.unpack_from(">I", made, at)[0]
        end = at + 8 + length
        if end + 4 > len(made):
            break
        struct.pack_into(">I", made, end, zlib.crc32(made[at + 4 : end]))
        at = end + 4
    return bytes(made)


def program(data: bytes, choice: random.Random) -> bytes:
    """Changes a field of a tensor, port or instruction, or bytes."""
    if len(data) < HEADER.size or choice.random() < 0.2:
        return raw(data, choice)
    changed = bytearray(data)
    counts = struct.unpack_from("<III", data, 12)
    at = HEADER.size
    records = []
    for count, size in zip(counts, (TENSOR.size, PORT.size, isa.INSTRUCTION_BYTES), strict=True):
        if count * size <= len(data) - at:
            records += [(at + index * size, size) for index in range(count)]
            at += count * size
    for _ in range(choice.choice((1, 1, 2, 3))):
        if not records:
            return raw(data, choice)
        start, size = choice.choice(records)
        place = start + 4 * choice.randrange(size // 4)
        if choice.random() < 0.3:
            other = choice.choice(records)
            length = min(size, other[1])
            changed[start : start + length] = data[other[0] : other[0] + length]
        else:
            struct.pack_into("<I", changed, place, number(choice) & 0xFFFFFFFF)
    return bytes(changed)


MUTATIONS: dict[str, Mutate] = {"request": request, "picture": picture, "program": program}
