"""Images of the zoo: the original service's names and preprocessing, golden tests, answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edged import compiler, zoo
from edged.__main__ import main
from edged.build import assemble, wiring
from edged.build.describe import describe
from edged.build.draw import Drawing, write_png
from edged.build.source import open_source
from edged.errors import ModelError
from edged.manifest import Signature
from edged.worker import golden
from edged.worker.pipeline import Pipeline

SSD = [f"ssd_300_vgg/block{n}_box/Reshape{i}:0" for i in ("_1", "") for n in (4, 7, 8, 9, 10, 11)]


def signature(name: str, classes: int) -> Signature:
    model = zoo.make(name, weights="random:1", classes=classes)
    found, _ = wiring.wire(compiler.partition(model.graph), open_source(model), model.preprocess)
    return found


@pytest.mark.parametrize(
    ("name", "output", "other"),
    [
        ("resnet152", "resnet_v1_152/predictions/Softmax:0", "classifier_output/Softmax:0"),
        ("densenet121", "densenet121/predictions/Softmax:0", "classifier_output/Softmax:0"),
        pytest.param("vgg16", "vgg_16/fc8/squeezed:0", "output_alias", marks=pytest.mark.long),
    ],
)
def test_a_classifier_has_the_names_of_the_original_service(
    name: str, output: str, other: str
) -> None:
    found = signature(name, 7)
    (taken,), (given,) = found.inputs, found.outputs
    assert (taken.name, taken.type, taken.aliases) == ("Placeholder:0", "string", ("images",))
    assert (given.name, given.shape) == (f"classifier/{output}", (-1, 7))
    assert {f"classifier_1/{output}", other, "output_alias"} <= set(given.aliases)


def test_ssd_has_the_twelve_names_of_the_original_service_and_its_boxes() -> None:
    found = signature("ssd-vgg300", 3)
    assert found.inputs[0].names == ("Placeholder:0", "images")
    assert [spec.name for spec in found.outputs] == [*SSD, "boxes", "scores", "classes"]
    shapes = {spec.name: spec.shape for spec in found.outputs}
    assert shapes["ssd_300_vgg/block4_box/Reshape:0"] == (-1, 38, 38, 4, 4)
    assert shapes["ssd_300_vgg/block7_box/Reshape_1:0"] == (-1, 19, 19, 6, 3)
    assert shapes["ssd_300_vgg/block11_box/Reshape_1:0"] == (-1, 1, 1, 4, 3)
    assert (shapes["boxes"], shapes["scores"]) == ((-1, 200, 4), (-1, 200))
    assert {spec.type for spec in found.outputs} == {"float32"}


def test_an_image_of_ssd_passes_its_golden_test_and_answers_pictures_with_boxes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["none", *(f"kind {i}" for i in range(1, 21))]
    built = assemble("ssd-vgg300", weights="random:3", labels=labels)
    built.write(f"oci:{tmp_path}/image")
    found = describe(f"oci:{tmp_path}/image")
    files = [row.get("file") for row in found.stages()]
    assert files == [None, "program.npu", "post.onnx", "boxes.onnx"]
    folder = tmp_path / "model"
    for path, data in built.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    pipeline = Pipeline.open(folder)
    golden.check(pipeline, folder)
    pictures = [write_png(Drawing(seed).picture(240, 320)) for seed in (1, 2)]
    answer = pipeline.run({"Placeholder:0": pictures}).outputs
    assert answer["boxes"].shape == (2, 200, 4)
    assert answer[SSD[0]].shape == (2, 38, 38, 4, 21)
    assert 0 < answer["scores"][0, 0] <= 1
    raw = pipeline.run({"Placeholder:0": pictures[:1]}, SSD).outputs
    for name in SSD:
        np.testing.assert_array_equal(raw[name], answer[name][:1])
    pipeline.close()
    # Evaluated, a detector sees the class of its best box.
    best = labels[int(answer["classes"][0, 0])]
    (tmp_path / "pictures" / best).mkdir(parents=True)
    (tmp_path / "pictures" / best / "1.png").write_bytes(pictures[0])
    assert main(["eval", f"oci:{tmp_path}/image", str(tmp_path / "pictures"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] == 1


def test_an_image_of_densenet_passes_its_golden_test(tmp_path: Path) -> None:
    built = assemble("densenet121", weights="random:3")
    for path, data in built.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    pipeline = Pipeline.open(tmp_path)
    golden.check(pipeline, tmp_path)
    (scores,) = pipeline.run(
        {"Placeholder:0": [write_png(Drawing(1).picture(240, 320))]}
    ).outputs.values()
    assert scores.sum() == pytest.approx(1, abs=1e-4)
    assert "the answers mean nothing" in built.notes[0]
    pipeline.close()


def test_a_detectors_labels_begin_with_the_one_for_none() -> None:
    with pytest.raises(ModelError, match="20 of them, but the model has 21 classes"):
        assemble("ssd-vgg300", weights="random:1", labels=[f"kind {i}" for i in range(20)])


def test_densenets_pictures_are_scaled() -> None:
    model = zoo.make("densenet121", weights="random:1", classes=2)
    settings = model.preprocess
    # As the original service's preprocess_array(order="bgr", scaling_factor=0.017).
    assert (settings.order, settings.mean) == ("bgr", (103.939, 116.779, 123.68))
    assert settings.std == pytest.approx((1 / 0.017,) * 3)
    assert (settings.size, settings.resize, settings.to) == ((224, 224), "shorter", 256)


@pytest.mark.parametrize(("name", "size"), [("vgg16", 224), ("ssd-vgg300", 300)])
def test_vggs_pictures_are_rgb_without_their_mean(name: str, size: int) -> None:
    settings = zoo.models.RECIPES[name].preprocess
    assert (settings.order, settings.std) == ("rgb", (1, 1, 1))
    assert settings.mean == (123.68, 116.779, 103.939)
    assert (settings.size, settings.crop) == ((size, size), name == "vgg16")
    assert settings.resize == ("shorter" if name == "vgg16" else "exact")
