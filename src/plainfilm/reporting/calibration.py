"""Whether scores come true as often as they say: the figures and drawings of the report."""

from __future__ import annotations

from typing import Any

from plainfilm import plots
from plainfilm.measures import Measure, Reliability
from plainfilm.reporting import figures
from plainfilm.reporting.content import ReportData
from plainfilm.reporting.sentences import sentences_of

CAPTION = (
    "How often it was right where it claimed a given score, by {unit}; on the dashed line it can be believed. "
    "Each point stands for about as many patients."
)
RISK_CAPTION = (
    "What is gained by answering only where the score is high, by {unit}. It promises nothing about other images."
)
MEANINGS = (
    "A slope of 1 is right; below 1 the scores are too bold, above 1 too timid. The error is the mean distance of "
    "claimed and observed, less what chance alone would give. With an intercept above 0 the class is more "
    "frequent than its scores say."
)


def calibration_parts(report: ReportData) -> dict[str, Any] | None:
    """What the section shows; None where nothing is known."""
    said = sentences_of(report)
    words = [said[name] for name in ("calibrated", "abstaining") if name in said]
    table = _table(report)
    points = _points(report)
    if not (words or table or points):
        return None
    return {"words": words, "table": table, "meanings": MEANINGS, "drawings": [] if points is None else _drawn(points)}


def _points(report: ReportData) -> Reliability | None:
    """By patient where that was possible, of all classes."""
    unit = figures.units(report.evaluation)[0]
    found = [points for points in report.evaluation.reliability if points.of is None and points.unit == unit]
    return found[0] if found else None


def _drawn(points: Reliability) -> list[tuple[plots.Drawing, str]]:
    reliability = plots.reliability_plot(points.claimed, points.observed, low=points.low, high=points.high)
    risk = plots.risk_coverage_plot(points.answered, points.risk)
    return [
        (reliability, CAPTION.format(unit=points.unit)),
        (risk, RISK_CAPTION.format(unit=points.unit)),
    ]


def _table(report: ReportData) -> figures.Table | None:
    evaluation = report.evaluation
    shown = figures.units(evaluation)
    found: dict[tuple[str, str | None], dict[str, Measure]] = {}
    for measure in evaluation.measures:
        if measure.name in figures.CALIBRATION_FIGURES:
            found.setdefault((measure.name, measure.of), {})[measure.unit] = measure
    if not found:
        return None
    rows = tuple(
        figures.Row(
            f"{plots.title_of(name)} for {of}" if of else plots.title_of(name),
            None,
            "",
            tuple(own.get(unit) for unit in shown),
        )
        for (name, of), own in found.items()
    )
    cautioned = [measure for row in rows for measure in row.measures if measure]
    return figures.Table("Calibration", tuple(f"By {unit}" for unit in shown), rows, figures.remarks(cautioned))
