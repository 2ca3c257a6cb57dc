"""From a picture's bytes to the demo model's input, as the daemon's image stage does it.

preprocess.json is the only place that holds the sizes and factors: training, measuring and serving
read the same file. Only what that file uses is here (shorter side, centre crop, RGB, NCHW).

The resize is TensorFlow's legacy bilinear: output pixel x reads input position x * scale, two
neighbours each way, no widening of the filter when shrinking, and the resized size is truncated.
Pillow's affine transform samples at pixel centres, which an offset of 0.5 - 0.5 * scale undoes.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Preprocess:
    """The demo model's preprocessing; see preprocess.json for the values."""

    size: tuple[int, int]
    shorter: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def load(cls, path: Path = HERE / "preprocess.json") -> Preprocess:
        """Reads the file.

        Raises:
            ValueError: the file asks for something that this module does not do.
        """
        spec = json.loads(path.read_text("utf-8"))
        fixed = (spec["resize"]["kind"], spec["crop"], spec["order"], spec["layout"])
        if fixed != ("shorter", "center", "rgb", "nchw"):
            raise ValueError(f"cannot use {path}: expected shorter, center, rgb, nchw, got {fixed}")
        height, width = spec["size"]
        return cls(
            size=(height, width),
            shorter=spec["resize"]["to"],
            scale=spec["scale"],
            mean=tuple(spec["mean"]),
            std=tuple(spec["std"]),
        )

    def crop(self, picture: bytes) -> NDArray[np.uint8]:
        """Decodes, resizes and crops a picture to (H, W, 3) pixels in RGB."""
        with Image.open(io.BytesIO(picture)) as opened:
            image = opened.convert("RGB")
        factor = self.shorter / min(image.size)
        width, height = (max(self.shorter, int(n * factor)) for n in image.size)
        sx, sy = image.width / width, image.height / height
        affine = (sx, 0.0, 0.5 - 0.5 * sx, 0.0, sy, 0.5 - 0.5 * sy)
        resized = image.transform(
            (width, height), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
        )
        left, top = (width - self.size[1]) // 2, (height - self.size[0]) // 2
        return np.asarray(resized)[top : top + self.size[0], left : left + self.size[1]]

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(pixel * scale - mean) / std of (N, H, W, 3) pixels, as (N, 3, H, W).

        Pillow truncates what it interpolates, the daemon keeps the fraction: half a level is what
        is lost on average.
        """
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        values = ((pixels + np.float32(0.5)) * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
