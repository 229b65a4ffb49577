"""The training images of a run, where they still are: which are most like an uploaded one."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from plainfilm.auditing.duplicates import SIDE_DECIDING, DuplicateOptions
from plainfilm.auditing.thumbnails import thumbnails, unit_vectors
from plainfilm.config import RunOptions, read_options
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.data.sources import list_images
from plainfilm.data.workers import decode_images
from plainfilm.errors import PlainfilmError
from plainfilm.plots import to_eight_bits
from plainfilm.runs import Run

MOST_IMAGES: Final = 5_000  # compared with; 16 KiB each
PICTURE_SIDE: Final = 96
NEAREST: Final = 6
SAMPLE: Final = 400  # images whose pairs tell whether the limit for near-duplicates can be believed
CLEARLY: Final = 0.1  # by how much the negative must be more alike
ALIKE: Final = 0.5  # how much, at least

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Neighbour:
    """One training image beside an uploaded one.

    Attributes:
        label: Its class.
        split: `train`, or `validation`: on those the epoch was chosen.
        correlation: Of the pixels of both at 64x64, -1 to 1.
        picture: A small PNG.
    """

    label: str | None
    split: str
    correlation: float
    picture: bytes


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Small copies of the images that a run learned from.

    Attributes:
        vectors: `(n, 64 * 64)`, so that a product is a correlation.
        pictures: PNGs.
        labels: Class of each.
        splits: `train` or `validation`.
        near: Correlation from which two images are the same picture; None where too many different patients are as
            much alike.
        n_known: Images the run learned from; more than `n` where only some were taken.
    """

    vectors: Floats
    pictures: tuple[bytes, ...]
    labels: tuple[str | None, ...]
    splits: tuple[str, ...]
    near: float | None
    n_known: int

    def __len__(self) -> int:
        return len(self.pictures)

    def correlations(self, pixels: PixelStore) -> Floats:
        """`(m, n)`: of each image with each training image; both as the model takes them."""
        return np.asarray(unit_vectors(thumbnails(pixels, SIDE_DECIDING)) @ self.vectors.T)

    def nearest(self, pixels: PixelStore) -> list[Neighbour]:
        """The training images most like one image."""
        (alike,) = self.correlations(pixels)
        return [
            Neighbour(self.labels[row], self.splits[row], min(1.0, float(alike[row])), self.pictures[row])
            for row in np.argsort(-alike, kind="stable")[:NEAREST].tolist()
        ]

    def looks_inverted(self, alike: Floats) -> bool:
        """Whether the negative of an image is clearly more like some training image than it is like any itself."""
        return bool(-alike.min() > max(ALIKE, alike.max() + CLEARLY))

    def is_near(self, alike: Floats) -> bool:
        """Whether an image is the same picture as a training image."""
        return self.near is not None and bool(alike.max() >= self.near)


def seen_images(run: Run) -> dict[str, str]:
    """The split of every image of a run by the hash of its pixels; with folds, each is trained on by the others."""
    rows = run.read_table()
    splits = ["train"] * len(rows) if "fold" in rows.columns else rows["split"]
    return {digest: split for digest, split in zip(rows["pixel_sha256"], splits, strict=True) if split is not None}


def open_gallery(
    run: Run, preprocessing: Preprocessing, *, is_wanted: Callable[[], bool] = lambda: True
) -> Gallery | str:
    """The gallery of a run; or why there is none, in words. Images that have changed since are left out.

    Args:
        run: A finished run.
        preprocessing: Of its model.
        is_wanted: Asked after every image; reading ends early when it is not.
    """
    seen = {digest: split for digest, split in seen_images(run).items() if split in ("train", "validation")}
    written = read_options(run.options)
    source = Path(written.pop("data", ""))
    try:
        listing = list_images(source, RunOptions.from_flat(written).source)
    except (PlainfilmError, OSError):
        return "The images of this run are not where they were, so none can be shown beside yours."
    chosen = np.linspace(0, len(listing.refs) - 1, min(len(listing.refs), MOST_IMAGES)).round().astype(np.intp)
    builder = _Builder(preprocessing)
    labels: list[Any] = list(listing.rows["label"])
    patients: list[Any] = list(listing.rows["patient_id"])
    images = decode_images(
        [replace(listing.refs[index], window=preprocessing.window) for index in chosen.tolist()],
        size=(preprocessing.height, preprocessing.width),
        fit=preprocessing.fit,
        resample=preprocessing.resample,
        workers=1,
    )
    for decoded in itertools.takewhile(lambda _: is_wanted(), images):
        if decoded.record is not None and decoded.pixels is not None and decoded.record.pixel_sha256 in seen:
            row = int(chosen[decoded.index])
            builder.add(decoded.pixels, labels[row], patients[row], seen[decoded.record.pixel_sha256])
    if not builder.pictures:
        return "Not one image of this run is where it was, so none can be shown beside yours."
    return builder.gallery(len(seen))


class _Builder:
    """Puts a gallery together, image by image."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._size = preprocessing.height, preprocessing.width
        self._vectors: list[Floats] = []
        self._patients: list[Any] = []
        self._labels: list[str | None] = []
        self._splits: list[str] = []
        self.pictures: list[bytes] = []

    def add(self, pixels: npt.NDArray[Any], label: str | None, patient: Any, split: str) -> None:
        self._vectors.append(unit_vectors(thumbnails(one_image(pixels), SIDE_DECIDING))[0])
        self.pictures.append(small_png(pixels, PICTURE_SIDE))
        self._labels.append(label)
        self._patients.append(patient)
        self._splits.append(split)

    def gallery(self, n_known: int) -> Gallery:
        vectors = np.stack(self._vectors)
        return Gallery(
            vectors=vectors,
            pictures=tuple(self.pictures),
            labels=tuple(self._labels),
            splits=tuple(self._splits),
            near=_believed_limit(vectors, self._patients),
            n_known=n_known,
        )


def _believed_limit(vectors: Floats, patients: Sequence[Any]) -> float | None:
    """The limit of the audit, unless training images of different patients reach it too."""
    options = DuplicateOptions()
    some = np.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLE)).round().astype(np.intp)
    patient = np.array([f"image {row}" if patients[row] is None else f"patient {patients[row]}" for row in some])
    alike = vectors[some] @ vectors[some].T
    foreign = np.triu(patient[:, None] != patient[None], k=1)
    share = float((alike[foreign] >= options.near_correlation).mean()) if foreign.any() else 0.0
    return options.near_correlation if share <= options.near_between else None


def one_image(pixels: npt.NDArray[Any]) -> PixelStore:
    """A store of a single image."""
    store = PixelStore(1, *pixels.shape)
    store.put(0, pixels)
    return store


def small_png(pixels: npt.NDArray[Any], side: int) -> bytes:
    """A grey picture, its longer side at most `side` pixels."""
    image = Image.fromarray(to_eight_bits(pixels))
    image.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=None)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
