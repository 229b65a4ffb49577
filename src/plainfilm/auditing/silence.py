"""Does the model say nothing often enough: the sets of classes that it promised, against the truth (E2)."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from plainfilm.abstention import Abstention
from plainfilm.auditing.findings import Finding, Verdict
from plainfilm.measures import plural
from plainfilm.metrics import Bools, Ints, wilson_interval
from plainfilm.prediction import SET_SEPARATOR, Predictions

SETS: Final = "Vovk, Machine Learning 2013;92:349-376"


def check_silence(abstention: Abstention | None, predictions: Predictions | None) -> Finding:
    """E2: whether sets of classes hold the truth as often as was promised.

    Args:
        abstention: The rule of the model, of several folds that of the first; None where there is no model.
        predictions: On tested rows, with the set of each by the model that scored it.
    """
    rule = "FAIL if a class is covered less often than promised, its whole interval below; WARN for a caution*."
    verdict: Verdict = "NOT ASSESSABLE"
    sentence = "There is no model whose rule of saying nothing could be looked at."
    details: dict[str, object] = {}
    worst: tuple[float, float, float] | None = None
    if abstention is not None and not abstention.applies:
        sentence = f"The model always answers: no promise can be made, {abstention.reason}."
    elif abstention is not None and _without_sets(predictions):
        sentence = (
            f"No promise can be looked at: {plural(_without_sets(predictions), 'image')} were scored by a model of "
            "another fold that has no rule."
        )
    elif abstention is not None:
        promised = 1 - abstention.miss_rate
        verdict = "WARN" if abstention.caution else "PASS"
        sentence = f"Sets of classes are promised to hold the truth in {promised:.0%} of each class"
        covered = {} if predictions is None else _covered(abstention, predictions)
        if covered:
            name = min(covered, key=lambda each: covered[each][0])
            value, low, high, n = covered[name]
            worst = (value, low, high)
            sentence += f"; least covered is '{name}': {value:.0%} ({low:.0%} to {high:.0%}, {plural(n, 'patient')})"
            if any(one[2] < promised for one in covered.values()):
                verdict = "FAIL"
        sentence += f". Caution: {abstention.caution}." if abstention.caution else "."
        details = {
            "promised": promised,
            "classes": {name: found.model_dump() for name, found in abstention.classes.items()},
            "covered": {name: list(found) for name, found in covered.items()},
        }
    return Finding(
        check="E2",
        title="Does it know when to say nothing?",
        verdict=verdict,
        sentence=sentence,
        value=None if worst is None else worst[0],
        low=None if worst is None else worst[1],
        high=None if worst is None else worst[2],
        rule=rule,
        source=SETS,
        limits="The promise is about new patients like those of the calibration; at another site it can break unseen.",
        advice=""
        if verdict == "PASS"
        else "Gather more validation patients of each class; until then a person looks at every answer.",
        details=details,
    )


def _without_sets(predictions: Predictions | None) -> int:
    """Images whose own model says no set, among others whose model does, as in a cross-validation."""
    if predictions is None or "abstains" not in predictions.table:
        return 0
    return int(predictions.labelled().table["abstains"].isna().sum())


def _holds(abstention: Abstention, labelled: Predictions, y_true: Ints) -> Bools:
    """`(n,)` whether the set of each image holds its true class: the set by the model that scored it.

    In a cross-validation every fold has thresholds of its own, from patients that others tested; those of the first
    fold would be thresholds chosen on rows that are measured.
    """
    if "set" not in labelled.table:
        return abstention.sets(labelled.scores, labelled.classes)[np.arange(len(labelled)), y_true]
    sets = labelled.table["set"].fillna("").str.split(SET_SEPARATOR, regex=False)
    return np.array([label in held for label, held in zip(labelled.table["label"], sets, strict=True)], dtype=bool)


def _covered(abstention: Abstention, predictions: Predictions) -> dict[str, tuple[float, float, float, int]]:
    """Of each class the mean share of a patient's images whose set holds the truth, interval and patients."""
    labelled = predictions.labelled()
    if set(labelled.classes) != set(abstention.classes):
        return {}
    y_true = pd.Categorical(labelled.table["label"], categories=list(labelled.classes)).codes
    held = _holds(abstention, labelled, y_true)
    ids = labelled.table["patient_id"].where(labelled.table["patient_id"].notna(), labelled.table["path"])
    found = {}
    for c, name in enumerate(labelled.classes):
        own = y_true == c
        if own.any():
            share = pd.Series(held[own].astype(float)).groupby(ids[own].to_numpy()).mean()
            low, high = wilson_interval(share.mean(), len(share))
            found[name] = (float(share.mean()), float(low), float(high), len(share))
    return found
