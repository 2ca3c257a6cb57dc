"""The newest document is what the device comes to have: over kills, dead registries and holds."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.device import Device
from tests.e2e.mqtt.conftest import Configure
from tests.e2e.mqtt.ways import ByPlain
from tests.fakes.broker import Broker
from tests.fakes.plant import Plant
from tests.fakes.proxy import Proxy
from tests.fakes.registry import Registry

Offer = Callable[..., str]


@pytest.fixture
def way(plant: Plant, broker: Broker, device: Device, configure: Configure) -> ByPlain:
    """A device that listens to the plant; it is not started yet."""
    way = ByPlain(plant, broker)
    configure(device, {**way.settings, "retry_limit": 1})
    return way


def outcome(way: ByPlain) -> dict[str, Any]:
    desired: dict[str, Any] = way.report().get("desired", {})
    return desired


@pytest.mark.long
def test_what_was_applied_is_not_applied_again_at_the_next_start(
    way: ByPlain, device: Device, offer: Offer
) -> None:
    red = offer("red")
    device.start()
    way.want(red)
    way.until_served(red)
    records = [each.number for each in device.history()]

    def more(count: int) -> bool:
        return len(way.reports()) > count

    for number in (signal.SIGTERM, signal.SIGKILL):
        device.stop(number)
        count = len(way.reports())
        device.start()
        way.until(functools.partial(more, count), what="a report")
        way.until_served(red)
        assert outcome(way)["outcome"] == "applied"
    deployed = [each.number for each in device.history() if each.cause == "deploy"]
    assert deployed == [number for number in records if number in deployed]


@pytest.mark.parametrize(
    "state",
    ["prepare", *(pytest.param(each, marks=pytest.mark.long) for each in ("fetch", "commit"))],
)
def test_a_daemon_that_is_killed_while_it_applies_one_takes_it_up_again(
    way: ByPlain,
    device: Device,
    offer: Offer,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    red, blue = offer("red"), offer("blue")
    device.start()
    way.want(red)
    way.until_served(red)
    device.stop()
    monkeypatch.setenv("EDGED_TEST_KILL", f"{state} daemon")
    device.start()
    way.want(blue)
    assert device.wait() == -signal.SIGKILL
    monkeypatch.delenv("EDGED_TEST_KILL")
    device.start()
    way.until_served(blue)
    assert device.predict(b"x") == b"blue:x"


@pytest.mark.long
def test_what_an_operator_did_stays_until_the_document_changes(
    way: ByPlain, device: Device, offer: Offer
) -> None:
    red, blue = offer("red"), offer("blue")
    device.start()
    way.want(red)
    way.until_served(red)
    assert device.deploy(blue)[-1].state == "committed"
    way.until(lambda: outcome(way)["outcome"] == "superseded", what="what others did")
    device.stop()
    device.start()  # and gets the same document again
    way.until_served(blue)
    way.plant.desired({"image": red, "id": "once more"})
    way.until_served(red)


@pytest.mark.long
def test_a_registry_that_is_away_is_tried_again_until_it_is_back(
    way: ByPlain, device: Device, offer: Offer, shop: Registry
) -> None:
    red = offer("red")
    with Proxy(shop.host) as link:
        link.down = True
        away = red.replace(shop.host, link.host)
        device.start()
        way.want(away)
        way.until(lambda: outcome(way).get("outcome") == "waiting", what="an attempt that failed")
        assert outcome(way)["error"]
        assert outcome(way)["fix"]
        link.down = False
        way.until_served(away)
        assert outcome(way)["outcome"] == "applied"


@pytest.mark.long
def test_a_newer_document_does_not_wait_for_one_that_cannot_be_had(
    way: ByPlain, device: Device, offer: Offer, shop: Registry
) -> None:
    red, blue = offer("red"), offer("blue", padding=20_000_000)
    with Proxy(shop.host, rate=1e5) as link:  # which would take minutes
        device.start()
        way.want(blue.replace(shop.host, link.host))
        way.until_report(lambda report: "deployment" in report, "the slow one under way")
        way.want(red)
        way.until_served(red)
        assert outcome(way)["outcome"] == "applied"


@pytest.mark.long
def test_a_held_device_waits_and_goes_on_when_it_is_released(
    way: ByPlain, device: Device, offer: Offer
) -> None:
    red = offer("red")
    device.start()
    held = device.edged("hold", "--owner", "line 4", "--reason", "inventory")
    assert held.returncode == 0, held.stderr
    way.want(red)
    way.until(lambda: outcome(way).get("outcome") == "waiting", what="the hold")
    assert outcome(way)["code"] == 423
    assert "line 4" in outcome(way)["error"]
    assert way.report()["hold"]["reason"] == "inventory"
    assert device.edged("release").returncode == 0
    way.until_served(red)


@pytest.mark.long
def test_an_image_in_quarantine_waits_until_that_is_cleared(
    way: ByPlain, device: Device, offer: Offer
) -> None:
    bad = offer("bad", behaviour={"probe": "fail"})
    device.start()
    way.want(bad)
    way.until(lambda: outcome(way).get("outcome") == "failed", what="the failure")
    assert "golden test failed" in outcome(way)["error"]
    device.change_behaviour({"bad": {"probe": ""}})  # it was not its fault, somebody finds
    [caught] = device.quarantine()
    assert device.edged("quarantine", "clear", caught.digest).returncode == 0
    way.until_served(bad)
    assert outcome(way)["outcome"] == "applied"


def test_nothing_that_the_broker_does_delays_a_request(
    way: ByPlain, broker: Broker, device: Device, offer: Offer
) -> None:
    """Frozen, gone, back: the requests go on as if there were none."""
    red = offer("red")
    device.start()
    way.want(red)
    way.until_served(red)
    done, slow = threading.Event(), []

    def call() -> None:
        while not done.is_set():
            assert device.predict(b"x", timeout=2.0) == b"red:x"
            slow.append(1)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        for change in (broker.freeze, broker.thaw, broker.kill, broker.start):
            before = len(slow)
            change()
            threading.Event().wait(0.5)
            assert len(slow) > before + 5, change
            assert caller.is_alive()
    finally:
        done.set()
        caller.join(10)
