"""Devices with the real daemon in a process of its own."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e import hostile
from tests.e2e.busy import Busy
from tests.e2e.device import Device
from tests.fakes import images


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


@pytest.fixture
def serving(device: Device) -> Device:
    """A device that serves the fake model."""
    device.start()
    events = device.deploy(images.write(device.folder / "image"))
    assert events[-1].state == "committed", events[-1].error
    return device


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for callers who wait."""
    with ThreadPoolExecutor(64) as pool:
        yield pool


@pytest.fixture
def busy(serving: Device, pool: ThreadPoolExecutor) -> Iterator[Busy]:
    """The fake model, running a request until it is let end."""
    with serving.channel() as channel:
        yield Busy(serving, channel, pool)


@pytest.fixture(scope="session")
def surface_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of the demo model's image."""
    pytest.importorskip("onnx", reason="building a model needs onnx (edged[build])")
    return hostile.build(f"oci:{tmp_path_factory.mktemp('surface')}")


@pytest.fixture(scope="module")
def served() -> Iterator[Callable[[str], Device]]:
    """Makes devices that serve an image with edged's own worker, until the module is done."""
    with contextlib.ExitStack() as stack:

        def serve(reference: str) -> Device:
            folder = Path(tempfile.mkdtemp(prefix="edged-"))
            stack.callback(shutil.rmtree, folder)
            device = Device(folder, "edged")
            stack.callback(device.close)
            device.start()
            event = device.deploy(reference)[-1]
            assert event.state == "committed", event.error
            return device

        yield serve
