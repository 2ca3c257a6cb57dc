"""The image stage: JPEG or PNG bytes to the float32 tensor that a network was trained on.

Invariants:
- Only Pillow's JPEG and PNG readers ever see the bytes, chosen by the bytes' own first marks.
- At most ``MAX_PIXELS`` are decoded, and at most ``MAX_SCANNED`` over all scans of a JPEG; both are
  checked before any pixel is decoded.
- Whatever the bytes are, the outcome is a tensor or a ``RequestError``.

As the original service did, it takes pixels as they are stored: rotation in EXIF, colour
profiles and gamma are not applied, alpha is dropped, of 16 bits the upper 8 count.
"""

from __future__ import annotations

import io
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, PngImagePlugin

from edged.errors import RequestError
from edged.manifest import Preprocess
from edged.worker.stages import _image

Tensor: TypeAlias = npt.NDArray[np.float32]

MAX_PIXELS = 50_000_000  # 200 MB once decoded
MAX_SCANNED = 1_000_000_000  # pixels times scans; a progressive JPEG has about ten scans
MAX_READS = 200_000  # of a picture's bytes: marks and chunks are read in Python, one by one
MAX_RESIZED = 1 << 24  # positions that float32 holds exactly

# Modes whose memory is one byte, or four bytes beginning with red, green, blue.
_DIRECT = {"L": 1, "LA": 4, "RGB": 4, "RGBA": 4, "RGBX": 4}
_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class ImageStage:
    """Makes the tensor of one picture.

    Args:
        preprocess: size, resize, crop, colours and layout of the tensor.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        stds = preprocess.std
        # Folded in float64, so that a result differs from the formula by its last bit at most.
        gains = tuple(preprocess.scale / std for std in stds)
        offsets = tuple(-mean / std for mean, std in zip(preprocess.mean, stds, strict=True))
        flags = (int(preprocess.order == "bgr"), int(preprocess.layout == "nhwc"))
        self._colours = (*flags, *gains, *offsets)

    def run(self, data: bytes) -> Tensor:
        """Returns the tensor of a picture, of the shape ``preprocess.shape``.

        Raises:
            RequestError: the bytes are not a JPEG or PNG picture that can be decoded, or one whose
                size cannot be brought to the tensor's.
        """
        return self.transform(decode(data))

    def transform(self, picture: Image.Image) -> Tensor:
        """Returns the tensor of a decoded picture.

        Args:
            picture: of the modes that ``decode`` gives.
        """
        height, width = self._preprocess.size
        resized = self._resized(picture.height, picture.width)
        crop = ((resized[0] - height) // 2, (resized[1] - width) // 2, height, width)
        out = np.empty(self._preprocess.shape, np.float32)
        _transform(picture, (*resized, *crop, *self._colours), out.reshape(-1))
        return out

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size of the whole picture after the resize; checks that the crop fits."""
        wanted = self._preprocess
        if wanted.resize == "exact":
            return wanted.size
        if wanted.to is not None:
            resized = shorter_side_to(wanted.to, height, width, wanted.size)
        else:
            resized = (height, width)
        fits = resized == wanted.size or (
            wanted.crop and resized[0] >= wanted.size[0] and resized[1] >= wanted.size[1]
        )
        if not fits or max(resized) > MAX_RESIZED:
            expected = f"{'at least ' if wanted.crop else ''}{wanted.size[1]} x {wanted.size[0]}"
            raise RequestError(
                "INVALID_ARGUMENT",
                f"cannot use picture: it has {width} x {height} pixels, expected {expected} "
                "and no side that is out of all proportion",
            )
        return resized


def shorter_side_to(to: int, height: int, width: int, least: tuple[int, int]) -> tuple[int, int]:
    """Returns the size that keeps the aspect and brings the shorter side to ``to``.

    The original computed it in float32 and truncated: for one size in eight the shorter side comes
    out one pixel less. Its networks were trained on that, so it is done likewise, except where the
    crop would no longer fit.

    Args:
        to: what the shorter side becomes.
        height: of the picture.
        width: of the picture.
        least: height and width of the crop.
    """
    scale = np.float32(to) / np.float32(min(height, width))
    resized = (int(np.float32(height) * scale), int(np.float32(width) * scale))
    return max(resized[0], least[0]), max(resized[1], least[1])


def decode(data: bytes) -> Image.Image:
    """Returns the decoded picture, in a mode that ``ImageStage.transform`` reads directly.

    Raises:
        RequestError: the bytes are not a JPEG or PNG picture, too large, truncated or damaged.
    """
    try:
        picture = _open(data)
        _check_size(picture, data)
        picture.load()
        return _direct(picture)
    except (RequestError, KeyboardInterrupt):
        raise
    except MemoryError as exc:
        raise RequestError(
            "RESOURCE_EXHAUSTED", "cannot decode picture: there is not enough memory for its pixels"
        ) from exc
    except Exception as exc:  # hostile bytes reach every corner of the decoders
        raise RequestError("INVALID_ARGUMENT", f"cannot decode picture: {exc}") from exc


class _Source(io.BytesIO):
    """The bytes of a picture, read a limited number of times."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise ValueError(f"more than {MAX_READS} marks and chunks")
        return super().read(size)


def _open(data: bytes) -> Image.Image:
    if data[:3] == b"\xff\xd8\xff":
        return JpegImagePlugin.JpegImageFile(_Source(data))
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return PngImagePlugin.PngImageFile(_Source(data))
    got = f"{len(data)} bytes that begin with {data[:8].hex(' ')}" if data else "no bytes"
    raise RequestError(
        "INVALID_ARGUMENT", f"cannot decode picture: expected JPEG or PNG, got {got}"
    )


def _check_size(picture: Image.Image, data: bytes) -> None:
    pixels = picture.width * picture.height
    if pixels > MAX_PIXELS:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"cannot decode picture: {picture.width} x {picture.height} pixels, "
            f"expected at most {MAX_PIXELS} in all",
        )
    # A few bytes are a scan, and each passes over all pixels: without a limit a small file keeps
    # the decoder busy for hours. What is counted is the marker and its length's first byte, which
    # compressed data cannot hold.
    scans = data.count(b"\xff\xda\x00") if picture.format in ("JPEG", "MPO") else 1
    if scans * pixels > MAX_SCANNED:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"cannot decode picture: {scans} scans of {pixels} pixels, "
            f"expected at most {MAX_SCANNED} pixels over all scans",
        )


def _direct(picture: Image.Image) -> Image.Image:
    if picture.mode in _DIRECT:
        return picture
    if picture.mode in _SIXTEEN_BITS:
        # A copy: Pillow before 13 crashes when it exports the pixels that fromarray() borrowed.
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).copy()
    if picture.mode == "1":
        return picture.convert("L")
    # Colours first, transparency after: to RGB directly, a transparent palette is warned about.
    return picture.convert("RGBA" if picture.mode == "P" else "RGB")


def _transform(picture: Image.Image, transform: tuple[float, ...], out: Tensor) -> None:
    size = (picture.height, picture.width)
    try:
        schema, array = picture.__arrow_c_array__()
    except (AttributeError, ValueError):
        # Pillow before 11.3 has no Arrow; any keeps pictures above PILLOW_BLOCK_SIZE in pieces.
        # The worker sets that to more than MAX_PIXELS take.
        pixels = picture.tobytes()
        count = len(picture.getbands())
        if count == 2:  # LA: grey and alpha
            pixels, count = pixels[::2], 1
        _image.from_bytes(pixels, count, *size, transform, out)
    else:
        _image.from_arrow(schema, array, *size, transform, out)
