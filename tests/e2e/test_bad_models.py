"""A bad model never costs a caller an answer: the old one serves, and the reason is on record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edged.oci import keys
from tests.e2e.callers import calling
from tests.e2e.device import Device
from tests.fakes import images

BUILD = Callable[[Path], str]


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


def signed(folder: Path, name: str = "bad", **how: Any) -> str:
    return images.write(folder, name, key=folder.parent / "maker.key", **how)


def blobs(folder: Path) -> list[Path]:
    """The blobs of an image without its signature: the layer is the largest."""
    return sorted((folder / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)


def damaged(folder: Path) -> str:
    reference = signed(folder, padding=500_000)
    data = bytearray(blobs(folder)[-1].read_bytes())
    data[len(data) // 2] ^= 1
    blobs(folder)[-1].write_bytes(data)
    return reference


def truncated(folder: Path) -> str:
    reference = signed(folder, padding=500_000)
    blobs(folder)[-1].write_bytes(blobs(folder)[-1].read_bytes()[:-1000])
    return reference


def stranger(folder: Path) -> str:
    keys.generate(folder.parent / "stranger")
    return images.write(folder, "bad", key=folder.parent / "stranger.key")


def swapped_signature(folder: Path) -> str:
    """The signature of another image, under this one's tag."""
    reference = signed(folder)
    other = signed(folder.parent / "other", "other")
    document = json.loads((folder / "index.json").read_bytes())
    theirs = json.loads((folder.parent / "other" / "index.json").read_bytes())
    assert other
    (own,) = [m for m in document["manifests"] if ".sig" in str(m.get("annotations"))]
    (their,) = [m for m in theirs["manifests"] if ".sig" in str(m.get("annotations"))]
    own |= {"digest": their["digest"], "size": their["size"]}
    (folder / "index.json").write_text(json.dumps(document))
    for blob in blobs(folder.parent / "other"):
        shutil.copy(blob, folder / "blobs" / "sha256" / blob.name)
    return reference


def wrong(**behaviour: Any) -> BUILD:
    return lambda folder: signed(folder, behaviour=behaviour)


def annotated(**facts: Any) -> BUILD:
    return lambda folder: signed(folder, annotated=facts)


# What is wrong: how it ends, in which state, what is said, whether it is the image's own fault.
BAD: dict[str, tuple[BUILD, str, str, str, bool]] = {
    "wrong digest": (damaged, "failed", "fetch", "sha256:", False),
    "truncated blob": (truncated, "failed", "fetch", "bytes, got", False),
    "unsigned": (
        lambda folder: images.write(folder, "bad"),
        *("failed", "fetch", "not signed", False),
    ),
    "signed by another key": (stranger, "failed", "fetch", "key is not trusted", False),
    "another image's signature": (swapped_signature, "failed", "fetch", "another image", False),
    "other SKU": (annotated(sku="bw-rnn-s10"), "failed", "fetch", "this device is", False),
    "other format": (annotated(format="ms-fp16"), "failed", "fetch", "ms-fp16", False),
    "too big for the NPU": (annotated(memory=1 << 40), "failed", "fetch", "on the NPU", False),
    "says two things": (annotated(version="2"), "failed", "store", "annotations say", True),
    "crash at start": (wrong(hello="abort"), "failed", "prepare", "SIGABRT", True),
    "leaves at start": (wrong(hello="exit"), "failed", "prepare", "exit status 3", True),
    "does not load": (wrong(hello="refuse"), "failed", "prepare", "cannot x", True),
    "speaks nonsense": (wrong(hello="garbage"), "failed", "prepare", "the protocol", False),
    "out of memory": (wrong(hello="memory"), "failed", "prepare", "exit status 1", True),
    "fills its disk": (wrong(hello="disk"), "failed", "prepare", "exit status 1", True),
    "crash at activation": (wrong(activate="exit"), "reverted", "activate", "exit status 4", True),
    "hang at activation": (wrong(activate="hang"), "reverted", "activate", "within 3 s", False),
    "golden mismatch": (wrong(probe="fail"), "reverted", "probe", "golden test failed", True),
    "crash in the golden test": (wrong(probe="exit"), "reverted", "probe", "exit status 4", True),
    "hang in the golden test": (wrong(probe="hang"), "reverted", "probe", "no answer", False),
}


@pytest.mark.parametrize("kind", BAD)
def test_the_old_model_serves_on_and_nobody_notices(serving: Device, kind: str) -> None:
    build, outcome, state, why, own_fault = BAD[kind]
    reference = build(serving.folder / "bad")
    before = serving.status()
    with calling(serving) as callers:
        callers.wait_for(b"old:x")
        events = serving.deploy(reference)
        callers.wait_for(b"old:x")
    assert callers.errors == []
    assert callers.bodies == {b"old:x"}
    assert (events[-1].state, events[-2].state if outcome == "failed" else state) == (
        outcome,
        state,
    )
    assert why in events[-1].error
    after = serving.status()
    assert after.model == before.model, "the very same process serves on"
    last = after.last_deployment
    assert (last.outcome, last.reason) == (outcome, events[-1].error)
    assert state in last.phases_us
    assert serving.history()[0] == last
    assert [each.digest for each in serving.quarantine()] == [last.digest] * own_fault
    again = serving.deploy(reference)[-1].error
    assert ("in quarantine" in again) == own_fault
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


def until_recorded(device: Device, outcome: str) -> None:
    """Returns once the newest record has this outcome: it is written beside the service."""
    for _ in range(1000):
        if device.history()[0].outcome == outcome:
            return
    raise AssertionError(device.history()[0])


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
