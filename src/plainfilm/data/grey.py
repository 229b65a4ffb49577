"""One grey channel from decoded samples, without losing depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from plainfilm.data.refusals import refuse

Channel = Literal["grey", "red", "green", "blue"]
_PLANES: dict[Channel, int] = {"red": 0, "green": 1, "blue": 2}


def grey_channel(
    colour: NDArray[Any],
    *,
    alpha: NDArray[Any] | None,
    white_is_zero: bool,
    orientation: int,
    channel: Channel = "grey",
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Turn samples of any layout into one upright channel in which bright is high.

    Args:
        colour: `(height, width)` or `(height, width, 3)`, of any integer or float dtype.
        alpha: `(height, width)`, unsigned, opaque at the largest value of its dtype; None without alpha.
        white_is_zero: Whether the samples are low where the image is bright.
        channel: What of a colour image is kept; a grey image has but the one.
        orientation: 1 to 8 as EXIF has it; 0 if it could not be read, which leaves the pixels as they lie.

    Returns:
        `(height, width)`, contiguous, uint8, uint16 or float32; and a note on each conversion.

    Raises:
        ImageError: If float32 cannot hold an integer sample.
    """
    notes: list[str] = []
    pixels = _exact(colour, notes)
    if white_is_zero:
        pixels = _inverted(pixels)
        notes.append("white-is-zero")
    pixels = _grey(pixels, notes, channel)
    if alpha is not None:
        pixels = _over_black(pixels, alpha, notes)
    if orientation != 1:
        notes.append(f"exif-orientation-{orientation}" if orientation else "exif-unreadable")
    return np.ascontiguousarray(_upright(pixels, orientation)), tuple(notes)


def _exact(samples: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """As uint8 or uint16 unchanged, else as float32, which must hold each integer exactly."""
    if samples.dtype.kind == "u" and samples.itemsize <= 2:
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused as such
        floats = samples.astype(np.float32)
    if samples.dtype.kind == "f":
        if samples.itemsize > 4:
            notes.append("rounded-to-float32")
    elif not np.array_equal(floats, samples):
        refuse("IMG_DEPTH_UNSUPPORTED", "Integers above 16,777,216 that float32 cannot hold.")
    return floats


def _inverted(pixels: NDArray[Any]) -> NDArray[Any]:
    """Bright for dark: within the significant bits of integers, by sign for floats."""
    if pixels.dtype.kind == "f":
        return -pixels
    brightest = 2 ** significant_bits(pixels, 8 * pixels.itemsize) - 1
    return np.asarray(pixels.dtype.type(brightest) - pixels)


def _grey(colour: NDArray[Any], notes: list[str], channel: Channel) -> NDArray[Any]:
    if colour.ndim == 2:
        return colour
    if channel != "grey":
        notes.append(f"{channel}-channel")
        return colour[..., _PLANES[channel]]
    red, green, blue = colour[..., 0], colour[..., 1], colour[..., 2]
    if np.array_equal(red, green) and np.array_equal(red, blue):
        notes.append("equal-channels")
        return red
    notes.append("rgb-to-grey")
    if colour.dtype.kind == "f":
        return np.asarray(np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue)
    # ITU-R 601-2 in 16-bit fixed point, as Pillow has it; the sum of 16-bit samples just fits 32 bits.
    luma = red * np.uint32(19595)
    luma += green * np.uint32(38470)
    luma += blue * np.uint32(7471)
    luma += np.uint32(1 << 15)
    luma >>= np.uint32(16)
    return luma.astype(colour.dtype)


def _over_black(pixels: NDArray[Any], alpha: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    opaque = np.iinfo(alpha.dtype).max
    if (alpha == opaque).all():
        notes.append("opaque-alpha")
        return pixels
    notes.append("alpha-over-black")
    product = pixels * alpha.astype(np.uint32)
    product += np.uint32(opaque // 2)
    product //= np.uint32(opaque)
    return product.astype(pixels.dtype)


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo an EXIF orientation: 5 to 8 lie on their side, the even ones but 6 and 8 are mirrored."""
    upright: dict[int, Callable[[], NDArray[Any]]] = {
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: lambda: pixels.T,
        6: lambda: pixels[::-1].T,
        7: lambda: pixels[::-1, ::-1].T,
        8: lambda: pixels[:, ::-1].T,
    }
    return upright[orientation]() if orientation in upright else pixels


def significant_bits(pixels: NDArray[Any], stored_bits: int) -> int:
    """Bits in use: 12 for uint16 without a value above 4095, else as stored; 2 and 4 count as 8, 64 as 32."""
    if pixels.dtype == np.uint16:
        return 12 if pixels.max() < 2**12 else 16
    if pixels.dtype == np.uint8:
        return 1 if stored_bits == 1 else 8
    return min(stored_bits, 32)
