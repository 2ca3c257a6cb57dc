"""What an operator does to a device: hold it, roll back, overtake, clear, look."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.errors import RequestError
from edged.oci import keys
from tests.e2e.device import Device
from tests.fakes import images


@pytest.fixture
def serving(device: Device) -> Device:
    device.start()
    events = device.deploy(images.write(device.folder / "old", "old"))
    assert events[-1].state == "committed", events[-1].error
    return device


def refused(call: Callable[[], object]) -> str:
    """Returns what a held device says."""
    with pytest.raises(RequestError) as caught:
        call()
    assert caught.value.code == "FAILED_PRECONDITION"
    return str(caught.value)


def under_way(device: Device, state: str) -> None:
    """Returns once the deployment under way is in this state."""
    deadline = time.monotonic() + 30
    while device.status().deployment != state:
        assert time.monotonic() < deadline, device.status()


# -- hold


def test_a_held_device_refuses_whoever_does_not_force(serving: Device) -> None:
    done = serving.edged("hold", "--owner", "line 4", "--reason", "audit", "--ttl", "8h")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"held by line 4 until \d{4}-\d\d-\d\d .* UTC \(audit\)\n", done.stdout)
    new = images.write(serving.folder / "new", "new")
    for change in (lambda: serving.deploy(new), serving.undeploy, lambda: serving.deploy(new)):
        said = refused(change)
        assert "held by line 4 until 20" in said
        assert "(audit)" in said
        assert "--force" in said
    assert serving.predict(b"x") == b"old:x"
    assert serving.deploy(new, force=True)[-1].state == "committed"
    assert "held by line 4" in refused(serving.rollback)
    assert serving.history()[0].forced == "force"
    held = serving.status().hold
    assert (held.owner, held.reason) == ("line 4", "audit")
    assert 8 * 3600 - 60 < held.left_s <= 8 * 3600


def test_a_hold_outlives_edged_and_ends_with_release(serving: Device) -> None:
    serving.edged("hold", "--owner", "ann")
    serving.stop(signal.SIGKILL)
    serving.start()
    assert serving.predict(b"x") == b"old:x", "what serves, serves on"
    assert "held by ann" in refused(serving.undeploy)
    assert "held by ann" in serving.edged("status").stdout
    other = serving.edged("hold", "--owner", "bob")
    assert other.returncode == 1
    assert "held by ann" in other.stderr
    released = serving.edged("release", "--json")
    assert json.loads(released.stdout)["released"]["owner"] == "ann"
    assert serving.edged("release").stdout == "nobody held the device\n"
    assert serving.undeploy() != ""


def test_a_hold_ends_by_itself(serving: Device) -> None:
    serving.edged("hold", "--owner", "ann", "--ttl", "0.5s")
    deadline = time.monotonic() + 30
    while serving.status().HasField("hold"):
        assert time.monotonic() < deadline
    assert serving.undeploy() != ""


def test_a_hold_stops_a_deployment_that_has_not_reached_the_npu(serving: Device) -> None:
    reference = images.write(serving.folder / "slow", "slow", behaviour={"hello_after": 1.0})
    events: list[str] = []
    thread = threading.Thread(target=lambda: events.append(serving.deploy(reference)[-1].error))
    thread.start()
    under_way(serving, "prepare")
    serving.edged("hold", "--owner", "ann")
    thread.join(30)
    assert "held by ann" in events[0]
    assert serving.history()[0].outcome == "failed"
    assert "park" not in serving.history()[0].phases_us
    assert serving.quarantine() == []


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["--ttl", "soon"], 2, "expected a time such as"),
        (["--ttl", "0s"], 1, "more than 0"),
        (["--ttl", "365d"], 1, "at most"),
        (["--owner", ""], 1, "say who holds"),
        (["--reason", "x" * 300], 1, "at most 200"),
    ],
)
def test_a_hold_that_makes_no_sense_is_refused(
    serving: Device, arguments: list[str], code: int, why: str
) -> None:
    done = serving.edged("hold", *arguments)
    assert (done.returncode, serving.status().HasField("hold")) == (code, False)
    assert why in done.stderr


# -- overtaking


def test_a_newer_target_overtakes_one_that_has_not_committed(serving: Device) -> None:
    stuck = images.write(serving.folder / "stuck", "stuck", behaviour={"hello": "hang"})
    new = images.write(serving.folder / "new", "new")
    outcomes: list[tuple[str, str]] = []

    def deploy() -> None:
        last = serving.deploy(stuck)[-1]
        outcomes.append((last.state, last.error))

    thread = threading.Thread(target=deploy)
    thread.start()
    under_way(serving, "prepare")
    began = time.monotonic()
    assert serving.deploy(new)[-1].state == "committed"
    assert time.monotonic() - began < 15, "it does not wait for the 20 s of the one before"
    thread.join(30)
    assert outcomes == [("cancelled", f"overtaken by {new}")]
    newest, before, *_ = serving.history()
    assert (newest.outcome, before.outcome) == ("committed", "cancelled")
    assert before.reason == f"overtaken by {new}"
    assert serving.predict(b"x") == b"new:x"


def test_a_swap_that_is_overtaken_gives_the_npu_back_first(serving: Device) -> None:
    slow = images.write(serving.folder / "slow", "slow", behaviour={"probe_after": 1.0})
    thread = threading.Thread(target=lambda: serving.deploy(slow))
    thread.start()
    under_way(serving, "probe")
    assert serving.deploy(images.write(serving.folder / "new", "new"))[-1].state == "committed"
    thread.join(30)
    before = serving.history()[1]
    assert (before.outcome, "revert" in before.phases_us) == ("cancelled", True)
    assert before.blackout_us > 0


def test_undeploy_overtakes_too(serving: Device) -> None:
    stuck = images.write(serving.folder / "stuck", "stuck", behaviour={"hello": "hang"})
    thread = threading.Thread(target=lambda: serving.deploy(stuck))
    thread.start()
    under_way(serving, "prepare")
    assert serving.undeploy() == serving.history()[0].before
    thread.join(30)
    assert [each.outcome for each in serving.history()[:2]] == ["undeployed", "cancelled"]
    assert serving.history()[1].reason == "overtaken by undeploy"


def test_of_many_at_once_the_last_one_serves_and_all_are_told(serving: Device) -> None:
    names = [f"m{number}" for number in range(6)]
    references = [images.write(serving.folder / name, name) for name in names]
    outcomes: list[str] = []
    threads = []
    for reference in references:
        thread = threading.Thread(
            target=lambda r=reference: outcomes.append(serving.deploy(r)[-1].state)
        )
        threads.append(thread)
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 6
    assert set(outcomes) <= {"committed", "cancelled"}
    assert "committed" in outcomes
    assert serving.predict(b"x").split(b":")[0].decode() in names


def test_the_same_target_again_and_again_does_not_overtake_itself(serving: Device) -> None:
    """A controller that repeats what it wants must not keep it from coming true."""
    slow = images.write(serving.folder / "slow", "slow", behaviour={"hello_after": 0.5})
    outcomes: list[str] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(serving.deploy(slow)[-1].state))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == ["committed"] * 5
    assert serving.status().counters.deployments <= 3


# -- rollback, counters, quarantine


def test_rollback_brings_the_previous_model_back_without_its_source(serving: Device) -> None:
    assert "no previous model" in refused(serving.rollback)
    old = serving.status().model.digest
    serving.deploy(images.write(serving.folder / "new", "new"))
    shutil.rmtree(serving.folder / "old")
    done = serving.edged("rollback", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["digest"] == old
    assert serving.predict(b"x") == b"old:x"
    record = serving.history()[0]
    assert (record.cause, record.outcome, record.digest) == ("rollback", "committed", old)
    assert serving.rollback()[-1].state == "committed", "and forward again"
    assert serving.predict(b"x") == b"new:x"
    assert serving.undeploy() != ""
    assert serving.rollback()[-1].state == "committed", "also from an empty NPU"
    assert serving.predict(b"x") == b"new:x"


def test_going_back_needs_rollback_or_a_word(serving: Device) -> None:
    new = images.write(serving.folder / "m5", "m", counter=5)
    older = images.write(serving.folder / "m4", "m", counter=4, padding=1)
    assert serving.deploy(older)[-1].state == "committed"
    assert serving.deploy(new)[-1].state == "committed"
    error = serving.deploy(older)[-1].error
    assert "counter 4" in error
    assert "counter 5" in error
    assert "--allow-downgrade" in error
    assert serving.rollback()[-1].state == "committed", "though its counter is older"
    serving.deploy(new)
    serving.stop(signal.SIGKILL)
    (serving.state / "counters.json").unlink()  # as if the power had gone before it was written
    serving.start()
    serving.predict(b"x")
    assert "counter 5" in serving.deploy(older)[-1].error
    done = serving.edged("deploy", "--allow-downgrade", older)
    assert done.returncode == 0, done.stderr
    assert serving.history()[0].forced == "allow-downgrade"
    other = images.write(serving.folder / "n1", "n", counter=1)
    assert serving.deploy(other)[-1].state == "committed", "another name counts for itself"


def test_a_counter_belongs_to_the_key_that_signed(device: Device) -> None:
    for name in ("a", "b"):
        keys.generate(device.folder / name)
        keys.trust(device.folder / f"{name}.pub", device.folder / "keys")
    device.start("--verify", "required", "--keys-dir", str(device.folder / "keys"))
    for key, counter, state in (("a", 7, "committed"), ("b", 2, "committed"), ("b", 1, "failed")):
        reference = images.write(
            device.folder / f"{key}{counter}",
            "m",
            counter=counter,
            key=device.folder / f"{key}.key",
        )
        last = device.deploy(reference)[-1]
        assert last.state == state, last.error
    (device.folder / "keys" / "a.pub").unlink()
    assert "not in" in device.rollback()[-1].error, "whoever signed it is not trusted any more"


def test_quarantine_is_listed_and_cleared(serving: Device) -> None:
    bad = images.write(serving.folder / "bad", "bad", behaviour={"probe": "fail"})
    digest = serving.deploy(bad)[-1].digest
    assert serving.edged("quarantine").stdout.splitlines()[1].startswith(digest)
    serving.stop(signal.SIGKILL)
    serving.start()
    last = serving.deploy(bad)[-1]
    assert (last.state, last.bytes_total) == ("failed", 0), "refused before anything is fetched"
    assert "golden test failed" in last.error
    assert f"edged quarantine clear {digest}" in last.error
    assert serving.edged("quarantine", "clear", "sha256:0").returncode == 1
    assert serving.edged("quarantine", "clear", digest[:20]).returncode == 0
    assert json.loads(serving.edged("quarantine", "list", "--json").stdout) == []
    assert "in quarantine" not in serving.deploy(bad)[-1].error
    assert serving.edged("quarantine", "clear", "all").returncode == 0
    assert serving.quarantine() == []


# -- what is remembered


def test_history_has_cause_times_and_blackout(serving: Device) -> None:
    serving.deploy(images.write(serving.folder / "new", "new", version="2"))
    serving.deploy(images.write(serving.folder / "bad", "bad", behaviour={"probe": "fail"}))
    serving.undeploy()
    records = serving.history()
    assert [each.number for each in records] == [4, 3, 2, 1]
    assert [each.outcome for each in records] == [
        *("undeployed", "reverted", "committed", "committed")
    ]
    swap = records[2]
    assert (swap.name, swap.version, swap.before) == ("new", "2", records[3].digest)
    assert list(swap.phases_us) != []
    assert set(swap.phases_us) == {
        *("fetch", "verify", "store", "prepare", "park", "activate", "probe", "commit")
    }
    assert sum(swap.phases_us.values()) <= swap.elapsed_us + 1000
    assert 0 < swap.blackout_us < swap.elapsed_us
    assert abs(swap.began_unix_us / 1e6 - time.time()) < 120
    assert serving.status().worst_blackout_us == max(each.blackout_us for each in records)
    shown = serving.edged("history").stdout
    assert "golden test failed" in shown
    assert json.loads(serving.edged("history", "--json", "--limit", "1").stdout)[0]["number"] == 4
    serving.stop(signal.SIGKILL)
    serving.start()
    assert serving.history() == records


def test_damaged_records_cost_the_records_alone(serving: Device) -> None:
    serving.stop()
    names = ["history.json", "quarantine.json", "counters.json", "hold.json", "deploying.json"]
    for name in names:
        (serving.state / name).write_text('{"schema": 1, "records": [{"x": 1}], "owner": 3, ')
    serving.start()
    assert serving.predict(b"x") == b"old:x"
    assert serving.deploy(images.write(serving.folder / "new", "new"))[-1].state == "committed"
    assert [each.number for each in serving.history()] == [1]
    assert sorted(path.name for path in serving.state.glob("*.damaged")) == sorted(
        f"{name}.damaged" for name in names
    )


def test_a_deployment_that_edged_did_not_survive_is_taken_up_again(serving: Device) -> None:
    slow = images.write(serving.folder / "slow", "slow", behaviour={"hello_after": 1.0})

    def deploy() -> None:
        with contextlib.suppress(RequestError):
            serving.deploy(slow, origin="oci:/typed")

    thread = threading.Thread(target=deploy)
    thread.start()
    under_way(serving, "prepare")
    serving.stop(signal.SIGKILL)
    thread.join(30)
    serving.start()
    under_way(serving, "prepare")
    assert serving.predict(b"x") in (b"old:x", b"slow:x")
    # The same target waits for it, and finds it in service.
    assert serving.deploy(slow)[-1].state == "committed"
    assert [(each.outcome, each.attempts) for each in serving.history()[:2]] == [
        ("committed", 1),
        ("committed", 2),
    ]
    assert serving.history()[1].reference == "oci:/typed"
    assert serving.predict(b"x") == b"slow:x"


def test_a_copy_made_for_edged_is_on_record_as_what_it_is_a_copy_of(serving: Device) -> None:
    new, typed = images.write(serving.folder / "new", "new"), "oci-archive:/home/ann/surface.tar"
    assert serving.deploy(new, origin=typed)[-1].state == "committed"
    assert serving.history()[0].reference == typed
    assert serving.status().model.reference == typed
    serving.stop()
    audited = (serving.state / "audit.log").read_text().splitlines()
    assert json.loads(audited[-1])["object"] == typed
    serving.start()
    assert serving.deploy(f"oci:{serving.folder}/old")[-1].state == "committed"
    assert serving.rollback()[-1].state == "committed", "from what is kept, wherever it is from"
    assert serving.history()[0].reference == typed


def test_what_edged_does_not_survive_three_times_is_given_up(serving: Device) -> None:
    serving.stop()
    reference = images.write(serving.folder / "new", "new")
    document = {"schema": 1, "cause": "deploy", "reference": reference, "force": False}
    document |= {"allow_downgrade": False, "attempts": 3, "digest": ""}
    (serving.state / "deploying.json").write_text(json.dumps(document))
    serving.start()
    assert serving.predict(b"x") == b"old:x"
    serving.deploy(f"oci:{serving.folder}/old")  # its turn comes after what is taken up again
    given_up = [each for each in serving.history() if each.outcome == "failed"]
    assert [each.reason for each in given_up] == ["edged ended 3 times in the middle of it"]
    serving.stop()
    serving.start()
    serving.deploy(f"oci:{serving.folder}/old")
    assert [each for each in serving.history() if each.outcome == "failed"] == given_up


def test_if_the_current_does_not_load_everybody_says_who_serves(serving: Device) -> None:
    old = serving.status().model.digest
    new = serving.deploy(images.write(serving.folder / "new", "new"))[-1].digest
    serving.stop()
    serving.change_behaviour({"new": {"hello": "refuse"}})
    serving.start()
    assert serving.predict(b"x") == b"old:x"
    status = serving.status()
    assert (status.model.digest, status.previous_digest) == (old, new)
    record = serving.history()[0]
    assert (record.cause, record.outcome, record.digest) == ("start", "reverted", old)
    assert "cannot x" in record.reason
    assert record.before == new
    pointer = json.loads((serving.state / "current.json").read_bytes())
    assert pointer["current"]["digest"] == old
    assert Path(serving.state / "models" / new.removeprefix("sha256:")).exists()
