"""A bad model never costs a caller an answer: the old one serves, and the reason is on record."""

from __future__ import annotations

import pytest

from edged.oci import keys
from tests.e2e.bad import BAD, assert_unnoticed, signed, until_recorded
from tests.e2e.callers import calling
from tests.e2e.device import Device


@pytest.fixture
def serving(device: Device) -> Device:
    """A device that asks for signatures and serves a signed model."""
    keys.generate(device.folder / "maker")
    keys.trust(device.folder / "maker.pub", device.folder / "keys")
    start(device)
    events = device.deploy(signed(device.folder / "old", "old"))
    assert events[-1].state == "committed", events[-1].error
    return device


def start(device: Device, *flags: str) -> None:
    device.start("--verify", "required", "--keys-dir", str(device.folder / "keys"), *flags)


@pytest.mark.parametrize("kind", BAD)
def test_the_old_model_serves_on_and_nobody_notices(serving: Device, kind: str) -> None:
    bad = BAD[kind]
    reference = bad.build(serving.folder / "bad")
    last = assert_unnoticed(serving, reference, bad)
    assert [each.digest for each in serving.quarantine()] == [last.digest] * bad.own_fault
    again = serving.deploy(reference)[-1].error
    assert ("in quarantine" in again) == bad.own_fault
    assert serving.deploy(signed(serving.folder / "good", "good"))[-1].state == "committed"


@pytest.mark.long
def test_a_hang_at_start_is_given_up_after_its_20_seconds(serving: Device) -> None:
    with calling(serving) as callers:
        events = serving.deploy(signed(serving.folder / "bad", behaviour={"hello": "hang"}))
    assert (events[-1].state, callers.errors) == ("failed", [])
    assert "not ready within 20 s" in events[-1].error
    assert serving.quarantine() == [], "a slow host is no fault of the model"


def test_three_crashes_after_the_commit_bring_the_old_model_back(serving: Device) -> None:
    worker = serving.status().model.worker_pid
    with calling(serving) as callers:
        callers.wait_for(b"old:x")
        # It answers well, and falls over after each answer.
        events = serving.deploy(signed(serving.folder / "bad", behaviour={"crash_after": 1}))
        assert events[-1].state == "committed"
        callers.wait_for(b"old:x")
        callers.wait_for(b"old:x")
    assert callers.errors == []
    assert callers.bodies == {b"old:x", b"bad:x"}
    status = serving.status()
    assert status.model.worker_pid == worker, "it was still loaded"
    assert status.window_left_us == 0
    until_recorded(serving, "reverted")
    last = serving.history()[0]
    assert "ended 3 times within 60 s" in last.reason
    assert 0 < last.window_blackout_us < 2_000_000
    assert [each.digest for each in serving.quarantine()] == [events[-1].digest]
    serving.stop()
    start(serving)
    assert serving.predict(b"x") == b"old:x", "the pointer went back too"
    assert serving.status().model.digest == last.before


def test_two_crashes_do_not(serving: Device) -> None:
    serving.deploy(signed(serving.folder / "new", "new"))
    for _ in range(2):
        serving.kill_worker()
        assert serving.predict(b"x") == b"new:x"
    status = serving.status()
    assert status.window_left_us > 0
    assert status.standby_digest == status.previous_digest != ""


def test_three_kills_from_outside_revert_but_do_not_condemn(serving: Device) -> None:
    serving.deploy(signed(serving.folder / "new", "new"))
    for _ in range(3):
        serving.kill_worker()
        serving.predict(b"x")
    assert serving.predict(b"x") == b"old:x"
    until_recorded(serving, "reverted")
    assert serving.quarantine() == []


def test_when_the_window_has_passed_the_old_model_goes(serving: Device) -> None:
    serving.stop()
    start(serving, "--window", "0.5")
    serving.predict(b"x")
    serving.deploy(signed(serving.folder / "new", "new"))
    for _ in range(2000):
        if not serving.status().standby_digest:
            break
    assert serving.status().standby_digest == ""
    for _ in range(200):
        if serving.history()[0].window == "passed":
            break
    assert serving.history()[0].window == "passed"
    for _ in range(4):
        serving.kill_worker()
        assert serving.predict(b"x") == b"new:x", "from now on it is restarted, not replaced"


def test_a_window_that_edgeds_death_cut_short_begins_anew(serving: Device) -> None:
    import signal

    serving.deploy(signed(serving.folder / "new", "new"))
    serving.stop(signal.SIGKILL)
    start(serving)
    assert serving.predict(b"x") == b"new:x"
    assert serving.status().window_left_us > 0
    for _ in range(3):
        serving.kill_worker()
        serving.predict(b"x")
    assert serving.predict(b"x") == b"old:x", "started from the disk"
    until_recorded(serving, "reverted")
    assert serving.history()[0].window == "reverted"


def test_the_old_model_may_die_while_it_waits(serving: Device) -> None:
    """Then the revert starts it anew, and requests wait for it."""
    import os
    import signal

    old = serving.status().model.worker_pid
    serving.deploy(signed(serving.folder / "new", "new"))
    os.kill(old, signal.SIGKILL)
    for _ in range(3):
        serving.kill_worker()
        serving.predict(b"x")
    assert serving.predict(b"x") == b"old:x"
    assert serving.status().model.worker_pid != old
