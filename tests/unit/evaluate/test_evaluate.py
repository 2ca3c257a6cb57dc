"""Evaluation: folders are classes, both answers are counted, mistakes of the user are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from edged import evaluate
from edged.__main__ import main
from edged.build import assemble
from edged.client import Prediction
from edged.errors import ConfigError, ModelError, RequestError
from edged.manifest import Manifest
from tests.unit.build import models

COLOURS = {"bent": 250, "cracked": 20, "fine": 120, "stained": 200}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name, level in COLOURS.items():
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(3):
            pixels = np.clip(random.normal(level, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
            suffix = ("png", "jpg", "JPEG")[number]
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.{suffix}")
    (tmp_path / "pictures" / ".cache").mkdir()
    (tmp_path / "pictures" / "fine" / "notes.txt").write_text("not a picture")
    return tmp_path / "pictures"


class Scripted:
    """A classifier that gives prepared answers."""

    def __init__(self, *answers: int) -> None:
        self._answers = iter(answers)

    def classify(self, picture: bytes) -> int:
        assert picture
        return next(self._answers)


def test_where_a_detector_finds_nothing_the_class_is_none() -> None:
    scores = np.array([[0.75, 0.5, 0]], np.float32)
    outputs = {"boxes": np.zeros((1, 3, 4), np.float32), "scores": scores, "classes": scores * 4}
    assert evaluate.best(outputs) == 3
    assert evaluate.best(outputs | {"scores": scores * 0}) == 0


def test_pictures_are_found_with_their_classes_in_the_models_order(folder: Path) -> None:
    labels = ["stained", "fine", "unseen", "cracked", "bent"]
    pictures, known = evaluate.find_pictures(folder, labels)
    assert known == labels
    assert len(pictures) == 12
    assert {(p.path.parent.name, p.label) for p in pictures} == {
        ("stained", 0),
        ("fine", 1),
        ("cracked", 3),
        ("bent", 4),
    }


def test_without_labels_the_folders_order_is_the_classes(folder: Path) -> None:
    pictures, known = evaluate.find_pictures(folder, ())
    assert known == sorted(COLOURS)
    assert [p.label for p in pictures] == sorted([0, 1, 2, 3] * 3)


def test_a_folder_that_is_no_class_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"stained: the model has 0 classes of that name"):
        evaluate.find_pictures(folder, ["bent", "cracked", "fine"])
    with pytest.raises(ConfigError, match="2 classes of that name"):
        evaluate.find_pictures(folder, ["bent", "bent", "cracked", "fine", "stained"])


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 subfolders and no picture"):
        evaluate.find_pictures(tmp_path, ())
    with pytest.raises(ConfigError, match="cannot read pictures"):
        evaluate.find_pictures(tmp_path / "none", ())


def test_the_figures_are_right(folder: Path) -> None:
    pictures, labels = evaluate.find_pictures(folder, models.CLASSES)
    seen: list[tuple[int, int]] = []
    found = evaluate.evaluate(
        pictures,
        labels,
        Scripted(0, 0, 1, 1, 1, 1, 2, 2, 2, 0, 3, 3),
        Scripted(0, 0, 0, 1, 1, 1, 2, 2, 3, 0, 3, 3),
        lambda done, total: seen.append((done, total)),
    )
    assert (found.top1, found.reference_top1, found.agreement) == (10 / 12, 10 / 12, 10 / 12)
    document = found.document()
    assert document["confusion"]["classes"] == models.CLASSES
    assert document["confusion"]["matrix"] == [
        [2, 1, 0, 0],
        [0, 3, 0, 0],
        [0, 0, 3, 0],
        [1, 0, 0, 2],
    ]
    assert seen[-1] == (12, 12)
    assert json.loads(json.dumps(document)) == document


def test_confusion_has_only_classes_that_occur() -> None:
    truth, predicted = np.array([5, 900]), np.array([5, 7])
    found = evaluate.Evaluation(["a"] * 8, truth, predicted, truth)
    indices, matrix = found.confusion()
    assert indices == [5, 7, 900]
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert found.name(900) == "class 900"


def test_a_file_that_is_no_picture_is_named(folder: Path) -> None:
    class Refusing:
        def classify(self, picture: bytes) -> int:
            raise RequestError("INVALID_ARGUMENT", "cannot decode picture")

    pictures, labels = evaluate.find_pictures(folder, ())
    with pytest.raises(ConfigError, match=r"0\.png: cannot decode picture"):
        evaluate.evaluate(pictures, labels, Refusing(), Scripted())

    class Away:
        def classify(self, picture: bytes) -> int:
            raise RequestError("UNAVAILABLE", "nobody answers")

    with pytest.raises(RequestError, match="nobody answers"):
        evaluate.evaluate(pictures, labels, Away(), Scripted())
    pictures[0].path.unlink()
    with pytest.raises(ConfigError, match="cannot read picture"):
        evaluate.evaluate(pictures, labels, Scripted(0), Scripted(0))


def test_scores_are_looked_for() -> None:
    assert evaluate.best({"y": np.array([[0.1, 0.7, 0.2]], np.float32)}) == 1
    with pytest.raises(ModelError, match="no output is a list of scores"):
        evaluate.best({"boxes": np.zeros((1, 4, 5), np.float32)})


def test_a_model_that_takes_no_picture_cannot_be_evaluated() -> None:
    with pytest.raises(ConfigError, match="does not take one picture"):
        evaluate.picture_stage(assemble(models.classifier()).manifest)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return assemble(models.classifier(), preprocess=models.PREPROCESS).manifest


class Answering:
    """Stands for a connection."""

    def __init__(self, digest: str) -> None:
        self._digest = digest

    def predict(self, inputs: dict[str, bytes], timeout: float) -> Prediction:
        assert list(inputs) == ["images"]
        scores = np.array([[0.2, 0.8]], np.float32)
        return Prediction({"probabilities": scores}, digest=self._digest)


def test_a_server_with_another_model_is_not_evaluated(manifest: Manifest) -> None:
    def served(digest: str) -> evaluate.Served:
        return evaluate.Served(Answering(digest), manifest, "sha256:a")  # type: ignore[arg-type]

    assert served("sha256:a").classify(b"x") == 1
    assert served("").classify(b"x") == 1  # a server that does not say
    with pytest.raises(ConfigError, match="serves sha256:b, expected sha256:a"):
        served("sha256:b").classify(b"x")


def test_a_reference_that_does_not_fit_is_told(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ModelError, match="cannot load reference"):
        evaluate.Original(path, manifest)
    onnx.save(models.two_inputs(), path)
    with pytest.raises(ModelError, match="2 inputs"):
        evaluate.Original(path, manifest)
    onnx.save(models.classifier(("N", 3, 8, 8)), path)
    with pytest.raises(ModelError, match="cannot run reference"):
        evaluate.Original(path, manifest).classify(png())


def png() -> bytes:
    from edged.build import draw

    return draw.write_png(draw.Drawing(0).picture(20, 20))


@pytest.fixture
def image(tmp_path: Path) -> str:
    onnx.save(models.classifier(), tmp_path / "m.onnx")
    built = assemble(
        tmp_path / "m.onnx", preprocess=models.PREPROCESS, labels=models.CLASSES, name="lids"
    )
    built.write(f"oci:{tmp_path}/image")
    return f"oci:{tmp_path}/image"


def test_eval_compares_with_the_program_without_blocks(
    image: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", image, str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "true \\ predicted" in shown
    assert "12 pictures" in shown
    assert "float32 (program without block rounding)" in shown


def test_eval_compares_with_the_original_graph(
    image: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["eval", image, str(folder), "--reference", str(tmp_path / "m.onnx"), "--json"]
    assert main([*arguments, "--threads", "1", "--isa", "portable"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["reference"] == "onnxruntime"
    assert facts["pictures"] == 12
    assert facts["agreement"] > 0.9
    assert sum(map(sum, facts["confusion"]["matrix"])) == 12


def test_eval_of_many_classes_shows_the_worst_confusions(
    image: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edged.cli.eval.WHOLE_MATRIX", 1)
    assert main(["eval", image, str(folder)]) == 0
    assert "true" in capsys.readouterr().out.splitlines()[0]


def test_eval_of_a_server_that_is_not_there_fails(image: str, folder: Path, tmp_path: Path) -> None:
    assert main(["eval", image, str(folder), "--target", f"unix:{tmp_path}/none.sock"]) == 1
    assert main(["eval", image, str(folder / "fine")]) == 2
