"""Running a model: each item as if it came alone, and models whose parts do not fit are refused."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged import npu
from edged.errors import ModelError, RequestError
from edged.worker import pipeline as module
from edged.worker.pipeline import Pipeline
from tests.unit.worker import models
from tests.unit.worker.pictures import encoded, noise

PICTURES = [encoded(noise(20, 30, seed=seed)) for seed in range(4)]


def test_a_batch_gives_what_its_items_give_alone(pipeline: Pipeline) -> None:
    batch = pipeline.run({"images": PICTURES})
    assert batch.outputs["probabilities"].shape == (4, 5)
    assert set(batch.times_us) == {"image", "npu", "onnx"}
    assert all(spent > 0 for spent in batch.times_us.values())
    for index, picture in enumerate(PICTURES):
        alone = pipeline.run({"images": [picture]}).outputs["probabilities"]
        np.testing.assert_array_equal(alone[0], batch.outputs["probabilities"][index])


def test_pictures_and_their_tensors_give_the_same(pipeline: Pipeline, tensor_model: Path) -> None:
    made = pipeline.run({"images": PICTURES}, ["image", "probabilities"])
    plain = Pipeline.open(tensor_model, threads=1)
    result = plain.run({"image": made.outputs["image"]})
    plain.close()
    np.testing.assert_array_equal(result.outputs["probabilities"], made.outputs["probabilities"])
    assert set(result.times_us) == {"npu", "onnx"}


def test_only_the_stages_that_are_needed_run(pipeline: Pipeline) -> None:
    features = pipeline.manifest.npu.outputs[0]
    result = pipeline.run({"images": PICTURES[:1]}, [features])
    assert list(result.outputs) == [features]
    assert set(result.times_us) == {"image", "npu"}


def test_the_npu_stage_gives_the_definitions_bits(pipeline: Pipeline, built_model: Path) -> None:
    features = pipeline.manifest.npu.outputs[0]
    made = pipeline.run({"images": PICTURES[:1]}, ["image", features]).outputs
    program = npu.Program.load(built_model / "program.npu")
    expected = npu.reference.run(program, made["image"])[features]
    assert made[features].tobytes() == expected.tobytes()


def test_float32_numerics_come_close_to_blocks(built_model: Path, pipeline: Pipeline) -> None:
    plain = Pipeline.open(built_model, threads=1, numerics="float32")
    expected = pipeline.run({"images": PICTURES}).outputs["probabilities"]
    got = plain.run({"images": PICTURES}).outputs["probabilities"]
    plain.close()
    assert 0 < np.abs(got - expected).max() < 0.02


def test_a_model_wholly_on_the_npu_has_no_onnx_stage(tmp_path: Path) -> None:
    folder = models.write(tmp_path, classifier_on="npu")
    opened = Pipeline.open(folder, threads=1)
    kinds = {stage.kind for stage in opened.manifest.stages}
    result = opened.run({"images": PICTURES[:1]})
    opened.close()
    assert result.outputs["probabilities"].shape == (1, 5)
    assert kinds >= {"image", "npu"}


def test_labels_are_read(pipeline: Pipeline) -> None:
    assert pipeline.labels == models.CLASSES


def test_no_item_is_begun_after_the_deadline(pipeline: Pipeline) -> None:
    with pytest.raises(RequestError) as caught:
        pipeline.run({"images": PICTURES}, deadline=time.monotonic() - 1)
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert pipeline.run({"images": PICTURES}, deadline=time.monotonic() + 60).outputs


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "inputs are named [], expected ['images']"),
        ({"image": PICTURES}, "inputs are named ['image']"),
        ({"images": []}, "batches of {'images': 0}, expected one size from 1 up"),
        ({"images": PICTURES[0]}, "must be a list of pictures' bytes"),
        ({"images": np.zeros(3)}, "must be a list of pictures' bytes"),
        ({"images": [b"nonsense"]}, "expected JPEG or PNG"),
    ],
)
def test_inputs_that_are_not_the_models_are_refused(
    pipeline: Pipeline, inputs: Any, says: str
) -> None:
    with pytest.raises(RequestError) as caught:
        pipeline.run(inputs)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert says in str(caught.value)


def test_tensors_that_are_not_the_models_are_refused(tensor_model: Path) -> None:
    opened = Pipeline.open(tensor_model, threads=1)
    good = np.zeros((1, 3, 12, 12), np.float32)
    assert opened.run({"image": good}).outputs
    for bad in (good.astype(np.float64), good[0], np.zeros((1, 3, 12, 13), np.float32), "text"):
        with pytest.raises(RequestError, match=r"expected float32 \[-1, 3, 12, 12\]"):
            opened.run({"image": bad})
    with pytest.raises(RequestError, match="NaN"):
        opened.run({"image": np.full_like(good, np.nan)})
    opened.close()


def test_outputs_that_no_stage_makes_are_refused(pipeline: Pipeline) -> None:
    for names in (["nothing"], ["images"], [], ["probabilities", "nothing"]):
        with pytest.raises(RequestError, match="not made by the model's stages"):
            pipeline.run({"images": PICTURES[:1]}, names)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        Pipeline.open(folder, threads=1)
    return str(caught.value)


@pytest.mark.parametrize("name", ["manifest.json", "labels.txt", "program.npu", "post.onnx"])
def test_a_missing_file_is_named(model: Path, name: str) -> None:
    (model / name).unlink()
    assert name in refused(model)
    (model / name).mkdir()
    assert name in refused(model)


@pytest.mark.parametrize("name", ["manifest.json", "labels.txt", "program.npu", "post.onnx"])
def test_a_damaged_file_is_refused(model: Path, name: str) -> None:
    (model / name).write_bytes(b"\xff\x00 damaged")
    assert refused(model)


def test_files_too_large_for_what_they_are_are_refused(model: Path) -> None:
    with (model / "labels.txt").open("ab") as file:
        os.truncate(file.fileno(), 1 << 33)
    assert "labels.txt of the model: more than" in refused(model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(sku="bw-other"), "its sku is 'bw-cnn-a10', the manifest says"),
        (
            lambda d: d.update(format="ms-fp8"),
            "its format is 'ms-fp13', the manifest says 'ms-fp8'",
        ),
        (lambda d: d.update(memory=1), "its memory is"),
        (lambda d: d["stages"][0]["preprocess"].update(size=[12, 13]), "shape [1, 3, 12, 13]"),
        (lambda d: d["stages"][0]["preprocess"].update(layout="nhwc"), "shape [1, 12, 12, 3]"),
    ],
)
def test_a_manifest_that_says_otherwise_than_its_files_is_refused(
    model: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    edit(model, change)
    assert says in refused(model)


def test_port_and_graph_names_must_be_the_manifests(model: Path) -> None:
    def rename(document: dict[str, Any], stage: int, side: str, name: str) -> None:
        document["stages"][stage][side] = [name]

    features = json.loads((model / "manifest.json").read_bytes())["stages"][1]["outputs"][0]
    document = json.loads((model / "manifest.json").read_bytes())
    rename(document, 1, "outputs", "f")
    rename(document, 2, "inputs", "f")
    edit(model, lambda d: d.update(document, golden=None))
    assert "its outputs is" in refused(model)
    edit(model, lambda d: rename(d, 1, "outputs", features))
    edit(model, lambda d: rename(d, 2, "inputs", "image"))
    assert "cannot use graph post.onnx: it reads" in refused(model)


def test_outputs_that_are_not_as_the_manifest_says_are_the_models_fault(model: Path) -> None:
    edit(model, lambda d: d["signature"]["outputs"][0].update(shape=[-1, 6]))
    opened = Pipeline.open(model, threads=1)
    with pytest.raises(ModelError, match=r"float32 \[1, 5\], its manifest says float32 \[-1, 6\]"):
        opened.run({"images": PICTURES[:1]})
    opened.close()


def test_the_item_of_a_batch_that_is_at_fault_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(RequestError, match=r"^item 3 of 4: cannot decode picture: expected JPEG"):
        pipeline.run({"images": [*PICTURES[:2], b"nonsense", PICTURES[0]]})
    with pytest.raises(RequestError, match=r"^cannot decode picture"):
        pipeline.run({"images": [b"nonsense"]})


def test_results_beyond_the_limit_are_refused_before_all_are_made(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESULT_LIMIT", 2 * 5 * 4)
    assert pipeline.run({"images": PICTURES[:2]}).outputs
    with pytest.raises(RequestError, match="3 of 4 items gave more than 40 bytes") as caught:
        pipeline.run({"images": [PICTURES[0]] * 4})
    assert caught.value.code == "RESOURCE_EXHAUSTED"
