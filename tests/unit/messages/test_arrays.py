"""Arrays go over the wire and come back the same, in either form a server may send."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edged.errors import RequestError
from edged.messages import DataType, TensorProto
from edged.messages.arrays import NUMBERS, TYPES, to_array, to_tensor

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@given(st.sampled_from(sorted(TYPES)).flatmap(lambda name: arrays.arrays(np.dtype(name), SHAPES)))
def test_an_array_comes_back_to_the_bit(array: npt.NDArray[Any]) -> None:
    back = to_array(TensorProto.FromString(to_tensor(array).SerializeToString()))
    assert isinstance(back, np.ndarray)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


def typed(array: npt.NDArray[Any]) -> TensorProto:
    """Returns the tensor with its values one by one, as TensorFlow Serving sends them."""
    number = TYPES[array.dtype.name]
    tensor = TensorProto(dtype=number)
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    field = NUMBERS[number][1]
    values = array.reshape(-1).view(np.uint16) if field == "half_val" else array.reshape(-1)
    getattr(tensor, field).extend(values.tolist())
    return tensor


@given(st.sampled_from(sorted(TYPES)).flatmap(lambda name: arrays.arrays(np.dtype(name), SHAPES)))
def test_typed_fields_are_read_too(array: npt.NDArray[Any]) -> None:
    back = to_array(typed(array))
    assert isinstance(back, np.ndarray)
    np.testing.assert_array_equal(back, array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)


def test_a_big_endian_array_is_sent_in_the_wires_order() -> None:
    tensor = to_tensor(np.array([1.0], ">f4"))
    assert tensor.tensor_content == b"\x00\x00\x80\x3f"


def test_an_array_that_is_not_contiguous_is_sent_in_its_order() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_array_equal(to_array(to_tensor(array)), array)


def test_one_value_stands_for_all() -> None:
    tensor = TensorProto(dtype=DataType.DT_FLOAT, float_val=[2.5])
    tensor.tensor_shape.dim.add(size=3)
    np.testing.assert_array_equal(to_array(tensor), np.full(3, 2.5, np.float32))


@pytest.mark.parametrize("value", [b"one", [b"one"], [b"one", b"two"], (b"a", b"b")])
def test_pictures_are_strings(value: bytes | list[bytes]) -> None:
    tensor = to_tensor(value)
    assert tensor.dtype == DataType.DT_STRING
    expected = [value] if isinstance(value, bytes) else list(value)
    assert [dim.size for dim in tensor.tensor_shape.dim] == [len(expected)]
    assert to_array(tensor) == expected


def test_an_array_that_has_no_tensor_is_refused_before_it_is_sent() -> None:
    with pytest.raises(RequestError, match="cannot send an array of complex64") as caught:
        to_tensor(np.zeros(1, np.complex64))
    assert caught.value.code == "INVALID_ARGUMENT"


def tensor(dtype: int, shape: list[int], **fields: Any) -> TensorProto:
    made = TensorProto(dtype=dtype, **fields)
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


@pytest.mark.parametrize(
    "senseless",
    [
        tensor(99, [1]),
        tensor(DataType.DT_COMPLEX64, [1]),
        tensor(DataType.DT_FLOAT, [3], float_val=[1, 2]),
        tensor(DataType.DT_FLOAT, [3]),
        tensor(DataType.DT_FLOAT, [3], tensor_content=b"1234"),
        tensor(DataType.DT_FLOAT, [-1], tensor_content=b"1234"),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(senseless: TensorProto) -> None:
    with pytest.raises(RequestError, match="cannot read the answer") as caught:
        to_array(senseless)
    assert caught.value.code == "INTERNAL"
