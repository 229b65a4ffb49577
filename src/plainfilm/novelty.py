"""Is an image like those the model was trained on: by its file first, then by what the model makes of it.

Two distances in the model's own features: to the nearest training images, and to the nearest class as a whole
(Mahalanobis). Far is what 99 of 100 images of held-out patients are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.calibration import patient_weights
from plainfilm.errors import BundleError
from plainfilm.metrics import Bools, Floats, Ints

Features = npt.NDArray[np.float32]
CHUNK = 512  # images at once


class NoveltyOptions(BaseModel):
    """When an image is called unlike the training images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    novelty: bool = Field(True, description="Learn which images are unlike those of the training.")
    novelty_quantile: float = Field(
        0.99, gt=0.5, lt=1, description="Share of held-out patients' images that are called like the training images.*"
    )
    novelty_images: int = Field(1_000, ge=10, description="Training images kept to be compared with, at most.")
    novelty_neighbours: int = Field(5, ge=1, le=100, description="Nearest training images that count.*")
    novelty_patients: int = Field(10, ge=2, description="Held-out patients needed to say what is far.*")


class Gate(BaseModel):
    """What the files of the training images had in common, and how far is far; part of a bundle.

    Attributes:
        bits: Depths of the training images.
        smallest: Shorter side of the smallest training image, in pixels.
        largest: Longer side of the largest.
        longest: Largest ratio of the sides.
        neighbour_limit: Mean distance to the nearest training images above which an image is unlike them; None where
            that was not learnt.
        class_limit: The same for the distance to the nearest class.
        quantile: Share of held-out images within each limit.
        neighbours: How many nearest images count.
        n_reference: Training images compared with.
        n_patients: Held-out patients behind the limits.
        far_auc: ROC AUC of telling held-out images from noise, text, inverted and turned ones, and from phantoms of a
            head and of a chest.
        reason: Why the features were not learnt; empty otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: tuple[int, ...] = ()
    smallest: int = 0
    largest: int = 0
    longest: float = 0.0
    neighbour_limit: float | None = None
    class_limit: float | None = None
    quantile: float = 0.99
    neighbours: int = 5
    n_reference: int = 0
    n_patients: int = 0
    far_auc: dict[str, float] = {}
    reason: str = "not learnt"


@dataclass(frozen=True)
class Reference:
    """What new images are compared with.

    Attributes:
        images: `(n, d)` features of training images, scaled by `center` and `scale`.
        classes: `(K, d)` mean of each class.
        whitening: `(d, r)` that makes the spread within classes a unit ball.
        center: `(d,)`.
        scale: `(d,)`.
    """

    images: Features
    classes: Features
    whitening: Features
    center: Features
    scale: Features

    @classmethod
    def fit(cls, features: Features, y: Ints, *, most: int, seed: int) -> Reference:
        """From the features of training images; the spread is shrunk where images are few (Ledoit and Wolf 2004).

        Args:
            features: `(n, d)`.
            y: `(n,)` class index.
            most: Images kept.
            seed: Of which are kept.
        """
        from sklearn.covariance import ledoit_wolf

        center, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 1e-6, scale, 1.0).astype(np.float32)
        scaled = ((features - center) / scale).astype(np.float32)
        classes = np.stack([scaled[y == c].mean(axis=0) for c in np.unique(y)])
        covariance, _ = ledoit_wolf(scaled - classes[np.unique(y, return_inverse=True)[1]], assume_centered=True)
        values, vectors = np.linalg.eigh(covariance)
        kept = values > 1e-6 * values.max()
        whitening = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
        chosen = np.random.default_rng(seed).permutation(len(scaled))[:most]
        return cls(scaled[np.sort(chosen)], classes, whitening, center.astype(np.float32), scale)

    def distances(self, features: Features, *, neighbours: int) -> Floats:
        """`(n, 2)`: mean distance to the nearest training images, and Mahalanobis distance to the nearest class."""
        if features.shape[1] != self.center.size:
            raise BundleError("the features to compare with are of another model.", code="BUN_SHAPE")
        scaled = (features - self.center) / self.scale
        near = np.concatenate(
            [
                _nearest(scaled[start : start + CHUNK], self.images, min(neighbours, len(self.images)))
                for start in range(0, len(scaled), CHUNK)
            ]
        )
        away = (scaled[:, None] - self.classes[None]) @ self.whitening
        return np.column_stack([near, np.linalg.norm(away, axis=2).min(axis=1)])

    def tensors(self) -> dict[str, Features]:
        """By name, for a file."""
        return {name: getattr(self, name) for name in ("images", "classes", "whitening", "center", "scale")}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Features]) -> Reference:
        """From the file.

        Raises:
            BundleError: `BUN_DAMAGED`, `BUN_SHAPE` or `BUN_NOT_FINITE` if it is not such a file.
        """
        try:
            found = cls(**{name: tensors[name] for name in ("images", "classes", "whitening", "center", "scale")})
        except KeyError:
            raise BundleError("the features to compare with are damaged.", code="BUN_DAMAGED") from None
        found._check()
        return found

    def _check(self) -> None:
        """Refuse arrays that do not fit one another, or that make every distance no number."""
        arrays = self.tensors()
        ranks = {"images": 2, "classes": 2, "whitening": 2, "center": 1, "scale": 1}
        right = all(arrays[name].ndim == rank and arrays[name].dtype == np.float32 for name, rank in ranks.items())
        width = self.center.size
        if not right or not len(self.images) or not len(self.classes) or not width:
            raise BundleError("the features to compare with have the wrong shapes.", code="BUN_SHAPE")
        sides = {self.images.shape[1], self.classes.shape[1], self.whitening.shape[0], self.scale.size}
        if sides != {width}:
            raise BundleError("the features to compare with do not fit one another.", code="BUN_SHAPE")
        if not all(np.isfinite(array).all() for array in arrays.values()) or not (self.scale > 0).all():
            raise BundleError("the features to compare with are no numbers.", code="BUN_NOT_FINITE")


def limits(distances: Floats, group: Ints, *, quantile: float) -> tuple[float, float]:
    """How far is far: the quantile of each distance over images of held-out patients, every patient counting the same.

    Each of two distances gets half of what may be beyond, so that together no more than that is.
    """
    weights = patient_weights(group)
    found = []
    for column in distances.T:
        order = np.argsort(column, kind="stable")
        place = int(np.searchsorted(np.cumsum(weights[order]), 1 - (1 - quantile) / 2 - 1e-9))
        found.append(float(column[order[min(place, len(order) - 1)]]))
    return found[0], found[1]


def beyond(distances: Floats, gate: Gate) -> Bools:
    """`(n,)`: whether an image is farther than either limit."""
    if gate.neighbour_limit is None or gate.class_limit is None:
        return np.zeros(len(distances), dtype=bool)
    return np.asarray((distances[:, 0] > gate.neighbour_limit) | (distances[:, 1] > gate.class_limit))


def farness(distances: Floats, gate: Gate) -> Floats:
    """`(n,)`: the larger of both distances, each in units of its limit; above 1 an image is unlike the others."""
    assert gate.neighbour_limit is not None
    assert gate.class_limit is not None
    return np.asarray((distances / np.array([gate.neighbour_limit, gate.class_limit])).max(axis=1))


def file_gate(bits: Ints, width: Ints, height: Ints) -> Gate:
    """What the files of the training images had in common."""
    shorter, longer = np.minimum(width, height), np.maximum(width, height)
    return Gate(
        bits=tuple(int(depth) for depth in np.unique(bits)),
        smallest=int(shorter.min()),
        largest=int(longer.max()),
        longest=float((longer / shorter).max()),
    )


def refusals(gate: Gate, bits: Ints, width: Ints, height: Ints, *, slack: float = 1.5) -> list[str]:
    """For each image why its file alone is unlike the training images; empty where it is not.

    Args:
        gate: Of the bundle.
        bits: `(n,)` depth of each image.
        width: `(n,)` pixels.
        height: `(n,)` pixels.
        slack: Times smaller, larger or longer than any training image an image may be.
    """
    if not gate.bits:
        return [""] * len(bits)
    said = []
    for depth, wide, high in zip(bits, width, height, strict=True):
        shorter, longer = min(wide, high), max(wide, high)
        said.append(
            "; ".join(
                sentence
                for sentence, holds in (
                    (f"{depth} bits", int(depth) not in gate.bits),
                    (f"{wide}x{high} pixels, smaller than any", shorter * slack < gate.smallest),
                    (f"{wide}x{high} pixels, larger than any", longer > slack * gate.largest),
                    (f"{wide}x{high} pixels, longer than any", longer / shorter > slack * gate.longest),
                )
                if holds
            )
        )
    return said


def _nearest(some: Features, images: Features, k: int) -> Floats:
    lengths = (images**2).sum(axis=1)
    # One by one: a product with many at once could differ in its last digits with the images that stand beside.
    squares = np.stack([lengths - 2 * (images @ one) + one @ one for one in some])
    nearest = np.partition(np.maximum(squares, 0), k - 1, axis=1)[:, :k]
    return np.asarray(np.sqrt(nearest).mean(axis=1), dtype=np.float64)
