"""Requests as TensorFlow Serving's clients and the predecessor's send them, and their answers."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from edged.errors import RequestError
from edged.manifest import Manifest
from edged.messages import DataType, PredictRequest, PredictResponse
from edged.worker import signature
from tests.unit.test_manifest import DOCUMENT

SPEC = {"type": "float32", "shape": [-1, 2]}
TWO = {
    **DOCUMENT,
    "version": "7",
    "signature": {
        "inputs": [
            {"name": "left", "aliases": ["Placeholder:0"], **SPEC},
            {"name": "right", "aliases": [], **SPEC},
        ],
        "outputs": [
            {"name": "features", "aliases": ["output_alias"], **SPEC},
            {"name": "other", "aliases": [], **SPEC},
        ],
    },
    "stages": [
        {
            "kind": "npu",
            "program": "program.npu",
            "inputs": ["left", "right"],
            "outputs": ["features", "other"],
        },
    ],
    "golden": None,
}
MANIFEST = Manifest.parse(json.dumps(TWO).encode())


def request(*names: str, outputs: tuple[str, ...] = ()) -> PredictRequest:
    made = PredictRequest(output_filter=outputs)
    for index, name in enumerate(names):
        sent = made.inputs[name]
        sent.dtype = DataType.DT_FLOAT
        sent.float_val.extend([index, index + 0.5])
        sent.tensor_shape.dim.add(size=1)
        sent.tensor_shape.dim.add(size=2)
    return made


def parse(made: PredictRequest, *, strict: bool = False) -> signature.Question:
    return signature.parse(made.SerializeToString(), MANIFEST, strict=strict)


def test_inputs_are_found_by_name_and_by_alias() -> None:
    for left in ("left", "Placeholder:0"):
        question = parse(request(left, "right"))
        np.testing.assert_array_equal(question.inputs["left"], [[0, 0.5]])
        np.testing.assert_array_equal(question.inputs["right"], [[1, 1.5]])


def test_without_a_filter_every_output_is_answered_under_all_its_names() -> None:
    assert parse(request("left", "right")).outputs == {
        "features": "features",
        "output_alias": "features",
        "other": "other",
    }


def test_the_original_clients_defaults_get_the_one_output_they_can_read() -> None:
    names = {**TWO, "signature": {**TWO["signature"]}}
    names["signature"]["inputs"] = [
        {"name": "left", "aliases": ["images"], **SPEC},
        {"name": "right", "aliases": [], **SPEC},
    ]
    manifest = Manifest.parse(json.dumps(names).encode())

    def keys(first: str, *, original: bool, outputs: tuple[str, ...] = ()) -> set[str]:
        body = request(first, "right", outputs=outputs).SerializeToString()
        return set(signature.parse(body, manifest, original=original).outputs)

    assert keys("images", original=True) == {"output_alias"}
    assert keys("images", original=True, outputs=("other",)) == {"other"}
    every = {"features", "output_alias", "other"}
    assert keys("left", original=True) == keys("images", original=False) == every


def test_a_filter_chooses_outputs_and_their_names() -> None:
    question = parse(request("left", "right", outputs=("other", "output_alias")))
    assert question.outputs == {"other": "other", "output_alias": "features"}


def test_the_answer_names_the_model_that_gave_it() -> None:
    question = parse(request("left", "right", outputs=("output_alias",)))
    values = {"features": np.array([[1, 2]], np.float32)}
    for content in (False, True):
        body = signature.answer(MANIFEST, question, values, content=content)
        response = PredictResponse.FromString(body)
        assert response.model_spec.name == "surface"
        assert response.model_spec.version.value == 7
        assert response.model_spec.signature_name == "serving_default"
        assert list(response.outputs) == ["output_alias"]
        assert list(response.outputs["output_alias"].float_val) == ([] if content else [1, 2])


def test_a_version_that_is_no_number_is_left_out() -> None:
    manifest = Manifest.parse(json.dumps({**TWO, "version": "2026-07"}).encode())
    question = signature.parse(request("left", "right").SerializeToString(), manifest)
    response = PredictResponse.FromString(
        signature.answer(
            manifest,
            question,
            {"features": np.zeros((1, 2), np.float32), "other": np.zeros((1, 2), np.float32)},
        )
    )
    assert not response.model_spec.HasField("version")


def named(name: str = "surface", **fields: object) -> PredictRequest:
    made = request("left", "right")
    made.model_spec.name = name
    if "version" in fields:
        made.model_spec.version.value = int(str(fields["version"]))
    if "label" in fields:
        made.model_spec.version_label = str(fields["label"])
    made.model_spec.signature_name = str(fields.get("signature", ""))
    return made


def test_the_models_name_version_and_signature_may_be_given() -> None:
    for made in (
        named(),
        named(version=7),
        named("", version=7),
        named(signature="serving_default"),
    ):
        assert parse(made).inputs


def test_strict_demands_a_name_as_tensorflow_serving_does() -> None:
    assert parse(named(), strict=True).inputs
    with pytest.raises(RequestError, match=r"^Missing ModelSpec$"):
        parse(request("left", "right"), strict=True)
    with pytest.raises(RequestError, match=r"^ModelSpec has no name specified\.$"):
        parse(named("", version=7), strict=True)


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (
            lambda: named("other"),
            "NOT_FOUND",
            "Servable not found for request: Latest(other); expected model 'surface'",
        ),
        (
            lambda: named(version=8),
            "NOT_FOUND",
            "Servable not found for request: Specific(surface, 8)",
        ),
        (
            lambda: named(label="stable"),
            "INVALID_ARGUMENT",
            "Unrecognized servable version label: stable",
        ),
        (
            lambda: named(signature="train"),
            "FAILED_PRECONDITION",
            'Serving signature key "train" not found.',
        ),
        (
            lambda: request("left", "right", "extra"),
            "INVALID_ARGUMENT",
            (
                "input size does not match signature: 3!=2 len({extra,left,right}) != "
                "len({left,right}). Sent extra: {extra}. Missing but required: {}."
            ),
        ),
        (
            lambda: request("left"),
            "INVALID_ARGUMENT",
            (
                "input size does not match signature: 1!=2 len({left}) != len({left,right}). "
                "Sent extra: {}. Missing but required: {right}."
            ),
        ),
        (request, "INVALID_ARGUMENT", "Missing but required: {left,right}."),
        (
            lambda: request("left", "wrong"),
            "INVALID_ARGUMENT",
            (
                "Signature input alias: right(feed name: right:0) not found in request and no "
                "default value provided."
            ),
        ),
        (
            lambda: request("left", "Placeholder:0"),
            "INVALID_ARGUMENT",
            "Signature input alias: left",
        ),
        (
            lambda: request("left", "right", outputs=("none",)),
            "INVALID_ARGUMENT",
            (
                "output tensor alias not found in signature: none Outputs expected to be in the "
                "set {features,other,output_alias}."
            ),
        ),
        (
            lambda: request("left", "right", outputs=("other", "other")),
            "INVALID_ARGUMENT",
            "duplicate output tensor alias: other",
        ),
    ],
)
def test_errors_are_tensorflow_servings(
    make: Callable[[], PredictRequest], code: str, says: str
) -> None:
    with pytest.raises(RequestError) as caught:
        parse(make())
    assert caught.value.code == code
    assert says in str(caught.value)


def test_values_that_do_not_parse_are_named() -> None:
    made = request("left", "right")
    made.inputs["right"].float_val.append(1)
    with pytest.raises(RequestError, match=r"^tensor parsing error: right: 3 values in float_val"):
        parse(made)


def test_bytes_that_are_no_request_are_refused() -> None:
    with pytest.raises(RequestError, match="cannot parse PredictRequest") as caught:
        signature.parse(b"\xff\xff\xff", MANIFEST)
    assert caught.value.code == "INVALID_ARGUMENT"


LONG = "x" * 100_000


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: request(LONG, "right"), "Inputs expected to be in the set {Placeholder:0,left,"),
        (lambda: request(LONG), "Missing but required: {left,right}."),
        (
            lambda: request(*(f"input-{number:04}" for number in range(2000))),
            ",... and 1980 more}) != len({left,right})",
        ),
        (lambda: request("left", "right", outputs=(LONG,)), "set {features,other,output_alias}."),
        (lambda: named(LONG), "...); expected model 'surface', version '7'"),
        (lambda: named(label=LONG), "...; versions have no labels here"),
        (lambda: named(signature=LONG), 'not found. Expected "serving_default".'),
    ],
)
def test_names_of_any_length_do_not_hide_what_was_expected(
    make: Callable[[], PredictRequest], says: str
) -> None:
    with pytest.raises(RequestError) as caught:
        parse(make())
    assert says in str(caught.value)
    assert len(str(caught.value)) < 1024
