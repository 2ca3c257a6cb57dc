"""The manifest: what is written is read back, and what does not fit is refused with its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import ModelError
from edged.manifest import PRESETS, ImageStage, Manifest, OnnxStage, Preprocess, preprocess_array

DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "name": "surface",
    "version": "1",
    "signature": {
        "inputs": [{"name": "images", "aliases": [], "type": "string", "shape": [-1]}],
        "outputs": [
            {
                "name": "probabilities",
                "aliases": ["output_alias"],
                "type": "float32",
                "shape": [-1, 5],
            }
        ],
    },
    "stages": [
        {
            "kind": "image",
            "input": "images",
            "output": "image",
            "preprocess": {"size": [32, 32], "scale": 1 / 255},
        },
        {"kind": "npu", "program": "program.npu", "inputs": ["image"], "outputs": ["features"]},
        {
            "kind": "onnx",
            "model": "post.onnx",
            "inputs": ["features"],
            "outputs": ["probabilities"],
        },
    ],
    "sku": "bw-cnn-a10",
    "format": "ms-fp13",
    "memory": 123456,
    "labels": "labels.txt",
    "golden": {
        "npu": {
            "inputs": "golden/npu-inputs.npz",
            "outputs": "golden/npu-outputs.npz",
            "sha256": {"features": "0" * 64},
        },
        "pipeline": {
            "inputs": "golden/inputs.npz",
            "outputs": "golden/outputs.npz",
            "tolerance": 0.02,
        },
    },
}


def parse(document: object) -> Manifest:
    return Manifest.parse(json.dumps(document).encode())


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


def test_a_manifest_is_read_and_written_back_the_same() -> None:
    manifest = parse(DOCUMENT)
    assert manifest.signature.outputs[0].names == ("probabilities", "output_alias")
    assert manifest.npu.program == "program.npu"
    assert [stage.kind for stage in manifest.stages] == ["image", "npu", "onnx"]
    assert isinstance(manifest.stages[0], ImageStage)
    assert manifest.stages[0].preprocess.resize == "exact"
    written = manifest.to_json()
    assert Manifest.parse(written) == manifest
    assert Manifest.parse(written).to_json() == written


def test_labels_and_golden_test_may_be_absent() -> None:
    manifest = parse(changed(lambda d: (d.pop("labels"), d.update(golden=None))))
    assert manifest.labels is None
    assert manifest.golden is None
    assert Manifest.parse(manifest.to_json()) == manifest


def test_a_model_without_pictures_needs_no_image_stage() -> None:
    def plain(d: dict[str, Any]) -> None:
        d["stages"].pop(0)
        d["signature"]["inputs"] = [
            {"name": "image", "aliases": [], "type": "float32", "shape": [-1, 3, 8, 8]}
        ]

    assert isinstance(parse(changed(plain)).stages[-1], OnnxStage)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(schema=2), "manifest.schema: expected 1 to 1, got 2"),
        (lambda d: d.update(schema=True), "manifest.schema: expected an integer"),
        (lambda d: d.pop("sku"), "missing fields ['sku']"),
        (lambda d: d.update(extra=1), "unknown fields ['extra']"),
        (lambda d: d.update(name=""), "manifest.name: expected 1 to 256 printable"),
        (lambda d: d.update(name="a\nb"), "printable"),
        (lambda d: d.update(name=5), "manifest.name: expected a string, got a number"),
        (lambda d: d.update(memory=-1), "manifest.memory"),
        (lambda d: d.update(memory=1.5), "manifest.memory: expected an integer"),
        (lambda d: d.update(labels="../labels.txt"), "inside the model's folder"),
        (lambda d: d.update(labels="/etc/passwd"), "inside the model's folder"),
        (lambda d: d.update(labels="a//b"), "inside the model's folder"),
        (lambda d: d.update(labels="."), "inside the model's folder"),
        (lambda d: d.update(stages=[]), "manifest.stages: expected 1 to 16 items, got 0"),
        (lambda d: d.update(stages={}), "manifest.stages: expected a list, got an object"),
        (lambda d: d["stages"].pop(1), "['features'] are not tensors made before it"),
        (lambda d: d["stages"].pop(2), "no stage makes ['probabilities']"),
        (lambda d: d["stages"].reverse(), "manifest.stages[0]: ['features'] are not"),
        (lambda d: d["stages"][1].update(program="../x"), "manifest.stages[1].program"),
        (lambda d: d["stages"][1].update(kind="gpu"), "expected one of image, npu, onnx"),
        (lambda d: d["stages"][1].pop("kind"), "missing fields ['kind']"),
        (lambda d: d["stages"][1].update(inputs=["images"]), "['images'] are not tensors"),
        (lambda d: d["stages"][0].update(input="image"), "are not pictures"),
        (lambda d: d["stages"][1].update(outputs=["image"]), "not all new"),
        (lambda d: d["stages"][1].update(outputs=["features"] * 2), "not all new"),
        (
            lambda d: d["stages"].insert(2, {**d["stages"][1], "outputs": ["again"]}),
            "exactly one of kind npu",
        ),
        (
            lambda d: d["signature"]["outputs"][0].update(aliases=["probabilities"]),
            "names twice ['probabilities']",
        ),
        (lambda d: d["signature"]["outputs"][0].update(type="float8"), "type: expected one of"),
        (lambda d: d["signature"]["outputs"][0].update(type=["x"]), "type: expected one of"),
        (lambda d: d["signature"]["outputs"][0].update(shape=[-1, 0]), "shape[1]: expected -1 or"),
        (lambda d: d["signature"]["outputs"][0].update(shape=[2**31]), "shape[0]: expected -1 to"),
        (lambda d: d["signature"]["outputs"][0].update(shape=[1] * 9), "expected 0 to 8 items"),
        (lambda d: d["signature"]["inputs"][0].update(shape=[2]), "pictures need [-1] or [1]"),
        (lambda d: d["signature"]["outputs"][0].update(type="string"), "of type string"),
        (lambda d: d["golden"]["npu"].update(sha256={}), "expected digests of ['features']"),
        (lambda d: d["golden"]["npu"]["sha256"].update(features="F" * 64), "64 hexadecimal"),
        (lambda d: d["golden"]["pipeline"].update(tolerance=2), "tolerance: expected 0 to 1"),
        (lambda d: d["golden"]["pipeline"].update(inputs="a/../b"), "pipeline.inputs"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    change: Callable[[dict[str, Any]], object], says: str
) -> None:
    with pytest.raises(ModelError) as caught:
        parse(changed(change))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[1]",
        b"null",
        b"{",
        b"[" * 30_000,
        b'{"schema": NaN}',
        b'{"schema": 1, "schema": 1}',
        b" " * 40_000,
        b"{" + b'"a": 1, ' + b'"b": 1' * 20 + b"}",
        json.dumps({str(index): 0 for index in range(100)}).encode(),
    ],
)
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="cannot read manifest"):
        Manifest.parse(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.data())
def test_any_value_in_any_place_is_read_or_refused(data: st.DataObject) -> None:
    document: Any = copy.deepcopy(DOCUMENT)
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(json_values)
    try:
        manifest = parse(document)
    except ModelError:
        return
    assert Manifest.parse(manifest.to_json()) == manifest


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_written_and_read_back(name: str) -> None:
    preset = PRESETS[name]
    assert Preprocess.from_json(json.loads(json.dumps(preset.to_json()))) == preset


def test_the_original_services_arguments_are_understood() -> None:
    densenet = preprocess_array(order="bgr", scaling_factor=0.017)
    assert densenet.mean == (103.939, 116.779, 123.68)
    assert densenet.std[0] == pytest.approx(1 / 0.017)
    assert densenet.shape == (1, 224, 224, 3)
    assert PRESETS["ssd"].shape == (1, 300, 300, 3)
    assert PRESETS["ssd"].crop is False
    with pytest.raises(ModelError, match="scaling_factor"):
        preprocess_array(scaling_factor=0)
    with pytest.raises(ModelError, match="order"):
        preprocess_array(order="gbr")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "preprocess: expected an object"),
        ({}, "missing fields ['size']"),
        ({"size": [32]}, "preprocess.size: expected 2 to 2 items"),
        ({"size": [0, 32]}, "preprocess.size[0]: expected 1 to 4096"),
        ({"size": [5000, 32]}, "preprocess.size[0]"),
        ({"size": [32, 32], "resize": {"kind": "shorter"}}, '"to" belongs to'),
        ({"size": [32, 32], "resize": {"kind": "exact", "to": 3}}, '"to" belongs to'),
        ({"size": [32, 32], "resize": {"kind": "shorter", "to": 40}}, "needs crop"),
        (
            {"size": [32, 32], "resize": {"kind": "shorter", "to": 31}, "crop": "center"},
            "does not fit",
        ),
        ({"size": [32, 32], "resize": {"kind": "area"}}, "resize.kind: expected one of"),
        ({"size": [32, 32], "std": [1, 0, 1]}, "std must not be zero"),
        ({"size": [32, 32], "mean": [1, 1]}, "preprocess.mean: expected 3 to 3 items"),
        ({"size": [32, 32], "scale": "1"}, "preprocess.scale: expected a number"),
        ({"size": [32, 32], "scale": 1e300}, "preprocess.scale: expected a number up to"),
        ({"size": [32, 32], "scale": True}, "preprocess.scale: expected a number, got true"),
        ({"size": [32, 32], "crop": "top"}, "preprocess.crop: expected one of center"),
        ({"size": [32, 32], "layout": "chw"}, "preprocess.layout"),
    ],
)
def test_preprocessing_that_cannot_be_done_is_refused(value: object, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        Preprocess.from_json(value)
    assert says in str(caught.value)
