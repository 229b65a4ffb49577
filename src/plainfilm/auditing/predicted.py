"""What a model said of the images it was tested on, patient by patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm import metrics
from plainfilm.auditing.subject import Subject
from plainfilm.measures import PatientSource, plural
from plainfilm.metrics import Floats, Ints
from plainfilm.sampling import strata_of


@dataclass(frozen=True, kw_only=True)
class Tested:
    """Labelled images with scores, gathered to one unit for each patient and label.

    Attributes:
        rows: `(n_images,)` which images of the subject.
        unit: `(n_images,)` unit of each image.
        y: `(n_units,)` index into `classes`.
        group: `(n_units,)` patient, 0 to `n_patients - 1`; each image its own where patients are not known.
        scores: `(n_units, K)` means over the images of the unit.
        classes: Of the model; all have a unit.
        without: Classes of the model that no two tested patients have; their scores are kept apart in `elsewhere`.
        elsewhere: `(n_units,)` highest mean score of the classes in `without`; 0 where there are none.
        patients: How patients are known.
    """

    rows: Ints
    unit: Ints
    y: Ints
    group: Ints
    scores: Floats
    classes: tuple[str, ...]
    without: tuple[str, ...]
    elsewhere: Floats
    patients: PatientSource

    @property
    def n_patients(self) -> int:
        """Independent units."""
        return int(self.group.max()) + 1

    @property
    def known_patients(self) -> int | None:
        """Patients, for a finding; None where they are not known."""
        return None if self.patients == "unknown" else self.n_patients

    @property
    def counted(self) -> str:
        """`1280 images of 40 patients`."""
        images = plural(len(self.rows), "tested image")
        return images if self.patients == "unknown" else f"{images} of {plural(self.n_patients, 'patient')}"

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """`(n_units,)` whether the model names the class."""
        return self.rightly(self.scores, self.elsewhere)

    def gathered(self, scores: Floats) -> Floats:
        """`(n_units, K)` means of `(n_images, K)` scores."""
        counts = np.bincount(self.unit, minlength=len(self.y))
        return np.column_stack([np.bincount(self.unit, weights=column) / counts for column in scores.T])

    def rightly(self, scores: Floats, elsewhere: Floats | None = None) -> npt.NDArray[np.bool_]:
        """`(n_units,)` whether these scores name the class."""
        right: npt.NDArray[np.bool_] = scores.argmax(axis=1) == self.y
        return right if elsewhere is None else right & (scores.max(axis=1) >= elsewhere)

    def balanced_accuracy(self, right: npt.NDArray[np.floating | np.bool_], weights: Floats | None = None) -> Floats:
        """Mean over the classes of the share of units that are right, for each set of weights `(..., n_units)`."""
        weights = np.ones(len(self.y)) if weights is None else weights
        own = (self.y[:, None] == np.arange(len(self.classes))).astype(np.float64)
        found, total = weights @ (own * np.asarray(right, dtype=np.float64)[:, None]), weights @ own
        share = np.divide(found, total, out=np.full(found.shape, np.nan), where=total > 0)
        return np.asarray(share.mean(axis=-1))

    def draws(self, *, seed: int, n: int = 2_000) -> Floats:
        """`(n, n_units)` weights of resampled patients; the same for the same seed, so that figures are paired."""
        strata = strata_of(self.group, self.y, smallest=2)
        return np.concatenate(list(metrics.bootstrap_weights(self.group, strata, draws=n, seed=seed)))

    def interval(self, *, seed: int) -> tuple[float, float]:
        """95 % interval of the model's balanced accuracy; from Wilson's where no draw differs from another."""
        values = self.balanced_accuracy(self.right, self.draws(seed=seed))
        if np.ptp(values) > 1e-12:
            low, high = metrics.percentile_interval(values)
            return float(low), float(high)
        of_class = [self.y == c for c in range(len(self.classes))]
        recalls = np.array([self.right[own].mean() for own in of_class])
        patients = np.array([len(np.unique(self.group[own])) for own in of_class])
        return metrics.mean_interval(recalls, *metrics.wilson_interval(recalls, patients))


def tested_of(subject: Subject) -> Tested | None:
    """The images a model was tested on: those of the test split, or, without one, all it did not learn from.

    A class of a single patient is left out: there is nothing to draw from. None where there are no predictions, or
    fewer than two classes are left.
    """
    if subject.predictions is None:
        return None
    predictions = subject.predictions
    place = pd.Series(np.arange(len(subject)), index=subject.rows["path"].astype(str))
    place = place[~place.index.duplicated()]
    row = predictions.table["path"].astype(str).map(place)
    y = np.asarray(
        pd.Categorical(predictions.table["label"], categories=list(predictions.classes)).codes, dtype=np.intp
    )
    chosen = np.flatnonzero(row.notna().to_numpy() & (y >= 0) & _tested(predictions.table["split"]))
    rows = row.iloc[chosen].to_numpy(dtype=np.intp)
    known = subject.patients != "unknown" and bool((subject.group[rows] >= 0).all())
    whose = subject.group[rows] if known else np.arange(len(rows))
    present = np.array([c for c in np.unique(y[chosen]) if len(np.unique(whose[y[chosen] == c])) > 1], dtype=np.intp)
    if len(present) < 2:
        return None
    several = np.isin(y[chosen], present)
    chosen, rows = chosen[several], rows[several]
    group = np.unique(subject.group[rows] if known else np.arange(len(rows)), return_inverse=True)[1]
    y = np.searchsorted(present, y[chosen])
    keys, unit = np.unique(group * len(present) + y, return_inverse=True)
    counts = np.bincount(unit)
    means = np.column_stack([np.bincount(unit, weights=column) / counts for column in predictions.scores[chosen].T])
    absent = np.setdiff1d(np.arange(len(predictions.classes)), present)
    return Tested(
        rows=rows,
        unit=unit,
        y=keys % len(present),
        group=keys // len(present),
        scores=means[:, present],
        classes=tuple(predictions.classes[c] for c in present),
        without=tuple(predictions.classes[c] for c in absent),
        elsewhere=means[:, absent].max(axis=1) if len(absent) else np.zeros(len(means)),
        patients=subject.patients if known else "unknown",
    )


def _tested(split: pd.Series) -> npt.NDArray[np.bool_]:
    """The rows of the test split; of the external one; or those that nothing was learnt or chosen from."""
    for name in ("test", "external"):
        if (split == name).any():
            return np.asarray(split == name, dtype=np.bool_)
    return ~np.asarray(split.isin(["train", "validation"]), dtype=np.bool_)
