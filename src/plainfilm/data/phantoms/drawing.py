"""Shapes: soft masks from 0 to 1 over a grid that runs from -1 to 1 (left to right, top to bottom)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Waves:
    """A smooth random field in three dimensions: a sum of plane waves, mean 0, variance 1."""

    frequency: Array  # (waves, 3), radians per unit along x, y and level
    phase: Array  # (waves,)

    @staticmethod
    def draw(
        rng: np.random.Generator, *, count: int, wavelength: float, level_rate: float, spread: float = 0.15
    ) -> Waves:
        """Waves of about one length in the plane, in all directions; `level_rate` in radians per level."""
        angle = rng.uniform(0, 2 * np.pi, count)
        length = 2 * np.pi / wavelength * rng.normal(1, spread, count)
        frequency = np.stack([length * np.cos(angle), length * np.sin(angle), rng.normal(0, level_rate, count)], axis=1)
        return Waves(frequency.astype(np.float32), rng.uniform(0, 2 * np.pi, count).astype(np.float32))

    def at(self, x: Array, y: Array, level: float = 0.0) -> Array:
        """The field on the grid of `x` `(1, width)` and `y` `(height, 1)`: two small matrix products."""
        along_x = self.frequency[:, :1] * x
        along_y = y * self.frequency[:, 1] + (self.phase + self.frequency[:, 2] * np.float32(level))
        waves = np.cos(along_y) @ np.cos(along_x) - np.sin(along_y) @ np.sin(along_x)
        return np.asarray(waves * np.float32(np.sqrt(2 / len(self.phase))), dtype=np.float32)


def grid(size: int) -> tuple[Array, Array]:
    """Pixel centres: `x` of shape `(1, size)` and `y` of shape `(size, 1)`."""
    centres = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    return centres[None, :], centres[:, None]


def clipped(values: Array) -> Array:
    """Values held to the range from 0 to 1."""
    kept: Array = np.clip(values, 0, 1)
    return kept


def root(values: Array) -> Array:
    """Square root, 0 below 0: how a rounded body thins towards its edge."""
    roots: Array = np.sqrt(np.maximum(values, 0))
    return roots


def either(*masks: Array) -> Array:
    """The union of soft masks."""
    return reduce(np.maximum, masks)


def inside(distance: Array, softness: float) -> Array:
    """1 where `distance` is well above 0, 0 well below, a ramp of this width between."""
    return clipped(distance / softness + 0.5)


def ellipse(x: Array, y: Array, radius_x: float, radius_y: float, softness: float = 0.15) -> Array:
    """A filled ellipse around the origin of `x` and `y`; softness in radii."""
    u, v = x / radius_x, y / radius_y
    return inside(1 - root(u * u + v * v), softness)


def dome(position: Array, centre: float, radius: float) -> Array:
    """Half a circle's height over a line: 1 at the centre, 0 from `radius` outwards."""
    return root(1 - ((position - centre) / radius) ** 2)


def arch(position: float, centre: float, radius: float) -> float:
    """`dome` for a single position."""
    return float(np.sqrt(max(0.0, 1 - ((position - centre) / radius) ** 2)))


def paint(image: Array, value: float | Array, mask: Array) -> Array:
    """The image with `value` laid over it where `mask` is 1."""
    return image + (value - image) * mask
