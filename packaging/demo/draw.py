#!/usr/bin/env python3
"""Draws pictures of metal surfaces for the demo model: ok, scratch, dent, stain, crack.

Owns the lamp, the camera and the command line; materials.py makes the metal, defects.py spoils it.

- A picture depends on (seed, class, number) alone, so a longer run starts with the pictures of a
  shorter one. The same versions of NumPy and Pillow on the same machine give the same bytes;
  elsewhere the last bit of a sine may differ.
- Every class gets the same materials, lamps, cameras and distractors (specks, reflections, shadows,
  tool lines); only the defect differs.

It does not split data or prepare pictures for the model: see train.py and preprocess.py.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from defects import crack, dent, scratch, stain
from materials import Array, Surface, make_surface, place, specks, tool_lines
from PIL import Image, ImageFilter

CLASSES = ("ok", "scratch", "dent", "stain", "crack")
"""Class names in the order of the model's outputs."""

DEFECTS: dict[str, Callable[[np.random.Generator, Surface], None]] = {
    "scratch": scratch,
    "dent": dent,
    "stain": stain,
    "crack": crack,
}

MAX_COUNT = 1_000_000


def illuminate(rng: np.random.Generator, s: Surface) -> Array:
    """Light from the surface to the camera, (H, W, 3): shaded slopes, reflections, shadows."""
    angle = rng.uniform(0, 2 * math.pi)
    gy, gx = np.gradient(s.height)
    slope = math.cos(angle) * gx + math.sin(angle) * gy
    shade: Array = np.asarray(np.clip(1 - slope, 0.15, 1.9), np.float32)
    half = np.float32(s.side / 2)
    lamp = 1 + rng.uniform(0, 0.3) * (math.cos(angle) * s.x + math.sin(angle) * s.y) / half
    lamp *= 1 - rng.uniform(0, 0.22) * (s.x**2 + s.y**2) / half**2
    if rng.random() < 0.3:  # the soft edge of a shadow
        fall, at = rng.uniform(0, 2 * math.pi), rng.uniform(-0.6, 0.6) * half
        edge = (math.cos(fall) * s.x + math.sin(fall) * s.y - at) / rng.uniform(5, 25)
        lamp *= 1 - rng.uniform(0.04, 0.18) * (1 + np.tanh(edge / 2))
    light = s.colour * (shade * lamp)[..., None] + _reflections(rng, s, shade)[..., None]
    return np.asarray(light, np.float32)


def _reflections(rng: np.random.Generator, s: Surface, shade: Array) -> Array:
    """Mirrored lamps: soft spots or bands, broken up by the texture as real ones are."""
    total = np.zeros_like(s.x)
    for _ in range(rng.integers(0, 3)):
        cx, cy = place(rng, s, 0.7)
        angle, long, wide = rng.uniform(0, math.pi), rng.uniform(0.2, 1.5), rng.uniform(0.08, 0.4)
        u = (math.cos(angle) * (s.x - cx) + math.sin(angle) * (s.y - cy)) / (long * s.side)
        v = (math.cos(angle) * (s.y - cy) - math.sin(angle) * (s.x - cx)) / (wide * s.side)
        total += np.float32(s.gloss * rng.uniform(0.3, 1)) * np.exp(-(u * u + v * v))
    return np.asarray(total * np.maximum(0, 1 + 3 * (shade - 1)), np.float32)


def photograph(rng: np.random.Generator, light: Array) -> bytes:
    """Exposure, colour cast, blur, sensor noise and JPEG (quality 50..95)."""
    tinge = 1 + rng.normal(0, 0.03, 3)
    exposed = light * (rng.uniform(0.3, 0.62) * tinge / max(float(np.median(light)), 1e-3))
    eight = np.clip(exposed * 255, 0, 255).astype(np.uint8)
    image = Image.fromarray(eight).filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.1)))
    clean = np.asarray(image, np.float64)
    grey = rng.normal(0, rng.uniform(0.5, 5), clean.shape[:2])[..., None]
    noisy = clean + grey + rng.normal(0, rng.uniform(0.2, 2), clean.shape)
    done = Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
    out = io.BytesIO()
    done.save(out, "JPEG", quality=int(rng.integers(50, 96)))
    return out.getvalue()


def draw(kind: str, seed: int, number: int) -> bytes:
    """Draws one picture.

    Args:
        kind: one of CLASSES.
        seed: not negative; pictures of different seeds have nothing in common.
        number: not negative; the picture's place in its class.

    Returns:
        The picture as an RGB JPEG, the shorter side 150 to 210 pixels.

    Raises:
        ValueError: the class is unknown, or a number is negative.
    """
    if kind not in CLASSES:
        raise ValueError(f"cannot draw class {kind!r}: expected one of {', '.join(CLASSES)}")
    if seed < 0 or number < 0:
        raise ValueError(
            f"cannot draw picture: seed {seed} and number {number} must not be negative"
        )
    rng = np.random.default_rng([seed, CLASSES.index(kind), number])
    surface = make_surface(rng)
    tool_lines(rng, surface)
    specks(rng, surface, 5 if surface.across is None else 2.5)
    if kind in DEFECTS:
        DEFECTS[kind](rng, surface)
    return photograph(rng, illuminate(rng, surface))


def write_pictures(out: Path, count: int, seed: int) -> int:
    """Draws `count` pictures of each class as out/<class>/<number>.jpg; returns how many in all."""
    for kind in CLASSES:
        folder = out / kind
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number:05d}.jpg").write_bytes(draw(kind, seed, number))
    return count * len(CLASSES)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 1 failed, 2 usage)."""
    parser = argparse.ArgumentParser(
        description="Draw pictures of metal surfaces with and without defects."
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder to write; must be new or empty"
    )
    parser.add_argument(
        "--count", type=int, default=20, metavar="N", help="pictures per class (default 20)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="not negative (default 0)")
    args = parser.parse_args(argv)
    if not 1 <= args.count <= MAX_COUNT:
        parser.error(f"--count must be between 1 and {MAX_COUNT}, got {args.count}")
    if args.seed < 0:
        parser.error(f"--seed must not be negative, got {args.seed}")
    try:
        if args.out.exists() and any(args.out.iterdir()):
            raise FileExistsError("it is not empty; name a new folder, so that two seeds never mix")
        total = write_pictures(args.out, args.count, args.seed)
    except OSError as exc:
        print(f"cannot draw into {args.out}: {exc}", file=sys.stderr)
        return 1
    print(f"{total} pictures ({', '.join(CLASSES)}) in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
