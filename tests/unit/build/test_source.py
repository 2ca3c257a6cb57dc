"""What an image can be built from, and what the user is told when it cannot."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edged import zoo
from edged.build.preprocess import check_fits, read_preprocess
from edged.build.source import open_source, read_labels
from edged.errors import ConfigError, ModelError
from edged.manifest import PRESETS, Preprocess
from tests.unit.build.models import PREPROCESS, classifier

SHAPE = (-1, 3, 16, 16)


def test_a_file_gives_its_name_and_no_preprocessing(tmp_path: Path) -> None:
    path = tmp_path / "valve lid.onnx"
    path.write_bytes(b"")
    source = open_source(path)
    assert (source.name, source.graph, source.preprocess) == ("valve lid", path, None)


def test_a_zoo_model_brings_its_preprocessing_and_names() -> None:
    source = open_source("resnet50", "random:3")
    assert source.name == "resnet50"
    assert source.preprocess is not None
    assert source.preprocess.layout == "nchw"
    assert source.input_names == ("Placeholder:0", "images")
    made = zoo.make("resnet50", classes=2)
    assert open_source(made).graph is made.graph


def test_a_graph_is_taken_as_it_is() -> None:
    graph = classifier()
    assert open_source(graph).graph is graph


def test_what_is_not_there_says_what_would_be(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no such file, nor one of .* \(resnet50, .*ssd-vgg300\)"
    ):
        open_source(tmp_path / "x.onnx")
    with pytest.raises(ConfigError, match="SavedModels are not supported yet"):
        open_source(tmp_path)
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match="weights belong to zoo models"):
        open_source(path, "random:1")


def test_labels_come_from_a_file_or_a_list(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("rissig\r\nkröse\n".encode())
    assert read_labels(path) == ["rissig", "kröse"]
    assert read_labels(str(path)) == ["rissig", "kröse"]
    assert read_labels(["crane", "crane"]) == ["crane", "crane"]  # ImageNet has such
    assert read_labels(None) == []


@pytest.mark.parametrize("labels", [[], ["a", ""], ["a", " "], ["a\tb"], ["\x1b[1m"]])
def test_senseless_labels_are_refused(labels: list[str]) -> None:
    with pytest.raises(ModelError, match="cannot use labels"):
        read_labels(labels)


def test_labels_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read labels"):
        read_labels(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read labels"):
        read_labels(tmp_path / "binary")


def test_preprocessing_comes_in_any_form(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(PREPROCESS))
    expected = Preprocess(size=(16, 16), scale=1 / 255, mean=(0.5, 0.5, 0.5))
    for value in (expected, PREPROCESS, json.dumps(PREPROCESS), path, str(path)):
        assert read_preprocess(value, SHAPE) == expected
    assert read_preprocess(None, SHAPE) is None


def test_a_preset_takes_the_layout_of_the_graph() -> None:
    for shape, layout in (
        ((-1, 3, 224, 224), "nchw"),
        ((-1, 224, 224, 3), "nhwc"),
        ((-1, -1, -1, 3), "nhwc"),
        ((), "nchw"),
    ):
        found = read_preprocess("resnet", shape)
        assert found is not None
        assert (found.layout, found.mean) == (layout, PRESETS["resnet"].mean)


def test_preprocessing_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of the presets resnet, vgg"):
        read_preprocess("resnet51", SHAPE)
    with pytest.raises(ConfigError, match="not JSON"):
        read_preprocess("{size", SHAPE)
    (tmp_path / "p.json").write_text("nonsense")
    with pytest.raises(ConfigError, match="not JSON"):
        read_preprocess(tmp_path / "p.json", SHAPE)
    with pytest.raises(ModelError, match="size"):
        read_preprocess("{}", SHAPE)


def test_preprocessing_must_fit_the_graph() -> None:
    settings = Preprocess(size=(16, 16))
    check_fits(settings, "image", (-1, 3, 16, 16))
    check_fits(settings, "image", (-1, 3, -1, -1))
    for shape in ((-1, 3, 17, 16), (-1, 16, 16, 3), (-1, 768), (-1, 1, 16, 16)):
        with pytest.raises(ModelError, match=r"input 'image' expects .* preprocess makes"):
            check_fits(settings, "image", shape)


def test_without_onnx_the_user_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (lambda: open_source("m.onnx"), lambda: zoo.make("resnet50")):
        with pytest.raises(ConfigError, match=r"pip install 'edged\[build\]'"):
            call()
