"""Contours: nested closed lines whose radius is a sum of waves around a centre."""

from __future__ import annotations

import torch
from torch import Tensor

from plainfilm.pretraining.formulas.family import count_points, uniform

ANGLES = 256  # points of one line
MOST_LINES = 24


class Contours:
    """A class is two numbers of waves, their heights and the number of lines.

    References:
        Takashima et al. (2023), "Visual atoms: pre-training vision transformers with sinusoidal waves"; contours
        alone as in Kataoka et al. (2022), "Replacing labeled real-image datasets with auto-generated contours".
    """

    def __init__(self, seed: int, num_classes: int = 128) -> None:
        self.num_classes = num_classes
        rng = torch.Generator().manual_seed(seed)
        self._waves = torch.randint(0, 17, (num_classes, 2), generator=rng).float()
        self._heights = 0.05 + 0.3 * torch.rand(num_classes, 2, generator=rng)
        self._lines = torch.randint(1, MOST_LINES + 1, (num_classes,), generator=rng)

    def draw(self, classes: Tensor, size: int) -> Tensor:
        """See `Family.draw`."""
        device, n, shown = classes.device, len(classes), classes.cpu()
        angle = torch.linspace(0, 2 * torch.pi, ANGLES + 1, device=device)[:-1]
        turn = uniform((n, 2, 1), 0, 2 * torch.pi, device)
        waves = self._heights[shown].to(device).unsqueeze(2) * torch.sin(
            self._waves[shown].to(device).unsqueeze(2) * angle + turn
        )
        shape = 1 + waves.sum(dim=1)  # (n, angles)
        inner = uniform((n, 1), 0.05, 0.6, device)
        line = torch.arange(MOST_LINES, device=device)
        count = self._lines[shown].to(device).unsqueeze(1)
        base = inner + (1 - inner) * (line + 1) / count
        radius = uniform((n, 1), 0.35, 0.8, device) * base
        squeeze = uniform((n, 1, 1, 2), 0.6, 1, device)
        circle = torch.stack([angle.cos(), angle.sin()], dim=1)
        points = radius[:, :, None, None] * shape[:, None, :, None] * circle * squeeze
        points = points + uniform((n, 1, 1, 2), -0.25, 0.25, device)
        ink = uniform((n, MOST_LINES, 1), 0.2, 1, device) * (line < count).unsqueeze(2)
        return count_points(points.flatten(1, 2), ink.expand(-1, -1, ANGLES).flatten(1), size)
