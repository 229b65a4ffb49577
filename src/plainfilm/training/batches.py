"""Batches of labelled images, drawn in an order that the seed and the epoch decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from plainfilm.data.pixels import PixelStore


@dataclass(frozen=True)
class LabelledImages:
    """Pixels and labels of one split.

    Attributes:
        pixels: `(n, height, width)`, in their own depth.
        labels: `(n,)` class numbers.
    """

    pixels: PixelStore
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def class_counts(self, num_classes: int) -> npt.NDArray[np.int64]:
        """Images per class."""
        return np.bincount(self.labels, minlength=num_classes)


def load_batch(pixels: PixelStore, indices: npt.NDArray[np.intp], device: torch.device) -> torch.Tensor:
    """`(batch, 1, height, width)` float32 on `device`; integers in units of their full range.

    Eight-bit images cross to the device as bytes and become floats there.
    """
    stored, full_range = pixels.stored(indices)
    if stored.dtype == np.uint16:
        stored = stored.astype(np.float32)
    batch = torch.from_numpy(np.ascontiguousarray(stored)).to(device).unsqueeze(1).float()
    return batch.div_(full_range) if full_range != 1.0 else batch


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of all random draws of one epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])


def training_order(
    labels: npt.NDArray[np.int64], *, batch_size: int, balanced: bool, seed: int
) -> Iterator[npt.NDArray[np.intp]]:
    """Row numbers of each batch of an epoch; a short last batch is left for another epoch.

    Args:
        labels: Class number of every training image.
        batch_size: Images per batch.
        balanced: Draw classes equally often, with replacement.
        seed: Of this epoch.
    """
    rng = np.random.default_rng(seed)
    if balanced:
        counts = np.bincount(labels)
        share = 1.0 / (counts[labels] * np.count_nonzero(counts))
        order = rng.choice(len(labels), size=len(labels), p=share)
    else:
        order = rng.permutation(len(labels))
    for step in range(steps_per_epoch(len(labels), batch_size)):
        yield order[step * batch_size : (step + 1) * batch_size]


def steps_per_epoch(n_images: int, batch_size: int) -> int:
    """Whole batches in an epoch; one if there are fewer images than a batch."""
    return max(1, n_images // batch_size)
