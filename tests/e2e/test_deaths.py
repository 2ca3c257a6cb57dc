"""A worker that dies costs one request, and the daemon that dies leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from edged.errors import RequestError
from tests.e2e.busy import Busy
from tests.e2e.device import Device, call, refusal
from tests.fakes import images


def test_killed_while_it_runs_one_request_fails_and_is_not_run_again(busy: Busy) -> None:
    waiting = [busy.submit(b"waits") for _ in range(3)]
    busy.wait_until_queued(3)
    os.kill(busy.device.status().model.worker_pid, signal.SIGKILL)
    with pytest.raises(RequestError) as caught:
        busy.running.result(30)
    assert caught.value.code == "INTERNAL"
    assert "not be run again" in str(caught.value)
    assert [future.result(30) for future in waiting] == [b"fake:waits"] * 3
    assert busy.device.ran().count(busy.body) == 1
    status = busy.device.status()
    assert (status.state, status.counters.worker_deaths) == ("serving", 1)


def test_killed_while_it_is_idle_nobody_notices(serving: Device) -> None:
    serving.kill_worker()
    assert serving.predict(b"a") == b"fake:a"


def test_requests_that_kill_are_answered_internal_each_time(serving: Device) -> None:
    for number in range(2):
        assert refusal(serving, b"die %d" % number).code == "INTERNAL"
        assert serving.predict(b"fine") == b"fake:fine"
    # An answer between two deaths begins their count anew: the third is restarted at once too.
    began = time.monotonic()
    assert refusal(serving, b"die").code == "INTERNAL"
    assert serving.predict(b"fine") == b"fake:fine"
    assert time.monotonic() - began < 9.0


def test_a_request_that_killed_and_comes_again_at_once_makes_nobody_wait(serving: Device) -> None:
    """As the original service's C# client sends it: ten times, with no pause."""
    with serving.channel() as channel:
        for number in range(10):
            with pytest.raises(RequestError) as caught:
                call(channel, b"die")
            assert caught.value.code == "INTERNAL"
            assert ("ended the model's process once" in str(caught.value)) is (number > 0)
        assert call(channel, b"fine") == b"fake:fine"
    assert serving.ran() == [b"die", b"fine"]
    assert serving.status().counters.worker_deaths == 1
    # Another model has not been tried with it.
    events = serving.deploy(images.write(serving.folder / "better", "better"))
    assert events[-1].state == "committed", events[-1].error
    assert "ended the model's process once" not in str(refusal(serving, b"die"))
    assert serving.status().counters.worker_deaths == 2


def test_after_the_third_death_without_an_answer_callers_are_told_to_wait(serving: Device) -> None:
    for number in range(3):
        assert refusal(serving, b"die %d" % number).code == "INTERNAL"
    error = refusal(serving, b"x")
    assert error.code == "UNAVAILABLE"
    assert "3 times" in str(error)
    assert "10 s" in str(error)
    status = serving.status()
    assert status.state == "not_serving"
    assert status.model.worker_pid == 0
    # A deployment is an answer to it, and need not wait.
    events = serving.deploy(images.write(serving.folder / "better", "better"))
    assert events[-1].state == "committed", events[-1].error
    assert serving.predict(b"x") == b"better:x"


@pytest.mark.long
def test_the_third_restart_comes_after_ten_seconds(serving: Device) -> None:
    for number in range(3):
        assert refusal(serving, b"die %d" % number).code == "INTERNAL"
    began = time.monotonic()
    with serving.client() as client:
        client.wait_ready(60)
    assert 8.0 < time.monotonic() - began < 20.0
    assert serving.predict(b"x") == b"fake:x"


def test_a_model_that_does_not_come_back_holds_requests_for_five_seconds(
    serving: Device,
) -> None:
    serving.change_behaviour({"fake": {"hello": "hang"}})
    serving.kill_worker()
    began = time.monotonic()
    error = refusal(serving, b"x")
    assert error.code == "UNAVAILABLE"
    assert "being loaded" in str(error)
    assert 4.0 < time.monotonic() - began < 15.0


def test_sigterm_ends_after_what_was_accepted_is_answered(busy: Busy) -> None:
    device = busy.device
    worker = device.status().model.worker_pid
    waiting = [busy.submit(b"waits") for _ in range(5)]
    busy.wait_until_queued(5)
    device.send(signal.SIGTERM)
    wait_for_state(device, "stopping")
    busy.open()
    assert busy.running.result(30) == b"fake:" + busy.body
    assert [future.result(30) for future in waiting] == [b"fake:waits"] * 5
    assert device.wait() == 0
    with pytest.raises(RequestError) as caught:
        call(busy.channel, b"late", timeout=5)
    assert caught.value.code == "UNAVAILABLE"
    assert not Path(f"/proc/{worker}").exists()
    assert not (device.run / "grpc.sock").exists()
    assert not (device.run / "daemon.json").exists()


def test_ctrl_c_stops_it_too(serving: Device) -> None:
    assert serving.stop(signal.SIGINT) == 0


def test_the_daemons_death_takes_a_busy_worker_with_it(busy: Busy) -> None:
    worker = os.pidfd_open(busy.device.status().model.worker_pid)
    assert busy.device.stop(signal.SIGKILL) == -signal.SIGKILL
    assert isinstance(busy.running.exception(30), RequestError)
    assert ended(worker, 10)
    # And what it left lying about does not keep the next one from starting.
    busy.device.start()
    assert busy.device.predict(b"again") == b"fake:again"


def test_a_second_daemon_is_refused_and_told_who_is_there(serving: Device) -> None:
    assert serving.daemon is not None
    second = serving.spawn()
    assert second.wait(30) == 1
    last = serving.log_text().splitlines()[-1]
    assert last.startswith("edged: cannot take the NPU: edged run (pid ")
    assert str(serving.daemon.pid) in last
    assert serving.predict(b"x") == b"fake:x"


def test_a_port_that_is_taken_is_said_and_the_worker_is_not_left(
    serving: Device, short_folder: Path
) -> None:
    other = Device(short_folder / "o", "tests.fakes.daemon")
    other.folder.mkdir()
    daemon = other.spawn("--listen", serving.address)
    assert daemon.wait(30) == 1
    assert f"cannot listen on {serving.address}: it is in use" in other.log_text()


def wait_for_state(device: Device, state: str) -> None:
    """Returns when the status has this state."""
    deadline = time.monotonic() + 30
    while device.status().state != state:
        assert time.monotonic() < deadline


def ended(process: int, limit: float) -> bool:
    """Returns whether the process behind a pidfd ends in time; closes it."""
    import select

    poll = select.poll()
    poll.register(process, select.POLLIN)
    try:
        return bool(poll.poll(limit * 1000))
    finally:
        os.close(process)
