"""The drawn pictures of the demo: the same for the same seed, in class folders, varied, visible."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

CLASSES = ("ok", "scratch", "dent", "stain", "crack")


def pixels(picture: bytes) -> npt.NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(picture)), np.float32)


def test_classes_are_those_of_the_model(draw: ModuleType, demo: Path) -> None:
    assert draw.CLASSES == CLASSES
    assert tuple((demo / "labels.txt").read_text("utf-8").split()) == CLASSES


@pytest.mark.parametrize("kind", CLASSES)
def test_same_seed_and_number_give_the_same_bytes(draw: ModuleType, kind: str) -> None:
    assert draw.draw(kind, 7, 3) == draw.draw(kind, 7, 3)


def test_seed_class_and_number_all_matter(draw: ModuleType) -> None:
    four = {
        draw.draw("dent", 7, 3),
        draw.draw("dent", 8, 3),
        draw.draw("dent", 7, 4),
        draw.draw("ok", 7, 3),
    }
    assert len(four) == 4


@pytest.mark.parametrize("kind", CLASSES)
def test_pictures_are_rgb_jpegs_of_moderate_and_varied_size(draw: ModuleType, kind: str) -> None:
    images = [Image.open(io.BytesIO(draw.draw(kind, 1, n))) for n in range(12)]
    assert {image.format for image in images} == {"JPEG"}
    assert {image.mode for image in images} == {"RGB"}
    assert all(150 <= min(i.size) <= 210 and max(i.size) <= 1.35 * min(i.size) for i in images)
    assert len({image.size for image in images}) > 6


@pytest.mark.parametrize("kind", CLASSES)
def test_pictures_are_neither_black_nor_burnt_out(draw: ModuleType, kind: str) -> None:
    for number in range(12):
        array = pixels(draw.draw(kind, 2, number))
        assert 40 < array.mean() < 215
        assert array.std() > 2
        assert (array >= 254).mean() < 0.2


def test_light_varies_between_pictures(draw: ModuleType) -> None:
    means = [pixels(draw.draw("ok", 3, n)).mean() for n in range(24)]
    assert max(means) - min(means) > 40


@pytest.mark.parametrize("kind", [c for c in CLASSES if c != "ok"])
def test_a_defect_changes_the_middle_and_little_else(draw: ModuleType, kind: str) -> None:
    """The same surface with and without its defect, without camera: a mark, not a new picture."""
    marked = 0.0
    for number in range(10):
        rng = np.random.default_rng([5, number])
        surface = draw.make_surface(rng)
        relief, colour = surface.height.copy(), surface.colour.copy()
        draw.DEFECTS[kind](rng, surface)
        slopes = np.hypot(*np.gradient(surface.height - relief))
        changed = (slopes > 0.02) | (np.abs(surface.colour - colour).max(2) > 0.02)
        assert changed.any()
        assert changed.mean() < 0.6
        rows, columns = np.nonzero(changed)
        middle = np.array([rows.mean(), columns.mean()]) - np.array(changed.shape) / 2
        assert np.abs(middle).max() < 0.45 * surface.side
        marked += changed.mean()
    assert 0.002 < marked / 10 < 0.3


def test_sound_surfaces_carry_distractors(draw: ModuleType) -> None:
    rng = np.random.default_rng(0)
    surface = draw.make_surface(rng)
    before = surface.colour.copy()
    draw.specks(rng, surface, 20)
    assert (np.abs(surface.colour - before) > 0.05).any()


@pytest.mark.parametrize(
    ("kind", "seed", "number", "said"),
    [
        ("rust", 0, 0, "cannot draw class 'rust': expected one of ok, scratch"),
        ("ok", -1, 0, "seed -1 and number 0 must not be negative"),
        ("ok", 0, -5, "seed 0 and number -5 must not be negative"),
    ],
)
def test_bad_arguments_are_named(
    draw: ModuleType, kind: str, seed: int, number: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        draw.draw(kind, seed, number)


def test_command_writes_class_folders_with_numbered_pictures(
    draw: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fresh"
    assert draw.main([str(out), "--count", "2", "--seed", "9"]) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(CLASSES)
    for kind in CLASSES:
        assert [p.name for p in sorted((out / kind).iterdir())] == ["00000.jpg", "00001.jpg"]
        assert (out / kind / "00001.jpg").read_bytes() == draw.draw(kind, 9, 1)
    assert "10 pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--count", "0"], "--count must be between 1 and"),
        (["--count", "many"], "invalid int value: 'many'"),
        (["--seed", "-1"], "--seed must not be negative, got -1"),
    ],
)
def test_bad_usage_exits_2_and_writes_nothing(
    draw: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    out = tmp_path / "fresh"
    with pytest.raises(SystemExit) as left:
        draw.main([str(out), *arguments])
    assert left.value.code == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_with_something_in_it_is_left_alone(
    draw: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert draw.main([str(tmp_path), "--count", "1"]) == 1
    assert f"cannot draw into {tmp_path}: it is not empty" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_in_the_way_is_an_error(
    draw: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert draw.main([str(tmp_path / "out"), "--count", "1"]) == 1
    assert "cannot draw into" in capsys.readouterr().err
