"""A hub that drops, repeats, reorders, throttles, evicts and falls silent: the twin converges."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.device import Device
from tests.e2e.mqtt import ways
from tests.e2e.mqtt.conftest import Configure
from tests.e2e.mqtt.ways import ByTwin
from tests.fakes.hub import Hub

QUICK = {"retry_limit": 1, "keepalive": 5}


@pytest.fixture
def way(hub: Hub, device: Device, configure: Configure) -> ByTwin:
    """A device that is connected."""
    way = ByTwin(hub)
    configure(device, {**way.settings, **QUICK})
    device.start()
    hub.until(lambda: hub.connected(ways.DEVICE) and way.report(), what="the device")
    return way


@pytest.fixture
def models(offer: Callable[..., str]) -> list[str]:
    return [offer(name) for name in ("red", "blue")]


def section(reference: str) -> dict[str, Any]:
    return {"edged": {"image": reference}}


def test_patches_that_come_twice_or_in_the_wrong_order_change_nothing(
    way: ByTwin, hub: Hub, device: Device, models: list[str]
) -> None:
    red, blue = models
    first = hub.desired(ways.DEVICE, section(red))
    way.until_served(red)
    second = hub.desired(ways.DEVICE, section(blue))
    way.until_served(blue)
    swaps = len(device.history())
    for late in (first, second, first):
        hub.deliver(ways.DEVICE, late)
    # A method's answer comes after them.
    assert hub.invoke(ways.DEVICE, "ping", timeout=5)[0] == 200
    third = hub.desired(ways.DEVICE, {"another": 1})
    way.until(lambda: way.report()["desired"]["version"] == third.version, what="the newest")
    assert len(device.history()) == swaps
    assert device.predict(b"x") == b"blue:x"


def test_a_patch_that_got_lost_is_made_up_for_by_the_next(
    way: ByTwin, hub: Hub, models: list[str]
) -> None:
    """The one before had the image; the next one alone does not say it."""
    red, _ = models
    hub.desired(ways.DEVICE, section(red), deliver=False)
    hub.desired(ways.DEVICE, {"another": 1})
    way.until_served(red)


@pytest.mark.long
def test_what_was_desired_while_the_device_was_away_is_found_by_asking(
    way: ByTwin, hub: Hub, models: list[str]
) -> None:
    red, blue = models
    hub.desired(ways.DEVICE, section(red))
    way.until_served(red)
    hub.refuse(3, times=2)
    hub.cut(ways.DEVICE)
    hub.desired(ways.DEVICE, section(blue))
    way.until_served(blue)


@pytest.mark.long
def test_throttling_is_waited_out(way: ByTwin, hub: Hub, models: list[str]) -> None:
    red, blue = models
    hub.fail(429, times=3, operation="reported")
    hub.desired(ways.DEVICE, section(red))
    way.until_served(red)
    hub.fail(429, times=2, operation="get")
    hub.cut(ways.DEVICE)
    hub.desired(ways.DEVICE, section(blue))
    way.until_served(blue)


@pytest.mark.long
def test_an_answer_that_never_comes_is_not_waited_for(
    way: ByTwin, hub: Hub, models: list[str]
) -> None:
    red, blue = models
    hub.fail(None, operation="reported")
    hub.desired(ways.DEVICE, section(red))
    way.until_served(red)
    hub.fail(None, operation="get")
    hub.cut(ways.DEVICE)
    hub.desired(ways.DEVICE, section(blue))
    way.until_served(blue)


@pytest.mark.long
def test_who_is_evicted_comes_back_and_goes_on(way: ByTwin, hub: Hub, models: list[str]) -> None:
    red, _ = models
    hub.evict(ways.DEVICE)
    hub.until(lambda: hub.connects(ways.DEVICE) > 1, what="the device's return")
    hub.desired(ways.DEVICE, section(red))
    way.until_served(red)


@pytest.mark.long
def test_a_hub_that_falls_silent_is_left_and_found_again(
    way: ByTwin, hub: Hub, models: list[str]
) -> None:
    red, _ = models
    hub.silence(ways.DEVICE)
    hub.desired(ways.DEVICE, section(red), deliver=False)
    hub.until(lambda: hub.connects(ways.DEVICE) > 1, 60.0, "another attempt")
    hub.silence(ways.DEVICE, False)
    way.until_served(red)


@pytest.mark.long
def test_a_section_that_never_was_says_nothing_and_one_that_is_gone_undeploys(
    way: ByTwin, hub: Hub, device: Device, models: list[str], offer: Callable[..., str]
) -> None:
    red, blue = models
    assert device.deploy(red)[-1].state == "committed"
    hub.desired(ways.DEVICE, {"of": "others"})
    way.until_served(red)
    hub.desired(ways.DEVICE, section(blue))
    way.until_served(blue)
    hub.desired(ways.DEVICE, {"edged": None})
    way.until_gone()


@pytest.mark.parametrize(
    ("document", "names"),
    [
        ({"imagee": "x"}, "imagee"),
        *(
            pytest.param(document, names, marks=pytest.mark.long)
            for document, names in (
                ({"image": 7}, "image"),
                ({"image": "docker://x/y", "policy": {"forced": True}}, "forced"),
                ({"image": "docker://x/y", "status": "paused"}, "paused"),
                ({"image": "docker://x/y", "digest": "sha256:12"}, "sha256:12"),
                ({"digest": "sha256:" + "0" * 64}, "image"),
                (["image"], "list"),
            )
        ),
    ],
)
def test_a_document_that_makes_no_sense_is_refused_with_what_is_wrong(
    way: ByTwin,
    hub: Hub,
    device: Device,
    models: list[str],
    document: Any,
    names: str,
) -> None:
    red, _ = models
    hub.desired(ways.DEVICE, section(red))
    way.until_served(red)
    sent = hub.desired(ways.DEVICE, {"edged": document}, replace=True)
    way.until(lambda: way.report()["desired"].get("version") == sent.version, what="its outcome")
    outcome = way.report()["desired"]
    assert (outcome["outcome"], outcome["code"]) == ("invalid", 400)
    assert names in outcome["error"]
    assert outcome["fix"]
    assert device.predict(b"x") == b"red:x"


def test_methods_are_answered_at_once_and_their_work_is_followed(
    way: ByTwin, hub: Hub, device: Device, models: list[str]
) -> None:
    red, blue = models

    def done(answer: Any) -> dict[str, Any]:
        """The outcome of what was begun, for which the hub is asked again and again."""
        while True:
            status, task = hub.invoke(
                ways.DEVICE, "GetTaskStatus", {"correlationId": answer["correlationId"]}, 5
            )
            assert status == 200
            if task["status"] != "Running":
                return dict(task)

    def call(name: str, payload: Any = None) -> tuple[int, Any]:
        return hub.invoke(ways.DEVICE, name, payload, timeout=2)

    assert call("ping")[0] == 200
    for reference in (red, blue):
        status, answer = call("Deploy", {"image": reference})
        assert status == 202
        assert done(answer)["status"] == "Completed"
    assert device.predict(b"x") == b"blue:x"
    assert done(call("RunSelfTest")[1])["status"] == "Completed"
    assert done(call("RestartModule")[1])["status"] == "Completed"
    assert done(call("Rollback")[1])["status"] == "Completed"
    assert device.predict(b"x") == b"red:x"
    status, logs = call(
        "GetModuleLogs", {"items": [{"id": ".*", "filter": {"tail": 10}}], "encoding": "none"}
    )
    if status == 202:  # it took longer than a second
        logs = done(logs)["result"]
    assert isinstance(logs, list)
    assert done(call("Undeploy")[1])["status"] == "Completed"
    way.until_gone()
    for name, payload, code in (
        ("NoSuchMethod", None, 404),
        ("Deploy", {}, 400),
        ("Deploy", {"image": 1}, 400),
        ("Deploy", b"\xff", 400),
        ("GetTaskStatus", {"correlationId": "?"}, 404),
        ("Rollback", {"force": "yes"}, 400),
    ):
        status, answer = call(name, payload)
        assert status == code, (name, answer)
        assert answer["error"]["message"]
        assert answer["error"]["fix"]


@pytest.mark.long
def test_telemetry_has_counts_and_results_and_says_what_it_is(
    hub: Hub, device: Device, configure: Configure, models: list[str]
) -> None:
    way = ByTwin(hub)
    sends = {"telemetry_interval": 1, "results": True, "results_rate": 50}
    configure(device, {**way.settings, **QUICK, **sends})
    device.start()
    hub.desired(ways.DEVICE, section(models[0]))
    way.until_served(models[0])
    for _ in range(3):
        device.predict(b"x")

    def sent(kind: str) -> list[dict[str, Any]]:
        every = [each.json() for each in hub.telemetry(ways.DEVICE) if not each.will]
        return [each for each in every if each["kind"] == kind]

    hub.until(lambda: len(sent("result")) == 3, what="the results")
    assert [each["seq"] for each in sent("result")] == [1, 2, 3]
    hub.until(
        lambda: sum(each["counts"]["answered"] for each in sent("telemetry")) == 3, what="counts"
    )
    assert any(each["latency_us"]["count"] for each in sent("telemetry"))
    assert [each["event"] for each in sent("event")] == ["committed"]
    for each in hub.telemetry(ways.DEVICE):
        assert each.properties["$.ct"] == "application/json"
        assert each.properties["$.ce"] == "utf-8"
        assert len(each.body) <= 4096
        json.loads(each.body)
