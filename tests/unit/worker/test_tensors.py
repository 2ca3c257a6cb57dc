"""Tensors from callers: what fits the signature is read exactly, anything else is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edged.errors import RequestError
from edged.manifest import TYPES, TensorSpec
from edged.messages import DataType, TensorProto
from edged.worker.tensors import decode, encode

NUMBERS = [name for name in TYPES if name != "string"]


def spec(kind: str, *shape: int) -> TensorSpec:
    return TensorSpec("x", (), kind, shape)


def tensor(number: DataType, shape: list[int], **values: Any) -> TensorProto:
    made = TensorProto(dtype=number, **values)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def floats(shape: list[int], values: list[float]) -> TensorProto:
    return tensor(DataType.DT_FLOAT, shape, float_val=values)


@given(st.data(), st.sampled_from(NUMBERS), st.booleans())
def test_every_type_comes_back_as_it_was_sent(
    data: st.DataObject, kind: str, content: bool
) -> None:
    shape = data.draw(arrays.array_shapes(max_dims=4, max_side=4))
    array = data.draw(arrays.arrays(np.dtype(kind), shape))
    sent = TensorProto.FromString(encode(array, content=content))
    assert bool(sent.tensor_content) == content
    got = decode("x", sent, spec(kind, *[-1] * len(shape)))
    assert isinstance(got, np.ndarray)
    assert got.dtype == kind
    np.testing.assert_array_equal(got, array)


def test_answers_use_the_typed_field_the_predecessors_clients_read() -> None:
    sent = TensorProto.FromString(encode(np.linspace(0, 1, 300, dtype=np.float32)))
    assert sent.dtype == DataType.DT_FLOAT
    assert list(sent.float_val) == pytest.approx(list(np.linspace(0, 1, 300)), abs=1e-6)
    assert not sent.tensor_content
    assert [dim.size for dim in sent.tensor_shape.dim] == [300]


def test_an_array_that_is_not_contiguous_is_written_in_its_own_order() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    sent = TensorProto.FromString(encode(array))
    np.testing.assert_array_equal(decode("x", sent, spec("float32", 4, 3)), array)


def test_a_single_value_stands_for_a_whole_tensor() -> None:
    got = decode("x", floats([2, 3], [1.5]), spec("float32", -1, 3))
    np.testing.assert_array_equal(got, np.full((2, 3), 1.5, np.float32))


def test_pictures_are_a_list_of_bytes() -> None:
    sent = tensor(DataType.DT_STRING, [2], string_val=[b"one", b""])
    assert decode("x", sent, spec("string", -1)) == [b"one", b""]


def test_scalars_and_empty_tensors_have_their_shape() -> None:
    assert np.shape(decode("x", floats([], [2.0]), spec("float32"))) == ()
    assert np.shape(decode("x", floats([0, 3], []), spec("float32", -1, 3))) == (0, 3)
    assert np.shape(decode("x", floats([0, 3], [1.0]), spec("float32", -1, 3))) == (0, 3)


def unknown_rank() -> TensorProto:
    made = TensorProto(dtype=DataType.DT_FLOAT, float_val=[1.0])
    made.tensor_shape.unknown_rank = True
    return made


@pytest.mark.parametrize(
    ("sent", "expected", "says"),
    [
        (floats([3], [1, 2]), spec("float32", 3), "2 values in float_val, expected 3"),
        (floats([2], [1, 2, 3]), spec("float32", 2), "3 values in float_val, expected 2"),
        (floats([2], []), spec("float32", 2), "0 values in float_val, expected 2"),
        (floats([2, 2], [1] * 4), spec("float32", -1, 3), "shape [2, 2], expected [-1, 3]"),
        (floats([2], [1, 2]), spec("float32", -1, 2), "shape [2], expected [-1, 2]"),
        (floats([-1, 2], [1]), spec("float32", -1, 2), "negative sizes"),
        (floats([1] * 300, [1]), spec("float32", -1), "negative sizes or very many"),
        (floats([2**62, 4], [1]), spec("float32", -1, 4), "more than the 67108864 bytes allowed"),
        (floats([2**63 - 1, 2**63 - 1], [1]), spec("float32", -1, -1), "more than the"),
        (floats([2**24 + 1], [1]), spec("float32", -1), "more than the 67108864 bytes allowed"),
        (floats([0, 2**62], []), spec("float32", -1, -1), "more than the 67108864 bytes allowed"),
        (floats([2**40, 2**40, 0], [1]), spec("float32", -1, -1, 0), "more than the"),
        (unknown_rank(), spec("float32", -1), "no known rank"),
        (floats([1], [1]), spec("float64", 1), "of type DT_FLOAT, expected DT_DOUBLE"),
        (floats([1], [1]), spec("string", -1), "of type DT_FLOAT, expected DT_STRING"),
        (TensorProto(dtype=99), spec("string", -1), "of type number 99"),
        (TensorProto(), spec("string", -1), "of type DT_INVALID"),
        (
            tensor(DataType.DT_FLOAT, [2], tensor_content=b"1234567"),
            spec("float32", 2),
            "7 bytes in tensor_content, expected 8",
        ),
        (
            tensor(DataType.DT_UINT8, [2], int_val=[0, 256]),
            spec("uint8", 2),
            "values from 0 to 256 do not fit uint8",
        ),
        (
            tensor(DataType.DT_INT8, [1], int_val=[-129]),
            spec("int8", 1),
            "do not fit int8",
        ),
        (
            tensor(DataType.DT_HALF, [1], half_val=[65536]),
            spec("float16", 1),
            "do not fit uint16",
        ),
        (
            tensor(DataType.DT_STRING, [3], string_val=[b"a"]),
            spec("string", -1),
            "1 strings in string_val, expected 3",
        ),
        (
            tensor(DataType.DT_STRING, [2**40], string_val=[b"a"]),
            spec("string", -1),
            "1 strings in string_val",
        ),
        (
            tensor(DataType.DT_STRING, [1], tensor_content=b"\x01a"),
            spec("string", -1),
            "strings must be in string_val",
        ),
        (
            tensor(DataType.DT_STRING, [], string_val=[b"a"]),
            spec("string", -1),
            "shape [], expected [-1]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_naming_expected_and_got(
    sent: TensorProto, expected: TensorSpec, says: str
) -> None:
    with pytest.raises(RequestError) as caught:
        decode("images", sent, expected)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert says in str(caught.value)
    assert "images" in str(caught.value)


@given(st.binary(max_size=60), st.sampled_from(TYPES), arrays.array_shapes(min_dims=0, max_dims=3))
def test_random_messages_are_read_or_refused(
    data: bytes, kind: str, shape: tuple[int, ...]
) -> None:
    from google.protobuf.message import DecodeError

    try:
        sent = TensorProto.FromString(data)
    except DecodeError:
        return
    try:
        got = decode("x", sent, spec(kind, *shape))
    except RequestError:
        return
    assert np.shape(got) == shape
