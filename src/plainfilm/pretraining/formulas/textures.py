"""Textures: noise of a given spectrum, as clouds, grains and fibres have it."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from plainfilm.pretraining.formulas.family import uniform

SLOPES = (0.5, 1.0, 1.6, 2.4)  # how fast power falls with frequency: from grain to cloud
STRETCHES = (1.0, 2.5, 6.0)  # how much longer than wide a grain is
DIRECTIONS = 4  # of its long side; one is enough where it is as long as wide
CUTS = (None, 0.0, 0.8)  # grey, cut in half, or islands: the threshold in standard deviations


class Textures:
    """A class is a slope of the spectrum, a stretch with its direction, and a threshold.

    References:
        Baradad et al. (2021), "Learning to see by looking at noise": statistics of the spectrum carry features over.
    """

    def __init__(self, seed: int) -> None:
        del seed  # the classes are a grid
        grid = [
            (slope, stretch, direction * torch.pi / DIRECTIONS, cut)
            for slope, stretch, cut in product(SLOPES, STRETCHES, CUTS)
            for direction in range(DIRECTIONS if stretch > 1 else 1)
        ]
        self.num_classes = len(grid)
        self._slope, self._stretch, self._direction = (
            torch.tensor([row[i] for row in grid], dtype=torch.float32) for i in range(3)
        )
        self._cut = torch.tensor([float("nan") if row[3] is None else row[3] for row in grid])

    def draw(self, classes: Tensor, size: int) -> Tensor:
        """See `Family.draw`."""
        device, n, shown = classes.device, len(classes), classes.cpu()
        columns = (self._slope, self._stretch, self._direction, self._cut)
        slope, stretch, direction, cut = (column[shown].to(device)[:, None, None] for column in columns)
        direction = direction + uniform((n, 1, 1), -0.2, 0.2, device)
        fy = torch.fft.fftfreq(size, device=device)[:, None]
        fx = torch.fft.rfftfreq(size, device=device)
        along = fx * direction.cos() + fy * direction.sin()
        across = fy * direction.cos() - fx * direction.sin()
        frequency = torch.sqrt((along * stretch.sqrt()) ** 2 + (across / stretch.sqrt()) ** 2)
        frequency = frequency.clamp_min(uniform((n, 1, 1), 0.5, 3.0, device) / size)
        noise = torch.randn(n, size, size).to(device)
        field = torch.fft.irfft2(torch.fft.rfft2(noise) * frequency**-slope, s=(size, size))
        field = (field - field.mean(dim=(1, 2), keepdim=True)) / field.std(dim=(1, 2), keepdim=True).clamp_min(1e-6)
        cut_field = torch.sigmoid((field - cut) * 6)
        return torch.where(cut.isnan(), torch.sigmoid(field * 1.2), cut_field)
