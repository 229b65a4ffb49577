"""Sentences on what was found: by the test, by the audit, and what both leave open."""

from __future__ import annotations

from collections.abc import Iterable

from plainfilm import plots
from plainfilm.auditing.findings import Finding
from plainfilm.measures import Gap, plural
from plainfilm.reporting.content import ReportData
from plainfilm.reporting.findings import counted, next_step
from plainfilm.reporting.sentences.words import closed, in_words, main_unit, reached_level
from plainfilm.reporting.subgroups import gap_in_words

NAMED_CLASSES = 12  # in one sentence
NAMED_FINDINGS = 8
NAMED_SITES = 12


def internal(report: ReportData) -> str:
    """On which images of the same source the figures were measured."""
    if report.tested_on == "external":
        return ""
    times = "once" if report.openings == 1 else f"{report.openings} times"
    evaluation = report.evaluation
    scored = counted(evaluation.n_images, evaluation.n_patients)
    if report.tested_on == "validation":
        return f"Figures are about the validation set ({scored}), on which the model was chosen: they are too good."
    if report.site_column is not None:
        return f"Figures are about held-out sites of the same table ({scored}), which were scored {times}."
    return f"Figures are about the test set of the same source ({scored}), which was scored {times}."


def external(report: ReportData) -> str:
    """On which images from elsewhere."""
    if report.site_column is not None:
        each = "; ".join(f"{score.site} {in_words(score.measure)}" for score in report.evaluation.sites[:NAMED_SITES])
        return (
            f"Tested at {plural(len(report.evaluation.sites), 'site')} of which the model had seen no image (column "
            f"{report.site_column}). {plots.title_of(report.evaluation.headline.name)} by site: {each}. Sites of one "
            "table can share what the next one does not have."
        )
    if report.tested_on != "external":
        return ""
    return f"Tested on data of another source: {counted(report.evaluation.n_images, report.evaluation.n_patients)}."


def precision(report: ReportData) -> str:
    """How sure so many patients make the main figure."""
    head = report.evaluation.headline
    if head.low is None or head.high is None:
        return ""
    return (
        f"With {head.counted} the main figure has an interval {100 * (head.high - head.low):.0f} points wide; "
        "no sample size was planned by the software."
    )


def audit(report: ReportData) -> str:
    """What the whole audit found."""
    return of_sections(report, "ABCDEFGHIJK", "An audit")


def robustness(report: ReportData) -> str:
    """What the checks for shortcuts and controls found."""
    return of_sections(report, "BCH", "Checks for shortcuts, with controls and with images unlike the training data,")


def leakage(report: ReportData) -> str:
    """What the checks for leaks found."""
    return of_sections(report, "A", "Checks for leaks")


def labels(report: ReportData) -> str:
    """What the checks of labels found."""
    return " ".join(finding.sentence for finding in findings_in(report, "G"))


def subgroups(report: ReportData) -> str:
    """How the figures differ between kinds of patients."""
    shown = [gap for gap in report.evaluation.gaps if gap.gap is not None]
    widest = [max(gaps, key=lambda gap: abs(gap.gap or 0)) for gaps in _by_column(shown)]
    said = [f"The widest gap by {gap.column}: {gap_in_words(gap).rstrip('.')}." for gap in widest]
    return " ".join([*said, *(finding.sentence for finding in findings_in(report, "F"))])


def _by_column(gaps: Iterable[Gap]) -> list[list[Gap]]:
    columns: dict[str, list[Gap]] = {}
    for gap in gaps:
        columns.setdefault(gap.column, []).append(gap)
    return list(columns.values())


def calibration(report: ReportData) -> str:
    """Whether scores come true as often as they say."""
    evaluation = report.evaluation
    unit = main_unit(evaluation)
    own = {
        measure.name: measure
        for measure in evaluation.measures
        if measure.unit == unit and measure.of is None and measure.value is not None
    }
    named = (("slope", "calibration_slope"), ("error", "calibration_error"))
    parts = [f"calibration {word} {in_words(own[name])}" for word, name in named if name in own]
    measured = f"By {unit}, {' and '.join(parts)}." if parts else ""
    return " ".join(filter(None, [measured, *(finding.sentence for finding in findings_in(report, "E"))]))


def findings_in(report: ReportData, sections: str) -> list[Finding]:
    """The findings of some sections, by their letters."""
    return [finding for finding in (report.audit.findings if report.audit else ()) if finding.section in sections]


def of_sections(report: ReportData, sections: str, subject: str) -> str:
    """How many checks found what, and what those said that found something."""
    own = findings_in(report, sections)
    if not own:
        return ""
    open_ = [finding for finding in own if finding.verdict in ("FAIL", "WARN")]
    found = "; ".join(
        f"{finding.check} {finding.verdict}: {finding.sentence.rstrip('.')}" for finding in open_[:NAMED_FINDINGS]
    )
    more = f"; and {len(open_) - NAMED_FINDINGS} more" if len(open_) > NAMED_FINDINGS else ""
    unknown = sum(finding.verdict == "NOT ASSESSABLE" for finding in own)
    passed = sum(finding.verdict == "PASS" for finding in own)
    summary = f"{subject} asked {len(own)} questions: {passed} passed, {len(open_)} did not, {unknown} not assessable."
    return f"{summary} {found}{more}." if found else summary


# --- results ------------------------------------------------------------------------------------------------


def headline(report: ReportData) -> str:
    """The main figure."""
    evaluation = report.evaluation
    head = evaluation.headline
    subject = (
        f" over {head.of}" if head.of and head.name == "balanced_accuracy" else f" for {head.of}" if head.of else ""
    )
    said = f"{plots.title_of(head.name)}{subject} by {head.unit} was {in_words(head)}."
    if evaluation.struck is not None:
        return f"{said} This number must not be reported as a result. {evaluation.struck}"
    return f"{said} {closed(head.reason)}" if head.value is not None and head.reason else said


def per_class(report: ReportData) -> str:
    """Sensitivity and ROC AUC of each class."""
    evaluation = report.evaluation
    unit = main_unit(evaluation)
    parts = [
        f"{label}: sensitivity {in_words(evaluation.measure('recall', unit=unit, of=label))}, ROC AUC "
        f"{in_words(evaluation.measure('roc_auc', unit=unit, of=label))}"
        for label in evaluation.classes[:NAMED_CLASSES]
    ]
    more = (
        f"; {len(evaluation.classes) - NAMED_CLASSES} more in the table"
        if len(evaluation.classes) > NAMED_CLASSES
        else ""
    )
    struck = " These numbers must not be reported as results." if evaluation.struck else ""
    return f"By {unit}, {'; '.join(parts)}{more}.{struck}"


def failures(report: ReportData) -> str:
    """How many were put into a wrong class."""
    evaluation = report.evaluation
    unit = main_unit(evaluation)
    matrix = evaluation.confusion(unit=unit)
    total = sum(matrix.support)
    wrong = [
        (count, truth, said)
        for row, truth in enumerate(matrix.classes)
        for column, said in enumerate(matrix.classes)
        if row != column and (count := matrix.counts[row][column])
    ]
    if not wrong:
        return f"None of {total:,} {unit}s was put into a wrong class."
    most, truth, said = max(wrong, key=lambda entry: entry[0])
    return (
        f"{sum(count for count, *_ in wrong):,} of {total:,} {unit}s were put into a wrong class, most often {truth} "
        f"called {said} ({most:,}). The report shows the surest mistakes as pictures."
    )


def gap(report: ReportData) -> str:
    """The figure as given, and without leaks."""
    gap = report.leak_gap
    if gap is None:
        return ""
    between = (
        f" (95 % CI {100 * gap.difference.low:.1f} to {100 * gap.difference.high:.1f})"
        if gap.difference.low is not None and gap.difference.high is not None
        else ""
    )
    return (
        f"{gap.measure} was {gap.as_given.value:.3f} on the data as given and {gap.patient_safe.value:.3f} without "
        f"leaks: a difference of {100 * gap.difference.value:.1f} points{between}"
        f"{f', {gap.counted}' if gap.counted else ''}."
    )


def limits(report: ReportData) -> str:
    """What the figures do not establish."""
    level = reached_level(report)
    ordered = [finding for finding in findings_in(report, "ABCDEFGH") if finding.verdict in ("FAIL", "WARN")]
    said = " ".join(f"{finding.check}: {closed(finding.limits)}" for finding in ordered[:NAMED_FINDINGS])
    return " ".join(filter(None, (f"Evidence level {level} of 4.", next_step(level, report.audit), said)))


def rerun(report: ReportData) -> str:
    """How to repeat the run."""
    return f"The run can be repeated from its options file: {report.command}."


def availability(report: ReportData) -> str:
    """What of the run can be given to others."""
    return (
        f"The software is plainfilm {report.version} (Apache-2.0). The run's folder has the weights and every option."
    )
