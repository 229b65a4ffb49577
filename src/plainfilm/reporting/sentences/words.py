"""What the sentences of a report have in common."""

from __future__ import annotations

from plainfilm.measures import Evaluation, Measure, Unit
from plainfilm.reporting.content import ReportData


def reached_level(report: ReportData) -> int:
    """The evidence level; an audit raises only what may stand."""
    reached = report.evaluation.evidence_level
    if report.evidence_level is not None and report.evaluation.struck is None:
        return max(reached, report.evidence_level)
    return reached


def main_unit(evaluation: Evaluation) -> Unit:
    """By patient where patients are known."""
    return "patient" if "patient" in evaluation.units else "image"


def in_words(measure: Measure) -> str:
    """`0.912 (95 % CI 0.874 to 0.943; 412 patients)`, or why there is no number."""
    if measure.value is None:
        return f"not given ({measure.reason})"
    if measure.low is None or measure.high is None:
        return f"{measure.value:.3f} ({measure.counted})"
    interval = f"{100 * measure.confidence:g} % CI {measure.low:.3f} to {measure.high:.3f}"
    return f"{measure.value:.3f} ({interval}; {measure.counted})"


def closed(text: str) -> str:
    """A remark with a capital and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "."
