"""The image stage: it makes what the original service made, and no bytes harm it."""

from __future__ import annotations

import dataclasses
import io
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from edged.errors import RequestError
from edged.manifest import PRESETS, Preprocess
from edged.worker.stages import _image, image
from edged.worker.stages.image import ImageStage, decode, shorter_side_to
from tests.unit.worker.pictures import (
    Tensor,
    chunk,
    encoded,
    noise,
    of_many_scans,
    png,
    png_header,
    preprocessed,
    rotated,
)

PHOTOS = ("dog", "schoolbus", "snowleopardgaze")


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize(("preset", "key"), [("resnet", "rgb224"), ("ssd", "rgb300")])
def test_photos_come_out_as_from_the_original_service(
    shared_data: Path, photo: str, preset: str, key: str
) -> None:
    data = (shared_data / "photos" / f"{photo}.jpg").read_bytes()
    with np.load(shared_data / "photos" / f"{photo}.preprocessed.npz") as arrays:
        expected = arrays[key].astype(np.float32)
    got = ImageStage(PRESETS[preset]).run(data)
    assert got.shape == (1, *expected.shape)
    assert np.abs(got[0] - expected).mean() <= 1.2


def by_pillow_and_numpy(picture: Image.Image, preprocess: Preprocess) -> Tensor:
    """What one would write without the stage: another filter's result, as much work."""
    height, width = preprocess.size
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    values = np.asarray(resized, np.float32) * np.float32(preprocess.scale)
    mean, std = (np.asarray(each, np.float32) for each in (preprocess.mean, preprocess.std))
    values = (values - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))[None]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.mark.parametrize("preset", ["resnet", "ssd"])
def test_the_stage_takes_at_most_half_of_what_pillow_and_numpy_take(
    shared_data: Path, preset: str
) -> None:
    picture = decode((shared_data / "photos" / "snowleopardgaze.jpg").read_bytes())
    preprocess = PRESETS[preset]
    stage = ImageStage(preprocess)
    ours, theirs = [], []
    for _ in range(31):  # in turns, so that both meet the same machine
        ours.append(seconds(lambda: stage.transform(picture)))
        theirs.append(seconds(lambda: by_pillow_and_numpy(picture, preprocess)))
    assert min(ours) <= 0.5 * min(theirs)


sides = st.integers(1, 70)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Preprocess, tuple[int, int]]:
    """A transform, and the size that the whole picture is resized to."""
    size = (draw(sides), draw(sides))
    preprocess = Preprocess(
        size=size,
        order=draw(st.sampled_from(["rgb", "bgr"])),
        layout=draw(st.sampled_from(["nchw", "nhwc"])),
        scale=draw(st.sampled_from([1.0, 1 / 255])),
        mean=(0.485, 116.0, 0.25),
        std=(0.229, 2.0, 1 / 0.017),
    )
    return preprocess, size


@given(case=cases(), height=sides, width=sides, mode=st.sampled_from(["L", "LA", "RGB", "RGBA"]))
def test_the_c_code_equals_the_definition(
    case: tuple[Preprocess, tuple[int, int]], height: int, width: int, mode: str
) -> None:
    preprocess, whole = case
    channels = len(mode)
    picture = Image.fromarray(noise(height, width, channels))
    assert picture.mode == mode
    colours = np.asarray(picture.convert("RGBA"))[:, :, :3]
    stage = ImageStage(preprocess)
    expected = preprocessed(colours, preprocess, whole)
    got = stage.run(encoded(picture))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-4)


@given(height=sides, width=sides, crop=st.integers(1, 20), extra=st.integers(0, 20))
def test_the_shorter_side_is_resized_and_the_centre_cut(
    height: int, width: int, crop: int, extra: int
) -> None:
    preprocess = Preprocess(size=(crop, crop), resize="shorter", to=crop + extra, crop=True)
    pixels = noise(height, width)
    whole = shorter_side_to(crop + extra, height, width, preprocess.size)
    got = ImageStage(preprocess).run(encoded(pixels))
    np.testing.assert_allclose(got, preprocessed(pixels, preprocess, whole), atol=1e-3)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(239, 211, (289, 256)), (191, 264, (256, 353)), (600, 900, (256, 384)), (41, 41, (255, 255))],
)
def test_the_resized_size_is_truncated_as_in_the_original(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    assert shorter_side_to(256, height, width, (224, 224)) == expected


def test_a_truncated_size_never_falls_below_the_crop() -> None:
    assert shorter_side_to(256, 41, 41, (256, 256)) == (256, 256)


def test_pictures_are_taken_as_they_are_where_no_resize_is_asked_for() -> None:
    pixels = noise(9, 7)
    plain = ImageStage(Preprocess(size=(9, 7), resize="none", layout="nhwc"))
    np.testing.assert_array_equal(plain.run(encoded(pixels))[0], pixels)
    cut = ImageStage(Preprocess(size=(4, 4), resize="none", crop=True, layout="nhwc"))
    np.testing.assert_array_equal(cut.run(encoded(pixels))[0], pixels[2:6, 1:5])
    with pytest.raises(RequestError, match="9 x 7 pixels, expected 7 x 9"):
        plain.run(encoded(noise(7, 9)))
    with pytest.raises(RequestError, match="3 x 9 pixels, expected at least 4 x 4"):
        cut.run(encoded(noise(9, 3)))


def test_pictures_out_of_all_proportion_are_refused() -> None:
    stage = ImageStage(PRESETS["resnet"])
    with pytest.raises(RequestError, match="out of all proportion") as caught:
        stage.run(encoded(noise(1, 65_537 + 1, 1)))
    assert caught.value.code == "INVALID_ARGUMENT"


def plain(data: bytes, height: int, width: int) -> Tensor:
    stage = ImageStage(Preprocess(size=(height, width), resize="none", layout="nhwc"))
    tensor: Tensor = stage.run(data)[0]
    return tensor


def test_every_kind_of_png_becomes_its_colours() -> None:
    colours = noise(5, 6)
    grey = noise(5, 6, 1)
    grey3 = np.stack([grey] * 3, axis=2)
    alpha = np.dstack([colours, noise(5, 6, 1, seed=1)])
    wide = (grey.astype(np.uint16) << 8) | 0x7F
    palette = Image.fromarray(grey).convert("P")
    lit = Image.fromarray((grey > 127).astype(np.uint8) * 255).convert("1")
    see_through = encoded(palette, transparency=bytes(range(256)))
    np.testing.assert_array_equal(plain(encoded(colours), 5, 6), colours)
    np.testing.assert_array_equal(plain(encoded(grey), 5, 6), grey3)
    np.testing.assert_array_equal(plain(encoded(alpha), 5, 6), colours)
    np.testing.assert_array_equal(plain(encoded(wide), 5, 6), grey3)
    np.testing.assert_array_equal(plain(encoded(palette), 5, 6), grey3)
    np.testing.assert_array_equal(plain(see_through, 5, 6), grey3)
    np.testing.assert_array_equal(plain(encoded(lit), 5, 6)[:, :, 0], (grey > 127) * 255)


def test_every_kind_of_jpeg_becomes_its_colours() -> None:
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    for mode in ("RGB", "CMYK", "L"):
        picture = Image.fromarray(flat).convert(mode)
        expected = np.asarray(picture.convert("RGB")).astype(np.float32)
        for progressive in (False, True):
            data = encoded(picture, "JPEG", quality=95, progressive=progressive)
            assert np.abs(plain(data, 16, 16) - expected).max() <= 4


def test_rotation_in_exif_is_not_applied() -> None:
    assert decode(rotated(Image.fromarray(noise(16, 8)))).size == (8, 16)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_of_sixteen_bits_the_upper_eight_count(channels: int) -> None:
    wide = noise(5, 6, 2 * channels).view(">u2").astype(np.uint16).reshape(5, 6, channels)
    upper = (wide >> 8).astype(np.uint8)
    expected = upper[:, :, :3] if channels > 2 else upper[:, :, :1].repeat(3, axis=2)
    for interlaced in (False, True):
        np.testing.assert_array_equal(plain(png(wide, interlaced=interlaced), 5, 6), expected)


def test_interlaced_pictures_are_put_together() -> None:
    pixels = noise(11, 13)
    np.testing.assert_array_equal(plain(png(pixels, interlaced=True), 11, 13), pixels)


def test_of_an_animation_the_first_picture_counts() -> None:
    frames = [Image.fromarray(noise(5, 6, seed=seed)) for seed in range(3)]
    data = encoded(frames[0], save_all=True, append_images=frames[1:])
    assert b"acTL" in data
    np.testing.assert_array_equal(plain(data, 5, 6), noise(5, 6))


def test_a_transparent_colour_stays_the_colour_it_is() -> None:
    pixels = noise(5, 6)
    key = tuple(int(value) for value in pixels[2, 3])
    np.testing.assert_array_equal(plain(encoded(pixels, transparency=key), 5, 6), pixels)


def test_colour_profiles_gamma_and_what_follows_the_end_are_not_looked_at() -> None:
    pixels = noise(5, 6)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    np.testing.assert_array_equal(plain(encoded(pixels, icc_profile=profile), 5, 6), pixels)
    gamma = chunk(b"gAMA", struct.pack(">I", 100_000))
    np.testing.assert_array_equal(plain(png(pixels, extra=gamma), 5, 6), pixels)
    jpeg = encoded(pixels, "JPEG", quality=95)
    expected = plain(jpeg, 5, 6)
    tagged = encoded(pixels, "JPEG", quality=95, icc_profile=profile)
    for data in (tagged, jpeg + jpeg, jpeg + bytes(1000)):
        np.testing.assert_array_equal(plain(data, 5, 6), expected)


def test_pictures_that_pillow_keeps_in_pieces_are_read_right() -> None:
    pixels = noise(2100, 2001)
    stage = ImageStage(Preprocess(size=(30, 40)))
    got = stage.run(encoded(pixels, compress_level=0))
    np.testing.assert_allclose(got, preprocessed(pixels, stage._preprocess, (30, 40)), atol=1e-3)


def test_pictures_are_read_right_without_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = ImageStage(Preprocess(size=(5, 4)))
    pictures = [encoded(noise(7, 6, channels)) for channels in (1, 2, 3, 4)]
    expected = [stage.run(data) for data in pictures]
    monkeypatch.delattr(Image.Image, "__arrow_c_array__")
    for data, tensor in zip(pictures, expected, strict=True):
        np.testing.assert_array_equal(stage.run(data), tensor)


def refused(data: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        ImageStage(PRESETS["resnet"]).run(data)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert str(caught.value).startswith("cannot decode picture: ")
    return str(caught.value)


def test_bytes_that_are_no_picture_are_refused_saying_what_came() -> None:
    assert "expected JPEG or PNG, got no bytes" in refused(b"")
    assert "got 5 bytes that begin with 68 65 6c 6c 6f" in refused(b"hello")
    for kind in ("GIF", "BMP", "TIFF", "WEBP", "PPM"):
        assert "expected JPEG or PNG" in refused(encoded(noise(8, 8), kind))


def test_cut_pictures_are_refused_at_every_length() -> None:
    for kind in ("JPEG", "PNG"):
        data = encoded(noise(24, 24), kind)
        for length in range(0, len(data) - 40, 7):
            refused(data[:length])


@given(st.data())
def test_damaged_pictures_are_decoded_or_refused(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG"]))
    damaged = bytearray(encoded(noise(20, 20), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = ImageStage(PRESETS["resnet"]).run(bytes(damaged))
    except RequestError:
        refused(bytes(damaged))
    else:
        assert np.isfinite(got).all()


def test_decompression_bombs_are_refused_before_they_are_decoded() -> None:
    assert "100000 x 100000 pixels, expected at most 50000000" in refused(png_header(10**5, 10**5))
    assert "expected at most 50000000" in refused(png_header(2**31 - 1, 2**31 - 1))
    assert refused(png_header(0, 10))


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    hostile = of_many_scans(4000)
    start = time.monotonic()
    assert "scans of 262144 pixels" in refused(hostile)
    assert time.monotonic() - start < 5


def test_a_jpeg_of_very_many_marks_is_refused() -> None:
    start = time.monotonic()
    assert "marks" in refused(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 2_000_000)
    assert time.monotonic() - start < 5


def test_a_picture_too_large_for_the_memory_is_refused() -> None:
    # In a process of its own, whose memory is limited.
    code = (
        "import resource, sys\n"
        "from edged.errors import RequestError\n"
        "from edged.worker.stages import image\n"
        "data = sys.stdin.buffer.read()\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000,) * 2)\n"
        "try:\n"
        "    image.decode(data)\n"
        "except RequestError as exc:\n"
        "    print(exc.code)\n"
    )
    data = encoded(Image.new("L", (7000, 7000)), compress_level=1)
    done = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b"RESOURCE_EXHAUSTED\n"


TRANSFORM = (4, 4, 0, 0, 4, 4, 0, 0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0)


def test_the_c_code_refuses_sizes_that_do_not_fit() -> None:
    out = np.empty(4 * 4 * 3, np.float32)
    _image.from_bytes(bytes(3 * 5 * 5), 3, 5, 5, TRANSFORM, out)
    for pixel_bytes, height, width in ((3, 5, 6), (2, 5, 5), (3, 0, 5), (3, -5, -5), (4, 5, 5)):
        with pytest.raises(ValueError, match=r"pixels|bytes are not"):
            _image.from_bytes(bytes(3 * 5 * 5), pixel_bytes, height, width, TRANSFORM, out)
    with pytest.raises(ValueError, match="values are not"):
        _image.from_bytes(bytes(3 * 5 * 5), 3, 5, 5, TRANSFORM, out[1:])
    for index, value in ((0, 0), (1, 2**25), (2, 1), (3, -1), (4, 0), (5, 5)):
        broken = list(TRANSFORM)
        broken[index] = value
        with pytest.raises(ValueError, match="does not fit"):
            _image.from_bytes(bytes(3 * 5 * 5), 3, 5, 5, broken, out)


def test_the_c_code_refuses_arrow_arrays_of_other_kinds() -> None:
    out = np.empty(4 * 4 * 3, np.float32)
    picture = Image.new("RGB", (5, 5))
    _image.from_arrow(*picture.__arrow_c_array__(), 5, 5, TRANSFORM, out)
    with pytest.raises(ValueError, match="does not hold 5 x 6"):
        _image.from_arrow(*picture.__arrow_c_array__(), 5, 6, TRANSFORM, out)
    with pytest.raises(ValueError, match="not bytes"):
        _image.from_arrow(*Image.new("F", (5, 5)).__arrow_c_array__(), 5, 5, TRANSFORM, out)
    with pytest.raises(ValueError, match="PyCapsule"):
        _image.from_arrow(object(), object(), 5, 5, TRANSFORM, out)


def test_the_stage_does_not_change_with_the_layout_of_its_preset() -> None:
    data = encoded(noise(300, 280))
    last = ImageStage(PRESETS["resnet"]).run(data)
    first = ImageStage(dataclasses.replace(PRESETS["resnet"], layout="nchw")).run(data)
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), last)


def test_limits_are_far_from_what_cameras_make() -> None:
    assert image.MAX_PIXELS >= 48_000_000
    buffer = io.BytesIO()
    Image.new("RGB", (8000, 6000)).save(buffer, "JPEG", progressive=True)
    assert decode(buffer.getvalue()).size == (8000, 6000)
