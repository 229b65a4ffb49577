"""Generated images as what the training loop learns from: drawn when they are asked for, never stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from plainfilm.pretraining.acquisition import acquire
from plainfilm.pretraining.formulas import FAMILIES
from plainfilm.pretraining.formulas.family import Family

MEAN, STD = 0.5, 0.5  # [0, 1] becomes [-1, 1], as plainfilm's own models have it with weights


@dataclass(frozen=True)
class GeneratedImages:
    """Images of several families; the classes of all families stand one after the other.

    Attributes:
        families: Those that are drawn.
        labels: `(n,)` the class of every image.
        size: Height and width.
        seed: Where no epoch is named (validation), each batch is drawn from this and its place.
    """

    families: Sequence[Family]
    labels: npt.NDArray[np.int64]
    size: int
    seed: int
    _starts: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        counts = [family.num_classes for family in self.families]
        object.__setattr__(self, "_starts", np.cumsum([0, *counts]))

    @property
    def num_classes(self) -> int:
        """Of all families."""
        return int(self._starts[-1])

    @property
    def in_words(self) -> str:
        """What one input is."""
        return f"generated images of {self.size}x{self.size}"

    def load(
        self, indices: npt.NDArray[np.intp], device: torch.device, *, training_epoch: int | None = None
    ) -> torch.Tensor:
        """`(batch, 1, size, size)` new images of the classes at `indices`, from torch's generator while training."""
        if training_epoch is not None:
            return self._draw(self.labels[indices], device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence([self.seed, int(indices[0])]).generate_state(1)[0]))
            return self._draw(self.labels[indices], device)

    def _draw(self, labels: npt.NDArray[np.int64], device: torch.device) -> torch.Tensor:
        batch = torch.empty(len(labels), self.size, self.size, device=device)
        of_family = np.searchsorted(self._starts, labels, side="right") - 1
        for number, family in enumerate(self.families):
            rows = np.flatnonzero(of_family == number)
            if len(rows):
                classes = torch.from_numpy(labels[rows] - self._starts[number]).to(device)
                batch[torch.from_numpy(rows).to(device)] = family.draw(classes, self.size)
        seen = (acquire(batch) - MEAN) / STD
        return seen.unsqueeze(1).contiguous(memory_format=torch.channels_last)


def generated(names: Sequence[str], *, n_images: int, size: int, seed: int) -> GeneratedImages:
    """`n_images` of the families named, each family as often as any other.

    Args:
        names: Keys of `FAMILIES`.
        n_images: Images of one epoch.
        size: Height and width.
        seed: Of the families' classes, and of which classes the images are of.
    """
    families = [FAMILIES[name](seed + number) for number, name in enumerate(names)]
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *(family.num_classes for family in families)])
    of_family = np.arange(n_images) % len(families)
    within = (rng.random(n_images) * np.diff(starts)[of_family]).astype(np.int64)
    return GeneratedImages(families, (starts[of_family] + within).astype(np.int64), size, seed)
