"""Thresholds of a cross-validation: each training chooses its own, and calls the patients that it was tested on.

A threshold for all folds together would be chosen on patients that another fold tests. So there is none: the threshold
of a fold comes from the validation patients of its own training, scored by its own model, and no row that it is used on
can change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from plainfilm.evaluation import patient_of_image, two_way_rows
from plainfilm.measures import Evaluation, OperatingPoint, PatientSource, plural
from plainfilm.metrics import Ints
from plainfilm.operating import OperatingOptions, choose_threshold, decision_curve, measured_at
from plainfilm.prediction import Predictions
from plainfilm.sampling import Sample


@dataclass(frozen=True)
class FoldChoice:
    """Who chooses the threshold for whom.

    Attributes:
        choosing: Validation rows of each fold, scored by the model of that fold.
        fold: `(n,)` fold of each row to be measured, 0 to `len(choosing) - 1`.
    """

    choosing: tuple[Predictions, ...]
    fold: Ints


def with_fold_thresholds(
    evaluation: Evaluation,
    tested: Predictions,
    choice: FoldChoice,
    *,
    patients: PatientSource,
    options: OperatingOptions,
) -> Evaluation:
    """As `operating.with_operating_point`, with a threshold for each fold.

    Args:
        evaluation: Of `tested`.
        tested: Labelled rows, each scored by the model of its fold.
        choice: Who chooses for whom.
        patients: How they are known.
        options: The rule, and the prevalence to speak of.
    """
    asked = evaluation.options
    if not asked.positive:
        return evaluation
    of = " + ".join(name for name in evaluation.classes if name in asked.positive)
    points = [choose_threshold(of, part, patients, asked, options) for part in choice.choosing]
    point = _together(points)
    if evaluation.patients == "unknown":
        reason = "the patients that are measured are not known"
        return replace(evaluation, operating=replace(point, threshold=None, folds=(), reason=reason))
    rows, strata = two_way_rows(tested, patients=evaluation.patients, options=asked)
    fold_of_patient = _fold_of_patient(patient_of_image(tested, evaluation.patients), choice.fold)
    if point.threshold is not None and fold_of_patient is None:
        point = replace(point, threshold=None, folds=(), reason="images of one patient are in several folds")
    if point.threshold is not None and fold_of_patient is not None:
        own = np.array(point.folds)[fold_of_patient[rows.group]]
        called = replace(rows, reading=replace(rows.reading, threshold=own))
        point = replace(point, measures=measured_at(Sample.drawn(called, strata, asked), options.prevalence))
    return replace(evaluation, operating=point, decision=decision_curve(rows, strata, asked))


def _together(points: Sequence[OperatingPoint]) -> OperatingPoint:
    """What the folds chose; nothing where one of them could not."""
    fewest = replace(
        points[0],
        n_positive=min(point.n_positive for point in points),
        n_negative=min(point.n_negative for point in points),
    )
    chosen = [point.threshold for point in points if point.threshold is not None]
    if len(chosen) < len(points):
        number = next(number for number, point in enumerate(points, start=1) if point.threshold is None)
        reason = f"fold {number} of {len(points)}: {points[number - 1].reason}"
        return replace(fewest, threshold=None, reason=reason)
    cautious = [point.reason for point in points if point.reason]
    caution = f"{plural(len(cautious), 'fold')} of {len(points)} with a {cautious[0]}" if cautious else ""
    return replace(fewest, threshold=float(np.median(chosen)), folds=tuple(chosen), reason=caution)


def _fold_of_patient(patient: Ints, fold: Ints) -> Ints | None:
    """`(n_patients,)` the fold that tests each; None where several test one."""
    pairs = np.unique(np.stack([patient, fold]), axis=1)
    return pairs[1] if len(pairs[0]) == len(np.unique(patient)) else None
