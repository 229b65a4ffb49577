"""Bringing images of all sizes to the one size a model reads."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plainfilm.errors import UsageError, unknown_name

Fit = Literal["pad", "stretch"]
Resample = Literal["smooth", "nearest"]


def fit_image(
    image: NDArray[Any], *, height: int, width: int, fit: Fit = "pad", resample: Resample = "smooth"
) -> NDArray[Any]:
    """Resize an image; by antialiased bilinear interpolation, computed in float32, unless told otherwise.

    An image that already has the size comes back bit for bit. With `pad`, the larger image that fits is
    centred between borders of the image's own minimum (the odd row or column goes to the bottom or
    right); with `stretch`, each axis is scaled by itself. Stretching hides the aspect ratio from the eye
    but not from a model, padding shows it: either can leak the site or device an image came from.

    Args:
        image: `(height, width)`, uint8, uint16 or float32.
        height: Rows wanted, at least 1.
        width: Columns wanted, at least 1.
        fit: `pad` or `stretch`.
        resample: `smooth`, or `nearest`: the nearest pixel, unchanged (as Keras resized images until 2018).

    Returns:
        `(height, width)`, of the same dtype; integers are rounded to the nearest.

    Raises:
        UsageError: If the size is not positive or `fit` is unknown.
    """
    check_fit(fit)
    if height < 1 or width < 1:
        raise UsageError(f"The size must be at least 1 x 1, got {height} x {width} (height x width).")
    if image.shape == (height, width):
        return image
    if fit == "stretch":
        return _resized(image, height, width, resample)
    rows, columns = content_box(image.shape, height, width)
    fitted = np.full((height, width), image.min(), dtype=image.dtype)
    fitted[rows, columns] = _resized(image, rows.stop - rows.start, columns.stop - columns.start, resample)
    return fitted


def unfit(fitted: NDArray[Any], *, height: int, width: int, fit: Fit) -> NDArray[Any]:
    """The other way round: what a fitted map says of each place of the image it was fitted from.

    Args:
        fitted: `(rows, columns)`, such as a heat map at the model's size; becomes float32.
        height: Rows of the image, or of the same image smaller.
        width: Columns.
        fit: How the image was fitted.
    """
    if fit == "pad":
        rows, columns = content_box((height, width), *fitted.shape)
        fitted = fitted[rows, columns]
    return _resized(np.asarray(fitted, dtype=np.float32), height, width, "smooth")


def content_box(shape: tuple[int, ...], height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns that a padded image takes up."""
    scale = min(height / shape[0], width / shape[1])
    inner_height = min(height, max(1, round(shape[0] * scale)))
    inner_width = min(width, max(1, round(shape[1] * scale)))
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    return slice(top, top + inner_height), slice(left, left + inner_width)


def check_fit(fit: str) -> None:
    """Refuse an unknown way to fit with a `UsageError`, before any image is read."""
    if fit not in get_args(Fit):
        raise unknown_name("fit", fit, get_args(Fit))


def _resized(image: NDArray[Any], height: int, width: int, resample: Resample) -> NDArray[Any]:
    if image.shape == (height, width):
        return image
    # Pillow widens the filter by the scale when it shrinks, so that no pixel goes unseen; mode "F" is float32.
    floats = Image.fromarray(image.astype(np.float32, copy=False))
    filters = {"smooth": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}
    resized: NDArray[Any] = np.asarray(floats.resize((width, height), filters[resample]))
    if image.dtype.kind == "u":
        # No clipping: an average of pixels lies between them.
        resized = np.rint(resized)
    return resized.astype(image.dtype)
