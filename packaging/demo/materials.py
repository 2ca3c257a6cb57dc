"""Metal surfaces without defects: brushed, turned, milled, cast.

Owns the Surface, the noise it is textured with, and the marks that sound parts have too (specks,
tool lines). Sizes are in pixels; slopes have no unit, and neither has reflectance (1 = the
material's own).

- The relief is scaled so that its slopes have the standard deviation `rough`, whatever the
  material: the contrast of a defect is measured against that.
- Nothing here has a seam: a line of the noise's grid would look like a scratch.

It does not know lamps or cameras: see draw.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
"""float32, (H, W) unless said otherwise."""


@dataclass
class Surface:
    """A piece of metal under the camera while it is being made.

    Attributes:
        x, y: pixel coordinates from the picture's middle, both (H, W).
        side: the shorter side in pixels; defects scale with it.
        height: relief in pixels, positive towards the camera, (H, W).
        colour: reflectance for red, green and blue, (H, W, 3).
        across: coordinate across the machining lines, (H, W); None where there are none.
        rough: standard deviation of the texture's shading.
        gloss: share of the light that is mirrored rather than scattered.
    """

    x: Array
    y: Array
    side: float
    height: Array = field(init=False)
    colour: Array = field(init=False)
    across: Array | None = None
    rough: float = 0.03
    gloss: float = 0.3

    def __post_init__(self) -> None:
        self.height = np.zeros_like(self.x)
        self.colour = np.ones((*self.x.shape, 3), np.float32)


def lattice(rng: np.random.Generator, u: Array, v: Array, su: float, sv: float) -> Array:
    """Value noise with grain su by sv: random values on a grid, smoothly joined; within -1..1."""
    iu, iv = u / np.float32(su), v / np.float32(sv)
    iu, iv = iu - iu.min(), iv - iv.min()
    ku, kv = iu.astype(np.int32), iv.astype(np.int32)
    fu, fv = iu - ku, iv - kv
    fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
    grid = rng.uniform(-1, 1, (int(kv.max()) + 2, int(ku.max()) + 2)).astype(np.float32)
    top = grid[kv, ku] * (1 - fu) + grid[kv, ku + 1] * fu
    low = grid[kv + 1, ku] * (1 - fu) + grid[kv + 1, ku + 1] * fu
    return np.asarray(top * (1 - fv) + low * fv, np.float32)


def clouds(rng: np.random.Generator, s: Surface, grain: float, octaves: int = 3) -> Array:
    """Isotropic noise of several scales, the coarsest `grain` pixels; about -1..1."""
    total = np.zeros_like(s.x)
    for octave in range(octaves):
        total += lattice(rng, s.x, s.y, grain / 2**octave, grain / 2**octave) / 2**octave
    return np.asarray(total / np.float32(2 - 0.5 ** (octaves - 1)), np.float32)


def brushed(rng: np.random.Generator, s: Surface) -> Array:
    """Straight grinding or brushing lines at any angle."""
    angle = rng.uniform(0, math.pi)
    u = np.float32(math.cos(angle)) * s.x + np.float32(math.sin(angle)) * s.y
    s.across = np.float32(math.cos(angle)) * s.y - np.float32(math.sin(angle)) * s.x
    length, grain = rng.uniform(15, 150), rng.uniform(1.0, 3.0)
    relief = np.zeros_like(s.x)
    for octave in range(3):
        relief += lattice(rng, u, s.across, length / 1.5**octave, grain * 1.8**octave)
    return relief


def turned(rng: np.random.Generator, s: Surface) -> Array:
    """Concentric lines of a lathe, with the centre in the picture or beside it."""
    angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 1.2) * s.side
    s.across = np.hypot(s.x - away * math.cos(angle), s.y - away * math.sin(angle))
    grain, zero = rng.uniform(1.2, 3.0), np.zeros_like(s.x)
    fine = lattice(rng, zero, s.across, 1, grain) + lattice(rng, zero, s.across, 1, grain * 2.5)
    return np.asarray(
        fine * (1 + 0.5 * clouds(rng, s, 40)) + 0.4 * clouds(rng, s, 3, 2), np.float32
    )


def milled(rng: np.random.Generator, s: Surface) -> Array:
    """Regular arcs of a face mill, sometimes with the fainter arcs of its trailing edge."""
    angle, radius = rng.uniform(0, 2 * math.pi), rng.uniform(0.8, 4) * s.side
    cx, cy = radius * math.cos(angle), radius * math.sin(angle)
    s.across = np.hypot(s.x - cx, s.y - cy)
    feed = rng.uniform(4, 13)
    relief = np.abs(np.sin(s.across * np.float32(math.pi / feed) + rng.uniform(0, math.pi)))
    if rng.random() < 0.4:
        relief += 0.5 * np.abs(np.sin(np.hypot(s.x + cx, s.y + cy) * np.float32(math.pi / feed)))
    relief = relief * feed * 0.4 + 0.5 * lattice(rng, np.zeros_like(s.x), s.across, 1, 1.5)
    return np.asarray(relief + 0.5 * clouds(rng, s, 4, 2), np.float32)


def cast(rng: np.random.Generator, s: Surface) -> Array:
    """Grain of sand or die casting, without direction."""
    grain = rng.uniform(2.5, 9)
    relief = clouds(rng, s, grain) * np.float32(grain) + 2 * clouds(rng, s, grain * 6, 2)
    return np.asarray(relief, np.float32)


MATERIALS: tuple[Callable[[np.random.Generator, Surface], Array], ...] = (
    brushed,
    turned,
    milled,
    cast,
)


def make_surface(rng: np.random.Generator) -> Surface:
    """A bare surface of random size (shorter side 150..210), material, roughness and metal."""
    side = int(rng.integers(150, 211))
    other = int(side * rng.uniform(1.0, 1.35))
    h, w = (side, other) if rng.random() < 0.7 else (other, side)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    s = Surface(x - np.float32(w / 2), y - np.float32(h / 2), float(side))
    relief = MATERIALS[rng.integers(len(MATERIALS))](rng, s)
    s.rough = rng.uniform(0.015, 0.075)
    gy, gx = np.gradient(relief)
    s.height = relief * np.float32(s.rough / (np.hypot(gx.std(), gy.std()) / math.sqrt(2) + 1e-6))
    s.gloss = rng.uniform(0.1, 0.6)
    metal = np.array([1.0, 1.0, 1.0]) + rng.uniform(0, 1) * np.array([0.04, 0.0, -0.06])
    if rng.random() < 0.12:
        metal = np.array([1.1, 0.96, 0.68])  # brass
    s.colour *= metal.astype(np.float32)
    s.colour *= (1 + rng.uniform(0, 0.05) * clouds(rng, s, s.side * 0.4))[..., None]
    return s


def contrast(rng: np.random.Generator, s: Surface, low: float, high: float) -> float:
    """A defect's contrast, from faint to clear; rough surfaces need more to show the same."""
    return float(rng.uniform(low, high)) + 1.3 * s.rough


def place(rng: np.random.Generator, s: Surface, reach: float = 0.25) -> tuple[float, float]:
    """A point within `reach` of the shorter side from the picture's middle."""
    angle, away = rng.uniform(0, 2 * math.pi), reach * s.side * math.sqrt(rng.random())
    return away * math.cos(angle), away * math.sin(angle)


def tint(s: Surface, mask: Array, rgb: Sequence[float]) -> None:
    """Multiplies the reflectance by rgb where mask is 1, by less where it is below."""
    s.colour *= 1 + mask[..., None] * (np.asarray(rgb, np.float32) - 1)


def specks(rng: np.random.Generator, s: Surface, mean: float) -> None:
    """Dust, pores and bright grains: round, one to three pixels wide, anywhere."""
    h, w = s.x.shape
    for _ in range(rng.poisson(mean)):
        cx, cy = rng.uniform(-w / 2, w / 2), rng.uniform(-h / 2, h / 2)
        spot = np.exp(-((s.x - cx) ** 2 + (s.y - cy) ** 2) / np.float32(rng.uniform(0.5, 1.6) ** 2))
        tint(s, spot, [1 + rng.uniform(0.1, 0.5) * (1 if rng.random() < 0.3 else -1)] * 3)


def tool_lines(rng: np.random.Generator, s: Surface) -> None:
    """Sometimes a few machining lines deeper than the rest; they follow the lay."""
    if s.across is None or rng.random() > 0.35:
        return
    for _ in range(rng.integers(1, 4)):
        at = rng.uniform(float(s.across.min()), float(s.across.max()))
        groove = np.exp(-(((s.across - at) / np.float32(rng.uniform(0.7, 1.6))) ** 2))
        s.height -= groove * np.float32(contrast(rng, s, 0.03, 0.2))
