"""The demo model as shipped: small, complete, right on fresh pictures, prepared as when served."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime as ort
import pytest

from edged.manifest.preprocess import Preprocess
from edged.worker.stages.image import ImageStage

CLASSES = ["ok", "scratch", "dent", "stain", "crack"]


def test_model_is_one_small_file(demo: Path) -> None:
    assert (demo / "surface.onnx").stat().st_size <= 2_000_000
    assert not list(demo.glob("*.data"))


def test_model_has_the_names_and_the_free_batch_that_the_readme_says(demo: Path) -> None:
    session = ort.InferenceSession(str(demo / "surface.onnx"), providers=["CPUExecutionProvider"])
    (image,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape) == ("image", ["batch", 3, 128, 128])
    assert (probabilities.name, probabilities.shape) == ("probabilities", ["batch", 5])
    (answer,) = session.run(None, {"image": np.zeros((3, 3, 128, 128), np.float32)})
    np.testing.assert_allclose(np.asarray(answer).sum(1), 1, atol=1e-5)


def test_model_carries_no_path_of_the_machine_that_trained_it(demo: Path) -> None:
    content = (demo / "surface.onnx").read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content


def test_fresh_pictures_are_classified_right(
    draw: ModuleType, measure: ModuleType, demo: Path, tmp_path: Path
) -> None:
    """Far below the accuracy stated: thirty pictures say little, but broken weights show."""
    draw.write_pictures(tmp_path / "fresh", 6, 77)
    labels, counts = measure.confusion(demo / "surface.onnx", tmp_path / "fresh")
    assert labels == CLASSES
    assert counts.sum() == 30
    assert np.trace(counts) >= 26


def test_shipped_pictures_get_their_class(
    measure: ModuleType, demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = sorted((demo / "pictures").glob("*.jpg"))
    assert 10 <= len(pictures) <= 15
    assert sum(p.stat().st_size for p in pictures) < 300_000
    for picture in pictures:
        label, number = picture.stem.split("-")
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{number}.jpg").write_bytes(picture.read_bytes())
    assert measure.main([str(tmp_path)]) == 0
    assert f"{len(pictures)} of {len(pictures)} right: 100.00 %" in capsys.readouterr().out


def test_preparing_is_what_the_daemon_does(
    draw: ModuleType, preprocess: ModuleType, demo: Path
) -> None:
    spec = json.loads((demo / "preprocess.json").read_text("utf-8"))
    stage, own = ImageStage(Preprocess.from_json(spec)), preprocess.Preprocess.load()
    level = spec["scale"] / spec["std"][0]
    for number in range(8):
        picture = draw.draw("crack", 3, number)
        served, trained = stage.run(picture), own.normalise(own.crop(picture)[None])
        assert served.shape == trained.shape == (1, 3, 128, 128)
        assert np.abs(served - trained).mean() < 0.5 * level


def test_preprocess_refuses_what_it_does_not_do(
    preprocess: ModuleType, demo: Path, tmp_path: Path
) -> None:
    spec = json.loads((demo / "preprocess.json").read_text("utf-8"))
    (tmp_path / "other.json").write_text(json.dumps(spec | {"order": "bgr"}))
    with pytest.raises(ValueError, match="expected shorter, center, rgb, nchw, got"):
        preprocess.Preprocess.load(tmp_path / "other.json")


def test_measuring_a_folder_without_classes_says_which_is_missing(
    measure: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure.main([str(tmp_path)]) == 1
    assert f"cannot measure on {tmp_path}: no .jpg in its folder ok" in capsys.readouterr().err
