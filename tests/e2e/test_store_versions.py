"""A device is updated, and put back: the daemon on the state folder of another version."""

from __future__ import annotations

import json

from tests.e2e.device import Device, call
from tests.unit.deploy.stores import contents, unpack


def test_the_store_of_the_oldest_version_serves_its_model(device: Device) -> None:
    unpack(1, device.state)
    device.start()
    with device.channel() as channel:
        assert call(channel, b"hello") == b"two:hello"
    status = device.status()
    assert (status.model.name, status.previous.name) == ("two", "one")
    assert status.quarantined == 1
    assert status.last_deployment.outcome == "reverted"
    assert not list(device.state.glob("*.damaged")), "every record could be read"
    assert not status.store_faults


def test_a_daemon_that_was_put_back_refuses_a_newer_store_and_leaves_it_alone(
    device: Device,
) -> None:
    unpack(1, device.state)
    (device.state / "version.json").write_text(
        json.dumps({"schema": 1, "layout": 2, "edged": "9.0.0"})
    )
    before = contents(device.state)
    daemon = device.spawn()
    assert daemon.wait(60) == 1
    assert "its layout is of version 2" in device.log_text()
    assert "edged 9.0.0 wrote it last" in device.log_text()
    assert contents(device.state) == before
    assert not device.run.exists()
