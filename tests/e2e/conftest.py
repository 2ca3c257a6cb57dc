"""Devices with the real daemon in a process of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.device import Device


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name, which pytest's own may not."""
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def device(short_folder: Path) -> Iterator[Device]:
    """A device whose worker is the fake one; its daemon is not started yet."""
    device = Device(short_folder, "tests.fakes.daemon")
    yield device
    device.close()
