"""The threshold of a run, from the rows that may choose it: those of validation, never those that are measured.

It is measured with the run, and kept in its bundle for new images.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from plainfilm.bundle import put_calling
from plainfilm.calling import CallingRule
from plainfilm.fold_thresholds import FoldChoice, with_fold_thresholds
from plainfilm.measures import Evaluation, PatientSource
from plainfilm.operating import OperatingOptions, with_operating_point
from plainfilm.prediction import Predictions
from plainfilm.runs import Run


def with_own_threshold(
    evaluation: Evaluation,
    run: Run,
    scored: Predictions,
    *,
    tested_on: Literal["test", "validation"],
    n_folds: int,
    patients: PatientSource,
    options: OperatingOptions,
) -> Evaluation:
    """The evaluation of a run's own rows with its operating point.

    Args:
        evaluation: Of the tested rows.
        run: Its table, and with folds the scores of each fold's validation rows, are on disk.
        scored: All rows with scores on file.
        tested_on: The split that is measured.
        n_folds: How many trainings there were.
        patients: How they are known.
        options: The rule, and the prevalence to speak of.
    """
    tested = scored.tested(tested_on)
    places = [run.choosing(number, n_folds) for number in range(1, n_folds + 1)]
    if n_folds > 1 and all(place.is_file() for place in places):  # older runs kept none
        rows = run.read_table()
        number_of = dict(zip(rows["path"], rows["fold"], strict=True))
        fold = np.array([int(number_of[path]) - 1 for path in tested.table["path"]], dtype=np.intp)
        choice = FoldChoice(tuple(Predictions.load(place) for place in places), fold)
        return with_fold_thresholds(evaluation, tested, choice, patients=patients, options=options)
    return with_operating_point(
        evaluation,
        tested,
        scored.tested("validation") if tested_on == "test" else None,
        choosing_patients=patients,
        options=options,
    )


def keep_thresholds(evaluation: Evaluation, run: Run, *, n_folds: int) -> None:
    """Put the threshold of each training into its bundle, for `predict`.

    Args:
        evaluation: With its operating point, if there is one.
        run: Its bundles are on disk.
        n_folds: How many trainings there were.
    """
    point = evaluation.operating
    if point is None:
        return
    own = point.folds if n_folds > 1 else (point.threshold,)
    for number in range(1, n_folds + 1):
        rule = CallingRule(
            positive=evaluation.options.positive,
            threshold=own[number - 1] if own else None,
            rule=point.rule,
            n_positive=point.n_positive,
            n_negative=point.n_negative,
            reason=point.reason,
        )
        put_calling(run.fold(number, n_folds) / "bundle", rule)
