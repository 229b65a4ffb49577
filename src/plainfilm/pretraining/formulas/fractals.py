"""Fractals: attractors of iterated function systems, drawn by a chaos game of many points at once."""

from __future__ import annotations

import torch
from torch import Tensor

from plainfilm.pretraining.formulas.family import count_points, uniform

MOST_MAPS = 6
WALKERS = 192  # points that jump side by side
BURN_IN = 12  # jumps until they are on the attractor
JUMPS = 40  # jumps that are drawn
JITTER = 0.1  # by how much an image's parameters differ from its class's, share


class Fractals:
    """A class is one system of 2 to 6 affine maps of the plane.

    References:
        Kataoka et al. (2020), "Pre-training without natural images". Contraction as in Anderson and Farrell (2022),
        "Improving fractal pre-training": the singular values of a map are drawn below 1, so that every system has an
        attractor, and none has to be thrown away.
    """

    def __init__(self, seed: int, num_classes: int = 192) -> None:
        self.num_classes = num_classes
        rng = torch.Generator().manual_seed(seed)
        shape = (num_classes, MOST_MAPS)
        first, second = (torch.rand(shape, generator=rng) * 2 * torch.pi for _ in range(2))
        large = 0.35 + 0.5 * torch.rand(shape, generator=rng)
        small = large * (0.2 + 0.8 * torch.rand(shape, generator=rng))
        mirrored = torch.where(torch.rand(shape, generator=rng) < 0.5, -1.0, 1.0)
        scaling = torch.diag_embed(torch.stack([large, small * mirrored], dim=-1))
        self._linear = _rotations(first) @ scaling @ _rotations(second)
        self._shift = torch.rand(*shape, 2, generator=rng) * 2 - 1
        maps = torch.randint(2, MOST_MAPS + 1, (num_classes, 1), generator=rng)
        # As often as a map's image is large, and never so rarely that it does not show.
        share = (large * small + 0.02) * (torch.arange(MOST_MAPS) < maps)
        self._cumulative = torch.cumsum(share / share.sum(dim=1, keepdim=True), dim=1)

    def draw(self, classes: Tensor, size: int) -> Tensor:
        """See `Family.draw`."""
        device, n = classes.device, len(classes)
        shown = classes.cpu()
        linear = self._linear[shown].to(device) * uniform((n, MOST_MAPS, 2, 2), 1 - JITTER, 1 + JITTER, device)
        maps = torch.cat([linear.flatten(2), self._shift[shown].to(device)], dim=2)  # (n, maps, 6)
        cumulative = self._cumulative[shown].to(device).contiguous()
        points = torch.zeros(n, WALKERS, 2, device=device)
        drawn = []
        for jump in range(BURN_IN + JUMPS):
            chosen = torch.searchsorted(cumulative, uniform((n, WALKERS), 0, 1, device)).clamp_max(MOST_MAPS - 1)
            a, b, c, d, e, f = maps.gather(1, chosen.unsqueeze(2).expand(-1, -1, 6)).unbind(2)
            x, y = points.unbind(2)
            points = torch.stack([a * x + b * y + e, c * x + d * y + f], dim=2)
            if jump >= BURN_IN:
                drawn.append(points)
        return count_points(_framed(torch.cat(drawn, dim=1)), None, size)


def _rotations(angle: Tensor) -> Tensor:
    """`(..., 2, 2)` rotation matrices."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, -sine], dim=-1), torch.stack([sine, cosine], dim=-1)], dim=-2)


def _framed(points: Tensor) -> Tensor:
    """Points moved and scaled so that nearly all lie on the canvas."""
    center = points.mean(dim=1, keepdim=True)
    spread = points.std(dim=1, keepdim=True).amax(dim=2, keepdim=True).clamp_min(1e-4)
    return (points - center) / (2.3 * spread)
