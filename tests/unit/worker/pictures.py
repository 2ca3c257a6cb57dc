"""Pictures for tests, and the image stage's definition in NumPy that the C code is held to."""

from __future__ import annotations

import io
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
