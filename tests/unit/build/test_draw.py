"""What golden tests are drawn from: the same everywhere and for ever, read by every decoder."""

from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edged.build import draw
from edged.build.arrays import write_npz
from edged.manifest import PRESETS, Preprocess
from edged.worker.stages import ImageStage


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def test_drawings_are_fixed() -> None:
    # The digests of golden answers, and so of images, hang on these.
    assert sha(draw.write_png(draw.Drawing(1).picture(40, 50))) == "367ae125f14ea1ad"
    assert sha(draw.Drawing(1).array((1, 3, 5, 7)).tobytes()) == "b70142eecca34a89"
    assert (
        sha(write_npz({"b": np.arange(3, dtype=np.float32), "a": np.zeros((), bool)}))
        == "9570356fd81d9409"
    )


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 99))
def test_a_png_reads_back(height: int, width: int, seed: int) -> None:
    pixels = draw.Drawing(seed).picture(height, width)
    with Image.open(io.BytesIO(draw.write_png(pixels))) as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_a_png_of_many_blocks_reads_back() -> None:
    pixels = draw.Drawing(0).picture(300, 300)  # more than one stored block holds
    with Image.open(io.BytesIO(draw.write_png(pixels))) as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_a_picture_has_light_and_shade() -> None:
    pixels = draw.Drawing(3).picture(200, 200)
    assert pixels.std() > 30
    neighbours = np.corrcoef(pixels[:, :-1].ravel(), pixels[:, 1:].ravel())[0, 1]
    assert neighbours > 0.7


def test_arrays_are_about_normal_and_exact_in_float16() -> None:
    values = draw.Drawing(0).array((100_000,))
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    assert np.array_equal(values, values.astype(np.float16))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "uint8", "int64", "bool"])
def test_arrays_come_in_every_type(dtype: str) -> None:
    values = draw.Drawing(0).array((2, 3), dtype)
    assert values.dtype == dtype
    assert values.shape == (2, 3)


SETTINGS = [
    *PRESETS.values(),
    Preprocess(size=(16, 20), resize="exact"),
    Preprocess(size=(16, 20), resize="none"),
    Preprocess(size=(16, 20), resize="none", crop=True),
    Preprocess(size=(16, 16), order="bgr", mean=(1, 2, 3), std=(4, 5, 6), layout="nhwc"),
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_an_image_stage_takes_the_picture_that_is_drawn_for_it(settings: Preprocess) -> None:
    picture = draw.Drawing(0).picture(*draw.source_size(settings))
    assert ImageStage(settings).run(draw.write_png(picture)).shape == settings.shape


@pytest.mark.parametrize("settings", SETTINGS)
def test_normalised_pixels_are_what_the_image_stage_makes(settings: Preprocess) -> None:
    height, width = settings.size
    plain = Preprocess(
        size=(height, width),
        resize="none",
        order=settings.order,
        scale=settings.scale,
        mean=settings.mean,
        std=settings.std,
        layout=settings.layout,
    )
    pixels = draw.Drawing(1).picture(height, width)
    made = ImageStage(plain).run(draw.write_png(pixels))
    assert draw.normalised(pixels, settings) == pytest.approx(made, rel=2e-3, abs=2e-3)


def test_npz_members_are_in_order_and_carry_no_time() -> None:
    data = write_npz({"z": np.zeros(2), "images/0": np.ones(3, np.uint8)})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["images/0.npy", "z.npy"]
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
        assert loaded["images/0"].tolist() == [1, 1, 1]
