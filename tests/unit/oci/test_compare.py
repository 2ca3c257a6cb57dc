"""An unpacked model is compared with its image, so that rot and meddling do not go unnoticed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.errors import VerifyError
from edged.oci import Image
from tests.unit.oci.images import FILES, make_image, model_tar


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return make_image(tmp_path / "image", model_tar())


@pytest.fixture
def model(tmp_path: Path, image: Image) -> Path:
    image.unpack_model(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_as_it_was_unpacked_is_right(image: Image, model: Path) -> None:
    image.compare_model(model)


def _flip(model: Path) -> None:
    path = model / "program.npu"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _link(model: Path) -> None:
    kept = model.parent / "kept"
    (model / "program.npu").rename(kept)
    (model / "program.npu").symlink_to(kept)


def _link_folder(model: Path) -> None:
    kept = model.parent / "kept"
    (model / "golden").rename(kept)
    (model / "golden").symlink_to(kept)


def _pipe(model: Path) -> None:
    (model / "labels.txt").unlink()
    os.mkfifo(model / "labels.txt")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_flip, r"program\.npu: it is not what the image holds"),
        (lambda m: (m / "program.npu").write_bytes(b""), "not what the image holds"),
        (lambda m: (m / "program.npu").write_bytes(FILES["program.npu"] + b"x"), "longer"),
        (lambda m: (m / "labels.txt").write_bytes(b"x"), r"labels\.txt: it is longer"),
        (lambda m: (m / "program.npu").unlink(), r"program\.npu: it is missing"),
        (lambda m: (m / "more").write_bytes(b""), "more: the image has no such file"),
        (lambda m: (m / "more").mkdir(), "more: the image has no such folder"),
        (lambda m: (m / "more").symlink_to("/"), "more: the image has no such file"),
        (_link, r"program\.npu"),
        (_link_folder, "golden: expected a folder"),
        (_pipe, "expected a regular file"),
    ],
)
def test_every_difference_is_named(
    image: Image, model: Path, change: Callable[[Path], object], words: str
) -> None:
    change(model)
    with pytest.raises(VerifyError, match=words):
        image.compare_model(model)


def test_a_damaged_layer_proves_nothing(image: Image, model: Path) -> None:
    (layer,) = image.manifest.layers
    path = image.layout.path / "blobs/sha256" / layer.digest.hex  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[-600] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerifyError):
        image.compare_model(model)
