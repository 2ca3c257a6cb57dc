"""Health, GetModelStatus and refusals agree on a model that comes, goes or does not start."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from edged import messages
from edged.client import Client, Retry, VersionStatus
from edged.messages import ServingStatus
from tests.e2e.device import CALL_LIMIT, START_LIMIT, Device, raw
from tests.fakes import images

NEVER_AGAIN = Retry(attempts=1)


def health(device: Device) -> dict[str, str]:
    """What health lists, by name."""
    with device.channel() as channel:
        listing = channel.unary_unary(
            "/grpc.health.v1.Health/List",
            messages.HealthListRequest.SerializeToString,
            messages.HealthListResponse.FromString,
        )
        reply = listing(messages.HealthListRequest(), timeout=CALL_LIMIT)
    return {name: ServingStatus(each.status).name for name, each in reply.statuses.items()}


def states(device: Device) -> tuple[VersionStatus, ...]:
    with Client(device.address, retry=NEVER_AGAIN) as client:
        return client.status()


def until(device: Device, state: str) -> VersionStatus:
    """Returns the model's status once it has this state."""
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        (version,) = states(device)
        if version.state == state:
            return version
    raise AssertionError(f"the model is {version}, expected {state}; {device.log_text()}")


def behave(device: Device, **behaviour: str) -> None:
    """Makes the worker of the deployed model do this when it is started again."""
    device.change_behaviour({"fake": behaviour})


@pytest.fixture
def serving(device: Device) -> Device:
    device.start()
    assert device.deploy(images.write(device.folder / "image"))[-1].state == "committed"
    return device


def test_a_model_comes_and_goes(device: Device) -> None:
    device.start()
    assert set(health(device).values()) == {"NOT_SERVING"}
    assert "model/fake" not in health(device)
    device.deploy(images.write(device.folder / "image"))
    assert health(device)["model/fake"] == "SERVING"
    assert set(health(device).values()) == {"SERVING"}
    assert states(device) == (VersionStatus(1, "AVAILABLE"),)
    device.undeploy()
    assert set(health(device).values()) == {"NOT_SERVING"}
    assert "model/fake" not in health(device)


def test_a_model_that_takes_the_place_of_another_takes_its_name_too(serving: Device) -> None:
    serving.deploy(images.write(serving.folder / "next", "next"))
    known = health(serving)
    assert known["model/next"] == "SERVING"
    assert "model/fake" not in known


def test_a_model_that_is_being_loaded_is_known_by_its_name(serving: Device) -> None:
    serving.stop()
    behave(serving, hello="hang")
    serving.start()
    assert states(serving) == (VersionStatus(1, "LOADING"),)
    assert health(serving)["model/fake"] == "NOT_SERVING"
    with Client(serving.address) as client:
        assert client.metadata().inputs["x"].shape == (-1, 4)


def test_a_model_that_does_not_start_any_more_has_ended_with_the_reason(serving: Device) -> None:
    behave(serving, hello="exit")
    serving.kill_worker()
    ended = until(serving, "END")
    assert ended.code == "UNAVAILABLE"
    assert "ended 3 times without an answer" in ended.error
    assert health(serving)["model/fake"] == "NOT_SERVING"
    with serving.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        raw(channel)(b"x", timeout=CALL_LIMIT)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    said = {each.key: each.value for each in caught.value.trailing_metadata()}
    assert int(said["grpc-retry-pushback-ms"]) > 0
    assert said["edged-request-id"]


def test_a_client_rides_out_the_restart_of_the_daemon(serving: Device) -> None:
    listen = serving.address
    with (
        Client(listen, retry=Retry(attempts=500, first=0.2, longest=0.2)) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        assert client.status() == (VersionStatus(1, "AVAILABLE"),)
        serving.stop()
        asked = pool.submit(client.status, timeout=START_LIMIT)
        serving.start("--listen", listen)
        (version,) = asked.result(START_LIMIT)
    assert version.state in ("LOADING", "AVAILABLE")
