"""What rots on the disk, or is written to there, is noticed before it serves, and mended."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.deploy import check
from edged.oci import keys
from tests.e2e.device import Device
from tests.fakes import images


@pytest.fixture
def serving(device: Device) -> Device:
    """A device with a model before and a model now, both with some ballast."""
    device.start()
    for name in ("old", "new"):
        events = device.deploy(images.write(device.folder / name, name, padding=10_000))
        assert events[-1].state == "committed", events[-1].error
    return device


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def model(device: Device) -> Path:
    return device.state / "models" / device.status().model.digest.removeprefix("sha256:")


def rot_blobs(device: Device, digest: str) -> None:
    """Damages the largest blob, the layer, of an image in the store."""
    blobs = device.state / "images/blobs/sha256"
    manifest = (blobs / digest.removeprefix("sha256:")).read_text()
    flip(max((b for b in blobs.iterdir() if b.name in manifest), key=lambda b: b.stat().st_size))


@pytest.mark.parametrize(
    "harm",
    [
        lambda m: flip(m / "program.npu"),
        lambda m: (m / "behaviour.json").write_text('{"name": "evil"}'),
        lambda m: (m / "program.npu").write_bytes(b""),
        lambda m: (m / "manifest.json").unlink(),
        lambda m: (m / "more").write_bytes(b"x"),
        shutil.rmtree,
    ],
    ids=["a bit", "a file rewritten", "emptied", "a file gone", "a file more", "all gone"],
)
def test_a_model_that_rotted_is_unpacked_again_and_serves(
    serving: Device, harm: Callable[[Path], object]
) -> None:
    folder = model(serving)
    serving.stop()
    harm(folder)
    assert list(check.faults(serving.state)), "the checker sees it"
    serving.start()
    assert serving.predict(b"x") == b"new:x"
    assert not list(check.faults(serving.state))


def test_if_the_image_rotted_too_the_model_before_serves_and_that_is_said(serving: Device) -> None:
    folder, digest = model(serving), serving.status().model.digest
    serving.stop()
    flip(folder / "program.npu")
    rot_blobs(serving, digest)
    assert any("damaged" in fault for fault in check.faults(serving.state))
    serving.start()
    assert serving.predict(b"x") == b"old:x"
    serving.deploy(f"oci:{serving.folder}/old")  # its turn comes after the check
    assert any("damaged" in fault for fault in serving.status().store_faults)
    started = next(record for record in serving.history() if record.cause == "start")
    assert "expected" in started.reason
    events = serving.deploy(f"oci:{serving.folder}/new")
    assert events[-1].state == "committed", "and deploying it again mends it"
    assert not list(check.faults(serving.state))


def test_a_model_whose_signers_key_is_gone_does_not_serve_after_a_restart(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = device.folder / "keys"
    for name in ("one", "two"):
        keys.generate(device.folder / name)
        keys.trust(device.folder / f"{name}.pub", trusted)
    monkeypatch.setenv("EDGED_VERIFY", "required")
    monkeypatch.setenv("EDGED_KEYS_DIR", str(trusted))
    device.start()
    for name in ("one", "two"):
        reference = images.write(
            device.folder / f"m{name}", name, key=device.folder / f"{name}.key"
        )
        events = device.deploy(reference)
        assert events[-1].state == "committed", events[-1].error
    device.stop()
    (trusted / "two.pub").unlink()
    device.start()
    assert device.predict(b"x") == b"one:x", "the model before, whose key is still trusted"
    assert "its key is not trusted" in device.history()[0].reason


def test_the_checker_finds_nothing_in_a_store_that_is_used_or_new(
    serving: Device, tmp_path: Path
) -> None:
    assert list(check.faults(tmp_path)) == []
    assert list(check.faults(serving.state)) == []
    serving.rollback()
    serving.undeploy()
    assert list(check.faults(serving.state)) == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("current.json", b"{", "current.json"),
        ("history.json", b"[]", "history.json"),
        ("images/index.json", b"", "the list of images cannot be read"),
        ("images/blobs/sha256/" + "0" * 64, b"x", "is damaged"),
    ],
)
def test_the_checker_names_what_is_wrong(
    serving: Device, name: str, content: bytes, words: str
) -> None:
    serving.stop()
    (serving.state / name).write_bytes(content)
    assert any(words in fault for fault in check.faults(serving.state))
