"""What is reported is true, and whoever has no more than one report can tell how old it may be."""

from __future__ import annotations

import functools
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.device import Device
from tests.e2e.mqtt import ways
from tests.e2e.mqtt.conftest import Configure
from tests.e2e.mqtt.ways import ByManifest, ByTwin, Way, manifest, succeeded
from tests.e2e.mqtt.world import lies
from tests.fakes.broker import Broker
from tests.fakes.hub import Hub
from tests.fakes.plant import Plant

OWN_LIMIT = 8 * 1024  # bytes


def is_stale(report: dict[str, Any], received: float, now: float, online: bool = True) -> bool:
    """A reader's test: it has one document and knows when it came."""
    return not online or now - received > report["ttl"]


@pytest.mark.parametrize(
    "way", ["plain", pytest.param("twin", marks=pytest.mark.long)], indirect=True
)
def test_reports_are_the_truth_after_each_change(
    way: Way, device: Device, configure: Configure, offer: Callable[..., str]
) -> None:
    configure(device, way.settings)
    device.start()
    red, blue = offer("red"), offer("blue", counter=7)
    for reference in (red, blue):
        way.want(reference)
        assert lies(device, way.until_served(reference)) == []
    device.rollback()  # by somebody at the device
    assert lies(device, way.until_served(red)) == []
    way.until_report(lambda report: report["desired"]["outcome"] == "superseded", "whose doing")
    device.undeploy()
    assert lies(device, way.until_gone()) == []
    for each in way.reports():
        assert len(json.dumps(each).encode()) <= OWN_LIMIT


@pytest.mark.long
@pytest.mark.parametrize("way", ["plain", "twin"], indirect=True)
def test_a_reader_with_one_report_can_tell_that_it_is_stale(
    way: Way, device: Device, configure: Configure
) -> None:
    """Over a kill -9: the report that stays behind ages, and the next one is another start's."""
    configure(device, {**way.settings, "report_ttl": 10, "retry_limit": 1})
    device.start()
    way.until(way.report, what="a report")
    before = len(way.reports())
    way.until(lambda: len(way.reports()) > before + 1, 30.0, "the next two reports by themselves")
    reports = way.reports()
    assert {each["boot_id"] for each in reports} == {reports[0]["boot_id"]}
    numbers = [each["seq"] for each in reports]
    assert numbers == sorted(set(numbers)), "each is newer than the one before"
    device.stop(signal.SIGKILL)
    left = way.report()
    received = time.monotonic()
    assert not is_stale(left, received, received + left["ttl"] - 1)
    assert is_stale(left, received, received + left["ttl"] + 1)
    count = len(way.reports())
    device.start()
    way.until(lambda: len(way.reports()) > count, what="a report of the next start")
    after = way.reports()[count]
    assert after["boot_id"] != left["boot_id"], "which is how the reader knows that it is"


def test_a_will_says_at_once_that_the_device_is_gone(
    device: Device, configure: Configure, broker: Broker, plant: Plant
) -> None:
    configure(device, ways.plain_settings(broker))
    device.start()

    def online() -> bool | None:
        heard = plant.last("online")
        return heard.json()["online"] if heard else None

    plant.until(lambda: online() is True, what="online")
    device.stop(signal.SIGKILL)
    plant.until(lambda: online() is False, what="the will")
    device.start()
    plant.until(lambda: online() is True, what="online again")
    device.stop()
    plant.until(lambda: online() is False, what="the farewell")
    plant.until(lambda: plant.reported().get("state") == "stopping", what="the last report")


@pytest.mark.long
def test_the_hub_is_told_by_the_last_will(device: Device, configure: Configure, hub: Hub) -> None:
    way = ByTwin(hub)
    configure(device, way.settings)
    device.start()
    way.until(way.report, what="a report")
    device.stop(signal.SIGKILL)
    hub.until(lambda: any(each.will for each in hub.telemetry(ways.DEVICE)), what="the will")


# -- IoT Edge


def test_operators_of_iot_edge_see_success_when_it_is_true_and_not_before(
    device: Device, configure: Configure, offer: Callable[..., str], hub: Hub
) -> None:
    way = ByManifest(hub)
    configure(device, way.settings)
    device.start()
    red, blue = offer("red"), offer("blue", behaviour={"hello_after": 0.5})

    def succeeds() -> bool:
        desired = hub.wanted(way.name)
        return succeeded(desired, hub.version(way.name), hub.reported(way.name))

    for reference, name in ((red, "red"), (blue, "blue"), (red, "red")):
        way.want(reference)
        way.until(succeeds, what=f"success with {reference}")
        assert device.predict(b"x") == f"{name}:x".encode()
        assert device.status().model.reference.startswith(reference)
    # At each report that passes the test, the model was the one that was desired then.
    for each in hub.reports(way.name):
        modules = each.whole.get("modules", {})
        if modules and modules["model"]["runtimeStatus"] == "running":
            own = each.whole["edged"]
            assert modules["model"]["settings"]["image"] in own["model"]["reference"]
    way.want_nothing()
    way.until_gone()
    way.until(succeeds, what="success without modules")


@pytest.mark.long
def test_what_is_no_model_is_reported_412_beside_the_model_that_is_served(
    device: Device, configure: Configure, offer: Callable[..., str], hub: Hub, shop: Any
) -> None:
    way = ByManifest(hub)
    configure(device, way.settings)
    device.start()
    red, blue = offer("red"), offer("blue")
    hub.desired(way.name, manifest(red, blue), replace=True)
    way.until_served(red)
    way.until(
        lambda: hub.reported(way.name)["modules"]["model2"]["runtimeStatus"] == "failed",
        what="the second model refused",
    )
    reported = hub.reported(way.name)
    assert reported["lastDesiredStatus"]["code"] == 412
    assert reported["modules"]["model"]["runtimeStatus"] == "running"
    assert "412" in reported["modules"]["model2"]["statusDescription"]


@pytest.mark.long
def test_create_options_come_back_in_the_chunks_they_came_in(
    device: Device, configure: Configure, offer: Callable[..., str], hub: Hub
) -> None:
    way = ByManifest(hub)
    configure(device, way.settings)
    device.start()
    red = offer("red")
    wanted = manifest(red)
    assert len(wanted["modules"]["model"]["settings"]) > 2, "there are several"
    hub.desired(way.name, wanted, replace=True)
    way.until_served(red)
    settings = hub.reported(way.name)["modules"]["model"]["settings"]
    assert wanted["modules"]["model"]["settings"].items() <= settings.items()


@pytest.mark.long
def test_an_unknown_schema_is_412_and_no_manifest_at_all_is_refused(
    device: Device, configure: Configure, offer: Callable[..., str], hub: Hub
) -> None:
    way = ByManifest(hub)
    configure(device, way.settings)
    device.start()
    red = offer("red")
    way.want(red)
    way.until_served(red)

    def answered(code: int) -> bool:
        return bool(hub.reported(way.name)["lastDesiredStatus"]["code"] == code)

    for change, code in (({"schemaVersion": "2.0"}, 412), ({"modules": {"x": 1}}, 400)):
        hub.desired(way.name, {**manifest(red), **change}, replace=True)
        way.until(functools.partial(answered, code), what=f"code {code}")
        reported = hub.reported(way.name)
        assert reported["lastDesiredVersion"] == hub.version(way.name)
        assert reported["lastDesiredStatus"]["description"]
        assert device.predict(b"x") == b"red:x", "the current model never changes"


@pytest.mark.long
def test_a_password_in_a_manifest_is_nowhere_on_the_disk(
    device: Device, configure: Configure, offer: Callable[..., str], hub: Hub
) -> None:
    way = ByManifest(hub)
    configure(device, way.settings)
    device.start()
    red = offer("red")
    host = red.removeprefix("docker://").partition("/")[0]
    secret = "never-to-be-seen"
    credentials = {"shop": {"username": "edged", "password": secret, "address": host}}
    hub.desired(way.name, manifest(red, credentials=credentials), replace=True)
    way.until_served(red)
    device.stop()
    for path in device.folder.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert secret not in json.dumps([each.whole for each in hub.reports(way.name)])
