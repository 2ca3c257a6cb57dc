"""A device whose model runs in a container: deployed, asked, killed, started again."""

from __future__ import annotations

import json
import os
import select
import signal

import pytest

from tests.containers.conftest import Box
from tests.e2e.device import ROOT, refusal
from tests.fakes import images

PICTURES = ROOT / "packaging" / "demo" / "pictures"


def label(box: Box, expected: str = "scratch") -> str:
    """The class that the model gives a picture of ``expected``."""
    picture = min(PICTURES.glob(f"{expected}*"))
    return box.client().predict({"images": picture.read_bytes()}, timeout=60).label


@pytest.fixture
def serving(box: Box, surface_image: str) -> Box:
    box.start()
    event = box.deploy(surface_image)[-1]
    assert event.state == "committed", event.error
    return box


def test_the_model_answers_and_runc_lists_its_container(serving: Box) -> None:
    assert label(serving) == "scratch"
    [container] = serving.containers()
    assert container["status"] == "running"
    assert container["pid"] == serving.status().model.worker_pid
    serving.close()
    assert serving.containers() == []
    assert serving.leftovers(container["id"]) == []


def test_a_killed_worker_is_back_at_once_in_a_new_container(serving: Box) -> None:
    [before] = serving.containers()
    serving.kill_worker()
    assert label(serving) == "scratch"
    [after] = serving.containers()
    assert after["id"] != before["id"]
    assert not [text for text in serving.leftovers(before["id"]) if before["id"] in text]


def test_what_a_killed_daemon_left_is_gone_when_it_runs_again(serving: Box) -> None:
    [before] = serving.containers()
    serving.stop(signal.SIGKILL)
    assert [entry["id"] for entry in serving.containers()] == [before["id"]]
    serving.start()
    assert label(serving) == "scratch"
    [after] = serving.containers()
    assert after["id"] != before["id"]
    left = serving.leftovers(before["id"])
    assert left[0] == after["id"]
    assert not [text for text in left if before["id"] in text]


def test_a_hung_worker_of_a_killed_daemon_is_ended_by_the_next(serving: Box) -> None:
    worker = serving.status().model.worker_pid
    watched = os.pidfd_open(worker)
    os.kill(worker, signal.SIGSTOP)  # it does not hear that its daemon is gone
    serving.stop(signal.SIGKILL)
    [before] = serving.containers()
    assert before["pid"] == worker
    serving.start()
    assert label(serving) == "scratch"
    [after] = serving.containers()
    assert after["id"] != before["id"]
    assert select.select([watched], [], [], 10)[0], "it still runs"
    os.close(watched)


def test_a_worker_that_needs_too_much_memory_is_an_error_and_the_next_request_is_served(
    fake_box: Box,
) -> None:
    fake_box.start("--memory-limit", "256")
    assert fake_box.deploy(images.write(fake_box.folder / "image"))[-1].state == "committed"
    refused = refusal(fake_box, b"size 1000000000")
    assert refused.code == "INTERNAL"
    assert fake_box.predict(b"x") == b"fake:x"
    assert fake_box.status().model.worker_pid > 0
    if fake_box.has_cgroups:
        assert "it needed more than 256 MiB of memory" in fake_box.log_text()


def test_a_model_that_needs_too_much_memory_to_load_is_at_fault_itself(fake_box: Box) -> None:
    fake_box.start("--memory-limit", "256")
    assert fake_box.deploy(images.write(fake_box.folder / "good"))[-1].state == "committed"
    hungry = images.write(fake_box.folder / "bad", "hungry", behaviour={"hello": "hungry"})
    error = fake_box.deploy(hungry)[-1].error
    assert ("it needed more than 256 MiB" if fake_box.has_cgroups else "exit status 1") in error
    assert "quarantine" in fake_box.deploy(hungry)[-1].error
    assert fake_box.predict(b"x") == b"fake:x"


def test_what_the_worker_wrote_is_in_edged_logs_under_its_containers_name(fake_box: Box) -> None:
    fake_box.start("--memory-limit", "256")
    assert fake_box.deploy(images.write(fake_box.folder / "image"))[-1].state == "committed"
    [container] = fake_box.containers()
    refusal(fake_box, b"size -x")  # which the fake worker cannot read
    fake_box.close()
    shown = fake_box.edged("logs", "--state-dir", str(fake_box.state), "--json")
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    assert records[-1]["text"].startswith("ValueError: invalid literal for int()")
    assert records[-1]["container"] == container["id"]
