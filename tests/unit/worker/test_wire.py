"""Small messages that would become large ones are refused before they are parsed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import RequestError
from edged.messages import DataType, PredictRequest
from edged.worker import wire

MESSAGE = 64 * 1024 * 1024


def varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(data: bytes) -> bytes:
    """A request with one input, of these bytes."""
    return field(2, field(1, b"images") + field(2, data))


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "dimensions": lambda size: tensor(field(2, b"\x12\x00" * (size // 2))),
    "names of outputs": lambda size: b"\x1a\x00" * (size // 2),
    "inputs": lambda size: b"\x12\x00" * (size // 2),
    "strings": lambda size: tensor(b"\x42\x00" * (size // 2)),
    "numbers one by one": lambda size: tensor(b"\x38\x01" * (size // 2)),
    "unknown fields": lambda size: b"\xf8\x01\x00" * (size // 3),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_message_of_very_many_fields_is_refused_at_once(what: str) -> None:
    body = HOSTILE[what](MESSAGE - 100)
    start = time.monotonic()
    with pytest.raises(RequestError, match="more than 262144 fields in all; send fewer") as caught:
        wire.check(body)
    assert time.monotonic() - start < 5
    assert caught.value.code == "INVALID_ARGUMENT"


def test_what_fields_hold_does_not_count() -> None:
    made = PredictRequest(output_filter=["scores"])
    made.model_spec.version.value = 1
    pictures = made.inputs["images"]
    pictures.dtype = DataType.DT_STRING
    pictures.tensor_shape.dim.add(size=1)
    pictures.string_val.append(b"\x12\x00" * (MESSAGE // 4))
    numbers = made.inputs["numbers"]
    numbers.float_val.extend([1.0] * 150_528)
    numbers.tensor_content = bytes(2_000_000)
    wire.check(made.SerializeToString())


def test_a_large_batch_of_small_pictures_passes() -> None:
    made = PredictRequest()
    made.inputs["images"].string_val.extend([b"x" * 70] * 10_000)
    body = made.SerializeToString()
    assert len(body) > wire.FIELD_LIMIT * 2
    wire.check(body)


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff" * 11,
        b"\x12",
        b"\x12\x7f",
        field(2, field(2, b"\x12\x7f")),
        b"\x09\x00",
        b"\x0d\x00",
        b"\x0b",
        b"\x0c",
        b"\x0e",
    ],
)
def test_what_is_no_message_is_refused_wherever_it_ends(damage: bytes) -> None:
    body = field(2, bytes(0)) + field(3, bytes(wire.FIELD_LIMIT * 2)) + damage
    with pytest.raises(RequestError, match="cannot parse PredictRequest: "):
        wire.check(body)


@st.composite
def requests(draw: st.DrawFn) -> PredictRequest:
    """Messages that clients could send, of any size."""
    made = PredictRequest(output_filter=draw(st.lists(st.text(max_size=5), max_size=20)))
    for name in draw(st.lists(st.text(max_size=5), max_size=5)):
        sent = made.inputs[name]
        sent.dtype = draw(st.integers(-(2**31), 2**31 - 1))
        sent.float_val.extend(draw(st.lists(st.floats(width=32), max_size=9)))
        sent.string_val.extend(draw(st.lists(st.binary(max_size=9), max_size=20)))
        for size in draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20)):
            sent.tensor_shape.dim.add(size=size)
    return made


def objects(made: PredictRequest) -> int:
    """How many objects a message became, but for its numbers."""
    inputs = made.inputs.values()
    return (
        len(made.output_filter)
        + len(made.inputs)
        + sum(len(sent.tensor_shape.dim) + len(sent.string_val) for sent in inputs)
    )


@given(requests(), st.integers(0, 60))
def test_no_message_becomes_more_objects_than_the_limit(made: PredictRequest, limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "FIELD_LIMIT", limit)
        body = made.SerializeToString()
        if objects(made) <= limit:
            return
        with pytest.raises(RequestError, match=f"more than {limit} fields"):
            wire.check(body)
