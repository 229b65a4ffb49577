"""How sure the number is (D), whether its scores can be believed (E), and whether all patients are served alike (F)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.abstention import Abstention
from plainfilm.auditing.findings import Finding, Picture, Verdict, p_in_words
from plainfilm.auditing.silence import check_silence
from plainfilm.measures import Evaluation, Gap, Measure, plural
from plainfilm.prediction import Predictions

INTERVALS: Final = "Christodoulou et al. 2024 (arXiv 2409.17763); Riley et al., BMJ 2024;384:e074821"
BELIEF: Final = "Van Calster et al., BMC Medicine 2019;17:230; Kumar, Liang and Ma, NeurIPS 2019"
GROUPS: Final = "Seyyed-Kalantari et al., Nature Medicine 2021;27:2176-2182"


class PrecisionOptions(BaseModel):
    """When too few patients, scores that cannot be believed, or a gap between patients warn, and when they fail."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_width: float = Field(
        0.05, gt=0, lt=0.5, description="Half the interval of the headline that is precise enough.*"
    )
    slope_low: float = Field(0.8, gt=0, description="Lowest calibration slope that is no warning.*")
    slope_high: float = Field(1.25, gt=0, description="Highest calibration slope that is no warning.*")
    error_warn: float = Field(0.05, gt=0, lt=1, description="Calibration error above which scores warn.*")
    error_fail: float = Field(0.1, gt=0, lt=1, description="Calibration error above which scores fail.*")
    error_p: float = Field(
        0.01, gt=0, lt=1, description="Below this p, honest scores would too seldom look as far off as these.*"
    )
    gap_warn: float = Field(0.05, gt=0, lt=1, description="Gap between groups of patients that warns.*")
    gap_fail: float = Field(0.1, gt=0, lt=1, description="Gap that fails once its whole interval is beyond it.*")


def check_precision(
    evaluation: Evaluation,
    options: PrecisionOptions | None = None,
    *,
    abstention: Abstention | None = None,
    predictions: Predictions | None = None,
) -> list[Finding]:
    """D1, D2, E1, E2, and a finding F for each column that makes groups of patients.

    Args:
        evaluation: Of the test images; with `subgroups` for F.
        options: The limits.
        abstention: The rule of the model's bundle, where there is a model.
        predictions: Of the same test images, to see whether the rule keeps its promise.
    """
    options = options or PrecisionOptions()
    return [
        _precision(evaluation, options),
        _few(evaluation),
        _belief(evaluation, options),
        check_silence(abstention, predictions),
        *_groups(evaluation, options),
    ]


# --- D: how sure the number is ------------------------------------------------------------------------------


def _precision(evaluation: Evaluation, options: PrecisionOptions) -> Finding:
    headline = evaluation.headline
    name = headline.name.replace("_", " ")
    needed = patients_for(options.half_width, confidence=headline.confidence)
    details = {
        "design_effect": evaluation.design_effect,
        "effective_images": evaluation.effective_images,
        "patients_for_half_width": needed,
    }
    verdict: Verdict = "NOT ASSESSABLE"
    sentence = f"The headline, {name} by {headline.unit}, is not given: {headline.reason}."
    if headline.value is not None and headline.low is not None and headline.high is not None:
        half = (headline.high - headline.low) / 2
        verdict = "PASS" if half <= options.half_width else "WARN"
        sentence = f"{name.capitalize()} by {headline.unit} is {headline}: give or take {100 * half:.0f} points."
        if evaluation.patients == "unknown":
            verdict = "NOT ASSESSABLE"
            sentence += " Patients are not known, so that the interval can be too narrow."
        elif evaluation.design_effect is not None and evaluation.effective_images is not None:
            sentence += (
                f" The {evaluation.n_images:,} images tell as much about accuracy as "
                f"{evaluation.effective_images:,.0f} independent ones (design effect {evaluation.design_effect:.1f})."
            )
    return Finding(
        check="D1",
        title="How sure is the number?",
        verdict=verdict,
        sentence=sentence,
        value=headline.value,
        low=headline.low,
        high=headline.high,
        n_images=headline.n_images,
        n_patients=headline.n_patients,
        rule=f"WARN if the interval is wider than plus or minus {100 * options.half_width:g} points*.",
        source=INTERVALS,
        limits="The interval is about patients like these: it holds nothing of another hospital, of wrong labels, or "
        "of another seed of the training.",
        advice=""
        if verdict == "PASS"
        else f"Report the lower end. For plus or minus {100 * options.half_width:g} points at a share of 80 %, some "
        f"{needed:,} independent patients are needed.",
        details=details,
    )


def patients_for(half_width: float, *, share: float = 0.8, confidence: float = 0.95) -> int:
    """Independent patients for an interval of a share of plus or minus `half_width`: 246 for 5 points at 80 %."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    return int(np.ceil(z**2 * share * (1 - share) / half_width**2))


def _few(evaluation: Evaluation) -> Finding:
    recalls = [m for m in evaluation.measures if (m.name, m.unit) == ("recall", evaluation.units[-1])]
    limit, caution = evaluation.options.min_patients, evaluation.options.caution_patients
    counts = {str(m.of): m.n_patients for m in recalls}
    withheld = {name: n for name, n in counts.items() if n is not None and n < limit}
    small = {name: n for name, n in counts.items() if n is not None and limit <= n < caution}
    listed = ", ".join(f"'{name}' {n}" for name, n in {**withheld, **small}.items())
    verdict: Verdict = "PASS"
    if None in counts.values() or not counts:
        verdict, sentence = "NOT ASSESSABLE", "Patients are not known, so that nobody can count them."
    elif withheld:
        verdict = "NOT ASSESSABLE"
        sentence = (
            f"{plural(len(withheld), 'class')} of {len(counts)} with fewer than {limit} test patients: no figures of "
            f"their own, and no average over all classes ({listed})."
        ).replace("classs", "classes")
    elif small:
        verdict, sentence = "WARN", f"Classes with fewer than {caution} test patients: {listed}."
    else:
        sentence = f"Every class has {min(n for n in counts.values() if n is not None)} test patients or more."
    return Finding(
        check="D2",
        title="Are there enough patients of every class?",
        verdict=verdict,
        sentence=sentence,
        value=float(min((n for n in counts.values() if n is not None), default=0)) if counts else None,
        n_images=evaluation.n_images,
        n_patients=evaluation.n_patients,
        rule=f"NOT ASSESSABLE below {limit} patients of a class, WARN below {caution}*.",
        source="Riley et al., BMJ 2024;384:e074821; arXiv 2601.17103",
        limits="Enough patients to give a figure need not be enough to decide anything with it: see its interval.",
        advice="" if verdict == "PASS" else "Gather patients of these classes, or leave the classes out and say so.",
        details={"patients": counts},
    )


# --- E: whether scores can be believed ----------------------------------------------------------------------


def _belief(evaluation: Evaluation, options: PrecisionOptions) -> Finding:
    unit = evaluation.units[-1]
    slope, error = (_of(evaluation, name, unit) for name in ("calibration_slope", "calibration_error"))
    points = next((p for p in evaluation.reliability if p.unit == unit and p.of is None), None)
    chance = None if points is None else points.chance
    rule = (
        f"PASS up to a calibration error of {options.error_warn:g}* with a slope of {options.slope_low:g} to "
        f"{options.slope_high:g}*. Else FAIL above {options.error_fail:g}* and WARN below, where honest scores of as "
        f"many patients would seldom look so far off (p < {options.error_p:g}*); else NOT ASSESSABLE."
    )
    verdict: Verdict = "NOT ASSESSABLE"
    sentence = "Calibration was not measured." if error is None else f"Calibration is not given: {error.reason}."
    if error is not None and error.value is not None and error.low is not None and error.high is not None:
        sentence = f"Claimed certainty and the share that was right differ by {_shown(error)} on average"
        in_range = True
        if slope is not None and slope.value is not None and slope.low is not None and slope.high is not None:
            bold = "too bold" if slope.value < 1 else "too timid"
            sentence += f"; slope {_shown(slope)}" + ("" if slope.low <= 1 <= slope.high else f": {bold}")
            in_range = options.slope_low <= slope.value <= options.slope_high
        sentence += f" ({error.counted})"
        seldom = error.low > options.error_warn if chance is None else chance < options.error_p
        if error.value <= options.error_warn and in_range:
            verdict = "PASS"
        elif seldom:
            verdict = "FAIL" if error.value > options.error_fail else "WARN"
        else:
            sentence += "; honest scores of so few patients can look like this"
        sentence += f" ({p_in_words(chance)})." if chance is not None and verdict != "PASS" else "."
    pictures = []
    if points is not None:
        from plainfilm.plots import reliability_plot

        drawing = reliability_plot(points.claimed, points.observed, low=points.low, high=points.high)
        pictures.append(
            Picture(
                name="E1-reliability.png",
                caption="Bins of equal size: on the diagonal, a score means what it says.",
                png=drawing.png(),
            )
        )
    return Finding(
        check="E1",
        title="Can the scores be believed?",
        verdict=verdict,
        sentence=sentence,
        value=None if error is None else error.value,
        low=None if error is None else error.low,
        high=None if error is None else error.high,
        n_images=evaluation.n_images,
        n_patients=evaluation.n_patients,
        rule=rule,
        source=BELIEF,
        limits="Scores that can be believed here need not be so elsewhere, and honest scores can be useless ones.",
        advice=""
        if verdict in ("PASS", "NOT ASSESSABLE")
        else "Do not read a score as a probability. With more validation patients a temperature can be fitted.",
        details={} if slope is None else {"slope": slope.value, "slope_low": slope.low, "slope_high": slope.high},
        pictures=pictures,
    )


# --- F: whether all patients are served alike ---------------------------------------------------------------


def _groups(evaluation: Evaluation, options: PrecisionOptions) -> Iterator[Finding]:
    for number, column in enumerate(dict.fromkeys(gap.column for gap in evaluation.gaps), start=1):
        gaps = [gap for gap in evaluation.gaps if gap.column == column]
        yield _group_finding(f"F{number}", column, gaps, evaluation, options)


def _group_finding(
    check: str, column: str, gaps: Sequence[Gap], evaluation: Evaluation, options: PrecisionOptions
) -> Finding:
    known = [gap for gap in gaps if gap.gap is not None]
    verdicts = {id(gap): _gap_verdict(gap, options, 1 - evaluation.options.confidence) for gap in known}
    worst = max(
        known, key=lambda gap: (("PASS", "WARN", "FAIL").index(verdicts[id(gap)]), abs(gap.gap or 0)), default=None
    )
    verdict: Verdict = "NOT ASSESSABLE"
    if worst is None:
        reach = [gap.detectable for gap in gaps if gap.detectable is not None]
        sentence = f"The groups of '{column}' have too few patients to be compared"
        sentence += f"; only a gap of {100 * min(reach):.0f} points or more would show." if reach else "."
    else:
        assert worst.gap is not None
        assert worst.low is not None
        assert worst.high is not None
        verdict = verdicts[id(worst)]
        sentence = (
            f"{'Largest' if verdict == 'PASS' else 'Worst'} gap by '{column}': {worst.group} against {worst.others}, "
            f"{worst.measure.replace('_', ' ')} of {worst.of} {100 * worst.gap:+.1f} points ({100 * worst.low:+.1f} to "
            f"{100 * worst.high:+.1f}; {worst.n_positive_group} and {worst.n_positive_others} patients of the class)."
        )
    return Finding(
        check=check,
        title=f"Is every group by {column} served alike?",
        verdict=verdict,
        sentence=sentence,
        value=None if worst is None else worst.gap,
        low=None if worst is None else worst.low,
        high=None if worst is None else worst.high,
        p=None if worst is None else worst.p_holm,
        n_images=evaluation.n_images,
        n_patients=evaluation.n_patients,
        rule=f"WARN for a gap of {100 * options.gap_warn:g} points* or more whose interval leaves 0 out and whose p "
        f"(Holm) agrees; FAIL if the whole interval is beyond {100 * options.gap_fail:g} points*.",
        source=GROUPS,
        limits="A gap says that, not why; and none here does not show that there is none in other patients.",
        advice=""
        if verdict == "PASS"
        else f"Report the figures of each group by {column}; gather more of the small ones.",
        tables={f"{check}-groups": pd.DataFrame([vars(gap) for gap in gaps])},
    )


def _gap_verdict(gap: Gap, options: PrecisionOptions, alpha: float) -> Verdict:
    assert gap.gap is not None
    assert gap.low is not None
    assert gap.high is not None
    nearest = min(abs(gap.low), abs(gap.high)) if gap.low * gap.high > 0 else 0.0
    if (gap.p_holm or 0.0) > alpha or nearest == 0:
        return "PASS"
    if nearest >= options.gap_fail:
        return "FAIL"
    return "WARN" if abs(gap.gap) >= options.gap_warn else "PASS"


def _of(evaluation: Evaluation, name: str, unit: str) -> Measure | None:
    found = [m for m in evaluation.measures if (m.name, m.unit, m.of) == (name, unit, None)]
    return found[0] if found else None


def _shown(measure: Measure) -> str:
    return f"{measure.value:.3f} ({measure.low:.3f} to {measure.high:.3f})"
