"""azureml-accel-models' PredictionClient: what it did with the original service it does with edged.

The package is the last release of the original's own client. It never sends an output_filter: it
looks for the outputs it was asked for in the answer, and with none asked for it takes the only one
there is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients import foreign
from tests.clients.conftest import device_with
from tests.clients.environments import ACCEL
from tests.clients.foreign import Outcome
from tests.clients.models import FEATURES, INPUT, ORIGINAL_NAMES, PICTURES, SCORES
from tests.e2e.device import Device

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def outcomes(
    resnet50: Device, net: Device, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    """What each of the script's cases came to."""
    folder = tmp_path_factory.mktemp("accel")
    text = folder / "text.jpg"
    text.write_text("no picture")
    given = {
        "resnet50": resnet50.address,
        "net": net.address,
        "picture": str(PICTURES[0]),
        "text": str(text),
        "input": INPUT,
        "scores": SCORES,
        "features": FEATURES,
        "names": ORIGINAL_NAMES,
    }
    return foreign.run(ACCEL.python(), "accel", given, folder)


@pytest.fixture
def value(outcomes: dict[str, Outcome], request: pytest.FixtureRequest) -> Any:
    outcome = outcomes[request.param]
    assert not outcome.error, outcome
    return outcome.value


def case(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("value", [name], indirect=True, ids=[name])


@case("file_by_every_name")
def test_a_file_is_scored_by_the_names_of_every_sample(value: Any) -> None:
    assert len(value) == len(ORIGINAL_NAMES)
    first = next(iter(value.values()))
    assert first["shape"] == [1000]
    assert first["sum"] == pytest.approx(1.0, abs=1e-3)
    assert all(each == first for each in value.values())


@case("file_with_nothing_named")
def test_without_names_the_only_output_is_given(value: Any) -> None:
    assert value["shape"] == [1000]


@case("picture_as_a_tensor")
def test_a_tensor_of_strings_is_scored(value: Any) -> None:
    assert value["shape"] == [1, 1000]


@case("arrays")
def test_arrays_are_scored(value: Any) -> None:
    assert (value["type"], value["shape"]) == ("ndarray", [1, 4])
    assert value["sum"] == pytest.approx(1.0, abs=1e-3)


@case("list_of_outputs")
def test_a_list_of_outputs_comes_in_its_order(value: Any) -> None:
    assert [each["shape"] for each in value] == [[1, 4], [1, 16, 1, 1]]


@case("a_connection_for_each_call")
def test_connections_may_come_and_go(value: Any) -> None:
    assert value[0] == value[1] == value[2]


@case("what_is_no_picture")
def test_what_is_the_callers_fault_is_told_at_once(value: Any) -> None:
    # The client tries again, after seconds, whatever is not INVALID_ARGUMENT.
    assert value["code"] == "INVALID_ARGUMENT"
    assert "expected JPEG or PNG" in value["details"]
    assert value["s"] < 1.0


def test_a_restart_is_waited_out(image: Callable[[str], str], tmp_path: Path) -> None:
    with device_with(image("surface")) as device:
        target = device.address
        assert device.stop() == 0
        given = {"target": target, "picture": str(PICTURES[0])}
        with foreign.running(ACCEL.python(), "accel_retry", given, tmp_path) as script:
            script.until_printed("Retrying")
            device.start("--listen", target)
            answer = script.next()
    assert not answer.get("error"), script.told()
    assert sum(answer["value"]) == pytest.approx(1.0, abs=1e-3)


def test_a_device_without_a_model_is_asked_until_it_has_one(
    image: Callable[[str], str], tmp_path: Path
) -> None:
    with device_with(image("surface")) as device:
        device.undeploy()
        given = {"target": device.address, "picture": str(PICTURES[0])}
        with foreign.running(ACCEL.python(), "accel_retry", given, tmp_path) as script:
            script.until_printed("Retrying")
            assert device.deploy(image("surface"))[-1].state == "committed"
            answer = script.next()
    assert not answer.get("error"), script.told()
