"""From a bare Debian 12 to an answer and back: installed, upgraded, downgraded, removed, purged."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system import roots
from tests.system.conftest import PLACE, Goods, deploy, install
from tests.system.machine import Machine

pytestmark = pytest.mark.long

CHECKS_LIMIT = 60.0  # seconds


def test_three_commands_from_nothing_to_an_answer(
    fresh: Machine, package: Path, goods: Goods
) -> None:
    goods.put(fresh)
    assert "edged" not in fresh.run("ls", "/usr/bin")
    shutil.copy(package, fresh.root / "srv")
    fresh.run("apt", "install", "--yes", f"/srv/{package.name}", limit=600)
    said = fresh.run(
        *("edged", "deploy", f"oci-archive:{PLACE}/surface.tar", "--trust", f"{PLACE}/plant.pub")
    )
    assert "surface 1" in said
    answer = fresh.run("edged", "predict", f"{PLACE}/photo.jpg")
    assert re.search(r"photo\.jpg +dent", answer)

    # It runs as it is meant to: an ordinary user, in a container, signatures verified.
    status = fresh.status()
    assert status["runtime"] == "runc"
    assert "rootless" in status["sandbox"]
    assert status["verify"] == "required"
    assert fresh.show("User", "UnitFileState") == {"User": "edged", "UnitFileState": "enabled"}
    assert fresh.run("ls", "/var/lib/edged/incoming") == ""
    record = json.loads(fresh.run("edged", "history", "--json"))[0]
    assert record["reference"] == f"oci-archive:{PLACE}/surface.tar", "not the copy made for edged"

    # It comes with what belongs to a package.
    names = {e["name"] for e in json.loads(_gunzip(fresh, "edged.cdx.json.gz"))["components"]}
    assert {"numpy", "grpcio", "onnxruntime", "pillow", "cryptography"} <= names
    assert "edged is ready" in fresh.run("journalctl", "--no-pager", "--list-catalog")
    assert (fresh.root / "usr/share/man/man1/edged-deploy.1.gz").exists()
    assert "nothing is wrong" in fresh.run("edged", "check-config")
    # Nothing was compiled on the device, and nothing is missing.
    assert fresh.run("dpkg", "--verify", "edged") == ""


def _gunzip(machine: Machine, name: str) -> bytes:
    return gzip.decompress((machine.root / "usr/share/doc/edged" / name).read_bytes())


def test_the_device_examines_itself_and_tells_whoever_helps(device: Machine) -> None:
    found = json.loads(device.run("edged", "doctor", "--json", status=None))
    assert [each for each in found["results"] if each["result"] == "error"] == []
    assert found["counts"]["ok"] >= 20
    device.run("edged", "support-bundle", "--output", f"{PLACE}/bundle.tar.gz")
    names = device.run("tar", "-tzf", f"{PLACE}/bundle.tar.gz")
    assert "doctor.json" in names
    assert "status.json" in names


def test_operators_are_members_of_a_group(device: Machine) -> None:
    device.run("useradd", "--create-home", "--groups", "edged", "anna")
    device.run("useradd", "--create-home", "bert")
    for user in ("anna", "bert"):
        device.run("cp", f"{PLACE}/surface.tar", f"{PLACE}/photo.jpg", f"/home/{user}")
        device.run("chown", "-R", f"{user}:", f"/home/{user}")
        device.run("chmod", "700", f"/home/{user}")
    # Out of a home folder that the service does not see.
    said = device.run("edged", "deploy", "oci-archive:/home/anna/surface.tar", user="anna")
    assert "surface 1" in said
    assert device.run("edged", "status", user="anna")
    refused = device.run(
        "edged", "deploy", "oci-archive:/home/bert/surface.tar", user="bert", status=2
    )
    assert "operators are root, and members of the daemon's group" in refused
    assert "dent" in device.run("edged", "predict", "/home/bert/photo.jpg", user="bert")


def test_versions_come_and_go_and_the_device_keeps_what_is_its_own(
    fresh: Machine, package: Path, newer: Path, goods: Goods
) -> None:
    goods.put(fresh)
    install(fresh, package)
    deploy(fresh)
    settings = fresh.root / "etc/edged/edged.toml"
    settings.write_text(settings.read_text() + '\n[registries."plant.example"]\nusername = "x"\n')
    digest = fresh.status()["model"]["digest"]

    for path in (newer, package):
        install(fresh, path)
        fresh.wait(lambda: fresh.status().get("state") == "serving", CHECKS_LIMIT, "it serves")
        assert fresh.status()["model"]["digest"] == digest
        assert 'username = "x"' in settings.read_text()
        assert (fresh.root / "etc/edged/keys/plant.pub").exists()
        assert "dent" in fresh.run("edged", "predict", f"{PLACE}/photo.jpg")

    fresh.run("apt", "remove", "--yes", "edged")
    assert fresh.run("systemctl", "is-active", "edged", status=None) != "active\n"
    assert settings.exists()
    assert (fresh.root / "var/lib/edged/current.json").exists()
    assert not (fresh.root / "usr/lib/edged").exists()
    install(fresh, package)
    fresh.wait(lambda: fresh.status().get("state") == "serving", CHECKS_LIMIT, "it serves again")
    assert fresh.status()["model"]["digest"] == digest

    fresh.run("apt", "purge", "--yes", "edged")
    left = fresh.run("find", "/etc", "/usr", "/var/lib/edged", "-name", "*edged*", status=None)
    kept = [line for line in left.splitlines() if "/info/edged" not in line]
    assert not [line for line in kept if not line.startswith(("find:", "/etc/apt"))], left
    assert not (fresh.root / "var/lib/edged").exists()


def test_lintian_finds_no_error(package: Path) -> None:
    roots.need("lintian")
    command = ["lintian", "--fail-on", "error", "--tag-display-limit", "0", str(package)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout
    assert "E: " not in result.stdout
