"""Small copies of all images: what the quick checks look at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from plainfilm.data.pixels import PixelStore

CHUNK = 128  # images at once
SMALLEST_NORM = 1e-6  # of what is left of an image without its mean; below, it is constant


def thumbnails(pixels: PixelStore, side: int) -> npt.NDArray[np.float32]:
    """`(n, side, side)` means over areas, each image in its own units (integers from 0 to 1).

    An image smaller than `side` is enlarged. 16 KiB an image at 64x64.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    n_images, height, width = pixels.shape
    small = np.empty((n_images, side, side), dtype=np.float32)
    for start in range(0, n_images, CHUNK):
        part = np.arange(start, min(start + CHUNK, n_images))
        images = torch.from_numpy(pixels.values(part)).unsqueeze(1)
        if min(height, width) < side:
            images = interpolate(images, (max(height, side), max(width, side)), mode="bilinear", align_corners=False)
        small[part] = adaptive_avg_pool2d(images, side).squeeze(1).numpy()
    return small


def unit_vectors(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`(n, values)`: zero mean, unit norm, so that a product is a correlation; a constant image becomes zeros."""
    flat: npt.NDArray[np.float32] = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    flat[norm[:, 0] <= SMALLEST_NORM] = 0
    flat /= np.maximum(norm, SMALLEST_NORM)  # in place: this is as large as all thumbnails
    return flat
