"""The model is known by name while its process starts, dies or cannot be started."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.containers.process import ProcessRuntime
from edged.deploy.types import Slot
from edged.model.catalogue import Catalogue
from edged.model.condition import Condition
from edged.model.process import Worker
from edged.model.service import Service
from edged.rpc.front import Front
from edged.rpc.models import Model
from tests.fakes import images


class World:
    """A service without a process, in any condition, and what is known of its model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current: Slot | None = None
        self.service = Service(Front(), Worker(ProcessRuntime()))
        self.catalogue = Catalogue(self.service, lambda: self.current)

    def slot(self, name: str, document: bytes | None = None) -> Slot:
        folder = self.folder / name
        folder.mkdir()
        made = images.manifest(name).to_json() if document is None else document
        (folder / "manifest.json").write_bytes(made)
        return Slot(f"sha256:{name}", f"oci:{name}", folder)

    def model(self, state: str, slot: Slot | None, reason: str = "") -> Model | None:
        self.service.condition = Condition(state, reason)
        self.service._slot = slot
        return self.catalogue.model()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_without_a_model_nothing_is_known(world: World) -> None:
    for state in ("starting", "swapping", "not_serving"):
        assert world.model(state, None) is None


def test_the_model_in_service_is_known_whatever_its_state(world: World) -> None:
    slot = world.slot("net")
    for state in ("serving", "swapping", "starting", "not_serving"):
        model = world.model(state, slot, "a reason")
        assert model is not None
        assert (model.name, model.version, model.state) == ("net", "1", state)
        assert model.reason == "a reason"
        assert model.signature == images.manifest("net").signature


def test_the_model_that_the_daemon_starts_with_is_known_before_it_has_loaded(world: World) -> None:
    world.current = world.slot("net")
    model = world.model("starting", None)
    assert model is not None
    assert model.name == "net"
    assert world.model("not_serving", None) is None


def test_the_next_model_is_known_as_soon_as_it_is_in_service(world: World) -> None:
    slots = [world.slot("one"), world.slot("two")]
    assert [getattr(world.model("serving", slot), "name", "") for slot in slots] == ["one", "two"]


@pytest.mark.parametrize("document", [b"", b"{}", b"\xff" * 100])
def test_a_manifest_that_cannot_be_read_leaves_the_state(world: World, document: bytes) -> None:
    slot = world.slot("net", document)
    assert world.model("not_serving", slot, "why") == Model("", "", None, "not_serving", "why")
    (slot.folder / "manifest.json").unlink()
    assert world.model("starting", slot) == Model("", "", None, "starting")
