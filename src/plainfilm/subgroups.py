"""Does the model serve every group of patients alike: each group against all others, on the same drawn patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd

from plainfilm import metrics, pairing
from plainfilm.measures import EvaluationOptions, Gap, SubgroupOptions, Unit, plural
from plainfilm.metrics import Bools, Floats, Ints
from plainfilm.sampling import Reading, Rows, rows_of

UNKNOWN = "unknown"
NUMBERS = 10  # more different numbers than this are put into bands
MOST_VALUES = 12  # a column with more groups says nothing about any of them
SIDES = {"sensitivity": 1, "false_negative_rate": 1, "specificity": 0}
POWER = 0.8


def gaps_of(
    reading: Reading,
    group: Ints,
    strata: Ints,
    attributes: pd.DataFrame,
    options: SubgroupOptions,
    evaluation: EvaluationOptions,
    *,
    patients_known: bool,
) -> tuple[list[Gap], list[str]]:
    """Every gap between a group and all others, and sentences on columns that say nothing.

    Args:
        reading: Truth and scores of each image. With two sides: sensitivity, specificity, false negative rate and ROC
            AUC; over all classes: sensitivity and ROC AUC of each class.
        group: `(n,)` patient of each image.
        strata: Of each patient, as they are drawn.
        attributes: One row per image.
        options: Which columns, and how few patients a group may have.
        evaluation: Draws and confidence.
        patients_known: Whether counts are of patients.
    """
    gaps: list[Gap] = []
    notes: list[str] = []
    for column in options.subgroup:
        if column not in attributes.columns:
            notes.append(f"There is no column '{column}' to make groups of.")
            continue
        values = banded(attributes[column], options.age_bands)
        n_values = len(set(values) - {UNKNOWN})
        if not 2 <= n_values <= MOST_VALUES:
            notes.append(f"Column '{column}' makes {plural(n_values, 'group')}; 2 to {MOST_VALUES} can be compared.")
            continue
        rows, of_row = _rows(reading, group, values, patients_known=patients_known)
        found = list(_of_column(column, rows, of_row, strata, options, evaluation))
        gaps += _with_holm(found)
    return gaps, notes


def banded(column: pd.Series, edges: Sequence[float]) -> np.ndarray:
    """Each row's group as text: the value itself, or for many different numbers a band such as `40 to 59`.

    Ages as DICOM writes them (`045Y`) are numbers.
    """
    text = column.astype("string").str.strip()
    numbers = pd.to_numeric(text.str.replace(r"^0*(\d+)Y$", r"\1", regex=True), errors="coerce")
    known = text.notna() & (text != "")
    if numbers[known].notna().all() and numbers[known].nunique() > NUMBERS:
        names = [f"below {edges[0]:g}"]
        names += [f"{low:g} to below {high:g}" for low, high in pairwise(edges)]
        names.append(f"{edges[-1]:g} and above")
        place = np.searchsorted(np.asarray(edges), numbers.fillna(0).to_numpy(), side="right")
        text = pd.Series([names[index] for index in place], index=column.index, dtype="string")
    return text.where(known, UNKNOWN).to_numpy(dtype=object)


def _rows(reading: Reading, group: Ints, values: np.ndarray, *, patients_known: bool) -> tuple[Rows, np.ndarray]:
    """Patients as rows where each has one value, else images; and the value of each row."""
    per_patient = pd.Series(values).groupby(group).nunique()
    unit: Unit = "patient" if patients_known and (per_patient == 1).all() else "image"
    rows = rows_of(reading, group, unit=unit, patients_known=patients_known)
    if unit == "image":
        return rows, values
    first = pd.Series(values).groupby(group).first()
    return rows, first.reindex(rows.group).to_numpy(dtype=object)


def _of_column(
    column: str,
    rows: Rows,
    of_row: np.ndarray,
    strata: Ints,
    options: SubgroupOptions,
    evaluation: EvaluationOptions,
) -> Iterator[Gap]:
    """Each group of a column against all others whose value is known."""
    known = of_row != UNKNOWN
    names = sorted(set(of_row[known]))
    for name in names[:1] if len(names) == 2 else names:
        inside = of_row == name
        outside = known & ~inside
        for measure, c in _measures(rows):
            yield _gap(column, name, rows, inside, outside, strata, measure, c, options, evaluation, names)


def _measures(rows: Rows) -> Iterator[tuple[str, int]]:
    """What is compared, and of which class."""
    if rows.reading.of is not None:
        yield from ((name, 1) for name in (*SIDES, "roc_auc"))
        return
    for c in range(len(rows.reading.classes)):
        yield from (("sensitivity", c), ("roc_auc", c))


def _figure(rows: Rows, measure: str, c: int, weights: Floats) -> Floats:
    """The measure under each set of weights; by the same functions as everywhere."""
    if measure == "roc_auc":
        return metrics.roc_auc(rows.y_true == c, rows.scores[:, c], weights)
    side = c if rows.reading.of is None else SIDES[measure]
    cm = metrics.confusion_matrix(rows.y_true, rows.y_pred, len(rows.reading.classes), weights)
    found = metrics.recall(cm)[..., side]
    return 1 - found if measure == "false_negative_rate" else found


def _gap(
    column: str,
    name: str,
    rows: Rows,
    inside: Bools,
    outside: Bools,
    strata: Ints,
    measure: str,
    c: int,
    options: SubgroupOptions,
    evaluation: EvaluationOptions,
    names: Sequence[str],
) -> Gap:
    side = c if rows.reading.of is None else SIDES.get(measure, 1)
    positive = rows.y_true == side
    counts = [(rows.n_groups(part), rows.n_groups(part & positive)) for part in (inside, outside)]
    nothing = Gap(
        column=column,
        group=name,
        others=names[1] if len(names) == 2 else "all others",
        measure=measure,
        of=rows.reading.of or rows.reading.classes[c],
        unit=rows.unit,
        n_group=counts[0][0],
        n_others=counts[1][0],
        n_positive_group=counts[0][1],
        n_positive_others=counts[1][1],
    )
    both = inside | outside
    overall = float(_figure(rows, measure, c, both.astype(np.float64)))
    if min(n for n, _ in counts) < options.subgroup_patients or min(n for _, n in counts) < options.subgroup_positives:
        return replace(nothing, detectable=_detectable(overall, [n for _, n in counts], evaluation.confidence))
    values = [float(_figure(rows, measure, c, part.astype(np.float64))) for part in (inside, outside)]
    draws = np.concatenate(
        [
            _figure(rows, measure, c, weights * inside) - _figure(rows, measure, c, weights * outside)
            for weights in metrics.bootstrap_weights(
                rows.group, strata, draws=evaluation.draws, seed=evaluation.draw_seed
            )
        ]
    )
    if np.isnan(values).any() or np.isnan(draws).all():
        return nothing
    gap = values[0] - values[1]
    low, high = (float(end) for end in metrics.percentile_interval(draws, confidence=evaluation.confidence))
    return replace(
        nothing,
        value_group=values[0],
        value_others=values[1],
        gap=gap,
        low=low,
        high=high,
        p=_permutation_p(gap, rows, inside, outside, strata, measure, c, evaluation),
        detectable=_reach(evaluation.confidence) * float(np.nanstd(draws)),
    )


def _permutation_p(
    observed: float,
    rows: Rows,
    inside: Bools,
    outside: Bools,
    strata: Ints,
    measure: str,
    c: int,
    evaluation: EvaluationOptions,
) -> float:
    """P of a gap when the groups are dealt anew to whole patients of the same class."""
    generator = np.random.default_rng(evaluation.draw_seed)
    both = np.flatnonzero(inside | outside)
    patients, code = np.unique(rows.group[both], return_inverse=True)
    # A patient of both groups (images of two views) is dealt whole to the one with more of their rows.
    share = np.bincount(code, weights=inside[both].astype(np.float64)) / np.bincount(code)
    belongs = share >= 0.5
    order = np.argsort(strata[patients], kind="stable")
    sizes = np.bincount(strata[patients])
    chance = []
    for _ in range(evaluation.draws):
        dealt = np.empty(len(patients), dtype=bool)
        start = 0
        for size in sizes:
            own = order[start : start + size]
            dealt[own] = belongs[own][generator.permutation(size)]
            start += size
        chance.append(dealt)
    masks = np.zeros((len(chance), len(rows.group)))
    masks[:, both] = np.array(chance)[:, code]
    others = np.zeros_like(masks)
    others[:, both] = 1 - masks[:, both]
    return pairing.permutation_p(observed, _figure(rows, measure, c, masks) - _figure(rows, measure, c, others))


def _with_holm(gaps: list[Gap]) -> list[Gap]:
    """The gaps of one column with the p of all of them together."""
    tested = [index for index, gap in enumerate(gaps) if gap.p is not None]
    adjusted = pairing.holm([gaps[index].p or 0.0 for index in tested])
    for index, p in zip(tested, adjusted, strict=True):
        gaps[index] = replace(gaps[index], p_holm=p)
    return gaps


def _detectable(share: float, n_positive: Sequence[int], confidence: float) -> float | None:
    """The smallest gap between two shares of so many patients that would be found 80 times of 100; up to 1."""
    if min(n_positive) < 1 or np.isnan(share):
        return None
    typical = float(np.clip(share, 0.1, 0.9))  # a share of 0 or 1 has no spread to plan with
    return float(min(1.0, _reach(confidence) * np.sqrt(typical * (1 - typical) * sum(1 / n for n in n_positive))))


def _reach(confidence: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + confidence) / 2) + norm.ppf(POWER))
