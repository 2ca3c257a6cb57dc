"""Folders that a container's users may pass through, and devices in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.containers.runc import command, seccomp
from edged.errors import ConfigError
from tests.e2e.device import Device


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


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder with a short path, which everybody may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def device(open_folder: Path) -> Iterator[Device]:
    """A device whose worker is edged's own; its daemon is not started yet."""
    device = Device(open_folder, "edged")
    yield device
    device.close()


@pytest.fixture(scope="session")
def surface_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of the demo model's image."""
    pytest.importorskip("onnx", reason="building a model needs onnx (edged[build])")
    from tests.e2e import hostile

    return hostile.build(f"oci:{tmp_path_factory.mktemp('surface')}")
