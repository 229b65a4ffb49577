"""A threshold chosen on validation patients, and what acting on it is worth on patients that chose nothing.

The patients that are measured have no part in the choice: their scores and labels could be anything, and the threshold
would be the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from plainfilm import metrics
from plainfilm.evaluation import two_way_rows
from plainfilm.measures import (
    DecisionCurve,
    Evaluation,
    EvaluationOptions,
    Measure,
    OperatingPoint,
    PatientSource,
    plural,
)
from plainfilm.metrics import Bools, Floats, Ints
from plainfilm.prediction import Predictions
from plainfilm.sampling import Rows, Sample, joined

THRESHOLDS = np.linspace(0.01, 0.99, 99)  # of a decision curve
ROUNDING = 1e-9  # a share of 0.9 counts as 0.9


class OperatingOptions(BaseModel):
    """Where a score becomes a yes, chosen on the validation patients."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operating_rule: str = Field(
        "youden",
        description="How the threshold is chosen: youden (sensitivity + specificity), or at least a stated one, such "
        "as sensitivity=0.9 or specificity=0.9.",
    )
    prevalence: float | None = Field(
        None, gt=0, lt=1, description="Share of positives where the model will be used, for PPV and NPV."
    )
    threshold_patients: int = Field(
        10, ge=2, description="Validation patients on each side that the choice of a threshold needs.*"
    )

    @field_validator("operating_rule")
    @classmethod
    def _is_a_rule(cls, rule: str) -> str:
        Rule.read(rule)
        return rule


@dataclass(frozen=True)
class Rule:
    """What a threshold must do on the validation patients.

    Attributes:
        kind: `youden`: the largest sum of sensitivity and specificity. Else which of the two has a floor; the other is
            as large as it can be.
        floor: The least it must be.
    """

    kind: Literal["youden", "sensitivity", "specificity"]
    floor: float = 0.0

    @classmethod
    def read(cls, text: str) -> Rule:
        """From `youden`, `sensitivity=0.9` or `specificity=0.9`.

        Raises:
            ValueError: If it is none of these.
        """
        if text == "youden":
            return cls("youden")
        kind, _, floor = text.partition("=")
        try:
            value = float(floor)
        except ValueError:
            value = np.nan
        if kind not in ("sensitivity", "specificity") or not 0 < value < 1:
            raise ValueError("a rule is youden, sensitivity=0.9 or specificity=0.9, with a number between 0 and 1")
        return cls("sensitivity" if kind == "sensitivity" else "specificity", value)

    def threshold(self, y_true: Bools, y_score: Floats) -> float | None:
        """The threshold that the rule chooses; None if none does what it asks.

        It lies halfway between two scores that were seen, so that it does not depend on one patient's last digit.

        Args:
            y_true: `(n,)`, True for a positive; some of each.
            y_score: `(n,)`, 0 to 1.

        References:
            Youden, Cancer 1950;3:32-35.
        """
        falling = np.unique(y_score)[::-1]
        false_positive_rate, sensitivity = (rate[1:] for rate in metrics.roc_curve(y_true, y_score))
        specificity = 1 - false_positive_rate
        if self.kind == "sensitivity":
            allowed = np.flatnonzero(sensitivity >= self.floor - ROUNDING)[:1]
        elif self.kind == "specificity":
            allowed = np.flatnonzero(specificity >= self.floor - ROUNDING)[-1:]
            allowed = allowed[sensitivity[allowed] > 0]
        else:
            gained = sensitivity + specificity - 1
            best = np.flatnonzero(gained >= gained.max() - ROUNDING) if gained.max() > ROUNDING else np.empty(0, int)
            # Of equals the one that is as good for the ill as for the healthy.
            allowed = best[np.argsort(np.abs(sensitivity - specificity)[best], kind="stable")][:1]
        if not len(allowed):
            return None
        place = int(allowed[0])
        above, below = falling[place], falling[min(place + 1, len(falling) - 1)]
        middle = float((above + below) / 2)
        return middle if middle > below else float(above)


def with_operating_point(
    evaluation: Evaluation,
    tested: Predictions,
    choosing: Predictions | None,
    *,
    choosing_patients: PatientSource,
    options: OperatingOptions,
) -> Evaluation:
    """The evaluation with its operating point and decision curve; the same one where no class was named positive.

    Args:
        evaluation: Of `tested`.
        tested: What was measured.
        choosing: The validation rows, which alone choose; None where they are the ones that were measured.
        choosing_patients: How the patients of `choosing` are known.
        options: The rule, and the prevalence to speak of.
    """
    asked = evaluation.options
    if not asked.positive:
        return evaluation
    of = " + ".join(name for name in evaluation.classes if name in asked.positive)
    point = choose_threshold(of, choosing, choosing_patients, asked, options)
    if evaluation.patients == "unknown":
        reason = "the patients that are measured are not known"
        return replace(evaluation, operating=replace(point, threshold=None, reason=reason))
    rows, strata = two_way_rows(tested, patients=evaluation.patients, options=asked)
    if point.threshold is not None:
        called = replace(rows, reading=replace(rows.reading, threshold=point.threshold))
        point = replace(point, measures=measured_at(Sample.drawn(called, strata, asked), options.prevalence))
    return replace(evaluation, operating=point, decision=decision_curve(rows, strata, asked))


def ppv_at(sensitivity: Floats, specificity: Floats, prevalence: float) -> Floats:
    """Share of positive calls that are right where a share `prevalence` is positive (Bayes), `(...)`; else nan."""
    right, wrong = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    return np.asarray(np.divide(right, right + wrong, out=np.full(np.shape(right), np.nan), where=right + wrong > 0))


def npv_at(sensitivity: Floats, specificity: Floats, prevalence: float) -> Floats:
    """Share of negative calls that are right: the positive ones with the two sides changed, `(...)`."""
    return ppv_at(specificity, sensitivity, 1 - prevalence)


def called_positive(
    y_true: Bools, y_score: Floats, thresholds: Floats, weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """Share of the positives, and of the negatives, that is called positive at each threshold.

    Args:
        y_true: `(n,)`, True for a positive.
        y_score: `(n,)` probability of being positive.
        thresholds: `(t,)`.
        weights: `(..., n)`, 0 or more; ones if None.

    Returns:
        `(..., t)` each; nan without a positive, or without a negative.
    """
    weights = np.ones(len(y_true)) if weights is None else weights
    called = (y_score[:, None] >= thresholds).astype(np.float64)
    found, alarmed = (_share(weights[..., side], called[side]) for side in (y_true, ~y_true))
    return found, alarmed


def net_benefit(found: Floats, alarmed: Floats, thresholds: Floats, *, prevalence: float) -> Floats:
    """True positives for each patient, less false ones weighed by the odds of the threshold, `(..., t)`.

    Args:
        found: `(..., t)` share of positives called positive.
        alarmed: `(..., t)` share of negatives called positive.
        thresholds: `(t,)`, above 0 and below 1.
        prevalence: Share of positives among those to be acted on.

    References:
        Vickers and Elkin, Medical Decision Making 2006;26:565-574.
    """
    return found * prevalence - alarmed * (1 - prevalence) * thresholds / (1 - thresholds)


def decision_curve(rows: Rows, strata: Ints, options: EvaluationOptions) -> DecisionCurve | None:
    """Net benefit over thresholds with its band; None where a side has too few patients.

    At the prevalence of these patients, not at another: there the scores would be no probabilities any more.

    Args:
        rows: Patients of a two-way reading.
        strata: Of each patient; see `sampling.strata_of`.
        options: Draws, confidence and limits.
    """
    positive, score = rows.y_true == 1, rows.scores[:, 1]
    sides = [rows.n_groups(positive), rows.n_groups(~positive)]
    if min(sides) < options.min_patients:
        return None
    share = float(positive.mean())
    found, alarmed = called_positive(positive, score, THRESHOLDS)
    blocks = metrics.bootstrap_weights(rows.group, strata, draws=options.draws, seed=options.draw_seed)
    draws = np.concatenate(
        [
            net_benefit(*called_positive(positive, score, THRESHOLDS, weights), THRESHOLDS, prevalence=share)
            for weights in blocks
        ]
    )
    low, high = metrics.percentile_interval(draws, confidence=_confidence(rows, options))
    # Where all are called rightly no draw differs; then the ends of the two shares' own intervals, which is wider.
    perfect = (found == 1) & (alarmed == 0)
    (found_low, _), (_, alarmed_high) = (
        metrics.wilson_interval(part, n, confidence=options.confidence)
        for part, n in zip((found, alarmed), sides, strict=True)
    )
    low = np.where(perfect, net_benefit(found_low, alarmed_high, THRESHOLDS, prevalence=share), low)
    return DecisionCurve(
        of=str(rows.reading.of),
        prevalence=share,
        n_patients=len(strata),
        confidence=options.confidence,
        thresholds=tuple(THRESHOLDS.tolist()),
        model=tuple(net_benefit(found, alarmed, THRESHOLDS, prevalence=share).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        treat_all=tuple((share - (1 - share) * THRESHOLDS / (1 - THRESHOLDS)).tolist()),
    )


# --- inside -------------------------------------------------------------------------------------------------


def choose_threshold(
    of: str,
    choosing: Predictions | None,
    patients: PatientSource,
    asked: EvaluationOptions,
    options: OperatingOptions,
) -> OperatingPoint:
    """The threshold, or why there is none; nothing is measured yet."""
    nothing = OperatingPoint(
        of=of,
        rule=options.operating_rule,
        threshold=None,
        reason="",
        n_positive=0,
        n_negative=0,
        prevalence=options.prevalence,
    )
    if choosing is None:
        return replace(nothing, reason="the validation patients are those that are measured")
    if not len(choosing.labelled()):
        return replace(nothing, reason="no validation patients have scores on file, as for the mean of several folds")
    if patients == "unknown":
        return replace(nothing, reason="the validation patients are not known")
    rows, _ = two_way_rows(choosing, patients=patients, options=asked)
    positive = rows.y_true == 1
    counted = replace(nothing, n_positive=rows.n_groups(positive), n_negative=rows.n_groups(~positive))
    fewest = min(counted.n_positive, counted.n_negative)
    if fewest < options.threshold_patients:
        return replace(
            counted,
            reason=f"only {plural(fewest, 'validation patient')} on one side; {options.threshold_patients} are needed",
        )
    threshold = Rule.read(options.operating_rule).threshold(positive, rows.scores[:, 1])
    if threshold is None:
        return replace(counted, reason=f"no threshold does what '{options.operating_rule}' asks of these patients")
    few = fewest < asked.caution_patients
    caution = f"caution: chosen on only {plural(fewest, 'validation patient')} of one side" if few else ""
    return replace(counted, threshold=threshold, reason=caution)


def measured_at(sample: Sample, prevalence: float | None) -> tuple[Measure, ...]:
    """Sensitivity and specificity, and what they make of a prevalence."""
    by_name = {measure.name: measure for measure in sample.measures()}
    found, spared = by_name["sensitivity"], by_name["specificity"]
    if prevalence is None:
        return found, spared
    return (
        found,
        spared,
        _predictive("ppv", sample, found, spared, prevalence),
        _predictive("npv", sample, found, spared, prevalence),
    )


def _predictive(
    name: Literal["ppv", "npv"], sample: Sample, found: Measure, spared: Measure, prevalence: float
) -> Measure:
    """A predictive value at a stated prevalence; withheld where sensitivity or specificity is."""
    compute = ppv_at if name == "ppv" else npv_at
    rows = sample.rows
    everything = replace(
        found,
        name=name,
        value=None,
        low=None,
        high=None,
        interval="none",
        n_images=int(rows.n_images.sum()),
        n_patients=len(np.unique(rows.group)),
        reason=found.reason if found.value is None else spared.reason,
    )
    if found.value is None or spared.value is None:
        return everything
    value = float(compute(sample.point["recall"][1], sample.point["recall"][0], prevalence))
    if np.isnan(value):
        called = "positive" if name == "ppv" else "negative"
        return replace(everything, reason=f"undefined: nobody is called {called}")
    draws = compute(sample.draws["recall"][:, 1], sample.draws["recall"][:, 0], prevalence)
    cautions = joined(*dict.fromkeys([found.reason, spared.reason]))
    if np.nanmax(draws) - np.nanmin(draws) < ROUNDING:
        # No draw differs where nobody is called wrongly: then the ends of the two intervals, which is wider.
        low, high = (
            float(compute(np.asarray(getattr(found, end)), np.asarray(getattr(spared, end)), prevalence))
            for end in ("low", "high")
        )
        return replace(everything, value=value, low=low, high=high, interval="wilson", reason=cautions)
    low, high = (float(end) for end in metrics.percentile_interval(draws, confidence=_confidence(rows, sample.options)))
    return replace(everything, value=value, low=low, high=high, interval="bootstrap", reason=cautions)


def _confidence(rows: Rows, options: EvaluationOptions) -> float:
    """At which draws of so few patients are read."""
    return metrics.expanded(options.confidence, len(np.unique(rows.group)) - 2)


def _share(weights: Floats, called: Floats) -> Floats:
    """Share of some rows that is called positive at each threshold, `(..., t)`; nan without rows."""
    total = np.asarray(weights.sum(axis=-1))[..., None]
    counts = weights @ called
    return np.asarray(np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0))
