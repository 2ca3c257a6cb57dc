"""A new model comes into service without losing a request, or the old one serves on."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from edged import messages
from edged.errors import RequestError
from edged.oci import ModelFacts
from tests.e2e.device import Device, call, refusal
from tests.fakes import images


@pytest.fixture
def serving(device: Device) -> Device:
    device.start()
    events = device.deploy(images.write(device.folder / "old", "old"))
    assert events[-1].state == "committed", events[-1].error
    return device


def states(events: list[messages.DeployEvent]) -> list[str]:
    """The states that were gone through, each once."""
    return list(dict.fromkeys(event.state for event in events))


def test_a_deployment_shows_every_step(device: Device) -> None:
    device.start()
    events = device.deploy(images.write(device.folder / "image", padding=1000))
    assert states(events) == [
        *("queued", "fetch", "verify", "store", "prepare", "park", "activate", "probe", "commit"),
        "committed",
    ]
    last = events[-1]
    assert last.outcome == messages.Outcome.COMMITTED
    assert last.digest.startswith("sha256:")
    assert last.bytes_done == last.bytes_total > 1000
    assert "fake 1, ms-fp13 for bw-cnn-a10" in last.detail
    model = device.status().model
    assert (model.name, model.digest, model.format) == ("fake", last.digest, "ms-fp13")
    assert abs(model.deployed_unix_us / 1e6 - time.time()) < 60


def test_the_next_model_replaces_the_one_before(serving: Device) -> None:
    old = serving.status().model
    events = serving.deploy(images.write(serving.folder / "new", "new"))
    assert events[-1].state == "committed"
    assert serving.predict(b"x") == b"new:x"
    status = serving.status()
    assert status.previous_digest == old.digest
    assert status.model.worker_pid != old.worker_pid


def test_a_swap_under_load_loses_no_request(serving: Device) -> None:
    done = threading.Event()
    errors: list[Exception] = []
    answers: list[bytes] = []

    def load() -> None:
        with serving.channel() as channel:
            while not done.is_set():
                try:
                    answers.append(call(channel, b"x", timeout=10))
                except RequestError as exc:
                    errors.append(exc)

    callers = [threading.Thread(target=load) for _ in range(8)]
    for caller in callers:
        caller.start()
    for number in range(4):
        name = f"model-{number}"
        events = serving.deploy(images.write(serving.folder / name, name))
        assert events[-1].state == "committed", events[-1].error
        assert events[-1].parked_us < 5_500_000
    done.set()
    for caller in callers:
        caller.join(30)
    assert not errors
    assert set(answers) == {b"old:x", *(b"model-%d:x" % n for n in range(4))}
    assert serving.status().counters.failed == 0


@pytest.mark.parametrize(
    ("behaviour", "state", "why"),
    [
        ({"hello": "exit"}, "failed", "ended before it was ready"),
        ({"hello": "refuse"}, "failed", "cannot load the model: cannot x"),
        ({"hello": "garbage"}, "failed", "broke the protocol"),
        ({"activate": "refuse"}, "reverted", "cannot take the NPU: cannot activate"),
        ({"activate": "hang"}, "reverted", "no answer within 3 s"),
        ({"probe": "fail"}, "reverted", "golden test failed: npu output differs"),
        ({"probe": "exit"}, "reverted", "the worker ended"),
        ({"probe": "hang"}, "reverted", "no answer within"),
    ],
)
def test_a_bad_model_does_not_come_into_service(
    serving: Device, behaviour: dict[str, str], state: str, why: str
) -> None:
    before = serving.status().model
    events = serving.deploy(images.write(serving.folder / "bad", "bad", behaviour=behaviour))
    assert events[-1].state == state
    assert why in events[-1].error
    assert serving.predict(b"x") == b"old:x"
    after = serving.status()
    assert after.model.digest == before.digest
    assert after.model.worker_pid == before.worker_pid, "the old worker serves on, still loaded"
    assert after.counters.reverts == (state == "reverted")


def test_a_model_that_cannot_be_reverted_to_is_started_anew(device: Device) -> None:
    device.start()
    device.deploy(images.write(device.folder / "old", "old", behaviour={"leave": "hang"}))
    before = device.status().model
    events = device.deploy(images.write(device.folder / "new", "new"))
    assert events[-1].state == "reverted"
    assert device.predict(b"x") == b"old:x"
    assert device.status().model.worker_pid != before.worker_pid


def broken_image(folder: Path, kind: str) -> str:
    """Writes an image that is wrong in one way; returns its reference."""
    if kind == "no manifest.json":
        return images.write(folder, document=b"{}")
    if kind == "no golden test":
        return images.write(folder, golden=False)
    if kind == "annotations differ":
        return images.write(folder, facts=ModelFacts("other", "1", "bw-cnn-a10", "ms-fp13", 4096))
    reference = images.write(folder, padding=5000)
    blobs = sorted((folder / "blobs" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    if kind == "blob damaged":
        data = bytearray(blobs[-1].read_bytes())
        data[-2000] ^= 1
        blobs[-1].write_bytes(data)
    elif kind == "blob missing":
        blobs[-1].unlink()
    elif kind == "not an image":
        shutil.rmtree(folder)
    return reference


@pytest.mark.parametrize(
    ("kind", "state", "why"),
    [
        ("no manifest.json", "store", "manifest"),
        ("no golden test", "store", "no golden test"),
        ("annotations differ", "store", "annotations say"),
        ("blob damaged", "fetch", "sha256:"),
        ("blob missing", "fetch", "cannot read"),
        ("not an image", "fetch", "cannot read"),
    ],
)
def test_a_broken_image_is_refused_before_anything_is_touched(
    serving: Device, kind: str, state: str, why: str
) -> None:
    events = serving.deploy(broken_image(serving.folder / "broken", kind))
    assert states(events)[-2:] == [state, "failed"]
    assert why in events[-1].error
    assert serving.predict(b"x") == b"old:x"
    assert serving.status().counters.reverts == 0


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("oci:relative/path", "absolute path"),
        ("docker://registry.example/model", "expected docker://HOST/NAME:TAG"),
        ("", "cannot use"),
    ],
)
def test_a_reference_that_cannot_be_used_is_refused(
    serving: Device, reference: str, why: str
) -> None:
    events = serving.deploy(reference)
    assert events[-1].state == "failed"
    assert why in events[-1].error


def test_the_same_image_again_changes_nothing(serving: Device) -> None:
    before = serving.status().model
    events = serving.deploy(f"oci:{serving.folder}/old")
    assert states(events) == ["queued", "fetch", "committed"]
    assert serving.status().model == before


def test_a_deployment_goes_on_when_the_operator_hangs_up(serving: Device) -> None:
    reference = images.write(serving.folder / "new", "new")
    with serving.channel(f"unix:{serving.run}/control.sock") as channel:
        deploy = channel.unary_stream(
            "/edged.control.v1.Control/Deploy",
            messages.DeployRequest.SerializeToString,
            messages.DeployEvent.FromString,
        )
        events = deploy(messages.DeployRequest(reference=reference), timeout=60)
        assert next(events).state == "queued"
        events.cancel()
    # The same target again waits for it, and finds it in service.
    assert states(serving.deploy(reference)) == ["queued", "fetch", "committed"]
    status = serving.status()
    assert status.counters.deployments == 3
    assert status.model.name == "new"


def test_an_operators_message_has_a_limit(serving: Device) -> None:
    with pytest.raises(RequestError) as caught:
        serving.deploy("oci:/" + "x" * 2_000_000)
    assert caught.value.code == "RESOURCE_EXHAUSTED"


def test_undeploy_empties_the_npu_and_a_deployment_fills_it_again(serving: Device) -> None:
    digest, worker = serving.status().model.digest, serving.status().model.worker_pid
    assert serving.undeploy() == digest
    assert refusal(serving, b"x").code == "NOT_FOUND"
    status = serving.status()
    assert not status.HasField("model")
    assert status.previous_digest == digest
    assert not Path(f"/proc/{worker}").exists()
    assert serving.undeploy() == ""
    assert serving.deploy(f"oci:{serving.folder}/old")[-1].state == "committed"
    assert serving.predict(b"x") == b"old:x"
    assert serving.status().previous_digest == ""


def test_undeployed_stays_undeployed_after_a_restart(serving: Device) -> None:
    serving.undeploy()
    serving.stop()
    serving.start()
    assert refusal(serving, b"x").code == "NOT_FOUND"


def test_after_a_restart_the_model_serves_again_without_its_source(serving: Device) -> None:
    before = serving.status().model
    shutil.rmtree(serving.folder / "old")
    assert serving.stop() == 0
    serving.start()
    assert serving.predict(b"x") == b"old:x", "a request that comes before it is loaded waits"
    after = serving.status().model
    assert (after.digest, after.reference) == (before.digest, before.reference)
    assert after.deployed_unix_us == before.deployed_unix_us


def test_after_a_power_cut_the_model_serves_again(serving: Device) -> None:
    serving.stop(signal.SIGKILL)
    serving.start()
    assert serving.predict(b"x") == b"old:x"


@pytest.mark.parametrize("change", [{"hello": "refuse"}, {"probe": "fail"}])
def test_if_the_current_model_does_not_load_the_previous_one_serves(
    serving: Device, change: dict[str, str]
) -> None:
    old = serving.status().model.digest
    serving.deploy(images.write(serving.folder / "new", "new"))
    serving.stop()
    serving.change_behaviour({"new": change})
    serving.start()
    assert serving.predict(b"x") == b"old:x"
    assert serving.status().model.digest == old
    serving.change_behaviour({})
    events = serving.deploy(f"oci:{serving.folder}/new")
    assert events[-1].state == "committed", events[-1].error
    assert serving.predict(b"x") == b"new:x"


def test_only_the_current_and_the_previous_model_are_kept(serving: Device) -> None:
    for number in range(3):
        events = serving.deploy(
            images.write(serving.folder / f"m{number}", f"m{number}", padding=10_000)
        )
        assert events[-1].state == "committed"
    status = serving.status()
    kept = {status.model.digest, status.previous_digest}
    assert {f"sha256:{p.name}" for p in (serving.state / "models").iterdir()} == kept
    blobs = [p.stat().st_size for p in (serving.state / "images/blobs/sha256").iterdir()]
    assert len(blobs) <= 6, "manifest, configuration and layer of two images"


def test_what_a_crash_left_is_removed_at_the_next_start(serving: Device) -> None:
    serving.stop(signal.SIGKILL)
    for name in (".unpacking-abc", "0" * 64):
        (serving.state / "models" / name).mkdir()
    (serving.state / "images/blobs/sha256/.partial-abc").write_bytes(b"x" * 100)
    serving.start()
    assert serving.predict(b"x") == b"old:x"
    serving.deploy(f"oci:{serving.folder}/old")  # its turn comes after the removal
    assert len(list((serving.state / "models").iterdir())) == 1
    assert not list((serving.state / "images/blobs/sha256").glob(".partial-*"))


def test_a_damaged_pointer_is_said_and_nothing_is_removed(serving: Device) -> None:
    serving.stop()
    (serving.state / "current.json").write_text("{")
    daemon = serving.spawn()
    assert daemon.wait(30) == 1
    assert "cannot read" in serving.log_text().splitlines()[-1]
    assert list((serving.state / "models").iterdir())


def test_stopping_gives_up_a_deployment_and_says_so(device: Device) -> None:
    device.start()
    reference = images.write(device.folder / "slow", behaviour={"hello": "hang"})
    events: list[messages.DeployEvent] = []
    thread = threading.Thread(target=lambda: events.extend(device.deploy(reference)))
    thread.start()
    deadline = time.monotonic() + 30
    while device.status().deployment != "prepare":
        assert time.monotonic() < deadline
    assert device.stop() == 0
    thread.join(30)
    assert events[-1].state == "failed"
    assert events[-1].error == "edged is stopping"
    assert not [process for process in Path("/proc").glob("[0-9]*") if is_of(device, process)]


def is_of(device: Device, process: Path) -> bool:
    """Whether a process was started for this device."""
    try:
        return str(device.state).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False
