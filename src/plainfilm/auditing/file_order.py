"""What the order of the files gives away: are images a fixed number of files apart alike?"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plainfilm.auditing.thumbnails import thumbnails, unit_vectors
from plainfilm.data.pixels import PixelStore

SIDE = 32  # of the small copies
FEWEST = 20  # images of a class, for a spectrum to be looked at
MOST = 20_000  # images of a class that are looked at, the first in order
FEATURES = 64  # transformed together, to bound memory


@dataclass(frozen=True, kw_only=True)
class LagPeak:
    """The lag at which images of one class are most unexpectedly alike.

    Attributes:
        label: The class.
        lag: How many files apart, in natural order of their names.
        similarity: Mean correlation of images that far apart.
        height: By how many median absolute deviations it stands out from the lags beside it.
        n_images: Images of the class.
    """

    label: str
    lag: int
    similarity: float
    height: float
    n_images: int


def lag_peaks(pixels: PixelStore, paths: npt.NDArray[np.object_], labels: npt.NDArray[np.object_]) -> list[LagPeak]:
    """The highest peak of each class: lag 1 for stacks in order, the number of patients for slices dealt in turn.

    Args:
        pixels: The images; small copies are compared.
        paths: Name of each file; numbers in it count as numbers.
        labels: Class of each, None where unknown.
    """
    peaks = []
    for label in sorted({str(name) for name in labels if name is not None}):
        own = np.array([index for index, name in enumerate(labels) if name is not None and str(name) == label])
        if len(own) >= FEWEST:
            ordered = sorted(own.tolist(), key=lambda index: _natural(str(paths[index])))[:MOST]
            peaks.append(_highest(unit_vectors(thumbnails(pixels, SIDE, np.array(ordered))), label))
    return peaks


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Parts of a name, so that 9 comes before 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path) if part]


def _highest(vectors: npt.NDArray[np.float32], label: str) -> LagPeak:
    spectrum = _similarity_by_lag(vectors)
    # A peak stands out from both its neighbours; a slow drift of the collection does not.
    beside = np.maximum(np.concatenate([[-np.inf], spectrum[:-2]]), spectrum[1:])
    prominence = spectrum[:-1] - beside
    spread = np.median(np.abs(prominence - np.median(prominence)))
    lag = int(prominence.argmax())
    height = (prominence[lag] - np.median(prominence)) / max(float(spread), 1e-9)
    return LagPeak(
        label=label, lag=lag + 1, similarity=float(spectrum[lag]), height=float(height), n_images=len(vectors)
    )


def _similarity_by_lag(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Mean correlation of images 1, 2, ... files apart, up to half of the files (Wiener and Khinchin)."""
    from scipy.fft import irfft, next_fast_len, rfft

    n = len(vectors)
    longest = max(2, n // 2)
    size = next_fast_len(n + longest)
    power = np.zeros(size // 2 + 1)
    for start in range(0, vectors.shape[1], FEATURES):
        power += (np.abs(rfft(vectors[:, start : start + FEATURES], size, axis=0)) ** 2).sum(axis=1)
    sums = irfft(power, size)[1 : longest + 1]
    return np.asarray(sums / (n - np.arange(1, longest + 1)))
