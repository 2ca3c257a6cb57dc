"""``edged support-bundle``: complete, bounded, and without any of the secrets planted in it."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from edged import __main__
from edged.doctor import bundle, parts
from edged.doctor.world import World
from edged.osutil import atomic
from tests.e2e.device import Device
from tests.fakes import images
from tests.unit.deploy.stores import contents, unpack
from tests.unit.doctor import planted


def read(data: bytes) -> dict[str, bytes]:
    """What is in a bundle: regular files below one folder, and nothing else."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            assert member.isreg()
            assert member.name.startswith("edged-support/")
            assert ".." not in member.name
            file = archive.extractfile(member)
            assert file is not None
            found[member.name.removeprefix("edged-support/")] = file.read()
    return found


def missing(made: dict[str, bytes]) -> dict[str, str]:
    listed = json.loads(made["summary.json"])["parts"]
    return {each["part"]: each["missing"] for each in listed if "missing" in each}


def plant(device: Device) -> tuple[Path, dict[str, str]]:
    """Puts secrets everywhere they can stand; returns the configuration and the environment."""
    secret = device.folder / "registry-password"
    secret.write_text(planted.PASSWORD + "\n")
    config = device.folder / "edged.toml"
    config.write_text(
        'verify = "off"\n'
        '[registries."a.example"]\nusername = "line4"\npassword = "t0ps3cret"\n'
        '[registries."b.example"]\nusername = "line4"\npassword_file = "registry-password"\n'
    )
    logs = device.state / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    stamp = "2026-11-27T00:00:00.000000Z"
    for name in ("edged-one-00000000.log", "edged-one-00000000.log.1"):
        (logs / name).write_text("".join(f"{stamp} {line}\n" for line in planted.LINES))
    (logs / "line\nbreak.log").write_text(planted.TOKEN)
    (logs / "edged-link-00000000.log").symlink_to("/etc/hostname")
    history = json.loads((device.state / "history.json").read_bytes())
    history["records"][0]["reason"] = " ".join(planted.LINES)
    (device.state / "history.json").write_text(json.dumps(history))
    (device.state / "audit.log").write_text(json.dumps({"what": planted.LINES[0]}) + "\n")
    (device.state / "tokens.json").write_text(json.dumps({"schema": 1, "x": planted.TOKEN}))
    (device.state / f"password={planted.TOKEN}").touch()
    environ = {
        "EDGED_MQTT_CONNECTION_STRING": planted.CONNECTION,
        "EDGED_MQTT_PASSWORD": planted.SAS,
        "EDGED_API_TOKEN": planted.TOKEN,
        "EDGED_PRIVATE_KEY": planted.PRIVATE,
        "EDGED_PROXY": planted.URL,
    }
    return config, environ


def collect(device: Device, *arguments: str) -> dict[str, bytes]:
    out = device.folder / "bundle.tar.gz"
    folders = ["--state-dir", str(device.state), "--run-dir", str(device.run), "-o", str(out)]
    done = device.edged("support-bundle", *folders, *arguments)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    return read(out.read_bytes())


def assert_clean(made: dict[str, bytes]) -> None:
    for name, data in made.items():
        text = name + data.decode()
        leaked = [needle for needle in planted.NEEDLES if needle in text]
        assert not leaked, (name, leaked)


def test_no_planted_secret_is_in_it_with_the_daemon_down(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(1, device.state)
    config, environ = plant(device)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    before = contents(device.state)
    made = collect(device, "--config", str(config))
    assert contents(device.state) == before
    assert_clean(made)
    # Where they stood there is a mark, so the search has looked at the right places.
    for name in ("logs/edged-one-00000000.log", "state/history.json", "state/audit.log"):
        assert b"[hidden]" in made[name], name
    assert b"[hidden]" in made["environment.json"]
    assert b"[hidden]" in made["store.txt"]
    settings = json.loads(made["configuration.json"])["settings"]
    assert settings["verify"]["value"] == "off"
    assert f"{config}:1" in settings["verify"]["origin"]
    assert "state/tokens.json" not in made
    assert "logs/line\nbreak.log" not in made
    assert "status.json" in missing(made)
    assert "logs/edged-link-00000000.log" in missing(made), "links lead anywhere"
    assert b"two" in made["state/current.json"]


def test_no_planted_secret_is_in_it_while_edged_serves(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(1, device.state)
    config, environ = plant(device)
    (device.state / "tokens.json").unlink()  # edged would not start with it
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EDGED_CONFIG", str(config))
    device.start()
    refused = device.deploy(f"docker://line4:{planted.TOKEN}@a.example/x:1", force=True)
    assert refused[-1].error
    made = collect(device, "--config", str(config))
    assert_clean(made)
    assert not {"status.json", "process.json", "doctor.json"} & set(missing(made))
    status = json.loads(made["status.json"])
    assert status["model"]["name"] == "two"
    environment = json.loads(made["environment.json"])
    assert "EDGED_API_TOKEN" in environment["daemon"], "the daemon's own, too"
    assert json.loads(made["process.json"])["worker"]["limits"]


def test_it_has_the_same_parts_in_the_same_order_and_no_blobs(serving: Device) -> None:
    first = collect(serving)
    (serving.folder / "bundle.tar.gz").unlink()
    assert list(collect(serving)) == list(first)
    assert list(first)[:3] == ["README", "summary.json", "versions.json"]
    wanted = {"host.json", "doctor.json", "store.txt", "state/history.json", "journal.txt"}
    assert wanted <= {*first, *missing(first)}
    assert not [name for name in first if "blobs" in name]
    assert b"blobs/sha256/" in first["store.txt"]


@pytest.fixture
def unexamined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor, who reads the whole store and runs the model, is away."""
    monkeypatch.setattr(parts, "_doctor", lambda world: "[]")


@pytest.mark.usefixtures("unexamined")
def test_it_has_bounds(tmp_path: Path) -> None:
    state = unpack(1, tmp_path / "state")
    line = "2026-11-27T00:00:00.000000Z " + "x" * 200 + "\n"
    for number in range(30):
        lines = line * (3000 if number == 29 else 10)
        (state / "logs" / f"edged-{number:02}-0.log").write_text(lines)
    (state / "images" / "many").mkdir()
    for number in range(5000):
        (state / "images" / "many" / str(number)).touch()
    made = read(bundle.make(World({"state_dir": str(state), "run_dir": str(tmp_path)})))
    assert sum(map(len, made.values())) < bundle.LIMIT + bundle.PART_LIMIT
    logs = [name for name in made if name.startswith("logs/")]
    assert len(logs) == 24
    assert b"bytes before this]" in made[logs[-1]][:40]
    assert len(made[logs[-1]]) < 300_000
    assert made["store.txt"].endswith(b"more than 4000 entries]\n")


@pytest.mark.usefixtures("unexamined")
def test_all_of_it_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "LIMIT", 3000)
    state = unpack(1, tmp_path / "state")
    made = read(bundle.make(World({"state_dir": str(state), "run_dir": str(tmp_path)})))
    kept = [data for name, data in made.items() if name not in ("README", "summary.json")]
    assert sum(map(len, kept)) < 3000 + 50 * len(kept)
    assert any(data.startswith(b"[the beginning was cut]") for data in kept)


def test_a_broken_device_still_gives_one(device: Device) -> None:
    config = device.folder / "edged.toml"
    config.write_text(f'this is "{planted.TOKEN}" no toml [\n')
    made = collect(device, "--config", str(config))
    assert_clean(made)
    assert json.loads(made["configuration.json"])["problems"]
    results = json.loads(made["doctor.json"])
    assert {each["result"] for each in results} >= {"error", "skipped"}


def run(folder: Path, *arguments: str) -> int:
    folders = ["--state-dir", str(folder / "state"), "--run-dir", str(folder / "run")]
    return __main__.main(["support-bundle", *folders, *arguments])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle of nothing: where it goes is what matters."""

    def make(*_: Any) -> bytes:
        return gzip.compress(b"nothing")

    monkeypatch.setattr(bundle, "make", make)


@pytest.mark.usefixtures("quick")
def test_a_full_disk_is_said_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(name: str) -> None:
        if name.endswith(":write"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "failpoint_hook", full)
    assert run(tmp_path, "-o", str(tmp_path / "x.tar.gz")) == 1
    error = capsys.readouterr().err
    assert "x.tar.gz" in error
    assert "free" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_it_goes_where_it_is_told_and_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "there").write_text("mine")
    assert run(tmp_path, "-o", str(tmp_path / "there")) == 2
    assert (tmp_path / "there").read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert run(tmp_path, "-o", str(tmp_path / "link")) == 2
    assert run(tmp_path, "-o", str(tmp_path / "no-folder" / "x")) == 2
    assert b"there is no folder" in capfdbinary.readouterr().err
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run(tmp_path) == 0
    assert run(tmp_path, "-o", str(tmp_path)) == 0
    for folder in (tmp_path / "here", tmp_path):
        (made,) = folder.glob("edged-support-*.tar.gz")
        assert stat.S_IMODE(made.stat().st_mode) == 0o600
    capfdbinary.readouterr()
    assert run(tmp_path, "-o", "-") == 0
    assert gzip.decompress(capfdbinary.readouterr().out) == b"nothing"


@pytest.mark.usefixtures("unexamined")
def test_models_names_are_in_it_and_images_are_not(device: Device) -> None:
    device.start()
    device.deploy(images.write(device.folder / "image", "surface-of-line-4", padding=100_000))
    flags = {"state_dir": str(device.state), "run_dir": str(device.run)}
    made = read(bundle.make(World(flags)))
    assert b"surface-of-line-4" in made["state/current.json"]
    assert b"surface-of-line-4" in made["status.json"]
    assert sum(map(len, made.values())) < 100_000
