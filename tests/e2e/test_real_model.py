"""The whole way with a real model: built, deployed, asked over gRPC, by file and by command."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edged
from edged import messages, oci
from edged.errors import RequestError
from edged.oci import ModelFacts, Reference, write_image
from tests.e2e.device import ROOT, Device, call, raw

DEMO = ROOT / "packaging" / "demo"
PICTURES = sorted((DEMO / "pictures").glob("*.jpg"))


@pytest.fixture(scope="session")
def demo_images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """References of the demo model's image, by format."""
    pytest.importorskip("onnx", reason="building a model needs onnx (edged[build])")
    folder = tmp_path_factory.mktemp("images")
    references = {}
    for name in ("ms-fp13", "ms-fp11"):
        references[name] = f"oci:{folder / name}"
        edged.build(
            DEMO / "surface.onnx",
            references[name],
            format=name,
            name="surface",
            version="1",
            labels=DEMO / "labels.txt",
            preprocess=DEMO / "preprocess.json",
        )
    return references


@pytest.fixture
def serving(short_folder: Path, demo_images: dict[str, str]) -> Iterator[Device]:
    """A device that serves the demo model with edged's own worker."""
    device = Device(short_folder, "edged")
    device.start()
    try:
        events = device.deploy(demo_images["ms-fp13"])
        assert events[-1].state == "committed", events[-1].error
        yield device
    finally:
        device.close()


def test_pictures_are_classified(serving: Device) -> None:
    with serving.client() as client:
        answers = [client.predict({"images": path.read_bytes()}) for path in PICTURES]
    labels = [answer.top[0].label for answer in answers]
    right = [label == path.name.split("-")[0] for label, path in zip(labels, PICTURES, strict=True)]
    assert sum(right) >= len(right) - 2, list(zip(labels, PICTURES, strict=True))
    first = answers[0]
    assert {"image", "npu", "onnx"} <= set(first.times_us)
    assert first.total_us > first.times_us["npu"] > 0
    assert (first.model, first.version) == ("surface", 1)
    assert first.digest == serving.status().model.digest
    scores = np.asarray(first.outputs["probabilities"])
    assert scores.shape == (1, 5)
    assert scores.sum() == pytest.approx(1.0, abs=1e-3)
    assert int(scores.argmax()) == first.top[0].index


def test_the_public_client_scores_a_file(serving: Device) -> None:
    client = edged.Client(f"unix:{serving.run}/grpc.sock")
    client.wait_ready(timeout=10)
    scores = client.score_file(PICTURES[0])
    client.close()
    assert isinstance(scores, np.ndarray)
    assert scores.shape == (5,)


def test_several_pictures_in_one_request(serving: Device) -> None:
    with serving.client() as client:
        together = client.predict({"images": [p.read_bytes() for p in PICTURES[:3]]})
        alone = [client.score_file(path) for path in PICTURES[:3]]
    scores = together.outputs["probabilities"]
    np.testing.assert_array_equal(scores, np.stack([np.asarray(a) for a in alone]))


def test_what_is_no_picture_is_refused_by_name_and_the_next_is_served(serving: Device) -> None:
    with serving.client() as client:
        for inputs, why in (
            ({"images": b"no picture"}, "expected JPEG or PNG"),
            ({"pictures": PICTURES[0].read_bytes()}, "images"),
        ):
            with pytest.raises(RequestError) as caught:
                client.predict(inputs)
            assert caught.value.code == "INVALID_ARGUMENT"
            assert why in str(caught.value)
        assert client.predict({"images": PICTURES[0].read_bytes()}).top


def test_answers_are_typed_fields_unless_raw_bytes_are_asked_for(serving: Device) -> None:
    request = messages.PredictRequest()
    request.inputs["images"].dtype = messages.DataType.DT_STRING
    request.inputs["images"].tensor_shape.dim.add(size=1)
    request.inputs["images"].string_val.append(PICTURES[0].read_bytes())
    body = request.SerializeToString()
    with serving.channel() as channel:
        plain = messages.PredictResponse.FromString(call(channel, body))
        asked = raw(channel)(body, timeout=30, metadata=(("edged-tensor-content", "true"),))
    content = messages.PredictResponse.FromString(asked)
    typed, packed = plain.outputs["probabilities"], content.outputs["probabilities"]
    assert len(typed.float_val) == 5
    assert not typed.tensor_content
    assert not packed.float_val
    np.testing.assert_array_equal(
        np.array(typed.float_val, np.float32), np.frombuffer(packed.tensor_content, "<f4")
    )


def test_another_format_comes_in_under_load_and_loses_no_request(
    serving: Device, demo_images: dict[str, str]
) -> None:
    picture = PICTURES[0].read_bytes()
    done = threading.Event()
    errors: list[Exception] = []
    digests: list[str] = []

    def load() -> None:
        with serving.client() as client:
            while not done.is_set():
                try:
                    digests.append(client.predict({"images": picture}).digest)
                except RequestError as exc:
                    errors.append(exc)

    callers = [threading.Thread(target=load) for _ in range(4)]
    for caller in callers:
        caller.start()
    outcomes = [serving.deploy(demo_images[name])[-1] for name in ("ms-fp11", "ms-fp13", "ms-fp11")]
    done.set()
    for caller in callers:
        caller.join(60)
    assert [event.state for event in outcomes] == ["committed"] * 3
    assert not errors
    assert set(digests) == {event.digest for event in outcomes}
    assert serving.status().model.format == "ms-fp11"


def test_a_model_whose_answers_are_not_the_golden_ones_is_reverted(
    serving: Device, demo_images: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    oci.open_image(demo_images["ms-fp11"]).unpack_model(folder)
    other = tmp_path / "other"
    oci.open_image(demo_images["ms-fp13"]).unpack_model(other)
    # The program of one format with the golden answers of the other.
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    golden = {p.relative_to(other).as_posix(): p for p in other.rglob("golden/*")}
    document = json.loads((folder / "manifest.json").read_bytes())
    document["golden"] = json.loads((other / "manifest.json").read_bytes())["golden"]
    facts = ModelFacts("surface", "1", document["sku"], document["format"], document["memory"])
    wrong: dict[str, bytes | Path] = {
        **files,
        **golden,
        "manifest.json": json.dumps(document).encode(),
    }
    reference = f"oci:{tmp_path / 'wrong'}"
    write_image(wrong, facts, Reference.parse(reference))
    event = serving.deploy(reference)[-1]
    assert event.state == "reverted"
    assert "golden" in event.error
    with serving.client() as client:
        assert client.predict({"images": PICTURES[0].read_bytes()}).top


def test_it_serves_again_after_a_crash_of_the_worker_and_of_the_daemon(serving: Device) -> None:
    picture = PICTURES[0].read_bytes()
    with serving.client() as client:
        before = client.predict({"images": picture})
        serving.kill_worker()
        assert client.predict({"images": picture}).top == before.top
        serving.stop(signal.SIGKILL)
        serving.start()
        client.wait_ready(30)
        assert client.predict({"images": picture}).top == before.top


def test_the_commands_show_what_an_operator_asks_for(
    serving: Device, demo_images: dict[str, str]
) -> None:
    table = serving.edged("predict", *(str(path) for path in PICTURES[:2]), "--top", "2")
    assert table.returncode == 0, table.stderr
    lines = table.stdout.splitlines()
    assert lines[0].split()[:3] == ["file", "class", "confidence"]
    assert len(lines) == 5
    facts = json.loads(serving.edged("predict", "--json", str(PICTURES[0])).stdout)
    assert facts["top"][0]["label"] in facts["file"]
    status = serving.edged("status")
    assert "surface 1" in status.stdout
    assert json.loads(serving.edged("status", "--json").stdout)["model"]["format"] == "ms-fp13"
    deployed = serving.edged("deploy", demo_images["ms-fp11"])
    assert deployed.returncode == 0, deployed.stderr
    assert "ms-fp11 for bw-cnn-a10 is in service" in deployed.stdout
    undeployed = serving.edged("undeploy")
    assert undeployed.returncode == 0
    refused = serving.edged("predict", str(PICTURES[0]))
    assert refused.returncode == 1
    assert refused.stderr.startswith("edged: Servable not found")
