"""What a split by image is worth: how much better simple rules do when a patient's other images may be seen.

Two rules without training to speak of: the label of the nearest image, and a ridge regression on thumbnails. Each
predicts every image twice, from the same number of other images: once whatever their patient, once of other patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plainfilm.auditing.thumbnails import unit_vectors
from plainfilm.metrics import Bools, Floats, Ints, bootstrap_weights, percentile_interval, wilson_interval
from plainfilm.sampling import strata_of

FOLDS = 5
SMALLEST_STRATUM = 2  # patients; rarer classes are drawn together
BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """An accuracy, or a difference of two, with its interval over patients."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class RuleGap:
    """One rule's accuracy by image, by patient, and the difference on the same images."""

    by_image: Estimate
    by_patient: Estimate
    gap: Estimate


@dataclass(frozen=True, kw_only=True)
class LeakGap:
    """What seeing a patient's other images is worth.

    Attributes:
        nn: The label of the nearest image (correlation of thumbnails).
        ridge: Ridge regression on thumbnails, one output for each class.
        majority: Accuracy of always naming the most frequent label.
        n_images: Images predicted.
        n_patients: Their patients.
    """

    nn: RuleGap
    ridge: RuleGap
    majority: float
    n_images: int
    n_patients: int


def leak_gap(
    images: npt.NDArray[np.float32],
    y: Ints,
    group: Ints,
    *,
    asked: Bools | None = None,
    pool: Bools | None = None,
    draws: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> LeakGap | None:
    """Predict images from others by two simple rules, with and without their own patient in sight.

    All rows are divided into 5 parts twice, at random and by patient, both stratified by label; an image is predicted
    from the parts that it is not in.

    Args:
        images: `(n, side, side)` thumbnails.
        y: `(n,)` label code, 0 or more.
        group: `(n,)` patient code, 0 or more.
        asked: Which images are predicted, such as the test images of a split; all if None.
        pool: Which images they are predicted from, such as the training images; all if None.
        draws: Bootstrap draws of patients.
        confidence: What an interval covers.
        seed: Of the parts and the draws.

    Returns:
        None where there are fewer than two classes or five patients, or a part has nothing to learn from.
    """
    everything = np.ones(len(y), dtype=bool)
    asked, pool = everything if asked is None else asked, everything if pool is None else pool
    group = np.unique(group, return_inverse=True)[1].astype(np.intp)
    if len(np.unique(y[pool])) < 2 or len(np.unique(group)) < FOLDS or not asked.any():
        return None
    parts = (_parts(y, None, seed), _parts(y, group, seed))
    if any(len(np.unique(y[pool & (part != number)])) < 2 for part in parts for number in range(FOLDS)):
        return None
    vectors = unit_vectors(images)
    own, y_true = group[asked], y[asked]
    own = np.unique(own, return_inverse=True)[1].astype(np.intp)
    hits = {
        name: [rule(vectors, y, part, asked, pool) == y_true for part in parts]
        for name, rule in (("nn", _nearest_label), ("ridge", _ridge_label))
    }
    strata = strata_of(own, y_true, smallest=SMALLEST_STRATUM)
    drawn = _drawn(hits, own, strata, draws=draws, seed=seed)
    gaps = {
        name: RuleGap(
            by_image=_estimate(by_image, drawn[name][:, 0], len(strata), confidence),
            by_patient=_estimate(by_patient, drawn[name][:, 1], len(strata), confidence),
            gap=_difference(by_image, by_patient, drawn[name], confidence),
        )
        for name, (by_image, by_patient) in hits.items()
    }
    return LeakGap(
        nn=gaps["nn"],
        ridge=gaps["ridge"],
        majority=float(np.bincount(y_true).max() / len(y_true)),
        n_images=len(y_true),
        n_patients=len(strata),
    )


def _parts(y: Ints, group: Ints | None, seed: int) -> Ints:
    """`(n,)` which of 5 parts each row is in; whole patients where they are given."""
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    part = np.zeros(len(y), dtype=np.intp)
    splitter = StratifiedKFold if group is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # then it is not in every part
        try:
            folds = list(splitter(FOLDS, shuffle=True, random_state=seed).split(np.zeros(len(y)), y, group))
        except ValueError:  # no class has as many as there are parts
            return np.asarray(np.random.default_rng(seed).permutation(len(y)) % FOLDS, dtype=np.intp)
    for number, (_, held_out) in enumerate(folds):
        part[held_out] = number
    return part


def _nearest_label(vectors: npt.NDArray[np.float32], y: Ints, part: Ints, asked: Bools, pool: Bools) -> Ints:
    """Label of the most correlated image of the pool that is in another part."""
    known = vectors[pool].T
    y_pool, part_pool, rows = y[pool], part[pool], np.flatnonzero(asked)
    said = np.empty(len(rows), dtype=np.intp)
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        similarity = vectors[some] @ known
        similarity[part[some][:, None] == part_pool] = -2
        said[start : start + BLOCK] = y_pool[similarity.argmax(axis=1)]
    return said


def _ridge_label(vectors: npt.NDArray[np.float32], y: Ints, part: Ints, asked: Bools, pool: Bools) -> Ints:
    """Label with the highest output of a ridge regression fitted on the pool's other parts."""
    from sklearn.linear_model import RidgeClassifier

    said = np.zeros(len(y), dtype=np.intp)
    for number in range(FOLDS):
        fitted, predicted = pool & (part != number), asked & (part == number)
        if predicted.any():
            # Vectors have unit norm: a penalty of 1 is what one image of its own direction weighs.
            said[predicted] = RidgeClassifier(alpha=1.0).fit(vectors[fitted], y[fitted]).predict(vectors[predicted])
    return said[asked]


# --- intervals ----------------------------------------------------------------------------------------------


def _drawn(hits: dict[str, list[Bools]], group: Ints, strata: Ints, *, draws: int, seed: int) -> dict[str, Floats]:
    """`(draws, 2)` accuracies by image and by patient of each rule, under the same draws of patients."""
    columns = np.column_stack([side for sides in hits.values() for side in sides]).astype(np.float64)
    # Whole patients are drawn, so that their sums say all.
    totals = np.zeros((len(strata), columns.shape[1] + 1))
    np.add.at(totals, group, np.column_stack([columns, np.ones(len(group))]))
    one_each = np.arange(len(strata))
    blocks = [weights @ totals for weights in bootstrap_weights(one_each, strata, draws=draws, seed=seed)]
    summed = np.concatenate(blocks)
    accuracy = summed[:, :-1] / summed[:, -1:]
    return {name: accuracy[:, 2 * place : 2 * place + 2] for place, name in enumerate(hits)}


def _estimate(hits: Bools, draws: Floats, n_patients: int, confidence: float) -> Estimate:
    """An accuracy; where all or none are right, Wilson's interval of as many images as there are patients."""
    value = float(hits.mean())
    if value in (0.0, 1.0):
        low, high = wilson_interval(value, n_patients, confidence=confidence)
    else:
        low, high = percentile_interval(draws, confidence=confidence)
    return Estimate(value=value, low=float(low), high=float(high))


def _difference(by_image: Bools, by_patient: Bools, draws: Floats, confidence: float) -> Estimate:
    low, high = percentile_interval(draws[:, 0] - draws[:, 1], confidence=confidence)
    return Estimate(value=float(by_image.mean() - by_patient.mean()), low=float(low), high=float(high))
