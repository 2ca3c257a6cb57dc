"""Building: what is in an image, that it runs, that it is the same every time, and refusals."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

import edged
from edged import compiler, npu, oci, zoo
from edged.build import Built, assemble, build, golden, wiring
from edged.build.describe import describe
from edged.build.source import open_source
from edged.errors import ConfigError, ModelError, StoreError, VerifyError
from edged.manifest import ImageStage, Manifest, NpuStage, OnnxStage, Signature
from edged.worker.pipeline import Pipeline
from tests.unit.build import models


@pytest.fixture(scope="module")
def built() -> Built:
    return assemble(
        models.classifier(),
        name="lids",
        version="3",
        labels=models.CLASSES,
        preprocess=models.PREPROCESS,
    )


def npz(data: bytes) -> dict[str, npt.NDArray[Any]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
        return dict(loaded)


def opened(folder: Path, found: Built) -> Pipeline:
    for path, data in found.files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)
    return Pipeline.open(folder)


def test_the_files_are_those_of_a_model(built: Built) -> None:
    assert set(built.files) == {
        "manifest.json",
        "program.npu",
        "post.onnx",
        "labels.txt",
        "report.json",
        "golden/npu-inputs.npz",
        "golden/npu-outputs.npz",
        "golden/inputs.npz",
        "golden/outputs.npz",
    }
    assert Manifest.parse(built.files["manifest.json"]) == built.manifest
    assert built.files["labels.txt"].decode().split() == models.CLASSES


def test_stages_and_signature_are_connected(built: Built) -> None:
    image, on_npu, rest = built.manifest.stages
    assert isinstance(image, ImageStage)
    assert isinstance(on_npu, NpuStage)
    assert isinstance(rest, OnnxStage)
    assert (image.input, image.output) == ("images", "image")
    assert on_npu.inputs == ("image",)
    assert on_npu.outputs == rest.inputs
    (taken,), (given,) = built.manifest.signature.inputs, built.manifest.signature.outputs
    assert (taken.name, taken.type, taken.aliases) == ("images", "string", ("Placeholder:0",))
    assert (given.name, given.shape, given.aliases) == ("probabilities", (-1, 4), ("output_alias",))


def test_the_golden_answers_of_the_npu_are_the_references(built: Built) -> None:
    program = npu.Program.from_bytes(built.files["program.npu"])
    inputs, outputs = npz(built.files[golden.NPU_INPUTS]), npz(built.files[golden.NPU_OUTPUTS])
    found = npu.reference.run(program, inputs)
    assert found.keys() == outputs.keys()
    for name, array in outputs.items():
        assert np.array_equal(found[name], array)
        assert array.any()


def test_the_model_runs_and_gives_its_golden_answers(built: Built, tmp_path: Path) -> None:
    pipeline = opened(tmp_path, built)
    picture = npz(built.files[golden.INPUTS])["images/0"].tobytes()
    answer = pipeline.run({"images": [picture]}).outputs["probabilities"]
    pipeline.close()
    expected = npz(built.files[golden.OUTPUTS])["probabilities"]
    assert np.abs(answer - expected).max() < golden.TOLERANCE / 8
    assert pipeline.labels == tuple(models.CLASSES)


def test_the_model_without_blocks_is_the_graph(built: Built, tmp_path: Path) -> None:
    import onnxruntime

    opened(tmp_path, built).close()
    pipeline = Pipeline.open(tmp_path, numerics="float32")
    picture = npz(built.files[golden.INPUTS])["images/0"].tobytes()
    found = pipeline.run({"images": [picture]}, ["image", "probabilities"]).outputs
    pipeline.close()
    session = onnxruntime.InferenceSession(models.classifier().SerializeToString())
    (expected,) = session.run(None, {"image": found["image"]})
    assert found["probabilities"] == pytest.approx(expected, abs=2e-3)


def test_the_same_inputs_make_the_same_digest(built: Built, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "name": "lids",
        "version": "3",
        "labels": models.CLASSES,
        "preprocess": models.PREPROCESS,
    }
    path = tmp_path / "m.onnx"
    onnx.save(models.classifier(), path)
    digests = {
        built.write(tmp_path / "a"),
        build(models.classifier(), f"oci:{tmp_path}/b:v3", **options),
        edged.build(path, f"oci-archive:{tmp_path}/c.tar", **options),
    }
    assert len(digests) == 1
    image = oci.open_image(f"oci:{tmp_path}/b:v3")
    assert image.facts == built.facts
    assert image.facts.memory == built.manifest.memory > 0


def test_format_name_and_annotations_change_the_digest(tmp_path: Path) -> None:
    graph = models.classifier()
    digests = [
        build(graph, tmp_path / "a", name="a"),
        build(graph, tmp_path / "b", name="b"),
        build(graph, tmp_path / "c", name="a", format="ms-fp9"),
        build(graph, tmp_path / "d", name="a", annotations={"org.example.line": "4"}),
    ]
    assert len(set(digests)) == 4
    assert oci.open_image(f"oci:{tmp_path}/d").annotations["org.example.line"] == "4"


def test_without_preprocessing_the_model_takes_tensors(tmp_path: Path) -> None:
    found = assemble(models.classifier())
    (taken,) = found.manifest.signature.inputs
    assert (taken.name, taken.type, taken.shape) == ("image", "float32", (-1, 3, 16, 16))
    pipeline = opened(tmp_path, found)
    sent = npz(found.files[golden.INPUTS])["image"]
    answer = pipeline.run({"image": sent}).outputs["probabilities"]
    pipeline.close()
    assert np.abs(answer - npz(found.files[golden.OUTPUTS])["probabilities"]).max() < 0.01


def test_what_only_the_cpu_can_do_comes_before_the_npu(tmp_path: Path) -> None:
    found = assemble(models.with_preprocessing(), preprocess=models.PREPROCESS)
    kinds = [stage.kind for stage in found.manifest.stages]
    assert kinds == ["image", "onnx", "npu", "onnx"]
    assert "pre.onnx" in found.files
    opened(tmp_path, found).close()


def test_the_classifier_can_be_the_npus() -> None:
    found = assemble(models.classifier(), classifier="npu")
    where = {row.op: row.where for row in found.rows}
    assert where["Gemm"] == "npu"
    assert where["Softmax"] == "cpu"


def test_any_value_of_the_graph_can_be_the_output(tmp_path: Path) -> None:
    found = assemble(models.classifier(), preprocess=models.PREPROCESS, outputs=["features"])
    (given,) = found.manifest.signature.outputs
    assert (given.name, given.shape, given.aliases) == ("features", (-1, 8), ("output_alias",))
    assert [stage.kind for stage in found.manifest.stages] == ["image", "npu"]
    pipeline = opened(tmp_path, found)
    picture = npz(found.files[golden.INPUTS])["images/0"].tobytes()
    assert pipeline.run({"images": [picture]}).outputs["features"].shape == (1, 8)
    pipeline.close()


def test_several_outputs_are_in_the_order_asked_for_and_none_is_the_default_one() -> None:
    found = assemble(models.classifier(), outputs=["probabilities", "features"])
    outputs = found.manifest.signature.outputs
    assert [(spec.name, spec.aliases) for spec in outputs] == [
        ("probabilities", ()),
        ("features", ()),
    ]


def test_a_size_that_the_graph_leaves_open_is_the_pictures() -> None:
    graph = models.classifier(("N", 3, "H", "W"))
    found = assemble(graph, preprocess={"size": [20, 24]})
    program = npu.Program.from_bytes(found.files["program.npu"])
    assert program.inputs[0].shape == (1, 3, 20, 24)
    assert graph.graph.input[0].type.tensor_type.shape.dim[2].dim_param == "H"  # left as it was


def test_a_graph_whose_own_names_are_ours_gets_other_names() -> None:
    graph = models.classifier(name="images")
    found = assemble(graph, preprocess=models.PREPROCESS)
    (taken,) = found.manifest.signature.inputs
    assert taken.name != "images"
    assert "images" in taken.aliases


def test_two_inputs_are_two_tensors(tmp_path: Path) -> None:
    found = assemble(models.two_inputs())
    assert [spec.name for spec in found.manifest.signature.inputs] == ["left", "right"]
    assert [stage.kind for stage in found.manifest.stages] == ["npu"]
    opened(tmp_path, found).close()
    with pytest.raises(ModelError, match=r"2 inputs \(left, right\), pictures can be the only"):
        assemble(models.two_inputs(), preprocess=models.PREPROCESS)


@pytest.mark.parametrize("out", ["oci:{}/out", "oci-archive:{}/out.tar", "{}/out"])
def test_a_graph_that_cannot_be_built_is_named_and_leaves_nothing(tmp_path: Path, out: str) -> None:
    with pytest.raises(ModelError, match=r"'depthwise'.*Conv.*group"):
        build(models.grouped(), out.format(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_answers_with_no_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="output 'probabilities' is not finite"):
        build(models.exploding(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"version": ""}, "version must be 1 to 128"),
        ({"name": "a\nb"}, "name must be 1 to 128"),
        ({"name": "x" * 129}, "name must be 1 to 128"),
        ({"labels": ["a", "b"]}, "2 of them, but the model has 4 classes"),
        ({"format": "ms-fp12"}, "ms-fp12"),
        ({"sku": "bw-cnn-s10"}, "bw-cnn-s10"),
        ({"preprocess": {"size": [8, 8]}}, "preprocess makes"),
        ({"outputs": ["nothing"]}, "output 'nothing': no such value"),
        ({"outputs": []}, "outputs must be different names"),
        ({"outputs": ["logits", "logits"]}, "outputs must be different names"),
        ({"outputs": "logits"}, "outputs must be different names"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], cause: str) -> None:
    with pytest.raises((ConfigError, ModelError), match=cause):
        assemble(models.classifier(), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def resnet() -> zoo.ZooModel:
    return zoo.make("resnet50", weights="random:3", classes=4)


def wired(model: zoo.ZooModel, outputs: list[str] | None = None) -> Signature:
    partition = compiler.partition(compiler.load(model.graph, outputs=outputs))
    signature, _ = wiring.wire(partition, open_source(model), model.preprocess)
    return signature


SCORES, FEATURES = "classifier_1/resnet_v1_50/predictions/Softmax:0", "resnet_v1_50/pool5:0"


def test_resnet50_has_the_names_of_the_original_service(resnet: zoo.ZooModel) -> None:
    signature = wired(resnet)
    (taken,), (given,) = signature.inputs, signature.outputs
    assert (taken.name, taken.type, taken.aliases) == ("Placeholder:0", "string", ("images",))
    assert (given.name, given.shape) == (SCORES, (-1, 4))
    assert given.aliases == (
        "classifier/resnet_v1_50/predictions/Softmax:0",
        "classifier_output/Softmax:0",
        "output_alias",
    )


def test_nobodys_default_output_is_one_of_several(resnet: zoo.ZooModel) -> None:
    outputs = wired(resnet, [SCORES, FEATURES]).outputs
    assert [spec.name for spec in outputs] == [SCORES, FEATURES]
    assert not any("output_alias" in spec.aliases for spec in outputs)


def test_resnet50s_features_are_an_output_for_whoever_asks_for_it(
    resnet: zoo.ZooModel, tmp_path: Path
) -> None:
    found = assemble(resnet, outputs=[FEATURES])
    assert "the answers mean nothing" in found.notes[0]
    (given,) = found.manifest.signature.outputs
    assert (given.name, given.shape) == (FEATURES, (-1, 1, 1, 2048))
    assert given.aliases == ("brainwave_target_node_1_Version_0.1:0", "output_alias")
    pipeline = opened(tmp_path, found)
    picture = npz(found.files[golden.INPUTS])["Placeholder:0/0"].tobytes()
    answer = pipeline.run({"Placeholder:0": [picture] * 2}).outputs[FEATURES]
    pipeline.close()
    assert answer.shape == (2, 1, 1, 2048)


def test_a_wrong_place_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edged does not push"):
        build(tmp_path / "not even there.onnx", "docker://example.org/a:1")


def test_a_place_that_cannot_be_written_is_the_disks_fault(built: Built, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError):
        built.write(tmp_path / "file" / "out")


def test_golden_answers_are_rounded_well_within_the_tolerance() -> None:
    values = np.random.default_rng(0).normal(0, 50, (1, 1000)).astype(np.float32)
    rounded = golden.rounded("y", values)
    scale = np.abs(values).max()
    assert 0 < np.abs(rounded - values).max() <= golden.TOLERANCE * scale / 16
    # What another CPU computes a little differently is, nearly always, stored alike.
    moved = golden.rounded("y", values * np.float32(1 + 1e-6))
    assert (moved == rounded).mean() > 0.99
    whole = np.arange(4)
    assert golden.rounded("y", whole) is whole
    with pytest.raises(ModelError, match="not finite"):
        golden.rounded("y", np.array([1, np.inf]))


def test_describe_shows_what_was_built(built: Built, tmp_path: Path) -> None:
    digest = built.write(tmp_path / "a")
    found = describe(f"oci:{tmp_path}/a")
    document = found.document()
    assert document["digest"] == str(digest)
    assert document["memory"] == built.manifest.memory < document["memory_limit"]
    assert [row["kind"] for row in document["stages"]] == ["image", "npu", "onnx"]
    assert [row["kind"] for row in document["chains"]] == ["expander convolution", "average-pool"]
    assert document["macs"] == 16 * 16 * 8 * 27
    assert document["tile_operations"] == 16 * 16
    assert [row["node"] for row in document["report"]][:2] == ["conv", "relu"]
    assert json.loads(json.dumps(document)) == document


def test_an_image_whose_annotations_lie_is_refused(built: Built, tmp_path: Path) -> None:
    facts = replace(built.facts, memory=1)
    oci.write_image(built.files, facts, oci.Reference.parse(f"oci:{tmp_path}/a"))
    with pytest.raises(VerifyError, match="its annotations say"):
        describe(f"oci:{tmp_path}/a")


def test_an_image_without_a_manifest_or_report_is_told(built: Built, tmp_path: Path) -> None:
    files = dict(built.files)
    del files["report.json"]
    oci.write_image(files, built.facts, oci.Reference.parse(f"oci:{tmp_path}/a"))
    assert describe(f"oci:{tmp_path}/a").rows == []
    del files["manifest.json"]
    oci.write_image(files, built.facts, oci.Reference.parse(f"oci:{tmp_path}/b"))
    with pytest.raises(VerifyError, match=r"no /model/manifest\.json"):
        describe(f"oci:{tmp_path}/b")


@pytest.mark.parametrize("data", [b"x", b"{}", b"[]", b'{"nodes": [3]}', b'{"nodes": [{}]}'])
def test_a_damaged_report_is_refused(built: Built, tmp_path: Path, data: bytes) -> None:
    files = {**built.files, "report.json": data}
    oci.write_image(files, built.facts, oci.Reference.parse(f"oci:{tmp_path}/a"))
    with pytest.raises(ModelError, match="cannot read report"):
        describe(f"oci:{tmp_path}/a")


@pytest.mark.parametrize(
    "first", ["import edged", "import edged.build", "from edged.build.assemble import build"]
)
def test_build_is_a_function_of_edged_whatever_was_imported_first(first: str) -> None:
    code = (
        f"{first}\nimport edged\nfrom edged.errors import ConfigError\n"
        "try:\n    edged.build('none.onnx', 'oci:out')\n"
        "except ConfigError as exc:\n    print(exc)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "no such file" in done.stdout
