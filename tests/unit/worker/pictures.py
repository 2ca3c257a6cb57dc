"""Pictures for tests, and the image stage's definition in NumPy that the C code is held to."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edged.manifest import Preprocess

Pixels = npt.NDArray[np.uint8]
Tensor = npt.NDArray[np.float32]


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    """Random pixels, smooth enough that JPEG keeps them roughly."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def encoded(picture: Image.Image | npt.NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: npt.NDArray[Any], *, interlaced: bool = False, extra: bytes = b"") -> bytes:
    """A PNG of kinds that Pillow does not write.

    Args:
        pixels: uint8 or uint16, of 1 to 4 channels.
        interlaced: in the seven passes of Adam7.
        extra: chunks between the header and the pixels.
    """
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    depth = pixels.dtype.itemsize * 8
    passes = [pixels[top::down, left::right] for top, left, down, right in ADAM7]
    rows = b"".join(
        b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes()
        for part in (passes if interlaced else [pixels])
        if part.size
        for row in part
    )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + end


# First row and column, and the steps from row to row and column to column, of each pass.
ADAM7 = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is of this size, with hardly any pixels in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def rotated(picture: Image.Image) -> bytes:
    """A JPEG that is to be turned by 90 degrees to be seen as it was taken."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture, "JPEG", exif=exif.tobytes())


def with_cut_exif(picture: Image.Image) -> bytes:
    """A JPEG whose EXIF announces more entries than it has."""
    data = rotated(picture)
    at = data.index(b"Exif\0\0") + 14
    return data[:at] + struct.pack(">H", 4000) + data[at + 2 :]


def of_many_scans(scans: int, side: int = 512) -> bytes:
    """A progressive JPEG whose last scan is repeated; it has hardly any bytes."""
    data = encoded(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda\x00")
    return data[:scan] + data[scan:-2] * scans + data[-2:]


def resized(pixels: Pixels, height: int, width: int) -> Tensor:
    """TensorFlow's legacy bilinear: in = out * (in size / out size), lerp to the next pixel."""

    def lerp(values: Tensor, wanted: int) -> Tensor:
        size = values.shape[0]
        at = np.arange(wanted, dtype=np.float32) * (np.float32(size) / np.float32(wanted))
        low = np.minimum(at.astype(np.intp), size - 1)
        high = np.minimum(low + 1, size - 1)
        weight = (at - low.astype(np.float32)).reshape(-1, 1, 1)
        return np.asarray(values[low] + (values[high] - values[low]) * weight, np.float32)

    columns = lerp(pixels.astype(np.float32).transpose(1, 0, 2), width)
    return lerp(columns.transpose(1, 0, 2), height)


def preprocessed(pixels: Pixels, preprocess: Preprocess, whole: tuple[int, int]) -> Tensor:
    """The whole stage; ``whole`` is the size that the picture is resized to before the crop."""
    values: npt.NDArray[Any] = resized(pixels, *whole)
    height, width = preprocess.size
    top, left = (whole[0] - height) // 2, (whole[1] - width) // 2
    values = values[top : top + height, left : left + width]
    if preprocess.order == "bgr":
        values = values[:, :, ::-1]
    values = (values * preprocess.scale - np.array(preprocess.mean)) / np.array(preprocess.std)
    batch: Tensor = values[np.newaxis].astype(np.float32)
    return batch.transpose(0, 3, 1, 2) if preprocess.layout == "nchw" else batch
