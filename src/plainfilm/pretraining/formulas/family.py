"""What a family of generated images offers, and the canvas that its points are counted on."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Family(Protocol):
    """Images of one kind of formula. A class is one choice of the formula's parameters."""

    num_classes: int

    def draw(self, classes: Tensor, size: int) -> Tensor:
        """One image of each of some classes, from torch's generator.

        Args:
            classes: `(n,)` int64, on the device where the images are to be.
            size: Height and width.

        Returns:
            `(n, size, size)` float32, 0 to 1.
        """


def uniform(shape: tuple[int, ...], low: float, high: float, device: torch.device) -> Tensor:
    """Numbers from `low` to `high`, drawn on the CPU: the same on every device."""
    return (torch.rand(shape) * (high - low) + low).to(device)


def count_points(points: Tensor, weights: Tensor | None, size: int) -> Tensor:
    """How much falls on each pixel.

    Args:
        points: `(n, k, 2)`, x and y; the canvas reaches from -1 to 1.
        weights: `(n, k)` what each point adds; None: 1.
        size: Height and width of the canvas.

    Returns:
        `(n, size, size)`, on a scale of logarithms from 0 to 1: few pixels of a fractal hold most of its points.
    """
    n = len(points)
    place = ((points + 1) * (size / 2)).long()
    inside = ((place >= 0) & (place < size)).all(dim=2)
    pixel = place[..., 1].clamp(0, size - 1) * size + place[..., 0].clamp(0, size - 1)
    amount = inside.to(torch.float32) if weights is None else inside * weights
    counts = torch.zeros(n, size * size, device=points.device).scatter_add_(1, pixel, amount)
    shown = torch.log1p(counts)
    return (shown / shown.amax(dim=1, keepdim=True).clamp_min(1e-6)).view(n, size, size)
