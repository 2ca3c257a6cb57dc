"""Devices that clients of others are tried on; tests do not change those that they share."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients import models
from tests.e2e.device import Device


@contextlib.contextmanager
def device_with(reference: str, *flags: str) -> Iterator[Device]:
    """A device with a model in service."""
    folder = Path(tempfile.mkdtemp(prefix="edged-"))  # short, for the sockets in it
    device = Device(folder, "edged")
    try:
        device.start(*flags)
        events = device.deploy(reference)
        assert events[-1].state == "committed", events[-1].error
        yield device
    finally:
        device.close()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Gives the reference of a model's image by the model's name; each is built once."""
    pytest.importorskip("onnx", reason="building a model needs onnx (edged[build])")
    folder = tmp_path_factory.mktemp("images")
    builders: dict[str, Callable[[Path], str]] = {
        "surface": models.build_surface,
        "surface-ms-fp11": functools.partial(models.build_surface, format="ms-fp11"),
        "net": models.build_net,
        "resnet50": models.build_resnet50,
    }
    built: dict[str, str] = {}

    def get(name: str) -> str:
        if name not in built:
            built[name] = builders[name](folder)
        return built[name]

    return get


@pytest.fixture(scope="session")
def surface(image: Callable[[str], str]) -> Iterator[Device]:
    """Serves the demo model: pictures in, one output with an alias."""
    with device_with(image("surface")) as device:
        yield device


@pytest.fixture(scope="session")
def net(image: Callable[[str], str]) -> Iterator[Device]:
    """Serves a model of floats with three outputs."""
    with device_with(image("net")) as device:
        yield device


@pytest.fixture(scope="session")
def resnet50(image: Callable[[str], str]) -> Iterator[Device]:
    """Serves the zoo's ResNet-50 under the original service's names."""
    with device_with(image("resnet50")) as device:
        yield device
