"""From a controller to a served model and back, over each way, on the whole device."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edged import oci
from edged.npu import Program
from edged.oci import ModelFacts, Reference, write_image
from tests.benchmarks.swaps import canonical
from tests.containers.conftest import Box
from tests.e2e import hostile
from tests.e2e.device import Device
from tests.e2e.hostile import GOOD, request
from tests.e2e.mqtt.conftest import Configure
from tests.e2e.mqtt.ways import ByManifest, ByPush, Way
from tests.fakes.registry import Registry

SHORT = ["twin", "plain"]
EVERY = ["twin", "manifest", "method", "plain", "push"]
REASON = "golden test failed"
Ask = Callable[[Device], bytes]


def has_its_life(way: Way, device: Device, good: str, bad: str, ask: Ask) -> None:
    """A model comes into service, a bad one does not, and then there is none."""
    way.want(good)
    report = way.until_served(good)
    answer = ask(device)
    assert report["model"]["reference"].startswith(good)
    assert report["model"]["digest"] == device.status().model.digest
    phases = {each["deployment"]["phase"] for each in way.reports() if "deployment" in each}
    assert phases, "what goes on is told while it does"
    if isinstance(way, ByPush):
        status, printed = way.ended()
        assert status == 0, printed

    way.want(bad)
    report = way.until_refused(bad)
    assert report["last_error"]["outcome"] == "reverted"
    assert REASON in report["last_error"]["error"]
    assert report["last_error"]["fix"]
    assert report["model"]["reference"].startswith(good)
    assert ask(device) == answer, "the good one serves on"
    if isinstance(way, ByManifest):
        agent = way.hub.reported(way.name)
        assert agent["lastDesiredStatus"]["code"] == 500
        assert agent["modules"]["model"]["runtimeStatus"] == "failed"
        assert REASON in agent["modules"]["model"]["statusDescription"]
    if isinstance(way, ByPush):
        status, printed = way.ended()
        assert status == 1
        assert REASON in printed

    way.want_nothing()
    way.until_gone()
    assert device.status().model.digest == ""
    way.until(lambda: len(recorded(device)) == 3, what="a record of each act")
    assert [(act, outcome.partition(":")[0]) for act, outcome in recorded(device)] == [
        ("deploy", "committed"),
        ("deploy", "reverted"),
        ("undeploy", report["model"]["digest"].partition(":")[0]),
    ]


def recorded(device: Device) -> list[tuple[str, str]]:
    """Returns what a controller is on record for: acts and how they ended."""
    lines = (device.state / "audit.log").read_text().splitlines()
    acts = [json.loads(line) for line in lines]
    for act in acts:
        assert act["who"].startswith("the controller at "), act
        assert act["via"] == "mqtt"
    return [(act["what"], act["outcome"]) for act in acts]


@pytest.mark.parametrize("way", SHORT, indirect=True)
def test_a_model_comes_a_bad_one_is_reverted_and_none_is_left(
    way: Way, device: Device, configure: Configure, offer: Callable[..., str]
) -> None:
    configure(device, way.settings)
    device.start()
    # As slow as a real one: what goes on is told twice a second at most.
    good = offer("good", behaviour={"hello_after": 1.5})
    bad = offer("bad", behaviour={"probe": "fail"})
    has_its_life(way, device, good, bad, lambda device: device.predict(b"x"))


@pytest.fixture
def box() -> Iterator[Box]:
    """A device whose models run in runc's containers."""
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    folder.chmod(0o711)
    box = Box(folder, root=True)
    yield box
    box.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def surface(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo's model, in a layout."""
    pytest.importorskip("onnx", reason="building a model needs onnx (edged[build])")
    return hostile.build(f"oci:{tmp_path_factory.mktemp('surface')}:v1")


@pytest.fixture(scope="module")
def good(surface: str, shop: Registry) -> str:
    """The same, in the registry."""
    return shop.push(surface, "demo/surface:1")


@pytest.fixture(scope="module")
def bad(surface: str, shop: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same with other weights than it was tested with."""
    folder = tmp_path_factory.mktemp("bad")
    image = oci.open_image(Reference.parse(surface))
    image.unpack_model(folder / "files")
    path = folder / "files" / "program.npu"
    program = bytearray(path.read_bytes())
    for at in range(len(program) - 100_001, len(program) - 50_000, 2):
        program[at] ^= 0x80  # the sign
    path.write_bytes(Program.from_bytes(bytes(program)).to_bytes())
    files = {
        each.relative_to(folder / "files").as_posix(): each.read_bytes()
        for each in (folder / "files").rglob("*")
        if each.is_file()
    }
    memory = json.loads(files["manifest.json"])["memory"]
    facts = ModelFacts("surface", "1", "bw-cnn-a10", "ms-fp13", memory)
    write_image(dict(files), facts, Reference.parse(f"oci:{folder / 'image'}"))
    return shop.push(f"oci:{folder / 'image'}", "demo/surface:2")


@pytest.mark.long
@pytest.mark.parametrize("way", EVERY, indirect=True)
def test_the_demos_model_comes_into_a_container(
    way: Way, box: Box, configure: Configure, good: str, bad: str
) -> None:
    configure(box, way.settings)
    box.start()
    body = request(GOOD).SerializeToString()
    has_its_life(way, box, good, bad, lambda device: canonical(device.predict(body)))
