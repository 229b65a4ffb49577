"""Pretraining on a folder without labels: every image is a class of its own, to be told however it was acquired."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from plainfilm.data.pixels import PixelStore
from plainfilm.pretraining.acquisition import acquire
from plainfilm.pretraining.examples import MEAN, STD
from plainfilm.training.batches import load_batch


@dataclass(frozen=True)
class Instances:
    """Images without labels; each is acquired anew whenever it is seen in training.

    Attributes:
        pixels: `(n, height, width)`, in their own depth.
        lows: `(n,)` what becomes 0 of each image, as `PixelStore.values` gives it.
        spans: `(n,)` how far above that 1 lies.

    References:
        Dosovitskiy et al. (2014), arXiv 1406.6909 (surrogate classes); Cao et al. (2020), arXiv 2006.14618
        (parametric instance classification).
    """

    pixels: PixelStore
    lows: npt.NDArray[np.float32]
    spans: npt.NDArray[np.float32]

    @classmethod
    def of(cls, pixels: PixelStore) -> Instances:
        """Every image between its own 0.5 and 99.5 percentile: films, MR and CT images share no unit."""
        bounds = [np.percentile(pixels.values(np.array([index]))[0], (0.5, 99.5)) for index in range(len(pixels))]
        lows, highs = np.array(bounds, dtype=np.float32).T
        return cls(pixels, lows, np.maximum(highs - lows, 1e-6))

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Every image's own number."""
        return np.arange(len(self.pixels), dtype=np.int64)

    @property
    def in_words(self) -> str:
        """What one input is."""
        return f"images of {self.pixels.shape[1]}x{self.pixels.shape[2]}"

    def load(
        self, indices: npt.NDArray[np.intp], device: torch.device, *, training_epoch: int | None = None
    ) -> torch.Tensor:
        """`(batch, 1, height, width)`; acquired anew, from torch's generator, where an epoch is named."""
        low, span = (torch.from_numpy(v[indices]).to(device).view(-1, 1, 1) for v in (self.lows, self.spans))
        images = ((load_batch(self.pixels, indices, device).squeeze(1) - low) / span).clamp(0, 1)
        seen = images if training_epoch is None else acquire(images)
        return ((seen - MEAN) / STD).unsqueeze(1).contiguous(memory_format=torch.channels_last)
