"""Predictions that another program wrote: a table of truths and scores, under whatever names it gave them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.data.manifests import (
    LABEL_NAMES,
    PATH_NAMES,
    PATIENT_NAMES,
    SPLIT_NAMES,
    find_column,
    read_text_table,
)
from plainfilm.data.table import clean_text, shown, split_of
from plainfilm.errors import TableError
from plainfilm.prediction import Predictions

TRUTH_NAMES: Final = ("label", "truth", "true", "y_true", "true_label", "target", *LABEL_NAMES)
ANSWER_NAMES: Final = ("predicted", "prediction", "y_pred", "pred", "predicted_label", "predicted_class")
ONE_SCORE_NAMES: Final = ("score", "probability", "prob", "y_score", "p")
PREFIXES: Final = re.compile(r"^(?:score|probability|prob|p|proba)[\s_:-]+(?=.)", re.IGNORECASE)
Scores = npt.NDArray[np.float64]

SUM_TOLERANCE: Final = 0.02  # as rounded to two digits


def read_predictions(path: Path, *, positive: str | None = None) -> Predictions:
    """A CSV, TSV or text table with one row per image.

    Columns, under the usual names: the truth (`label`, `truth`, `y_true`, ...); and either one score per class (named
    as the class, with or without `score_`, `prob_`, `p_`), or one `score` of the `positive` class, or the class
    `predicted`, which counts as a score of 1. `path`, `patient_id` and `split` are used where they are there; a table
    without `split` is taken to be of test images.

    Args:
        path: The table.
        positive: The class that a single score is about.

    Raises:
        TableError: `AUD_PREDICTIONS`, saying which column is missing or which row is wrong.
    """
    frame = read_text_table(path).reset_index(drop=True)
    truth = find_column(frame, None, TRUTH_NAMES, kind="truth")
    if truth is None:
        raise _refused(f"no column of true classes; call it 'label'. Columns: {_named(frame.columns)}")
    label = frame[truth].map(clean_text)
    scores, classes = _scores(frame, sorted({name for name in label if name}), positive)
    strangers = sorted({name for name in label if name} - set(classes))
    if strangers:
        raise _refused(f"the true class '{shown(strangers[0])}' has no score column; there are {_named(classes)}")
    table = pd.DataFrame(
        {
            "path": _column(frame, PATH_NAMES, [f"row {number}" for number in range(1, len(frame) + 1)]),
            "label": label,
            "patient_id": _column(frame, PATIENT_NAMES, None),
            "split": _splits(frame),
        }
    ).astype(object)
    return Predictions(tuple(classes), table.where(table.notna(), None), scores)


def _scores(frame: pd.DataFrame, labels: Sequence[str], positive: str | None) -> tuple[Scores, list[str]]:
    """`(n, classes)` and the classes, sorted."""
    by_class = {PREFIXES.sub("", str(name)): str(name) for name in frame.columns if PREFIXES.match(str(name))}
    by_class |= {name: name for name in labels if name in frame.columns}
    if len(by_class) >= 2:
        classes = sorted(by_class)
        scores = np.column_stack([_numbers(frame, by_class[name]) for name in classes])
        total = scores.sum(axis=1)
        bad = np.flatnonzero(np.abs(total - 1) > SUM_TOLERANCE)
        if len(bad):
            raise _refused(f"the scores of row {bad[0] + 1} sum to {total[bad[0]]:.3g}, not 1")
        return scores / total[:, None], classes
    one = find_column(frame, None, ONE_SCORE_NAMES, kind="score")
    answer = find_column(frame, None, ANSWER_NAMES, kind="prediction")
    if one is not None:
        if len(labels) != 2 or positive not in labels:
            raise _refused(
                f"column '{shown(one)}' is one score: say of which of two classes with --positive ({_named(labels)})"
            )
        score = _numbers(frame, one)
        other = 1 - score
        return np.column_stack([other, score] if labels[1] == positive else [score, other]), [*labels]
    if answer is None:
        raise _refused(
            "neither scores of the classes (score_NAME), nor 'score', nor 'predicted'. "
            f"Columns: {_named(frame.columns)}"
        )
    said = frame[answer].map(clean_text)
    if said.isna().any():
        raise _refused(f"row {int(said.isna().to_numpy().argmax()) + 1} has no predicted class")
    classes = sorted({*labels, *said})
    return (said.to_numpy(dtype=object)[:, None] == np.array(classes, dtype=object)).astype(np.float64), classes


def _numbers(frame: pd.DataFrame, name: str) -> Scores:
    numbers = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~((numbers >= 0) & (numbers <= 1)))
    if len(bad):
        raise _refused(f"column '{shown(name)}', row {bad[0] + 1}: not a number from 0 to 1")
    return numbers


def _column(frame: pd.DataFrame, names: Sequence[str], default: list[str] | None) -> pd.Series:
    found = find_column(frame, None, names, kind=names[0])
    if found is None:
        return pd.Series(default if default is not None else [None] * len(frame), dtype=object)
    return frame[found].map(clean_text).astype(object)


def _splits(frame: pd.DataFrame) -> pd.Series:
    found = find_column(frame, None, SPLIT_NAMES, kind="split")
    if found is None:
        return pd.Series(["test"] * len(frame), dtype=object)
    return pd.Series([split_of(str(cell)) if clean_text(cell) else None for cell in frame[found]], dtype=object)


def _named(names: Sequence[str] | pd.Index) -> str:
    return ", ".join(f"'{shown(str(name))}'" for name in list(names)[:12]) + (", ..." if len(names) > 12 else "")


def _refused(what: str) -> TableError:
    return TableError(f"These are not predictions: {what}.", code="AUD_PREDICTIONS")
