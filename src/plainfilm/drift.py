"""Does a batch of images come from where the training images came from: a small rule tries to tell the two apart.

It sees brightness, contrast, sharpness, noise, grey values and 8x8 mean greys of one image of each patient. What it
cannot tell apart more often than by chance has not drifted as far as these say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.data.pixels import PixelStore
from plainfilm.errors import BundleError
from plainfilm.metrics import Floats, Ints

Statistics = npt.NDArray[np.float32]

NAMED: Final = ("brightness", "contrast", "sharpness", "noise")  # the first columns of the statistics
CELLS: Final = 8
QUANTILES: Final = (0.01, *(tenth / 10 for tenth in range(1, 10)), 0.99)
CHUNK: Final = 64  # images at once
MOST: Final = 500  # training patients kept, and patients of a batch looked at
FOLDS: Final = 5
DRAWS: Final = 1_000


class DriftOptions(BaseModel):
    """When a batch is said to differ from the training images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drift: bool = Field(True, description="Keep statistics of training images, so that predict can tell a batch apart.")
    drift_patients: int = Field(20, ge=10, description="Patients that a batch, and the training, need for that.*")
    drift_auc: float = Field(
        0.65, gt=0.5, lt=1, description="ROC AUC of telling batch from training from which on it is called drift.*"
    )
    drift_p: float = Field(0.01, gt=0, lt=0.5, description="Highest p at which it is called drift.*")


class DriftRule(BaseModel):
    """The limits a model was made with; part of a bundle.

    Attributes:
        patients: Needed on both sides.
        auc: From which on a batch has drifted.
        p: Up to which it has.
        n_reference: Training patients with statistics on file; 0 where none are.
        reason: Why none are; empty otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patients: int = Field(20, ge=2)
    auc: float = Field(0.65, gt=0, le=1)
    p: float = Field(0.01, gt=0, lt=1)
    n_reference: int = Field(0, ge=0)
    reason: str = "not learnt"

    @classmethod
    def of(cls, options: DriftOptions, *, n_reference: int, reason: str = "") -> DriftRule:
        """From the options of a training."""
        return cls(
            patients=options.drift_patients,
            auc=options.drift_auc,
            p=options.drift_p,
            n_reference=n_reference,
            reason=reason,
        )


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What telling a batch from the training images came to.

    Attributes:
        auc: How well the two are told apart, 0.5 being not at all; None where it was not asked.
        p: How often images dealt to the two sides at random are told apart as well.
        n_batch: Patients of the batch; images, where it does not name patients.
        n_reference: Patients of the training.
        knows_patients: Whether the batch names the patient of every image.
        most: What of `NAMED` differs most.
        shift: By how many standard deviations of the training images.
        rule: The limits.
        reason: Why it was not asked; empty otherwise.
    """

    auc: float | None = None
    p: float | None = None
    n_batch: int
    n_reference: int
    knows_patients: bool
    most: str = ""
    shift: float = 0.0
    rule: DriftRule
    reason: str = ""

    @property
    def drifted(self) -> bool:
        """Whether both limits are passed."""
        return self.auc is not None and self.p is not None and self.auc >= self.rule.auc and self.p <= self.rule.p

    def in_words(self) -> str:
        """A sentence with the number, or why there is none."""
        if self.auc is None or self.p is None:
            return f"Drift was not looked for: {self.reason}."
        what = "patients" if self.knows_patients else "images, each taken for a patient of its own,"
        told = f"told from {self.n_reference} of the training with a ROC AUC of {self.auc:.2f} (p = {self.p:.3f})"
        if not self.drifted:
            return f"No drift was shown: these {self.n_batch} {what} are {told}, by one image of each."
        return (
            f"Drift: these {self.n_batch} {what} are {told}, by one image of each. Most different: {self.most}, by "
            f"{self.shift:+.1f} standard deviations. The scores may not hold for them."
        )

    def to_json(self) -> dict[str, Any]:
        """For the file beside the scores."""
        return {
            "drifted": self.drifted if self.auc is not None else None,
            "sentence": self.in_words(),
            "auc": self.auc,
            "p": self.p,
            "n_batch": self.n_batch,
            "n_reference": self.n_reference,
            "knows_patients": self.knows_patients,
            "most_different": self.most or None,
            "shift_sd": self.shift if self.most else None,
            "rule": f"Drift where the ROC AUC is at least {self.rule.auc:g} and p at most {self.rule.p:g}, of at least "
            f"{self.rule.patients} patients on both sides.*",
        }


def image_statistics(pixels: PixelStore, rows: Ints) -> Statistics:
    """`(n, d)`: `NAMED`, quantiles of the grey values, and mean greys of cells; the same at any time for an image."""
    parts = [_statistics(pixels.values(rows[start : start + CHUNK])) for start in range(0, len(rows), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)


def one_each(group: Ints, *, most: int = MOST, seed: int = 0) -> Ints:
    """One row of each patient, drawn; of many patients some."""
    drawn = np.random.default_rng(seed)
    order = drawn.permutation(len(group))
    _, first = np.unique(group[order], return_index=True)
    return np.sort(drawn.permutation(order[first])[:most])


def cannot_be_asked(n_batch: int, rule: DriftRule) -> str:
    """Why a batch of so many patients cannot be told from the training images; empty if it can."""
    if rule.reason:
        return rule.reason
    few = n_batch < rule.patients
    return f"{n_batch} are too few to tell a batch by, {rule.patients} are needed" if few else ""


def look_for_drift(batch: Statistics, reference: Statistics, rule: DriftRule, *, knows_patients: bool) -> Drift:
    """Try to tell a batch from the training images.

    A ridge rule learns which side an image is from, and is asked of images it did not learn from (five parts). Its p is
    from sides dealt anew at random, a thousand times.

    Args:
        batch: `(n, d)`, one row of each patient; as many as the rule wants.
        reference: `(m, d)`, likewise.
        rule: The limits.
        knows_patients: Whether the batch names its patients.

    References:
        Lopez-Paz and Oquab, Revisiting classifier two-sample tests, ICLR 2017.
    """
    if batch.shape[1] != reference.shape[1]:
        raise BundleError("the statistics to compare with are of images of another size.", code="BUN_SHAPE")
    center, scale = reference.mean(axis=0), reference.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    # Not one value may decide alone: what is constant in training and differs by a hair is far in its own units.
    scaled = np.clip((np.concatenate([batch, reference]) - center) / scale, -8, 8).astype(np.float64)
    in_batch = np.arange(len(scaled)) < len(batch)
    auc = _told_apart(scaled, in_batch)
    shifts = scaled[in_batch][:, : len(NAMED)].mean(axis=0)
    most = int(np.abs(shifts).argmax())
    return Drift(
        n_batch=len(batch),
        n_reference=len(reference),
        knows_patients=knows_patients,
        rule=rule,
        auc=float(auc[0]),
        p=float((1 + (auc[1:] >= auc[0] - 1e-12).sum()) / len(auc)),
        most=NAMED[most],
        shift=float(shifts[most]),
    )


def check_statistics(found: npt.NDArray[np.generic], rule: DriftRule) -> Statistics:
    """The statistics of a file, if they can be such.

    Raises:
        BundleError: `BUN_SHAPE` or `BUN_NOT_FINITE`.
    """
    if found.ndim != 2 or found.dtype != np.float32 or len(found) != rule.n_reference or not 0 < found.shape[1] <= 200:
        raise BundleError("the statistics to compare with have the wrong shape.", code="BUN_SHAPE")
    if not np.isfinite(found).all():
        raise BundleError("the statistics to compare with are no numbers.", code="BUN_NOT_FINITE")
    return found.astype(np.float32, copy=False)


def _statistics(images: npt.NDArray[np.float32]) -> Statistics:
    flat = images.reshape(len(images), -1)
    down, across = (np.diff(images, axis=axis) for axis in (1, 2))
    steps = (np.abs(part).reshape(len(images), -1) for part in (down, across))
    # Second differences of a smooth image are small: what is left is noise.
    twice = np.abs(np.diff(across, axis=2)).reshape(len(images), -1)
    return np.column_stack(
        [
            flat.mean(axis=1),
            flat.std(axis=1),
            sum(part.mean(axis=1) for part in steps),
            np.median(twice, axis=1),
            np.quantile(flat, QUANTILES, axis=1).T,
            _cells(images),
        ]
    ).astype(np.float32)


def _cells(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mean greys of 8x8 cells, as equal as whole pixels make them."""
    sums: npt.NDArray[np.floating] = images
    for axis in (1, 2):
        side = images.shape[axis]
        cells = min(CELLS, side)
        starts = np.arange(cells) * side // cells
        widths = np.diff(np.append(starts, side)).astype(np.float32)
        shape = [1, 1, 1]
        shape[axis] = cells
        sums = np.add.reduceat(sums, starts, axis=axis) / widths.reshape(shape)
    return np.asarray(sums.reshape(len(images), -1), dtype=np.float32)


def _told_apart(scaled: Floats, in_batch: npt.NDArray[np.bool_]) -> Floats:
    """`(1 + DRAWS,)`: ROC AUC of the sides as they are, then of sides dealt at random."""
    from scipy.stats import rankdata

    drawn = np.random.default_rng(0)
    n_images, width = scaled.shape
    sides = np.column_stack([in_batch, *(drawn.permutation(in_batch) for _ in range(DRAWS))])
    fold = drawn.permutation(np.arange(n_images) % FOLDS)
    scores = np.empty(sides.shape)
    for number in range(FOLDS):
        learnt, asked = fold != number, fold == number
        center = scaled[learnt].mean(axis=0)
        inner = scaled[learnt] - center
        wanted = sides[learnt] - sides[learnt].mean(axis=0)
        weights = np.linalg.solve(inner.T @ inner + learnt.sum() * np.eye(width), inner.T @ wanted)
        scores[asked] = (scaled[asked] - center) @ weights
    n_in = int(in_batch.sum())
    above = (rankdata(scores, axis=0) * sides).sum(axis=0) - n_in * (n_in + 1) / 2  # Mann-Whitney
    return np.asarray(above / (n_in * (n_images - n_in)), dtype=np.float64)
