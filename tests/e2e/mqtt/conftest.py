"""A registry, brokers, a hub, and devices that listen to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.device import Device
from tests.e2e.mqtt import ways
from tests.e2e.mqtt.ways import Way
from tests.e2e.mqtt.world import configured
from tests.fakes import images, registry
from tests.fakes.broker import Broker
from tests.fakes.hub import Hub
from tests.fakes.plant import Plant
from tests.fakes.registry import Registry

Configure = Callable[[Device, Mapping[str, Any]], None]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The registry where models are."""
    with registry.run(tmp_path_factory.mktemp("shop")) as running:
        yield running


@pytest.fixture
def offer(shop: Registry, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Writes a model of the fake worker and pushes it; returns its reference."""
    mark = f"{abs(hash(request.node.nodeid)):x}"

    def push(name: str, **how: Any) -> str:
        return shop.push(images.write(tmp_path / name, name, **how), f"plant/{name}:{mark}")

    return push


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A plant's broker that asks nobody who he is."""
    with Broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def plant(broker: Broker) -> Iterator[Plant]:
    """The plant's controller."""
    with Plant(broker, ways.DEVICE) as plant:
        yield plant


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Gives a device, before it starts, its file of settings."""
    with contextlib.ExitStack() as stack:
        yield lambda device, settings: stack.enter_context(configured(device, settings))


@pytest.fixture
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    """The way that the test names: twin, manifest, method, plain or push."""
    fixture, name = request.getfixturevalue, request.param
    if name == "push":
        push = ways.ByPush(fixture("plant"), fixture("broker"), tmp_path)
        yield push
        push.close()
    elif name == "plain":
        yield ways.ByPlain(fixture("plant"), fixture("broker"))
    else:
        kinds: dict[str, Callable[[Hub], Way]] = {
            "twin": ways.ByTwin,
            "manifest": ways.ByManifest,
            "method": ways.ByMethod,
        }
        yield kinds[name](fixture("hub"))
