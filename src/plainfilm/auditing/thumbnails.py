"""Small copies of all images: what the quick checks look at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from plainfilm.data.pixels import PixelStore

Ints = npt.NDArray[np.intp]

CHUNK = 128  # images at once
PART = 1_024  # thumbnails held while smaller ones are made of them
SMALLEST_NORM = 1e-6  # of what is left of an image without its mean; below, it is constant


def thumbnails(pixels: PixelStore, side: int, rows: Ints | None = None) -> npt.NDArray[np.float32]:
    """`(n, side, side)` means over areas of all images or of some, each in its own units (integers from 0 to 1).

    An image smaller than `side` is enlarged. 4 KiB an image at 32x32, 16 KiB at 64x64: of very many images, ask for
    those that are looked at.
    """
    _, height, width = pixels.shape
    chosen = np.arange(len(pixels)) if rows is None else rows
    down, across = _means(height, side), _means(width, side).T
    small = np.empty((len(chosen), side, side), dtype=np.float32)
    for start in range(0, len(chosen), CHUNK):
        part = chosen[start : start + CHUNK]
        small[start : start + CHUNK] = down @ (pixels.values(part) @ across)
    return small


def to_compare(pixels: PixelStore, side: int, *, most_exact: int) -> npt.NDArray[np.floating]:
    """`(n, side, side)` thumbnails; of more than `most_exact` images, unit vectors in half precision.

    2 KiB an image at 32x32 instead of 4, and a distance of two is right to 1e-6.
    """
    if len(pixels) <= most_exact:
        return thumbnails(pixels, side)
    units = np.empty((len(pixels), side, side), dtype=np.float16)
    for start in range(0, len(pixels), PART):
        part = np.arange(start, min(start + PART, len(pixels)))
        units[part] = unit_vectors(thumbnails(pixels, side, part)).reshape(-1, side, side)
    return units


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


def unit_vectors(images: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """`(n, values)`: zero mean, unit norm, so that a product is a correlation; a constant image becomes zeros."""
    flat: npt.NDArray[np.float32] = images.reshape(len(images), -1).astype(np.float32, copy=False)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    flat[norm[:, 0] <= SMALLEST_NORM] = 0
    flat /= np.maximum(norm, SMALLEST_NORM)  # in place: this is as large as all thumbnails
    return flat
