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
    n_images, height, width = pixels.shape
    down, across = _means(height, side), _means(width, side).T
    small = np.empty((n_images, side, side), dtype=np.float32)
    for start in range(0, n_images, CHUNK):
        part = np.arange(start, min(start + CHUNK, n_images))
        small[part] = down @ (pixels.values(part) @ across)
    return small


def _means(length: int, side: int) -> npt.NDArray[np.float32]:
    """`(side, length)` weights by which a line of pixels becomes a shorter or longer one.

    Shorter: means of equal parts, each from the pixel it begins in to the one it ends in. Longer: straight lines
    between the centres of pixels.
    """
    weights = np.zeros((side, length), dtype=np.float32)
    if length >= side:
        for cell in range(side):
            first, last = cell * length // side, -(-(cell + 1) * length // side)
            weights[cell, first:last] = 1 / (last - first)
        return weights
    place = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
    left = np.minimum(place.astype(np.intp), max(0, length - 2))
    weights[np.arange(side), np.minimum(left + 1, length - 1)] = place - left
    weights[np.arange(side), left] += 1 - (place - left)
    return weights


def unit_vectors(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`(n, values)`: zero mean, unit norm, so that a product is a correlation; a constant image becomes zeros."""
    flat: npt.NDArray[np.float32] = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    flat[norm[:, 0] <= SMALLEST_NORM] = 0
    flat /= np.maximum(norm, SMALLEST_NORM)  # in place: this is as large as all thumbnails
    return flat
