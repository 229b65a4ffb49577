"""The leak gap of the model's own score (A8): as given, and where no image of the same patient was trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from plainfilm import metrics
from plainfilm.auditing.findings import Finding, Verdict
from plainfilm.auditing.leak_gap import Estimate
from plainfilm.auditing.leakage_options import LeakageOptions
from plainfilm.auditing.subject import Ints, Subject
from plainfilm.measures import plural
from plainfilm.metrics import Bools, Floats
from plainfilm.prediction import Predictions
from plainfilm.sampling import strata_of

SMALLEST_STRATUM = 2
CLEAN_PATIENTS = 5  # of each class, without a mate in training, that the comparison within one test set needs
WAY = "plainfilm train DATA --split image --leak-gap trains the same a second time by patient, and compares both"


@dataclass(frozen=True)
class _Scored:
    """Labelled images with an answer, and whose they are."""

    y_true: Ints
    y_pred: Ints
    group: Ints

    def where(self, mask: Bools) -> _Scored:
        return _Scored(self.y_true[mask], self.y_pred[mask], self.group[mask])


def check_own_gap(subject: Subject, by_patient: Predictions | None, options: LeakageOptions) -> Finding:
    """A8: what the model's score loses where no other image of the patient was trained on.

    Compared are the test images as given with the test images of a second training of the same recipe, divided by
    patient; or, without one, with those test images whose patient has no other image in training.

    Args:
        subject: What is audited, with the model's predictions.
        by_patient: Scores of the tested images of the second training; None where there was none.
        options: Draws, seed, and when a gap fails.
    """
    facts: dict[str, Any] = {
        "check": "A8",
        "title": "The model's score as given and patient-safe",
        "rule": "FAIL where the lower bound of the difference is above "
        f"{100 * options.leak_points:g} points*. WARN where images of tested patients were trained on.",
        "source": "Yagis et al., Scientific Reports 2021;11:22544; paired bootstrap of patients.",
        "limits": "Two trainings differ by chance as well (see C5), and recovered patients are those that look alike.",
    }

    if subject.predictions is None or not (subject.group >= 0).any() or subject.patients == "declared":
        why = "there is no model" if subject.predictions is None else "patients are neither documented nor recovered"
        return Finding(**facts, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {why}.")
    given, rows = _scored(subject, subject.predictions)
    has_mate = _has_mate(subject)[rows]
    counts: dict[str, Any] = {"images_with_a_mate": int(has_mate.sum()), "test_images": len(rows)}
    if by_patient is None and len(rows) and not has_mate.any():
        return Finding(
            **facts,
            verdict="PASS",
            sentence=f"None of {plural(len(rows), 'test image')} is of a patient who was trained on: the score is "
            "patient-safe as it is.",
            n_images=len(rows),
            n_patients=len(np.unique(given.group)),
            details=counts,
        )
    safe = given.where(~has_mate) if by_patient is None else _scored(subject, by_patient)[0]
    shared = np.intersect1d(np.unique(given.y_true), np.unique(safe.y_true))
    if len(shared) < 2 or (by_patient is None and not _enough(given, safe)):
        return Finding(
            **facts,
            verdict="NOT ASSESSABLE",
            sentence=f"Not assessable: {plural(int(has_mate.sum()), 'test image')} of {len(rows)} are of patients who "
            "were trained on, and too few are not.",
            advice=f"{WAY}.",
            details=counts,
        )
    as_given, patient_safe, gap = _compared(given, safe, shared, options)
    verdict: Verdict = "FAIL" if gap.low > options.leak_points else "WARN" if has_mate.any() else "PASS"
    how = (
        "on those whose patient was not trained on"
        if by_patient is None
        else "when the same recipe is trained with whole patients held out"
    )
    return Finding(
        **facts,
        verdict=verdict,
        sentence=f"Balanced accuracy is {as_given.value:.3f} on the test images as given "
        f"({plural(len(given.y_true), 'image')}, {has_mate.sum()} of them of patients who were trained on) and "
        f"{patient_safe.value:.3f} {how} ({plural(len(safe.y_true), 'image')} of "
        f"{plural(len(np.unique(safe.group)), 'patient')}): a difference of {100 * gap.value:.1f} points (95% CI "
        f"{100 * gap.low:.1f} to {100 * gap.high:.1f}).",
        advice="Report the patient-safe score: it is the one that a new patient meets." if verdict != "PASS" else "",
        value=gap.value,
        low=gap.low,
        high=gap.high,
        n_images=len(given.y_true) + len(safe.y_true) if by_patient is not None else len(given.y_true),
        n_patients=len(np.union1d(given.group, safe.group)),
        details=counts
        | {
            "as_given": asdict(as_given),
            "patient_safe": asdict(patient_safe),
            "difference": asdict(gap),
            "trained_again": by_patient is not None,
            "classes": [subject.classes[code] for code in shared],
        },
    )


def _scored(subject: Subject, predictions: Predictions) -> tuple[_Scored, Ints]:
    """Truth, answer and patient of the scored images, and their rows in the subject."""
    row_of = {path: row for row, path in enumerate(subject.rows["path"])}
    place = np.array([row_of.get(path, -1) for path in predictions.table["path"]], dtype=np.intp)
    code_of = {name: code for code, name in enumerate(subject.classes)}
    named = np.array([code_of.get(name, len(code_of)) for name in predictions.classes], dtype=np.intp)[
        predictions.y_pred
    ]
    usable = (place >= 0) & (subject.y[place] >= 0) & (subject.group[place] >= 0)
    rows = place[usable]
    return _Scored(subject.y[rows], named[usable], subject.group[rows]), rows


def _has_mate(subject: Subject) -> Bools:
    """`(n,)` whether another image of the patient is on another side of the split; of folds, in another fold."""
    found = np.zeros(len(subject), dtype=np.bool_)
    if subject.split is None:
        return found
    frame = pd.DataFrame({"patient": subject.group, "split": subject.split})
    frame = frame[(frame["patient"] >= 0) & frame["split"].notna()]
    sides = frame["split"].where(~frame["split"].isin(["validation"]), "train")
    several = sides.groupby(frame["patient"]).transform("nunique") > 1
    found[frame.index[several]] = True
    return found


def _enough(given: _Scored, clean: _Scored) -> bool:
    """Whether every tested class has enough patients without a mate in training."""
    return all(len(np.unique(clean.group[clean.y_true == code])) >= CLEAN_PATIENTS for code in np.unique(given.y_true))


def _compared(
    given: _Scored, safe: _Scored, classes: Ints, options: LeakageOptions
) -> tuple[Estimate, Estimate, Estimate]:
    """Balanced accuracy of both, and their difference, under the same draws of patients."""
    y_true, y_pred = np.concatenate([given.y_true, safe.y_true]), np.concatenate([given.y_pred, safe.y_pred])
    group = np.unique(np.concatenate([given.group, safe.group]), return_inverse=True)[1].astype(np.intp)
    first: Bools = np.arange(len(y_true)) < len(given.y_true)
    n_classes = int(max(y_true.max(), y_pred.max())) + 1

    def mean_recall(weights: Floats, side: Bools) -> Floats:
        recall = metrics.recall(metrics.confusion_matrix(y_true, y_pred, n_classes, weights * side))
        return np.asarray(recall[..., classes].mean(axis=-1))

    strata = strata_of(group, y_true, smallest=SMALLEST_STRATUM)
    blocks = metrics.bootstrap_weights(group, strata, draws=options.leak_draws, seed=options.leak_seed)
    drawn = np.concatenate(
        [np.column_stack([mean_recall(weights, first), mean_recall(weights, ~first)]) for weights in blocks]
    )
    drawn = drawn[np.isfinite(drawn).all(axis=1)]  # a class may be missing from a draw
    ones = np.ones(len(y_true))
    values = [float(mean_recall(ones, side)) for side in (first, ~first)]
    ends = [metrics.percentile_interval(column) for column in (drawn[:, 0], drawn[:, 1], drawn[:, 0] - drawn[:, 1])]
    for place, side in enumerate((given, safe)):
        if values[place] in (0.0, 1.0):  # no draw differs from another: as many images as there are patients
            ends[place] = metrics.wilson_interval(values[place], len(np.unique(side.group)))
    estimates = [
        Estimate(value=value, low=float(low), high=float(high))
        for value, (low, high) in zip((*values, values[0] - values[1]), ends, strict=True)
    ]
    return estimates[0], estimates[1], estimates[2]
