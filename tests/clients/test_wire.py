"""What clients of TensorFlow Serving and of the original service rely on, byte by byte.

Requests are written and answers read by hand (``wire``), so that no class of edged's is in between.
"""

from __future__ import annotations

import functools
import json
import math

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from tests.clients import wire
from tests.clients.models import (
    FEATURES,
    INPUT,
    INPUT_SHAPE,
    MAPS,
    NET_VERSION,
    OUTPUT_SHAPES,
    PICTURES,
    SCORES,
)
from tests.e2e.device import Device, raw, refusal

ORIGINAL = (
    ("x-ms-aml-grpc-service-route", "/api/v1/service/my-service"),
    ("authorization", "bearer some-key"),
)
TYPED_LIMIT_US = 3000  # for 150,528 floats in float_val


@functools.cache
def pixels() -> npt.NDArray[np.float32]:
    """One input of the net."""
    return np.random.default_rng(2).normal(size=(1, *INPUT_SHAPE)).astype(np.float32)


def content() -> bytes:
    values = pixels()
    return wire.tensor_content(values.astype("<f4").tobytes(), values.shape)


def typed(*, packed: bool = True) -> bytes:
    values = pixels()
    return wire.float_val(values.reshape(-1).tolist(), values.shape, packed=packed)


def ask(
    device: Device, body: bytes, metadata: tuple[tuple[str, str], ...] = ()
) -> tuple[wire.Answer, dict[str, str | bytes]]:
    """Calls Predict without a deadline, as the original C# client does."""
    with device.channel() as channel:
        answer, call = raw(channel).with_call(body, metadata=metadata)
        return wire.answer(answer), dict(call.trailing_metadata())


@pytest.fixture
def picture() -> bytes:
    return PICTURES[0].read_bytes()


# -- names


def test_names_with_colons_and_slashes_are_taken_and_given_as_they_are(net: Device) -> None:
    answer, _ = ask(net, wire.predict_request({INPUT: content()}))
    shapes = {name: tensor.shape for name, tensor in answer.outputs.items()}
    assert shapes == {name: (1, *shape) for name, shape in OUTPUT_SHAPES.items()}


@pytest.mark.parametrize("names", [[SCORES], [FEATURES], [SCORES, FEATURES], [FEATURES, SCORES]])
def test_only_the_outputs_of_the_filter_are_answered(net: Device, names: list[str]) -> None:
    answer, _ = ask(net, wire.predict_request({INPUT: content()}, names))
    assert set(answer.outputs) == set(names)


@pytest.mark.parametrize("name", ["probabilities", "output_alias"])
def test_an_output_is_found_under_its_name_and_its_alias(
    surface: Device, picture: bytes, name: str
) -> None:
    inputs = {"images": wire.strings([picture])}
    asked, _ = ask(surface, wire.predict_request(inputs, [name]))
    assert set(asked.outputs) == {name}
    unasked, _ = ask(surface, wire.predict_request(inputs))
    assert unasked.outputs[name] == asked.outputs[name]


# -- pictures


@pytest.mark.parametrize("count", [1, 3])
def test_pictures_are_strings_of_shape_n(surface: Device, count: int) -> None:
    paths = PICTURES[:count]
    body = wire.predict_request({"images": wire.strings([path.read_bytes() for path in paths])})
    answer, _ = ask(surface, body)
    scores = answer.outputs["output_alias"]
    assert scores.dtype == wire.DT_FLOAT
    assert scores.shape == (count, 5)
    rows = np.array(scores.float_val).reshape(scores.shape)
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-3)
    assert not scores.tensor_content


# -- tensors


@pytest.mark.parametrize("form", ["packed", "one by one", "tensor_content"])
def test_floats_mean_the_same_in_every_form(net: Device, form: str) -> None:
    tensor = content() if form == "tensor_content" else typed(packed=form == "packed")
    answer, _ = ask(net, wire.predict_request({INPUT: tensor}, [SCORES, FEATURES]))
    reference, _ = ask(net, wire.predict_request({INPUT: content()}, [SCORES, FEATURES]))
    assert answer.outputs == reference.outputs
    assert len(set(answer.outputs[SCORES].float_val)) == 4, "the answer depends on the input"


def test_one_value_stands_for_all_of_them_as_in_tensorflow(net: Device) -> None:
    short = wire.float_val([0.25], (1, *INPUT_SHAPE))
    full = wire.float_val([0.25] * math.prod(INPUT_SHAPE), (1, *INPUT_SHAPE))
    answers = [ask(net, wire.predict_request({INPUT: each}, [SCORES]))[0] for each in (short, full)]
    assert answers[0].outputs == answers[1].outputs


@pytest.mark.parametrize("direction", ["in", "out"])
def test_many_floats_in_the_typed_field_cost_little(net: Device, direction: str) -> None:
    tensor, name = (typed(), SCORES) if direction == "in" else (content(), MAPS)
    body = wire.predict_request({INPUT: tensor}, [name])
    times = [json.loads(ask(net, body)[1]["edged-times-us"]) for _ in range(20)]
    part = "parse" if direction == "in" else "serialise"
    assert min(each[part] for each in times) < TYPED_LIMIT_US, times


@pytest.mark.parametrize("name", [SCORES, MAPS])
def test_answers_are_raw_bytes_only_for_those_who_ask(net: Device, name: str) -> None:
    body = wire.predict_request({INPUT: content()}, [name])
    plain, _ = ask(net, body)
    asked, _ = ask(net, body, (("edged-tensor-content", "true"),))
    values, packed = plain.outputs[name], asked.outputs[name]
    assert not values.tensor_content
    assert not packed.float_val
    assert len(values.float_val) == math.prod(values.shape)
    np.testing.assert_array_equal(
        np.array(values.float_val, np.float32), np.frombuffer(packed.tensor_content, "<f4")
    )


def test_raw_bytes_of_the_wrong_length_are_refused(net: Device) -> None:
    tensor = wire.tensor_content(bytes(400), (1, *INPUT_SHAPE))
    error = refusal(net, wire.predict_request({INPUT: tensor}))
    assert error.code == "INVALID_ARGUMENT"
    assert str(error).startswith(f"tensor parsing error: {INPUT}")
    assert "400" in str(error)
    assert str(4 * math.prod(INPUT_SHAPE)) in str(error)


# -- the model's name


@pytest.mark.parametrize(
    "spec",
    [
        None,
        wire.model_spec(),
        wire.model_spec("net"),
        wire.model_spec(version=NET_VERSION),
        wire.model_spec("net", NET_VERSION, "serving_default"),
    ],
    ids=["absent", "empty", "name", "version", "all"],
)
def test_the_models_name_may_be_left_out_and_the_answer_has_it(
    net: Device, spec: bytes | None
) -> None:
    answer, _ = ask(net, wire.predict_request({INPUT: content()}, [SCORES], spec))
    assert (answer.model, answer.version) == ("net", NET_VERSION)
    assert answer.signature == "serving_default"


def test_another_models_name_is_refused(net: Device) -> None:
    spec = wire.model_spec("other")
    error = refusal(net, wire.predict_request({INPUT: content()}, spec=spec))
    assert error.code == "NOT_FOUND"
    assert str(error).startswith("Servable not found for request: Latest(other)")


# -- around the message


@pytest.mark.parametrize(
    "metadata",
    [
        ORIGINAL,
        # The last Python client attaches both, with nothing in them, unless it is told otherwise.
        (("authorization", "Bearer "), ("x-ms-aml-grpc-service-route", "/api/v1/service/")),
    ],
    ids=["C#", "Python"],
)
def test_the_original_clients_metadata_brings_the_output_they_read_alone(
    surface: Device, picture: bytes, metadata: tuple[tuple[str, str], ...]
) -> None:
    body = wire.predict_request({"images": wire.strings([picture])}, spec=wire.model_spec())
    everybody = ask(surface, body)[0].outputs
    theirs = ask(surface, body, metadata)[0].outputs
    assert theirs == {"output_alias": everybody["output_alias"]}


def test_fields_of_later_releases_are_ignored(surface: Device, picture: bytes) -> None:
    body = wire.predict_request({"images": wire.strings([picture])})
    later = wire.field(5, "client id") + wire.field(6, wire.field(1, 1)) + wire.field(99, 7)
    assert ask(surface, body + later)[0].outputs == ask(surface, body)[0].outputs


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_served(
    surface: Device, picture: bytes, compression: grpc.Compression
) -> None:
    body = wire.predict_request({"images": wire.strings([picture])})
    with surface.channel() as channel:
        answer = raw(channel)(body, timeout=60, compression=compression)
    assert wire.answer(answer).outputs == ask(surface, body)[0].outputs
