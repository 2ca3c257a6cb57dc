"""Machines that boot, the package, and a signed model to deploy there. All of it takes long."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system import roots
from tests.system.machine import Machine

ROOT = Path(__file__).resolve().parents[2]
BUILD_LIMIT = 1800.0  # seconds; machines that run this are small and shared
DEMO = ROOT / "packaging" / "demo"
PLACE = "/srv/goods"  # of what an operator brings, on the machine


@dataclass(frozen=True)
class Goods:
    """What an operator brings: a signed image, the key to trust, a picture."""

    image: Path
    key: Path
    photo: Path

    def put(self, machine: Machine) -> None:
        """Lays them into a folder that only root may read."""
        folder = machine.root / PLACE[1:]
        folder.mkdir(mode=0o700)
        for path in (self.image, self.key, self.photo):
            shutil.copy(path, folder)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this repository; ``EDGED_TEST_DEB`` names one that is built already."""
    roots.need("dh", "dpkg-deb")
    if os.environ.get("EDGED_TEST_DEB"):
        return Path(os.environ["EDGED_TEST_DEB"])
    folder = tmp_path_factory.mktemp("package")
    result = subprocess.run(
        [ROOT / "packaging/debian/build", "--out", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_LIMIT,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:]
    (path,) = folder.glob("edged_*.deb")
    return path


@pytest.fixture(scope="session")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as a later version."""
    folder = tmp_path_factory.mktemp("newer")
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    text = re.sub("^Version: .*$", "Version: 99.0-1", control.read_text(), flags=re.MULTILINE)
    control.write_text(text)
    path = folder / "edged_99.0-1.deb"
    command = ["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", str(tree), str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return path


@pytest.fixture(scope="session")
def goods(tmp_path_factory: pytest.TempPathFactory) -> Goods:
    """The demo model, signed."""
    pytest.importorskip("onnx", reason="building a model needs onnx (edged[build])")
    folder = tmp_path_factory.mktemp("goods")
    edged = [sys.executable, "-m", "edged"]
    for command in (
        ["keys", "generate", str(folder / "plant")],
        [
            *("build", str(DEMO / "surface.onnx"), "-o", f"oci-archive:{folder}/surface.tar"),
            *("--name", "surface", "--version", "1", "--labels", str(DEMO / "labels.txt")),
            *("--preprocess", str(DEMO / "preprocess.json"), "--sign", f"{folder}/plant.key"),
        ],
    ):
        subprocess.run([*edged, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    shutil.copy(DEMO / "pictures/dent-0.jpg", folder / "photo.jpg")
    return Goods(folder / "surface.tar", folder / "plant.pub", folder / "photo.jpg")


@contextlib.contextmanager
def booted() -> Iterator[Machine]:
    """A machine on a Debian that was not used before."""
    roots.need("systemd-nspawn", "debootstrap")
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    try:
        with roots.copy(roots.base(), folder) as root, contextlib.ExitStack() as stack:
            machine = Machine(root, folder)
            stack.callback(machine.close)
            machine.boot()
            yield machine
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def fresh() -> Iterator[Machine]:
    with booted() as machine:
        yield machine


@pytest.fixture(scope="module")
def device(package: Path, goods: Goods) -> Iterator[Machine]:
    """A machine on which edged serves a model; the tests of a module share it."""
    with booted() as machine:
        goods.put(machine)
        install(machine, package)
        deploy(machine)
        yield machine


def install(machine: Machine, package: Path) -> None:
    """``apt install ./edged_*.deb``."""
    shutil.copy(package, machine.root / "srv")
    machine.run(
        *("apt", "install", "--yes", "--allow-downgrades", f"/srv/{package.name}"), limit=600
    )


def deploy(machine: Machine) -> str:
    """``edged deploy`` of the model; the key is trusted with it, as a new device trusts none."""
    return machine.run(
        *("edged", "deploy", f"oci-archive:{PLACE}/surface.tar", "--trust", f"{PLACE}/plant.pub")
    )
