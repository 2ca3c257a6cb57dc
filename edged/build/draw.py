"""Seeded pictures and arrays for golden tests: the same on every machine, for ever.

Everything comes from the raw words of a PCG64 stream, which NumPy keeps stable, by integers and by
float arithmetic that every machine rounds the same way; the picture is written as PNG without
compression, since compressed bytes change with the library.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from edged.manifest import ImageStage, Manifest, Preprocess

_CELL = 16  # pixels between the points that a picture's light is drawn at
_NOISE = 32  # grey levels of its grain
_STORED_LIMIT = 0xFFFF  # bytes of one stored deflate block (RFC 1951, 3.2.4)


class Drawing:
    """A stream of random bytes and what is made of them.

    Args:
        seed: equal seeds draw equal things.
    """

    def __init__(self, seed: int) -> None:
        self._words = np.random.PCG64(seed)

    def octets(self, count: int) -> npt.NDArray[np.uint8]:
        """Returns ``count`` bytes."""
        words = np.asarray(self._words.random_raw(-(-count // 8)), "<u8")
        return words.view(np.uint8)[:count]

    def array(self, shape: tuple[int, ...], dtype: str = "float32") -> npt.NDArray[Any]:
        """Returns values of about mean 0 and variance 1, or small ones of integer types.

        Floats are float16 values, so that no machine rounds them on its way into the NPU.
        """
        count = int(np.prod(shape))
        octets = self.octets(4 * count).reshape(4, count)
        if dtype.startswith("float"):
            total = octets.sum(axis=0, dtype=np.int64) - 510  # variance of the sum: 4 * 5461.25
            values = (total / 148.0).astype(np.float16)
            return np.asarray(values.astype(dtype).reshape(shape))
        small = octets[0] % (2 if dtype == "bool" else 8)
        return np.asarray(small.astype(dtype).reshape(shape))

    def picture(self, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Returns pixels ``[height, width, 3]``: smooth light and shade with a grain."""
        rows, columns = height // _CELL + 2, width // _CELL + 2
        points = self.octets(rows * columns * 3).reshape(rows, columns, 3).astype(np.int64)
        across = _between(points, width, axis=1)
        light = _between(across, height, axis=0) // (_CELL * _CELL)
        grain = self.octets(height * width * 3).reshape(height, width, 3).astype(np.int64)
        values = np.clip(light + grain % _NOISE - _NOISE // 2, 0, 255)
        return np.asarray(values, np.uint8)


def _between(points: npt.NDArray[np.int64], count: int, axis: int) -> npt.NDArray[np.int64]:
    """Interpolates linearly, ``_CELL`` positions a step, times ``_CELL``."""
    position = np.arange(count)
    left, part = position // _CELL, position % _CELL
    shape = [1, 1, 1]
    shape[axis] = count
    weight = part.reshape(shape)
    one, other = points.take(left, axis), points.take(left + 1, axis)
    return np.asarray(one * (_CELL - weight) + other * weight)


def normalised(pixels: npt.NDArray[np.uint8], preprocess: Preprocess) -> npt.NDArray[np.float32]:
    """Returns what an image stage would make of pixels of the right size, as float16 values."""
    values = pixels.astype(np.float64)
    if preprocess.order == "bgr":
        values = values[..., ::-1]
    values = (values * preprocess.scale - np.array(preprocess.mean)) / np.array(preprocess.std)
    if preprocess.layout == "nchw":
        values = values.transpose(2, 0, 1)
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    return np.ascontiguousarray(halves.astype(np.float32))[None]


def inputs(manifest: Manifest, seed: int) -> dict[str, Any]:
    """Returns one item for each of a model's inputs, as ``Pipeline.run`` takes them.

    Args:
        manifest: of the model; where an image stage reads an input, a picture is drawn for it.
        seed: equal seeds draw equal items.
    """
    drawing = Drawing(seed)
    images = {s.input: s.preprocess for s in manifest.stages if isinstance(s, ImageStage)}
    found: dict[str, Any] = {}
    for spec in manifest.signature.inputs:
        if spec.name in images:
            size = source_size(images[spec.name])
            found[spec.name] = [write_png(drawing.picture(*size))]
        else:
            shape = tuple(1 if side == -1 else side for side in spec.shape)
            found[spec.name] = drawing.array(shape, spec.type)
    return found


def source_size(preprocess: Preprocess) -> tuple[int, int]:
    """Returns height and width of a picture that makes the image stage do all its work."""
    height, width = preprocess.size
    if preprocess.resize == "none":
        return (height + 6, width + 10) if preprocess.crop else (height, width)
    return height + height // 4 + 1, width + width // 2 + 1


def write_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Returns a PNG file of RGB pixels ``[height, width, 3]``, uncompressed (W3C PNG, RFC 1950)."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + width * 3), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    blocks = [raw[i : i + _STORED_LIMIT] for i in range(0, len(raw), _STORED_LIMIT)]
    stored = b"".join(
        struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) + block
        for block in blocks
    )
    data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(raw))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)
