"""A device whose model runs in a container: deployed, asked, killed, started again."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.device import ROOT, Device

PICTURES = ROOT / "packaging" / "demo" / "pictures"


def containers(device: Device) -> list[dict[str, Any]]:
    """What ``runc list`` has."""
    command = ["runc", "--root", str(device.run / "runc"), "list", "--format", "json"]
    result = subprocess.run(command, capture_output=True, check=True, timeout=60)
    return json.loads(result.stdout) or []


def leftovers(device: Device, *containers: str) -> list[str]:
    """What there is of containers, these among them: folders, cgroups, mounts on the host."""
    names = {path.name for path in (device.run / "containers").iterdir()}
    cgroups = [
        p for p in Path("/sys/fs/cgroup").rglob("edged-*") if p.name in names | {*containers}
    ]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [*cgroups, *(line for line in mounts if str(device.run) in line)]
    return [*sorted(names), *map(str, found)]


def label(device: Device, expected: str = "scratch") -> str:
    """The class that the model gives a picture of ``expected``."""
    picture = min(PICTURES.glob(f"{expected}*"))
    return device.client().predict({"images": picture.read_bytes()}, timeout=60).label


@pytest.fixture
def serving(device: Device, surface_image: str) -> Device:
    device.start("--runtime", "runc-root")
    event = device.deploy(surface_image)[-1]
    assert event.state == "committed", event.error
    return device


def test_the_model_answers_and_runc_lists_its_container(serving: Device) -> None:
    assert label(serving) == "scratch"
    [container] = containers(serving)
    assert container["status"] == "running"
    assert container["pid"] == serving.status().model.worker_pid
    serving.close()
    assert containers(serving) == []
    assert leftovers(serving, container["id"]) == []


def test_a_killed_worker_is_back_at_once_in_a_new_container(serving: Device) -> None:
    [before] = containers(serving)
    serving.kill_worker()
    assert label(serving) == "scratch"
    [after] = containers(serving)
    assert after["id"] != before["id"]


def test_what_a_killed_daemon_left_is_gone_when_it_runs_again(serving: Device) -> None:
    [before] = containers(serving)
    serving.stop(signal.SIGKILL)
    assert [entry["id"] for entry in containers(serving)] == [before["id"]]
    serving.start("--runtime", "runc-root")
    assert label(serving) == "scratch"
    [after] = containers(serving)
    assert after["id"] != before["id"]
    left = leftovers(serving, before["id"])
    assert left[0] == after["id"]
    assert not [text for text in left if before["id"] in text]
