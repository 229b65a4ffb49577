"""C4 for predictions: are labels, classes and scores the right way round? `reports` asks printed reports the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from plainfilm import metrics
from plainfilm.auditing.findings import Finding
from plainfilm.auditing.predicted import Tested, tested_of
from plainfilm.auditing.subject import Subject
from plainfilm.measures import plural
from plainfilm.metrics import Ints, percentile_interval
from plainfilm.prediction import Predictions

TITLE = "Labels the right way round"
SOURCE = "Assignment of predicted to true classes: Kuhn 1955. ROC AUC below 0.5: the score ranks the wrong way round."
LIMITS = "It finds classes that are mixed up as wholes, not single wrong labels; those are for G."


def check_label_sanity(
    subject: Subject, *, bundle_classes: Sequence[str] | None = None, gain: float = 0.05, seed: int = 0
) -> Finding:
    """Whether predictions carry the table's labels, in the model's order of classes, and rank the right way round.

    Args:
        subject: What is audited.
        bundle_classes: Class names in the model's own order, where there is a model.
        gain: Balanced accuracy that another naming of the predicted classes may gain; 0.05 is five points.
        seed: Of the intervals.
    """
    rule = (
        f"FAIL where a label or a class is not the table's; where naming the predicted classes otherwise gains "
        f"{100 * gain:g} points* or more of balanced accuracy, and the interval of the gain is above 0; or where the "
        "interval of a ROC AUC lies below 0.5."
    )
    tested = tested_of(subject)
    if subject.predictions is None or tested is None:
        why = (
            "there are no predictions"
            if subject.predictions is None
            else "fewer than two classes have two tested patients"
        )
        return Finding(
            check="C4", title=TITLE, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {why}.", rule=rule,
            source=SOURCE, limits=LIMITS,
        )  # fmt: skip
    draws = tested.draws(seed=seed)
    best, gained, low, high = _best_naming(tested, draws)
    aucs = _rankings(tested, draws)
    faults = [*_naming_faults(subject, subject.predictions, bundle_classes)]
    if gained >= gain and low > 0:
        renamed = ", ".join(
            f"'{tested.classes[c]}' as '{tested.classes[d]}'" for c, d in enumerate(best.tolist()) if c != d
        )
        faults.append(
            f"reading predicted {renamed} gains {100 * gained:.1f} points of balanced accuracy (95% CI "
            f"{100 * low:.1f}-{100 * high:.1f}): the classes of the predictions are mixed up"
        )
    faults += [
        f"the ROC AUC of class '{name}' is {auc:.3f} (95% CI {auc_low:.3f}-{auc_high:.3f}): its score ranks the wrong "
        "way round"
        for name, (auc, auc_low, auc_high) in aucs.items()
        if auc_high < 0.5
    ]
    fine = (
        f"Labels and classes of the predictions are those of the table, and no other naming of the predicted classes "
        f"gains {100 * gain:g} points (it gains {100 * gained:.1f}; {tested.counted})."
    )
    return Finding(
        check="C4",
        title=TITLE,
        verdict="FAIL" if faults else "PASS",
        sentence=f"{_begun('; '.join(faults))} ({tested.counted})." if faults else fine,
        rule=rule,
        source=SOURCE,
        limits=LIMITS,
        advice="Compare the order of the classes in training, in the scores and in the table." if faults else "",
        value=gained,
        low=low,
        high=high,
        n_images=len(tested.rows),
        n_patients=tested.known_patients,
        details={
            "support": dict(zip(tested.classes, np.bincount(tested.y).tolist(), strict=True)),
            "roc_auc": {name: list(ends) for name, ends in aucs.items()},
        },
    )


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def _naming_faults(subject: Subject, predictions: Predictions, bundle_classes: Sequence[str] | None) -> list[str]:
    faults = []
    if bundle_classes is not None and tuple(bundle_classes) != predictions.classes:
        faults.append(
            f"the model's classes are {', '.join(bundle_classes)}, but the columns of the scores are "
            f"{', '.join(predictions.classes)}"
        )
    strangers = sorted(set(subject.classes) - set(predictions.classes))
    if strangers:
        faults.append(f"the model does not know the class {', '.join(strangers)}")
    known = pd.Series(subject.rows["label"].to_numpy(dtype=object), index=subject.rows["path"].astype(str))
    known = known[~known.index.duplicated()]
    of_table = predictions.table["path"].astype(str).map(known)
    said = predictions.table["label"]
    differ = (of_table.notna() & said.notna() & (of_table != said)).to_numpy()
    if differ.any():
        images = plural(int(differ.sum()), "image")
        faults.append(f"the predictions give {images} of {len(said)} another label than the table does")
    return faults


def _best_naming(tested: Tested, draws: metrics.Floats) -> tuple[Ints, float, float, float]:
    """The naming of predicted classes that fits best, and what it gains with its interval."""
    from scipy.optimize import linear_sum_assignment

    named = tested.scores.argmax(axis=1)
    share = metrics.row_share(metrics.confusion_matrix(tested.y, named, len(tested.classes)))
    true, predicted = linear_sum_assignment(-share)
    best = np.empty(len(true), dtype=np.intp)
    best[predicted] = true  # what is predicted as `c` is read as `best[c]`
    if (best == np.arange(len(best))).all():
        return best, 0.0, 0.0, 0.0
    change = (best[named] == tested.y).astype(np.float64) - (named == tested.y)
    gained = float(tested.balanced_accuracy(change))
    low, high = percentile_interval(tested.balanced_accuracy(change, draws))
    return best, gained, float(low), float(high)


def _rankings(tested: Tested, draws: metrics.Floats) -> dict[str, tuple[float, float, float]]:
    """ROC AUC of each class with its interval, corrected for the number of classes; of two classes the second says all.

    Where resampling shows no spread, Newcombe's formula takes over.
    """
    n_classes = len(tested.classes)
    asked = [1] if n_classes == 2 else range(n_classes)
    confidence = 1 - 0.05 / len(asked)
    found = {}
    for c in asked:
        truth = tested.y == c
        auc = float(metrics.roc_auc(truth, tested.scores[:, c]))
        ends = percentile_interval(metrics.roc_auc(truth, tested.scores[:, c], draws), confidence=confidence)
        low, high = float(ends[0]), float(ends[1])
        if high - low < 1e-12:
            low, high = metrics.auc_interval(auc, int(truth.sum()), int((~truth).sum()), confidence=confidence)
        found[tested.classes[c]] = (auc, low, high)
    return found
