"""What the report's newer sections show: the audit, who is in the data, checklists, calibration, texts for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from markupsafe import Markup

from plainfilm import plots
from plainfilm.reporting.calibration import calibration_parts
from plainfilm.reporting.cohort import Cohort
from plainfilm.reporting.content import Estimate, LeakGap, ReportData
from plainfilm.reporting.findings import audit_facts, next_step, view_of
from plainfilm.reporting.operating import operating_parts
from plainfilm.reporting.paper import methods_paragraphs, results_sentences, table_one
from plainfilm.reporting.sentences import reached_level, sentences_of
from plainfilm.reporting.standards import STATUSES, Answer, Checklist, checklists
from plainfilm.reporting.subgroups import gap_tables

CARD_LINES: Final = 400
KIND_TITLES: Final = {"all": "", "split": "Split", "label": "Class"}
STATUS_LOOKS: Final = (("pass", "✓"), ("warn", "!"), ("open", "–"))  # as those of findings, in the order of `STATUSES`


@dataclass(frozen=True)
class RowGroup:
    """Rows of Table 1 about one characteristic; `name` is empty where one row says all."""

    name: str
    counted: str
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class TableOne:
    """Table 1 with its columns under common headings."""

    caption: str
    kinds: tuple[tuple[str, int], ...]
    names: tuple[str, ...]
    groups: tuple[RowGroup, ...]


@dataclass(frozen=True)
class ListView:
    """A checklist by what is left to do."""

    checklist: Checklist
    tallies: tuple[tuple[str, str, str, int], ...]
    filled: tuple[Answer, ...]
    todo: tuple[Answer, ...]
    never: tuple[Answer, ...]


def section_parts(report: ReportData) -> dict[str, Any]:
    """What the template shows of the audit, the cohort, the standards and the paper."""
    return {
        "audit": None if report.audit is None else view_of(report.audit.findings),
        "audit_facts": [] if report.audit is None else audit_facts(report.audit),
        "step": next_step(reached_level(report), report.audit),
        "gap": None if report.leak_gap is None else _gap(report.leak_gap),
        "calibration": _inlined(calibration_parts(report)),
        "operating": _drawn(operating_parts(report)),
        "gaps": gap_tables(report.evaluation),
        "disjoint": sentences_of(report)["disjoint"],
        **_cohort(report.cohort),
        "card": report.card.splitlines()[:CARD_LINES],
        "checklists": [_list(checklist) for checklist in checklists(report)],
        "methods": methods_paragraphs(report),
        "results": results_sentences(report),
    }


def inline(drawing: plots.Drawing | None) -> Markup | None:
    """A drawing as markup of the page."""
    return None if drawing is None else Markup(drawing.svg(for_page=True))


def _inlined(parts: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same with its drawings as markup."""
    if parts is None:
        return None
    return parts | {"drawings": [(inline(drawing), caption) for drawing, caption in parts["drawings"]]}


def _drawn(parts: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same for a section of one drawing."""
    return None if parts is None else parts | {"drawing": inline(parts["drawing"])}


def _gap(gap: LeakGap) -> dict[str, Any]:
    counted = f" On {gap.counted}." if gap.counted else ""
    return {
        "measure": gap.measure,
        "as_given": _estimate(gap.as_given),
        "patient_safe": _estimate(gap.patient_safe),
        "difference": _estimate(gap.difference, factor=100, places=1),
        "words": f"{gap.words} Intervals cover 95 %; that of the difference is paired.{counted}".strip(),
    }


def _estimate(estimate: Estimate, *, factor: float = 1, places: int = 3) -> dict[str, str]:
    interval = (
        ""
        if estimate.low is None or estimate.high is None
        else f"{factor * estimate.low:.{places}f}–{factor * estimate.high:.{places}f}"
    )
    return {"value": f"{factor * estimate.value:.{places}f}", "interval": interval}


def _cohort(cohort: Cohort | None) -> dict[str, Any]:
    if cohort is None:
        return {"table_one": None, "split_drawing": None, "split_caption": ""}
    # A patient on two sides would be drawn twice: then images are what can be divided.
    counted = "patients" if cohort.shared == 0 else "images"
    segments = [
        plots.Segment(
            row=part.of, split=part.split, count=(part.n_patients or 0) if counted == "patients" else part.n_images
        )
        for part in cohort.parts
    ]
    rows = "fold" if not cohort.by_split else "class"
    return {
        "table_one": _table_one(cohort),
        "split_drawing": inline(plots.split_plot(segments, counted=counted)),
        "split_caption": f"{counted.capitalize()} of each {rows}, and where they went.",
    }


def _table_one(cohort: Cohort) -> TableOne:
    grid = table_one(cohort)
    groups = []
    for name, lines in groupby(cohort.lines, key=lambda line: line.name):
        own = list(lines)
        if own[0].level:
            rows = tuple((line.level, line.cells) for line in own)
            groups.append(RowGroup(name, f"counted by {own[0].counted.removesuffix('s')}", rows))
        else:
            groups.append(RowGroup("", "", ((name, own[0].cells),)))
            more = tuple((line.level, line.cells) for line in own[1:])
            groups += [RowGroup(name, "", more)] if more else []
    kinds = tuple(
        (KIND_TITLES[kind], len(list(columns)))
        for kind, columns in groupby(cohort.columns, key=lambda column: column.kind)
    )
    return TableOne(grid.caption, kinds, grid.head[1:], tuple(groups))


def _list(checklist: Checklist) -> ListView:
    def own(index: int) -> tuple[Answer, ...]:
        return tuple(answer for answer in checklist.answers if answer.status == STATUSES[index])

    tallies: Sequence[tuple[str, str, str, int]] = [
        (*look, status, checklist.count(status)) for look, status in zip(STATUS_LOOKS, STATUSES, strict=True)
    ]
    return ListView(checklist, tuple(tallies), own(0), own(1), own(2))
