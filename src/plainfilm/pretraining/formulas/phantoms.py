"""Phantoms of heads and chests: how ill, how high the slice and how large the heart is to be named."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plainfilm.data.phantoms.brain import Brain
from plainfilm.data.phantoms.chest import Chest, Film
from plainfilm.data.phantoms.drawing import Array

SEVERITIES = (-0.1, 0.4, 0.9, 1.4)  # 0 is a healthy patient, 1 one of the last class of a set of phantoms
LEVELS = (0.0, 0.2, 0.4, 0.6)  # of a slice: 0 through the thalami, 1 near the vertex
HEARTS = (0.75, 0.95, 1.15, 1.35)
SPREAD = 0.4  # how far an image's own values reach into the gap between two steps, share


class PhantomAnatomy:
    """A class is a severity with the level of a brain's slice, or with the size of a chest's heart.

    Everything else is another patient's in each image: ventricles and sulci before any disease, skull, folds; rib
    cage, diaphragm, where the opacities lie. So atrophy has to be told from a large head, and an opacity from a vessel.
    """

    def __init__(self, seed: int) -> None:
        del seed  # the classes are a grid
        self._brains = list(product(SEVERITIES, LEVELS))
        self._chests = list(product(SEVERITIES, HEARTS))
        self.num_classes = len(self._brains) + len(self._chests)

    def draw(self, classes: Tensor, size: int) -> Tensor:
        """See `Family.draw`; drawn one by one on the CPU, 1 to 1.5 ms an image of 96x96."""
        seeds = torch.randint(2**31, (len(classes),)).tolist()
        images = [self._one(int(k), seed, size) for k, seed in zip(classes.tolist(), seeds, strict=True)]
        return torch.from_numpy(np.stack(images).astype(np.float32)).clamp_(0, 1).to(classes.device)

    def _one(self, number: int, seed: int, size: int) -> Array:
        rng = np.random.default_rng(seed)
        sex: Any = "F" if rng.random() < 0.5 else "M"
        if number < len(self._brains):
            severity, level = self._brains[number]
            brain = Brain.draw(seed, 1, sex, int(rng.integers(45, 95)))
            return brain.slice(level=_near(level, LEVELS, rng), severity=_near(severity, SEVERITIES, rng), size=size)
        severity, heart = self._chests[number - len(self._brains)]
        chest = replace(Chest.draw(seed, 1, sex, int(rng.integers(20, 90))), heart=_near(heart, HEARTS, rng))
        return chest.film(Film.draw(rng), severity=_near(severity, SEVERITIES, rng), size=size)


def _near(value: float, steps: tuple[float, ...], rng: np.random.Generator) -> float:
    """A value nearer to this one than to the others of the same steps."""
    return value + SPREAD * (steps[1] - steps[0]) * float(rng.uniform(-1, 1))
