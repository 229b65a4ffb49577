"""Anatomy made of ellipses: a body with a wall, mirrored organs and a core, as slices through heads and trunks have."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor

from plainfilm.pretraining.formulas.family import uniform

CORES = 4  # sizes of the paired cavity in the middle, as of ventricles
WALLS = 3  # thicknesses of the wall
ORGANS = 3  # pairs of organs
SIDES = 3  # larger on the left, alike, larger on the right


class Ellipses:
    """A class is a size of the middle cavity, a thickness of the wall, a number of organs and which side is larger.

    Everything else differs from image to image: size, place, tilt and proportions of the body, grey values, a winding
    boundary. So the classes can only be told by comparing structures with each other.
    """

    def __init__(self, seed: int) -> None:
        del seed  # the classes are a grid
        self._grid = torch.tensor(list(product(range(CORES), range(WALLS), range(ORGANS), range(SIDES))))
        self.num_classes = len(self._grid)

    def draw(self, classes: Tensor, size: int) -> Tensor:
        """See `Family.draw`."""
        device, n = classes.device, len(classes)
        core, wall, organs, side = self._grid[classes.cpu()].to(device).unbind(1)
        x, y = _body_coordinates(n, size, device)
        x, y = x + _winding(x, y, n, device), y + _winding(x, y, n, device)
        soft = 3.0 / size
        image = _one(n, -0.1, 0.1, device).clamp_min(0).expand(n, size, size)
        thickness = 0.05 + 0.08 * _share(wall, WALLS, n, device)
        tissue, bone = _one(n, 0.3, 0.9, device), _one(n, 0.0, 1.0, device)
        image = _paint(image, bone, _ellipse(x, y, 0.0, 0.0, 1.0, 1.0, soft))
        within = 1 - thickness
        image = _paint(image, tissue, _ellipse(x, y, 0.0, 0.0, within, within, soft))
        lean = (side - 1).view(n, 1, 1) * _one(n, 0.15, 0.4, device)
        for pair in range(ORGANS):
            grey, there = _one(n, 0.0, 1.0, device), (organs >= pair).view(n, 1, 1)
            far, high = _one(n, 0.3, 0.62, device), _one(n, -0.5, 0.5, device)
            wide, tall = _one(n, 0.07, 0.2, device), _one(n, 0.07, 0.3, device)
            for sign in (-1.0, 1.0):
                larger = 1 + sign * lean
                image = _paint(
                    image, grey, there * _ellipse(x, y, sign * far, high, wide * larger, tall * larger, soft)
                )
        cavity = 0.03 + 0.2 * _share(core, CORES, n, device)
        grey, apart = _one(n, 0.0, 0.25, device), _one(n, 0.6, 1.1, device) * cavity
        for sign in (-1.0, 1.0):
            larger = 1 + sign * lean
            image = _paint(
                image, grey, _ellipse(x, y, sign * apart, 0.0, 0.6 * cavity * larger, 1.3 * cavity * larger, soft)
            )
        return image.clamp(0, 1)


def _one(n: int, low: float, high: float, device: torch.device) -> Tensor:
    """`(n, 1, 1)` one number for each image."""
    return uniform((n, 1, 1), low, high, device)


def _share(step: Tensor, steps: int, n: int, device: torch.device) -> Tensor:
    """`(n, 1, 1)` where in 0 to 1 a step of `steps` lies, not twice at the same place."""
    return (step.view(n, 1, 1) + _one(n, 0.1, 0.9, device)) / steps


def _body_coordinates(n: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`(n, size, size)` x and y in which the body is the unit circle: moved, tilted, wide or tall."""
    axis = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    x, y = x - _one(n, -0.15, 0.15, device), y - _one(n, -0.15, 0.15, device)
    tilt = _one(n, -0.3, 0.3, device)
    x, y = x * tilt.cos() + y * tilt.sin(), y * tilt.cos() - x * tilt.sin()
    return x / _one(n, 0.55, 0.9, device), y / _one(n, 0.55, 0.9, device)


def _winding(x: Tensor, y: Tensor, n: int, device: torch.device) -> Tensor:
    """A small wave over the image, so that no boundary is a perfect ellipse."""
    fx, fy, start = _one(n, -6, 6, device), _one(n, -6, 6, device), _one(n, 0, 2 * math.pi, device)
    return _one(n, 0.0, 0.05, device) * torch.sin(fx * x + fy * y + start)


def _ellipse(
    x: Tensor,
    y: Tensor,
    at_x: Tensor | float,
    at_y: Tensor | float,
    wide: Tensor | float,
    tall: Tensor | float,
    soft: float,
) -> Tensor:
    """1 inside, 0 outside, with an edge of about a pixel."""
    radius = torch.sqrt(((x - at_x) / wide) ** 2 + ((y - at_y) / tall) ** 2 + 1e-9)
    edge = soft / (wide if isinstance(wide, float) else wide.clamp_min(1e-3))
    return torch.sigmoid((1 - radius) * 4 / edge)


def _paint(image: Tensor, grey: Tensor, where: Tensor) -> Tensor:
    return image + (grey - image) * where
