"""gRPC's own health client: who watches learns at once whether requests are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.clients import foreign
from tests.clients.conftest import device_with
from tests.clients.environments import HEALTH
from tests.clients.foreign import Outcome, Script
from tests.e2e.device import Device

pytestmark = pytest.mark.long

# The whole server; what answers, by TensorFlow Serving's names too; the model. Not yet
# inference.GRPCInferenceService: there is no such service to be healthy.
NAMES = (
    "",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "PredictionService",
    "ModelService",
    "model/surface",
)
WATCHED = (*NAMES, "no.such.Service")


@pytest.fixture(scope="module")
def device(image: Callable[[str], str]) -> Iterator[Device]:
    """One of its own: its model comes and goes."""
    with device_with(image("surface")) as device:
        yield device


@pytest.fixture
def script(device: Device, tmp_path: Path) -> Iterator[Script]:
    names = [*NAMES, "no.such.Service", "model/other"]
    given = {"target": device.address, "names": names, "watch": WATCHED}
    with foreign.running(HEALTH.python(), "health", given, tmp_path) as script:
        yield script


def outcomes(script: Script) -> dict[str, Outcome]:
    """What its cases came to; the script goes on."""
    found: dict[str, Outcome] = {}
    while (line := script.next()) != {"case": "end"}:
        name = line.pop("case")
        found[name] = Outcome(**line)
    return found


def follow(script: Script, known: dict[str, str], expected: Mapping[str, str]) -> None:
    """Returns when what was told makes up ``expected``; whatever is told must be new."""
    while known != expected:
        line = script.next()
        name, status = line["service"], line["status"]
        assert known.get(name) != status, f"{name!r} was told {status} already"
        known[name] = status


def test_every_name_has_the_servers_one_state(script: Script) -> None:
    found = outcomes(script)
    checks = found["checks"].value
    assert {name: checks[name].get("value") for name in NAMES} == dict.fromkeys(NAMES, "SERVING")
    for unknown in ("no.such.Service", "model/other"):
        assert checks[unknown]["code"] == "NOT_FOUND"


def test_list_has_them_all(script: Script) -> None:
    listed = outcomes(script)["listed"]
    assert not listed.error, listed
    assert listed.value == dict.fromkeys(NAMES, "SERVING")


def test_who_watches_sees_the_model_go_and_come_back(
    script: Script, device: Device, image: Callable[[str], str]
) -> None:
    outcomes(script)
    known: dict[str, str] = {}
    unknown = {"no.such.Service": "SERVICE_UNKNOWN"}
    serving = dict.fromkeys(NAMES, "SERVING") | unknown
    follow(script, known, serving)
    device.undeploy()
    gone = {"model/surface": "SERVICE_UNKNOWN"} | unknown
    follow(script, known, dict.fromkeys(NAMES, "NOT_SERVING") | gone)
    assert device.deploy(image("surface"))[-1].state == "committed"
    follow(script, known, serving)


def test_without_a_model_every_name_says_not_serving(
    device: Device, image: Callable[[str], str], tmp_path: Path
) -> None:
    device.undeploy()
    try:
        given = {"target": device.address, "names": NAMES[:-1], "watch": []}
        found = foreign.run(HEALTH.python(), "health", given, tmp_path)
    finally:
        device.deploy(image("surface"))
    assert {each["value"] for each in found["checks"].value.values()} == {"NOT_SERVING"}
