"""How far scores can be believed, measured on drawn patients like every other number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plainfilm import metrics
from plainfilm.abstention import risk_coverage
from plainfilm.calibration import Bins, calibration_intercept, calibration_slope, patient_weights
from plainfilm.measures import EvaluationOptions, Measure, Reliability
from plainfilm.metrics import Floats, Ints
from plainfilm.sampling import UNKNOWN_PATIENTS, Rows, joined

FEWEST = 16  # patients: two bins of eight


def reliability_of(rows: Rows, strata: Ints, options: EvaluationOptions) -> tuple[list[Measure], Reliability | None]:
    """Slope, intercepts and calibration error with their intervals, and the points of the plots.

    Args:
        rows: Images or patients, of all classes or of a two-way reading.
        strata: Of each patient; see `sampling.strata_of`.
        options: Draws, confidence and limits.

    Returns:
        The measures; and the points, or None where patients are too few for them.
    """
    everything = np.ones(len(rows.group), dtype=bool)
    n_groups = rows.n_groups(everything)
    claimed, right = _claims(rows)
    bins = Bins.equal_mass(claimed, right, rows.group)
    named = [c for c in range(len(rows.reading.classes)) if rows.reading.of is None or c == 1]

    def figures(weights: Floats | None) -> Floats:
        """All of them, `(..., figures)`: slope, error, then the intercept of each class."""
        return np.stack(
            [
                calibration_slope(rows.y_true, rows.scores, weights),
                bins.error(weights),
                *(calibration_intercept(rows.y_true == c, rows.scores[:, c], weights) for c in named),
            ],
            axis=-1,
        )

    draws = np.concatenate(
        [
            figures(weights)
            for weights in metrics.bootstrap_weights(rows.group, strata, draws=options.draws, seed=options.draw_seed)
        ]
    )
    point = figures(None)
    # Drawing patients adds noise, and noise adds to a distance: the draws are moved back to the figure itself.
    draws[:, 1] = np.clip(draws[:, 1] - draws[:, 1].mean() + point[1], 0, 1)
    few = n_groups < FEWEST
    overall = [
        _measure(rows, name, rows.reading.of, point[place], draws[:, place], few=FEWEST if few else 0, options=options)
        for place, name in enumerate(("calibration_slope", "calibration_error"))
    ]
    of_classes = [_intercept(rows, c, point[2 + place], draws[:, 2 + place], options) for place, c in enumerate(named)]
    measures = [*overall, *of_classes]
    if not rows.patients_known:
        measures = [replace(measure, reason=joined(measure.reason, UNKNOWN_PATIENTS)) for measure in measures]
    return measures, None if few else _points(rows, bins, options)


def _claims(rows: Rows) -> tuple[Floats, metrics.Bools]:
    """What each row claims and whether it is so: the highest score of all classes, or that of the positive side."""
    if rows.reading.of is None:
        return rows.scores.max(axis=1), rows.y_pred == rows.y_true
    return rows.scores[:, 1], rows.y_true == 1


def _intercept(rows: Rows, c: int, value: Floats, draws: Floats, options: EvaluationOptions) -> Measure:
    inside = rows.y_true == c
    fewest = min(rows.n_groups(inside), rows.n_groups(~inside))
    measure = _measure(
        rows,
        "calibration_intercept",
        rows.reading.classes[c],
        value,
        draws,
        few=options.min_patients if fewest < options.min_patients else 0,
        options=options,
    )
    caution = f"caution: only {fewest} {rows.counted}s on one side" if fewest < options.caution_patients else ""
    return replace(measure, reason=caution) if measure.value is not None and caution else measure


def _measure(
    rows: Rows, name: str, of: str | None, value: Floats, draws: Floats, *, few: int, options: EvaluationOptions
) -> Measure:
    """One figure with its interval; withheld where `few` says how many patients it would need."""
    everything = np.ones(len(rows.group), dtype=bool)
    undefined = int(np.isnan(draws).sum())
    nothing = Measure(
        name=name,
        unit=rows.unit,
        of=of,
        value=None,
        low=None,
        high=None,
        n_images=int(rows.n_images.sum()),
        n_patients=rows.n_groups(everything) if rows.patients_known else None,
        interval="none",
        confidence=options.confidence,
    )
    if few:
        return replace(nothing, reason=f"{few} {rows.counted}s are needed")
    if np.isnan(value) or undefined > len(draws) / 2:
        return replace(nothing, reason="undefined: the scores make no error, or do not tell the classes apart")
    low, high = metrics.percentile_interval(draws, confidence=options.confidence)
    return replace(
        nothing,
        value=float(value),
        low=float(low),
        high=float(high),
        interval="bootstrap",
        reason=f"caution: undefined in {undefined} of {len(draws)} draws" if undefined else "",
    )


def _points(rows: Rows, bins: Bins, options: EvaluationOptions) -> Reliability:
    claimed, observed, low, high, n_patients = bins.points(confidence=options.confidence)
    right = rows.y_pred == rows.y_true
    answered, risk = risk_coverage(right, rows.scores.max(axis=1), patient_weights(rows.group))
    thin = np.unique(np.linspace(0, len(answered) - 1, 100).astype(np.intp))
    return Reliability(
        unit=rows.unit,
        of=rows.reading.of,
        claimed=tuple(claimed.tolist()),
        observed=tuple(observed.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        n_patients=tuple(n_patients.tolist()),
        answered=tuple(answered[thin].tolist()),
        risk=tuple(risk[thin].tolist()),
        chance=bins.chance(seed=options.draw_seed) if rows.patients_known else None,
    )
