"""What little of an image each probe may look at: its file, its border, its centre, a blur, its grey values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.data.dicom.tags import ACQUISITION_COLUMNS
from plainfilm.data.pixels import PixelStore
from plainfilm.metrics import Ints

Floats32 = npt.NDArray[np.float32]

# Facts of the container that a table may hold; none of them says anything of the patient.
MEASURED = ("file_bytes", "width", "height", "bits", "channels")
NAMED = ("format", "mode", "notes", "jpeg_tables", "jpeg_quality", "spacing_mm", "stored_as", *ACQUISITION_COLUMNS)

MOST_VALUES = 12  # of one fact, the most frequent
DECILES = 10
GREY_BINS = 32
CHUNK = 128  # images at once


def container_facts(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Facts of each file, by name; those that are the same for all files are left out."""
    facts = {name: rows[name] for name in (*MEASURED, *NAMED) if name in rows.columns}
    if {"width", "height"} <= facts.keys():
        width, height = (pd.to_numeric(facts[name]) for name in ("width", "height"))
        facts["size"] = width.astype(str) + "x" + height.astype(str)
        facts["aspect"] = width / height
        if "file_bytes" in facts:
            facts["bytes_per_pixel"] = pd.to_numeric(facts["file_bytes"]) / (width * height)
    return {name: values for name, values in facts.items() if values.nunique(dropna=False) > 1}


def fact_features(facts: Mapping[str, pd.Series]) -> npt.NDArray[np.float64]:
    """`(n, n_features)`: logarithms, tenths, and frequent values of each fact, so that a jump is seen as a slope is."""
    columns = [column for values in facts.values() for column in _columns(values)]
    n_rows = len(next(iter(facts.values()))) if facts else 0
    return np.column_stack(columns).astype(np.float64) if columns else np.zeros((n_rows, 0))


def value_features(values: pd.Series, most: int = MOST_VALUES) -> list[npt.NDArray[np.float64]]:
    """One column for each of the most frequent values; rare ones, and those of one image, share none."""
    counts = values.value_counts(dropna=False)
    frequent = counts[counts > 1].index[:most]
    missing = values.isna()
    return [
        np.asarray(missing if pd.isna(value) else (values == value) & ~missing, dtype=np.float64) for value in frequent
    ]


def border_mask(side: int, share: float) -> npt.NDArray[np.bool_]:
    """`(side, side)`, True in the ring that is `share` of the side wide; at least one cell."""
    width = max(1, round(share * side))
    mask = np.ones((side, side), dtype=bool)
    mask[width:-width, width:-width] = False
    return mask


def border_features(thumbs: Floats32, share: float, *, side: int = 16) -> Floats32:
    """The ring in cells of a 16th of the side, and mean and spread of the four corners.

    Args:
        thumbs: `(n, height, width)`, both a multiple of `side`.
        share: Width of the ring as a share of the side.
        side: Cells along a side.
    """
    ring = pooled(thumbs, side)[:, border_mask(side, share)]
    width = max(1, round(share * thumbs.shape[1]))
    ends = (slice(None, width), slice(-width, None))
    corners = [thumbs[:, rows, columns].reshape(len(thumbs), -1) for rows in ends for columns in ends]
    each = [figure(corner, axis=1) for corner in corners for figure in (np.mean, np.std)]
    return np.column_stack([ring, *each]).astype(np.float32)


def edge_features(thumbs: Floats32) -> Floats32:
    """Mean of the outermost line on each of the four sides, where padding, frames and collimation show."""
    lines = (thumbs[:, 0], thumbs[:, -1], thumbs[:, :, 0], thumbs[:, :, -1])
    return np.column_stack([line.mean(axis=1) for line in lines]).astype(np.float32)


def centre_features(thumbs: Floats32, *, side: int = 8) -> Floats32:
    """The middle half of both sides, in 8x8 cells."""
    quarter = thumbs.shape[1] // 4
    return pooled(thumbs[:, quarter:-quarter, quarter:-quarter], side).reshape(len(thumbs), -1)


def blurred_features(thumbs: Floats32, *, side: int = 8) -> Floats32:
    """The whole image in 8x8 cells."""
    return pooled(thumbs, side).reshape(len(thumbs), -1)


def pooled(thumbs: Floats32, side: int) -> Floats32:
    """Means over `side` x `side` equal cells; the side of the thumbnails is a multiple."""
    n_images, own = len(thumbs), thumbs.shape[1]
    cells = thumbs.reshape(n_images, side, own // side, side, own // side)
    return np.asarray(cells.mean(axis=(2, 4), dtype=np.float32))


def grey_histograms(pixels: PixelStore, rows: Ints, thumbs: Floats32) -> Floats32:
    """`(n, 32)` share of the pixels in each grey bin; where they are says nothing here.

    The bins span the grey values of the thumbnails; what is outside goes to the first and last.

    Args:
        pixels: Images.
        rows: `(n,)` which of them.
        thumbs: `(n, side, side)` of these.
    """
    low, high = (float(end) for end in np.percentile(thumbs[:: max(1, len(thumbs) // 2_000)], (0, 100)))
    scale = GREY_BINS / max(high - low, 1e-12)
    shares = np.empty((len(rows), GREY_BINS), dtype=np.float32)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        values = pixels.values(part).reshape(len(part), -1)
        values -= np.float32(low)
        values *= np.float32(scale)
        np.clip(values, 0, GREY_BINS - 1, out=values)
        place = values.astype(np.intp)
        place += np.arange(len(part))[:, None] * GREY_BINS
        counts = np.bincount(place.ravel(), minlength=len(part) * GREY_BINS).reshape(len(part), -1)
        shares[start : start + CHUNK] = np.sqrt(counts / values.shape[1])  # the root evens out how much each bin varies
    return shares


def _columns(values: pd.Series) -> list[npt.NDArray[np.float64]]:
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any() or numbers.nunique() <= 1:
        return value_features(values.astype(object))
    logs = np.log(np.maximum(numbers.to_numpy(dtype=np.float64), 1e-9))
    columns = [logs, *value_features(numbers)]
    if numbers.nunique() > DECILES:
        tenth = np.searchsorted(np.quantile(logs, np.linspace(0, 1, DECILES + 1)[1:-1]), logs)
        columns += [(tenth == number).astype(np.float64) for number in range(DECILES)]
    return columns
