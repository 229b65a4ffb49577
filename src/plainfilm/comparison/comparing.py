"""Measure every model on the same draws of the same patients, and take the differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

import numpy as np

from plainfilm import pairing
from plainfilm.comparison.contenders import Contender, aligned
from plainfilm.comparison.results import Comparison, ComparisonOptions, Difference, Standing
from plainfilm.comparison.words import told
from plainfilm.errors import UsageError, unknown_name
from plainfilm.evaluation import headline_of, samples_of
from plainfilm.measures import EvaluationOptions, Measure, Unit
from plainfilm.metrics import Floats, Ints, percentile_interval
from plainfilm.sampling import Rows, Sample, figures_of

RANKINGS = ("roc_auc", "average_precision", "macro_roc_auc", "macro_average_precision")


def compare_predictions(
    contenders: Sequence[Contender],
    *,
    evaluation: EvaluationOptions | None = None,
    options: ComparisonOptions | None = None,
) -> Comparison:
    """Compare models on the rows that all of them were tested on.

    Whole patients are drawn, the same for every model, so that an interval is about the difference and not about two
    numbers beside each other. The p value exchanges the models for whole patients; scores are then compared by rank
    where only their order matters.

    Args:
        contenders: Two or more. Rows are the same where their paths are.
        evaluation: Draws, confidence, limits and the positive classes.
        options: What is compared.

    Raises:
        UsageError: `CMP_ONE_RUN`, `CMP_SAME_NAME`, `UNKNOWN_MEASURE`, `EVL_NO_PATIENTS`.
        DataError: `CMP_CLASSES`, `CMP_NO_COMMON`, `CMP_IMAGES`, `CMP_LABELS` or `CMP_PATIENTS` where the models were
            not asked the same.
    """
    evaluation, options = evaluation or EvaluationOptions(), options or ComparisonOptions()
    same_rows, patients, notes = aligned(contenders)
    if options.unit == "patient" and patients == "unknown":
        raise UsageError("Nothing can be compared by patient: patients are not known.", code="EVL_NO_PATIENTS")
    unit: Unit = options.unit or ("image" if patients == "unknown" else "patient")
    drawn = [
        _Measured(samples_of(predictions, patients=patients, units=[unit], options=evaluation))
        for predictions in same_rows
    ]
    names = [contender.name for contender in contenders]
    struck = [contender.struck for contender in contenders]
    wanted = _wanted(drawn[0], unit=unit, options=options)
    pairs = list(combinations(range(len(names)), 2)) if options.all_pairs else [(0, k) for k in range(1, len(names))]
    differences: list[Difference] = []
    for measure in wanted:
        found = [
            replace(
                _difference(drawn[a], drawn[b], measure, evaluation=evaluation, options=options),
                reference=names[a],
                model=names[b],
                struck=struck[a] is not None or struck[b] is not None,
            )
            for a, b in pairs
        ]
        differences += told(found, evaluation.confidence)
    return Comparison(
        standings=tuple(
            Standing(name=name, struck=why, measures=tuple(own.measure_like(measure) for measure in wanted))
            for name, why, own in zip(names, struck, drawn, strict=True)
        ),
        differences=tuple(differences),
        notes=notes,
        options=options,
        confidence=evaluation.confidence,
    )


# --- measures -----------------------------------------------------------------------------------------------


class _Measured:
    """The samples of one model, and every measure of them."""

    def __init__(self, samples: list[Sample]) -> None:
        self._found: dict[tuple[str, str | None], tuple[Measure, Sample]] = {}
        self.positive = samples[-1].rows.reading.of
        for sample in samples:
            for measure in sample.measures():
                self._found.setdefault((measure.name, measure.of), (measure, sample))

    @property
    def measures(self) -> list[Measure]:
        return [measure for measure, _ in self._found.values()]

    def measure_like(self, other: Measure) -> Measure:
        """This model's own; withheld where it has none, as the precision of a class never predicted."""
        found = self._found.get((other.name, other.of))
        if found is not None:
            return found[0]
        return replace(other, value=None, low=None, high=None, interval="none", reason="not defined for this model")

    def sample_of(self, measure: Measure) -> Sample:
        return self._found[measure.name, measure.of][1]


def _wanted(measured: _Measured, *, unit: Unit, options: ComparisonOptions) -> list[Measure]:
    """The headline, then what was asked for, each once."""
    wanted = [headline_of(measured.measures, unit=unit, positive=measured.positive)]
    for name in options.measure:
        named = [measure for measure in measured.measures if measure.name == name]
        if not named:
            raise unknown_name("measure", name, {measure.name for measure in measured.measures})
        overall = [measure for measure in named if measure.of is None]
        chosen = [measure for measure in named if options.of in (None, measure.of)]
        chosen = overall if overall and (options.of is None or len(named) == len(overall)) else chosen
        if not chosen:
            known = ", ".join(sorted({str(measure.of) for measure in named if measure.of}))
            raise UsageError(f"There is no {name} of '{options.of}'. Known: {known}.", code="UNKNOWN_MEASURE")
        wanted += [measure for measure in chosen if measure not in wanted]
    return wanted


# --- one difference -----------------------------------------------------------------------------------------


def _difference(
    reference: _Measured,
    model: _Measured,
    measure: Measure,
    *,
    evaluation: EvaluationOptions,
    options: ComparisonOptions,
) -> Difference:
    """The difference of two models in one measure; names and words come later."""
    one, other = reference.measure_like(measure), model.measure_like(measure)
    sample = reference.sample_of(measure)
    rows = sample.rows
    n_groups = rows.n_groups(np.ones(len(rows.group), dtype=bool))
    nothing = Difference(
        measure=measure.name,
        of=measure.of,
        unit=measure.unit,
        reference="",
        model="",
        n_images=int(rows.n_images.sum()),
        n_patients=n_groups if rows.patients_known else None,
    )
    if one.value is None or other.value is None:
        withheld = one if one.value is None else other
        return replace(nothing, sentence=f"Not compared: {withheld.reason}.")
    other_sample = model.sample_of(measure)
    value = other.value - one.value
    draws = other_sample.pick(measure, other_sample.draws) - sample.pick(measure, sample.draws)
    error = float(np.nanstd(draws, ddof=1))
    low, high, how = _interval(one, other, draws, evaluation.confidence)
    independent = rows.independent
    return replace(
        nothing,
        value=value,
        low=low,
        high=high,
        interval=how,
        p=_swap_p(sample, other_sample, measure, value, evaluation),
        delong=_delong(sample, other_sample, measure) if independent and measure.name == "roc_auc" else None,
        mcnemar=pairing.mcnemar_p(rows.y_pred == rows.y_true, other_sample.rows.y_pred == rows.y_true)
        if independent and measure.name == "accuracy"
        else None,
        planned=pairing.sample_size(
            error if error > 1e-12 else 0.0,
            n_groups,
            difference=options.difference,
            power=options.power,
            confidence=evaluation.confidence,
        ),
    )


def _interval(
    one: Measure, other: Measure, draws: Floats, confidence: float
) -> tuple[float | None, float | None, Literal["bootstrap", "mover", "none"]]:
    """From the draws; from the two intervals where every draw is alike, for that is no certainty."""
    if np.nanmax(draws) - np.nanmin(draws) > 1e-12:
        low, high = percentile_interval(draws, confidence=confidence)
        return float(low), float(high), "bootstrap"
    if None in (one.low, one.high, other.low, other.high):
        return None, None, "none"
    a, a_low, a_high = (np.float64(end) for end in (one.value, one.low, one.high))
    b, b_low, b_high = (np.float64(end) for end in (other.value, other.low, other.high))
    return (
        float(b - a - np.hypot(b - b_low, a_high - a)),
        float(b - a + np.hypot(b_high - b, a - a_low)),
        "mover",
    )


def _swap_p(sample: Sample, other: Sample, measure: Measure, observed: float, options: EvaluationOptions) -> float:
    """P of the difference when it does not matter which model scored a patient."""
    by_rank = measure.name in RANKINGS  # one model may be bolder than the other: only the order is exchanged
    both = _stacked(sample.rows, other.rows, by_rank=by_rank)
    chance = [
        sample.pick(measure, figures_of(both, 1 - weights)) - sample.pick(measure, figures_of(both, weights))
        for weights in pairing.swap_weights(_codes(sample.rows), draws=options.draws, seed=options.draw_seed)
    ]
    return pairing.permutation_p(observed, np.concatenate(chance))


def _stacked(rows: Rows, other: Rows, *, by_rank: bool) -> Rows:
    """The rows of the one model, then those of the other."""
    from scipy.stats import rankdata

    scores = [rankdata(part.scores, axis=0) if by_rank else part.scores for part in (rows, other)]
    return replace(
        rows,
        group=np.concatenate([rows.group, other.group]),
        y_true=np.concatenate([rows.y_true, other.y_true]),
        scores=np.concatenate(scores),
        n_images=np.concatenate([rows.n_images, other.n_images]),
    )


def _codes(rows: Rows) -> Ints:
    return np.unique(rows.group, return_inverse=True)[1]


def _delong(sample: Sample, other: Sample, measure: Measure) -> float | None:
    c = 1 if sample.rows.reading.of is not None else sample.rows.reading.classes.index(str(measure.of))
    rows = sample.rows
    return pairing.delong_p(rows.y_true == c, rows.scores[:, c], other.rows.scores[:, c])
