"""How much a PredictRequest would become, counted on its bytes before they are parsed.

Two bytes on the wire can become fifty in memory: a message within the size limit that is made of
nothing but empty dimensions, or of inputs, would take gigabytes and half a minute to parse. So the
fields of the request, its inputs, their tensors and shapes are counted first; what a field holds is
skipped, so that pictures and packed values cost nothing.

Invariants:
- Whatever the parser would make an object of is counted here, because both read the same format;
  what only one of them would read (groups, which these messages do not have) is refused.

The format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from typing import TypeAlias

from edged.errors import RequestError

FIELD_LIMIT = 1 << 18
"""Fields of one request: pictures of a batch, values of a client that does not pack them."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10
_FIELD_BYTES = 2  # at least: what it is, and its length or value

# Which fields of a message are messages that can hold many more, by their numbers.
_Message: TypeAlias = "dict[int, _Message]"
_SHAPE: _Message = {}
_TENSOR: _Message = {2: _SHAPE}
_INPUT: _Message = {2: _TENSOR}
_REQUEST: _Message = {2: _INPUT}


def check(body: bytes) -> None:
    """Returns if a PredictRequest has so few fields that it can be parsed.

    Raises:
        RequestError: it has more than ``FIELD_LIMIT``, or is no message at all.
    """
    if len(body) <= FIELD_LIMIT * _FIELD_BYTES:
        return
    left = FIELD_LIMIT
    parts = [(0, len(body), _REQUEST)]
    while parts:
        at, end, known = parts.pop()
        while at < end:
            left -= 1
            if left < 0:
                raise RequestError(
                    "INVALID_ARGUMENT",
                    f"cannot parse PredictRequest: it has more than {FIELD_LIMIT} fields in all; "
                    "send fewer items at once, and values packed or as tensor_content",
                )
            tag, at = _varint(body, at, end)
            kind = tag & 7
            if kind == _BYTES:
                length, at = _varint(body, at, end)
                inner = known.get(tag >> 3)
                if inner is not None:
                    parts.append((at, min(at + length, end), inner))
                at += length
            elif kind == _VARINT:
                _, at = _varint(body, at, end)
            elif kind in (_FIXED64, _FIXED32):
                at += 8 if kind == _FIXED64 else 4
            else:
                raise _malformed(f"a field of wire type {kind}")
        if at > end:
            raise _malformed("a field leaves the message")


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """Returns the number at a position, and the position behind it."""
    value = shift = 0
    for index in range(at, min(at + _VARINT_BYTES, end)):
        byte = body[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    raise _malformed("a number that does not end")


def _malformed(what: str) -> RequestError:
    return RequestError("INVALID_ARGUMENT", f"cannot parse PredictRequest: {what}")
