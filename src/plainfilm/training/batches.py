"""What a network learns from, in batches drawn in an order that the seed and the epoch decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing


class Examples(Protocol):
    """Labelled inputs of one split: images, or the features of a frozen backbone."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """`(n,)` class numbers."""

    @property
    def in_words(self) -> str:
        """What one input is, such as `images of 128x128`."""

    def load(
        self, indices: npt.NDArray[np.intp], device: torch.device, *, training_epoch: int | None = None
    ) -> torch.Tensor:
        """`(batch, ...)` inputs on `device`, as the network takes them; changed at random where an epoch is named."""


@dataclass(frozen=True)
class LabelledImages:
    """Pixels and labels of one split.

    Attributes:
        pixels: `(n, height, width)`, in their own depth.
        labels: `(n,)` class numbers.
        preprocessing: Fitted on the training images.
        augmentation: Random changes of a `(batch, 1, height, width)` batch while training; None for none.
    """

    pixels: PixelStore
    labels: npt.NDArray[np.int64]
    preprocessing: Preprocessing
    augmentation: Callable[[torch.Tensor], torch.Tensor] | None = None

    @property
    def in_words(self) -> str:
        """What one input is."""
        return f"images of {self.pixels.shape[1]}x{self.pixels.shape[2]}"

    def load(
        self, indices: npt.NDArray[np.intp], device: torch.device, *, training_epoch: int | None = None
    ) -> torch.Tensor:
        """`(batch, 1, height, width)`, preprocessed; augmented in a training epoch, from torch's own generator."""
        batch = load_batch(self.pixels, indices, device)
        if training_epoch is not None and self.augmentation is not None:
            batch = self.augmentation(batch)
        return self.preprocessing.apply(batch).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of one split, computed once.

    Attributes:
        values: `(views, n, ...)` float32; epoch 1 sees the first view, epoch 2 the second, and round again.
        labels: `(n,)` class numbers.
    """

    values: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    @property
    def in_words(self) -> str:
        """What one input is."""
        return f"features of {'x'.join(map(str, self.values.shape[2:]))}"

    def load(
        self, indices: npt.NDArray[np.intp], device: torch.device, *, training_epoch: int | None = None
    ) -> torch.Tensor:
        """`(batch, ...)` features of the view of this epoch; of the first outside training."""
        view = ((training_epoch or 1) - 1) % len(self.values)
        return torch.from_numpy(self.values[view, indices]).to(device)


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
