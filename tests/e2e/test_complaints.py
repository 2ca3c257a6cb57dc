"""What people complain of elsewhere, when models are swapped on small hosts, does not happen here.

Disks that are full or gone, links that hang, deployments that block the next one, a network that is
needed where none should be. Power cuts are in ``tests/crash``, bad models in ``test_bad_models``.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.oci import keys
from tests.e2e.callers import calling
from tests.e2e.device import Device, call, refusal
from tests.fakes import images, registry
from tests.fakes.proxy import Proxy
from tests.fakes.registry import Registry

LIMIT = 30.0  # seconds


@pytest.fixture
def serving(device: Device) -> Device:
    device.start()
    events = device.deploy(images.write(device.folder / "old", "old"))
    assert events[-1].state == "committed", events[-1].error
    return device


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry.run(tmp_path_factory.mktemp("registry")) as running:
        yield running


# -- disks


def test_a_store_that_is_gone_takes_nothing_out_of_service(serving: Device) -> None:
    """As when a mount is lost: what serves has all it needs."""
    away = serving.state.rename(serving.folder / "away")
    new = images.write(serving.folder / "new", "new")
    with calling(serving) as callers:
        callers.wait_for(b"old:x")
        last = serving.deploy(new)[-1]
        assert last.state == "failed"
        assert "No such file or directory" in last.error
        callers.wait_for(b"old:x")
    assert callers.errors == []
    assert serving.status().model.name == "old"
    if serving.state.exists():
        shutil.rmtree(serving.state)
    away.rename(serving.state)
    assert serving.deploy(new)[-1].state == "committed"
    assert serving.predict(b"x") == b"new:x"


@contextlib.contextmanager
def disk_of(device: Device, size: str) -> Iterator[None]:
    """A file system of its own for the device's store, where that is allowed."""
    device.state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(device.state)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting takes root")
    try:
        yield
    finally:
        device.close()
        subprocess.run(["umount", str(device.state)], check=True)


def fill(folder: Path) -> Path:
    """Writes until the disk has no room for a byte; returns the file."""
    path = folder / "ballast"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    assert shutil.disk_usage(folder).free == 0
    return path


def test_a_disk_without_a_byte_costs_deployments_and_nothing_else(device: Device) -> None:
    with disk_of(device, "80m"):
        device.start()
        assert device.deploy(images.write(device.folder / "old", "old"))[-1].state == "committed"
        new = images.write(device.folder / "new", "new", padding=100_000)
        ballast = fill(device.state)
        last = device.deploy(new)[-1]
        assert last.state == "failed"
        assert "bytes" in last.error
        assert "0 are free" in last.error
        assert device.predict(b"x") == b"old:x"
        device.kill_worker()
        assert device.predict(b"x") == b"old:x"
        device.stop(signal.SIGKILL)
        device.start()
        assert device.predict(b"x") == b"old:x", "also after a restart with a full disk"
        ballast.unlink()
        assert device.deploy(new)[-1].state == "committed"
        assert device.predict(b"x") == b"new:x"


def test_old_images_make_room_before_a_new_one_is_refused(device: Device) -> None:
    """A disk for three of them sees ten."""
    megabytes = 64 + 3 * 12  # what is left free, and images with the models unpacked from them
    with disk_of(device, f"{megabytes}m"):
        device.start()
        for number in range(10):
            image = images.write(device.folder / "image", f"m{number}", padding=5_000_000)
            last = device.deploy(image)[-1]
            assert last.state == "committed", (number, last.error)
            shutil.rmtree(device.folder / "image")
        assert device.predict(b"x") == b"m9:x"
        assert device.rollback()[-1].state == "committed", "what to go back to is never removed"
        assert device.predict(b"x") == b"m8:x"


# -- deployments


def test_the_first_deployment_may_fail_and_the_next_one_works(device: Device) -> None:
    device.start()
    bad = images.write(device.folder / "bad", "bad", behaviour={"hello": "exit"})
    assert device.deploy(bad)[-1].state == "failed"
    assert refusal(device, b"x").code == "NOT_FOUND"
    assert not device.status().HasField("model")
    assert device.deploy(images.write(device.folder / "good", "good"))[-1].state == "committed"
    assert device.predict(b"x") == b"good:x"


def test_what_failed_many_times_is_tried_again_when_it_is_asked_for(serving: Device) -> None:
    for _ in range(8):
        last = serving.deploy(f"oci:{serving.folder}/new")[-1]
        assert (last.state, serving.predict(b"x")) == ("failed", b"old:x")
    images.write(serving.folder / "new", "new")
    assert serving.deploy(f"oci:{serving.folder}/new")[-1].state == "committed"
    assert serving.predict(b"x") == b"new:x"


def test_another_model_under_the_same_reference_is_another_model(serving: Device) -> None:
    before = serving.status().model
    shutil.rmtree(serving.folder / "old")
    again = images.write(serving.folder / "old", "old", version="2")
    with calling(serving) as callers:
        callers.wait_for(b"old:x")
        assert serving.deploy(again)[-1].state == "committed"
    assert callers.errors == []
    after = serving.status()
    assert after.model.reference == before.reference
    assert after.model.digest != before.digest == after.previous_digest
    assert serving.history()[0].before == before.digest


# -- links


def test_a_fetch_that_hangs_keeps_nobody_from_anything(serving: Device, plain: Registry) -> None:
    """A worker that dies meanwhile is back at once, and the next deployment does not wait."""
    slow = images.write(serving.folder / "slow", "slow", padding=8_000_000)
    plain.push(slow, "plant/slow:v1")
    with Proxy(plain.host, rate=1e6) as link:
        halfway = threading.Event()
        link.on_bytes = lambda sent: halfway.set() if sent > 1_000_000 else None
        told: list[str] = []

        def deploy() -> None:
            told.extend(e.error for e in serving.deploy(f"docker://{link.host}/plant/slow:v1"))

        thread = threading.Thread(target=deploy)
        thread.start()
        assert halfway.wait(LIMIT)
        assert serving.status().deployment == "fetch"
        serving.kill_worker()
        assert serving.predict(b"x", timeout=10) == b"old:x"
        began = time.monotonic()
        new = images.write(serving.folder / "new", "new")
        assert serving.deploy(new)[-1].state == "committed"
        assert time.monotonic() - began < 10
        thread.join(LIMIT)
    assert "overtaken" in told[-1]
    assert serving.predict(b"x") == b"new:x"


def test_a_model_that_is_here_starts_though_its_registry_is_gone(
    device: Device, tmp_path: Path
) -> None:
    with registry.run(tmp_path / "registry") as running:
        device.start()
        for name in ("old", "new"):
            source = images.write(device.folder / name, name)
            reference = running.push(source, f"plant/{name}:v1")
            assert device.deploy(reference)[-1].state == "committed"
    device.stop(signal.SIGKILL)
    device.start()
    assert device.predict(b"x", timeout=10) == b"new:x"
    assert device.rollback()[-1].state == "committed"
    assert device.predict(b"x", timeout=10) == b"old:x"


def test_with_no_network_at_all_a_signed_model_is_verified_deployed_and_started(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon has nothing but a loopback of its own: there is nobody to ask about keys."""
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a network namespace takes root")
    device = Device(short_folder, "tests.fakes.daemon", alone)
    keys.generate(device.folder / "plant")
    keys.trust(device.folder / "plant.pub", device.folder / "keys")
    monkeypatch.setenv("EDGED_VERIFY", "required")
    monkeypatch.setenv("EDGED_KEYS_DIR", str(device.folder / "keys"))

    def predict() -> bytes:
        with device.channel(f"unix:{device.run}/grpc.sock") as channel:
            return call(channel, b"x")

    try:
        device.start()
        theirs, ours = (Path(f"/proc/{pid}/ns/net") for pid in (device.facts["pid"], "self"))
        assert theirs.readlink() != ours.readlink()
        for name in ("old", "new"):
            image = images.write(device.folder / name, name, key=device.folder / "plant.key")
            assert device.deploy(image)[-1].state == "committed"
        device.stop(signal.SIGKILL)
        device.start()
        assert predict() == b"new:x"
        assert device.rollback()[-1].state == "committed"
        assert predict() == b"old:x"
        unsigned = device.deploy(images.write(device.folder / "unsigned"))[-1]
        assert "it is not signed" in unsigned.error
        assert predict() == b"old:x"
    finally:
        device.close()
