"""The defects: scratch, dent, stain, crack, each drawn into a Surface.

- A defect's middle lies within a quarter of the shorter side from the picture's middle, so the
  served centre crop always sees it.
- Its contrast is evenly spread from "just above the texture" to "clear".
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from materials import Array, Surface, clouds, contrast, lattice, place, tint
from numpy.typing import NDArray


def distance(s: Surface, line: NDArray[np.float64]) -> tuple[Array, Array]:
    """Distance in pixels to a polyline (K, 2), and where along it (0..1) the nearest point is."""
    best, along = np.full_like(s.x, 1e9), np.zeros_like(s.x)
    for k, ((ax, ay), (bx, by)) in enumerate(itertools.pairwise(line.tolist())):
        dx, dy = np.float32(bx - ax), np.float32(by - ay)
        px, py = s.x - np.float32(ax), s.y - np.float32(ay)
        t = np.clip((px * dx + py * dy) / (dx * dx + dy * dy + np.float32(1e-9)), 0, 1)
        d = (px - t * dx) ** 2 + (py - t * dy) ** 2
        near = d < best
        best[near], along[near] = d[near], ((k + t) / (len(line) - 1))[near]
    return np.sqrt(best), along


def scratch(rng: np.random.Generator, s: Surface) -> None:
    """One to three long, nearly straight grooves across the lay, bright or dark, fading out."""
    cx, cy = place(rng, s)
    angle = _angle_off_the_lay(rng, s, cx, cy)
    strength, width = contrast(rng, s, 0.10, 0.5), rng.uniform(0.7, 1.7)
    shine = 1 if rng.random() < 0.6 else -1
    for stroke in range(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1])):
        length, bend = rng.uniform(0.3, 0.85) * s.side, rng.uniform(-0.08, 0.08) * s.side
        t = np.linspace(-1, 1, 9)
        u, v = t * length / 2, bend * (1 - t * t) + stroke * rng.uniform(3, 9)
        turn = angle + rng.normal(0, 0.05) * stroke
        line = np.stack(
            [
                cx + u * math.cos(turn) - v * math.sin(turn),
                cy + u * math.sin(turn) + v * math.cos(turn),
            ],
            1,
        )
        away, along = distance(s, line)
        pressure = np.minimum(1, 6 * np.minimum(along, 1 - along)) * (
            0.75 + 0.5 * lattice(rng, along, np.zeros_like(along), 0.15, 1)
        )
        groove = np.exp(-((away / np.float32(width)) ** 2)) * pressure
        s.height -= groove * np.float32(0.6 * strength * width)
        tint(s, groove, [1 + shine * strength] * 3)


def _angle_off_the_lay(rng: np.random.Generator, s: Surface, cx: float, cy: float) -> float:
    """An angle at least 20 degrees from the machining lines at a point; any angle without lines."""
    if s.across is None:
        return float(rng.uniform(0, math.pi))
    row, column = int(cy - s.y[0, 0]), int(cx - s.x[0, 0])
    around = s.across[row - 1 : row + 2, column - 1 : column + 2]
    dx, dy = around[1, 2] - around[1, 0], around[2, 1] - around[0, 1]
    lay = math.atan2(dy, dx) + math.pi / 2
    return lay + float(rng.uniform(math.radians(20), math.radians(160)))


def dent(rng: np.random.Generator, s: Surface) -> None:
    """A smooth hollow, round to oval, some with a raised rim: one flank dark, the other bright."""
    cx, cy = place(rng, s)
    angle, radius, squeeze = (
        rng.uniform(0, math.pi),
        rng.uniform(0.05, 0.14) * s.side,
        rng.uniform(0.6, 1),
    )
    x, y = s.x - np.float32(cx), s.y - np.float32(cy)
    u = (math.cos(angle) * x + math.sin(angle) * y) / np.float32(radius)
    v = (math.cos(angle) * y - math.sin(angle) * x) / np.float32(radius * squeeze)
    q = (u * u + v * v) * (1 + 0.2 * clouds(rng, s, radius * 2, 2))
    slope = contrast(rng, s, 0.13, 0.6)
    hollow = np.exp(-(q ** np.float32(rng.uniform(1.0, 2.0))))
    rim = rng.uniform(0, 0.25) * np.exp(-((np.sqrt(np.maximum(q, 0)) - 1.5) ** 2) / 0.15)
    s.height *= 1 - 0.5 * hollow  # the blow flattens the texture
    s.height -= np.float32(slope * radius / 1.2) * (hollow - rim)
    tint(s, hollow, [1 - 0.25 * slope] * 3)


STAINS = (
    (0.62, 0.52, 0.40),  # oil
    (0.95, 0.58, 0.32),  # rust
    (0.50, 0.50, 0.52),  # soot, old coolant
    (0.55, 0.65, 0.85),  # heat
    (1.45, 1.45, 1.40),  # lime
)


def stain(rng: np.random.Generator, s: Surface) -> None:
    """One to three flat blotches with an irregular outline; some dry with a darker edge."""
    cx, cy = place(rng, s, 0.2)
    tone = np.array(STAINS[rng.integers(len(STAINS))]) * rng.uniform(0.93, 1.07, 3)
    strength = min(1.0, contrast(rng, s, 0.25, 0.95))
    ring = rng.random() < 0.3
    for drop in range(rng.choice([1, 2, 3], p=[0.65, 0.2, 0.15])):
        radius = rng.uniform(0.08, 0.22) * s.side / (1 + 0.5 * drop)
        dx, dy = (rng.normal(0, 0.16, 2) * s.side) if drop else (0.0, 0.0)
        away = np.hypot((s.x - cx - dx) * np.float32(rng.uniform(0.7, 1.2)), s.y - cy - dy)
        inside = 1 - away / np.float32(radius) + 0.9 * clouds(rng, s, radius * 1.2, 4)
        mask = 0.5 + 0.5 * np.tanh(inside * np.float32(rng.uniform(2.5, 12.5)))  # no overflow
        if ring:
            mask = mask * 0.35 + 0.65 * np.exp(
                -((inside / np.float32(rng.uniform(0.12, 0.25))) ** 2)
            )
        tint(s, np.asarray(mask * strength, np.float32), tone.tolist())


def crack(rng: np.random.Generator, s: Surface) -> None:
    """A thin dark jagged line that wanders, thins towards its tips and may branch."""
    cx, cy = place(rng, s, 0.2)
    steps = int(rng.integers(12, 26))
    heading, step = rng.uniform(0, 2 * math.pi), rng.uniform(0.018, 0.038) * s.side
    start = (
        cx - 0.5 * steps * step * math.cos(heading),
        cy - 0.5 * steps * step * math.sin(heading),
    )
    trunk = _jagged(rng, start, heading, steps, step)
    lines = [(trunk, 1.0)]
    for _ in range(rng.integers(0, 4)):
        at = int(rng.integers(2, steps - 2))
        aside = heading + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2)
        branch = _jagged(rng, (trunk[at, 0], trunk[at, 1]), aside, int(rng.integers(3, 9)), step)
        lines.append((branch, 0.7))
    strength, width = min(0.9, contrast(rng, s, 0.18, 0.75)), rng.uniform(0.7, 1.6)
    gap = np.zeros_like(s.x)
    for line, share in lines:
        away, along = distance(s, line)
        taper = 0.4 + 0.6 * np.minimum(
            1, 4 * (np.minimum(along, 1 - along) if share == 1 else 1 - along)
        )
        gap = np.maximum(gap, share * taper * np.exp(-((away / (np.float32(width) * taper)) ** 2)))
    s.height -= gap * np.float32(0.5 * strength * width)
    tint(s, gap, [1 - strength] * 3)


def _jagged(
    rng: np.random.Generator, start: tuple[float, float], heading: float, steps: int, step: float
) -> NDArray[np.float64]:
    """A random walk (steps + 1, 2) that keeps turning back to its heading."""
    turns = heading + rng.normal(0, 0.55, steps) + np.cumsum(rng.normal(0, 0.12, steps))
    lengths = step * rng.uniform(0.5, 1.5, steps)
    moves = np.stack([lengths * np.cos(turns), lengths * np.sin(turns)], 1)
    return np.concatenate([[start], np.asarray(start) + np.cumsum(moves, 0)])
