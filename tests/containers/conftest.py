"""Folders that a container's users may pass through, and devices in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.containers.runc import command, seccomp
from edged.errors import ConfigError
from tests.containers import ordinary
from tests.e2e.device import ROOT, Device

RUN_LIMIT = 60.0  # seconds


def can_make_cgroups() -> bool:
    """Whether root may make cgroups here, which it may not in most containers."""
    memory = Path("/sys/fs/cgroup/memory")
    return os.access(memory if memory.exists() else memory.parent, os.W_OK)


class Sandbox:
    """Runs workers in containers, as root or as an ordinary user.

    Args:
        folder: which everybody may pass through.
        root: with ``runc-root``, as root.
    """

    def __init__(self, folder: Path, *, root: bool) -> None:
        self.root = root
        self.has_cgroups = root and can_make_cgroups()
        self.folder = folder
        self.run_dir = folder / "run"
        self.model = folder / "model"
        for path in (self.run_dir, self.model, folder / "aside"):
            path.mkdir(mode=0o755)
        (self.model / "manifest.json").write_text("{}")
        self.user = [] if root else ordinary.command(folder / "aside")
        if not root:
            os.chown(self.run_dir, ordinary.UID, ordinary.UID)

    def run(self, name: str, *arguments: object, **limits: object) -> dict[str, Any]:
        """Returns what became of a worker that runs ``name`` of ``tests.fakes.inside``.

        Args:
            name: of the function.
            arguments: for it.
            limits: of the worker.
        """
        order = {
            "root": self.root,
            "run": str(self.run_dir),
            "model": str(self.model),
            "arguments": [name, *arguments],
            "limits": limits,
        }
        result = subprocess.run(
            [*self.user, sys.executable, "-m", "tests.containers.drive", json.dumps(order)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            timeout=RUN_LIMIT,
            check=True,
        )
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer


@pytest.fixture(scope="session", autouse=True)
def _parts() -> None:
    """The programs of Debian that these tests are about; packaging/prepare.sh installs them."""
    if os.geteuid() != 0:
        pytest.skip("containers are tested as root, who can be every user")
    try:
        command.program()
        seccomp.load()
    except ConfigError as exc:
        pytest.skip(str(exc))
    asked = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "true"]
    result = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode != 0:
        pytest.skip(f"this machine lets nobody have namespaces: {result.stderr.strip()}")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder with a short path, which everybody may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["runc-root", "runc"])
def sandbox(open_folder: Path, request: pytest.FixtureRequest) -> Sandbox:
    """Both kinds of containers."""
    return Sandbox(open_folder, root=request.param == "runc-root")


class Box(Device):
    """A device whose models run in containers.

    Args:
        folder: with a short path, which everybody may pass through.
        root: with ``runc-root``, as root; else edged is an ordinary user.
        module: ``edged``, or ``tests.fakes.daemon`` for one whose worker is the fake one.
    """

    def __init__(self, folder: Path, *, root: bool, module: str = "edged") -> None:
        (folder / "aside").mkdir()
        super().__init__(folder, module, () if root else ordinary.command(folder / "aside"))
        self.root = root
        self.has_cgroups = root and can_make_cgroups()
        for path in () if root else (self.state, self.run):
            path.mkdir()
            os.chown(path, ordinary.UID, ordinary.UID)

    def start(self, *flags: str) -> None:
        """Starts the daemon and returns when it says READY."""
        super().start("--runtime", "runc-root" if self.root else "runc", *flags)

    def containers(self) -> list[dict[str, Any]]:
        """What ``runc list`` has."""
        command = ["runc", "--root", str(self.run / "runc"), "list", "--format", "json"]
        result = subprocess.run(command, capture_output=True, check=True, timeout=RUN_LIMIT)
        return json.loads(result.stdout) or []

    def leftovers(self, *containers: str) -> list[str]:
        """What there is of containers, these among them: folders, cgroups, mounts on the host."""
        names = {path.name for path in (self.run / "containers").iterdir()}
        every = names | {*containers}
        cgroups = [path for path in Path("/sys/fs/cgroup").rglob("edged-*") if path.name in every]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return [*sorted(names), *map(str, cgroups), *(m for m in mounts if str(self.run) in m)]


@pytest.fixture(params=["runc-root", "runc"])
def box(open_folder: Path, request: pytest.FixtureRequest) -> Iterator[Box]:
    """Both kinds; the daemon is not started yet."""
    box = Box(open_folder, root=request.param == "runc-root")
    yield box
    box.close()


@pytest.fixture(params=["runc-root", "runc"])
def fake_box(open_folder: Path, request: pytest.FixtureRequest) -> Iterator[Box]:
    """The same with the fake worker."""
    root = request.param == "runc-root"
    box = Box(open_folder, root=root, module="tests.fakes.daemon")
    yield box
    box.close()


@pytest.fixture(scope="session")
def surface_image() -> Iterator[str]:
    """The reference of the demo model's image, which everybody may read."""
    pytest.importorskip("onnx", reason="building a model needs onnx (edged[build])")
    from tests.e2e import hostile

    with tempfile.TemporaryDirectory(prefix="edged-") as folder:
        Path(folder).chmod(0o755)
        yield hostile.build(f"oci:{folder}/surface")
