"""tensorflow-serving-api's stubs with TensorFlow: edged is TensorFlow Serving to them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients import foreign
from tests.clients.environments import TENSORFLOW
from tests.clients.foreign import Outcome
from tests.clients.models import FEATURES, INPUT, INPUT_SHAPE, MAPS, OUTPUT_SHAPES, PICTURES, SCORES
from tests.e2e.device import Device

pytestmark = pytest.mark.long

AVAILABLE = 30  # ModelVersionStatus.State
DT_FLOAT, DT_STRING = 1, 7


@pytest.fixture(scope="module")
def outcomes(
    surface: Device, net: Device, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    """What each of the script's cases came to; TensorFlow is imported once."""
    names = {"input": INPUT, "scores": SCORES, "features": FEATURES, "maps": MAPS}
    addresses = {"surface": surface.address, "net": net.address}
    paths = [str(path) for path in PICTURES[:3]]
    folder = tmp_path_factory.mktemp("tfserving")
    return foreign.run(
        TENSORFLOW.python(), "tfserving", {**names, **addresses, "pictures": paths}, folder
    )


@pytest.fixture
def value(outcomes: dict[str, Outcome], request: pytest.FixtureRequest) -> Any:
    """The value of the case that the test names."""
    outcome = outcomes[request.param]
    assert not outcome.error, outcome
    return outcome.value


def case(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("value", [name], indirect=True, ids=[name])


# -- Predict


@pytest.mark.parametrize("count", [1, 3])
def test_pictures_are_answered_in_typed_fields_under_every_name(
    outcomes: dict[str, Outcome], count: int
) -> None:
    answer = outcomes["one_picture" if count == 1 else "three_pictures"].value
    assert set(answer) == {"probabilities", "output_alias"}
    for tensor in answer.values():
        assert (tensor["dtype"], tensor["shape"]) == ("float32", [count, 5])
        assert (tensor["float_val"], tensor["tensor_content"]) == (5 * count, 0)
        assert sum(tensor["values"]) == pytest.approx(count, abs=1e-3)
    first = outcomes["one_picture"].value["probabilities"]["values"]
    assert answer["probabilities"]["values"][:5] == first


def test_a_picture_that_is_no_batch_is_refused(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["a_picture_without_a_batch"]
    assert outcome.code == "INVALID_ARGUMENT"
    assert "shape []" in outcome.details
    assert "[-1]" in outcome.details


def test_floats_are_the_same_raw_and_typed(outcomes: dict[str, Outcome]) -> None:
    raw, typed = outcomes["raw_floats"].value, outcomes["typed_floats"].value
    assert raw == typed
    shapes = {name: tensor["shape"] for name, tensor in raw.items()}
    assert shapes == {name: [1, *shape] for name, shape in OUTPUT_SHAPES.items()}
    assert all(tensor["float_val"] and not tensor["tensor_content"] for tensor in raw.values())


@case("one_float_for_all")
def test_a_constant_as_tensorflow_writes_it(value: Any) -> None:
    assert value["short"] == value["full"]


@case("filtered")
def test_the_filter_chooses_outputs(value: Any) -> None:
    assert set(value) == {FEATURES, SCORES}


@case("tensor_content_asked_for")
def test_raw_bytes_come_when_asked_for(value: Any) -> None:
    count = 3 * 224 * 224
    assert (value[MAPS]["float_val"], value[MAPS]["tensor_content"]) == (0, 4 * count)
    assert value[MAPS]["shape"] == [1, 3, 224, 224]


@case("model_spec_of_the_answer")
def test_the_answer_says_which_model_it_was(value: Any) -> None:
    assert value == ["net", 3, "serving_default"]


@case("a_large_batch")
def test_a_message_of_almost_64_mib_is_served(value: Any) -> None:
    assert value["bytes"] > 63 * 1024 * 1024
    assert value["rows"] > 100
    assert value["same"]


def test_a_message_over_64_mib_is_refused(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["a_message_over_the_limit"]
    assert outcome.code == "RESOURCE_EXHAUSTED"


@case("asynchronously")
def test_asyncio_stubs_work_too(value: Any) -> None:
    assert len(value) == 3
    assert all(answer["probabilities"]["shape"] == [1, 5] for answer in value)


def test_what_is_not_there_is_unimplemented(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["classify"].code == "UNIMPLEMENTED"


@pytest.mark.parametrize(
    ("case", "code", "parts"),
    [
        ("without_input", "INVALID_ARGUMENT", ["input size does not match signature: 0!=1", INPUT]),
        ("with_two_inputs", "INVALID_ARGUMENT", ["does not match signature: 2!=1", "{extra}"]),
        ("by_another_name", "INVALID_ARGUMENT", [f"Signature input alias: {INPUT}", "{x}"]),
        ("of_integers", "INVALID_ARGUMENT", ["DT_INT32", "DT_FLOAT"]),
        ("of_another_shape", "INVALID_ARGUMENT", ["[1, 3, 100, 224]", "[-1, 3, 224, 224]"]),
        (
            "with_an_unknown_output",
            "INVALID_ARGUMENT",
            ["output tensor alias not found in signature: x", SCORES],
        ),
        ("with_an_output_twice", "INVALID_ARGUMENT", [f"duplicate output tensor alias: {SCORES}"]),
        ("of_another_model", "NOT_FOUND", ["Servable not found for request: Latest(other)"]),
        ("of_another_version", "NOT_FOUND", ["Servable not found for request: Specific(net, 9)"]),
        ("by_a_label", "INVALID_ARGUMENT", ["Unrecognized servable version label: canary"]),
        (
            "of_another_signature",
            "FAILED_PRECONDITION",
            ['Serving signature key "regress" not found.'],
        ),
    ],
)
def test_refusals_have_tf_servings_codes_and_words(
    outcomes: dict[str, Outcome], case: str, code: str, parts: list[str]
) -> None:
    told = outcomes["refusals"].value[case]
    assert told.get("code") == code, told
    assert all(part in told["details"] for part in parts), told["details"]


# -- GetModelMetadata


@case("metadata_of_the_net")
def test_the_signature_is_the_models(value: Any) -> None:
    assert value["spec"] == ["net", 3, ""]
    assert value["fields"] == ["signature_def"]
    signature = value["signatures"]["serving_default"]
    assert signature["method"] == "tensorflow/serving/predict"
    assert {name: info[1:] for name, info in signature["inputs"].items()} == {
        INPUT: [DT_FLOAT, [-1, *INPUT_SHAPE]]
    }
    assert {name: info[1:] for name, info in signature["outputs"].items()} == {
        name: [DT_FLOAT, [-1, *shape]] for name, shape in OUTPUT_SHAPES.items()
    }


@case("metadata_of_the_surface_model")
def test_pictures_are_strings_in_the_signature(value: Any) -> None:
    signature = value["signatures"]["serving_default"]
    assert signature["inputs"]["images"][1:] == [DT_STRING, [-1]]
    assert signature["outputs"]["probabilities"][1:] == [DT_FLOAT, [-1, 5]]


@case("metadata_without_a_name")
def test_the_signature_needs_no_models_name(value: Any) -> None:
    assert value["spec"][:2] == ["net", 3]


@pytest.mark.parametrize(
    ("case", "code", "text"),
    [
        (
            "metadata_without_a_field",
            "INVALID_ARGUMENT",
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (
            "metadata_of_another_field",
            "INVALID_ARGUMENT",
            "Metadata field weights is not supported",
        ),
        (
            "metadata_of_another_model",
            "NOT_FOUND",
            "Servable not found for request: Latest(other)",
        ),
        (
            "status_of_another_version",
            "NOT_FOUND",
            "Could not find version 9 of model net",
        ),
        ("status_of_another_model", "NOT_FOUND", "Could not find any versions of model other"),
    ],
)
def test_questions_about_what_is_not_there(
    outcomes: dict[str, Outcome], case: str, code: str, text: str
) -> None:
    assert outcomes[case].code == code, outcomes[case]
    assert outcomes[case].details.startswith(text)


# -- GetModelStatus


@pytest.mark.parametrize("value", ["status_of_the_net", "status_of_its_version"], indirect=True)
def test_the_model_is_available(value: Any) -> None:
    assert value == [[3, AVAILABLE, 0, ""]]
