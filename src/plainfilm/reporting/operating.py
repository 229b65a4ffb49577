"""The operating point and the decision curve of the report."""

from __future__ import annotations

from typing import Any

from plainfilm import plots
from plainfilm.measures import DecisionCurve, OperatingPoint
from plainfilm.reporting import figures
from plainfilm.reporting.content import ReportData

CAPTION = (
    "Net benefit by patient, with its {confidence:g} % band at each threshold, where {prevalence:.3g} % are positive: "
    "true positives for each patient, less false ones weighed by the odds of the threshold. It takes scores for "
    "probabilities; see Calibration."
)


def operating_parts(report: ReportData) -> dict[str, Any] | None:
    """What the section shows; None where no class was named positive."""
    point, curve = report.evaluation.operating, report.evaluation.decision
    if point is None:
        return None
    return {
        "of": point.of,
        "words": _words(point),
        "table": _table(point) if point.measures else None,
        "drawing": None if curve is None else _drawn(curve),
        "caption": ""
        if curve is None
        else CAPTION.format(confidence=100 * curve.confidence, prevalence=100 * curve.prevalence),
    }


def _words(point: OperatingPoint) -> str:
    counted = f"{point.n_positive} positive and {point.n_negative} other validation patients"
    if point.threshold is None:
        return f"No threshold was chosen ({point.rule}): {point.reason}."
    caution = f" {point.reason[:1].upper()}{point.reason[1:]}." if point.reason else ""
    if point.folds:
        return (
            f"Each of {len(point.folds)} folds chose a threshold of its own ({point.rule}), {point.chosen}, on the "
            f"validation patients of its own training, at least {counted}. Each patient measured below was called at "
            f"the threshold of the one fold that tested them, and chose nothing in it.{caution}"
        )
    return (
        f"A patient is called positive from a score of {point.threshold:.3f} on. It was chosen on {counted} "
        f"({point.rule}); the patients measured below chose nothing.{caution}"
    )


def _table(point: OperatingPoint) -> figures.Table:
    rows = tuple(
        figures.Row(
            f"{plots.title_of(measure.name)} where {100 * point.prevalence:.3g} % are positive"
            if point.prevalence is not None and measure.name in ("ppv", "npv")
            else plots.title_of(measure.name),
            None,
            "",
            (measure,),
        )
        for measure in point.measures
    )
    return figures.Table("Operating point", ("By patient",), rows, figures.remarks(point.measures))


def _drawn(curve: DecisionCurve) -> plots.Drawing:
    return plots.decision_plot(curve.thresholds, curve.model, low=curve.low, high=curve.high, treat_all=curve.treat_all)
