"""How the figures differ between groups of patients, a table for each column that makes groups."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from plainfilm import plots
from plainfilm.measures import Evaluation, Gap
from plainfilm.reporting.findings import p_in_words
from plainfilm.reporting.words import spoken


@dataclass(frozen=True)
class GapRow:
    """One group against the others in one measure, in words."""

    group: str
    measure: str
    counts: str
    inside: str
    outside: str
    gap: str
    interval: str
    p: str
    detectable: str


@dataclass(frozen=True)
class GapTable:
    """All gaps of one column."""

    column: str
    rows: tuple[GapRow, ...]


def gap_tables(evaluation: Evaluation) -> tuple[GapTable, ...]:
    """Every gap that was measured, or that patients were too few for; empty where no column was named."""
    return tuple(
        GapTable(column, tuple(_row(gap) for gap in gaps))
        for column, gaps in groupby(evaluation.gaps, key=lambda gap: gap.column)
    )


def gap_in_words(gap: Gap) -> str:
    """A measured gap inside a sentence, with its interval, its p and its counts."""
    interval = "" if gap.low is None or gap.high is None else f", {100 * gap.low:+.1f} to {100 * gap.high:+.1f}"
    p = "" if gap.p_holm is None else f"; {p_in_words(gap.p_holm)} after correction"
    return (
        f"{spoken(gap.measure)} for {gap.of} is {100 * (gap.gap or 0):+.1f} points in {gap.group} against {gap.others} "
        f"({gap.n_group:,} and {gap.n_others:,} {gap.unit}s{interval}{p})"
    )


def _row(gap: Gap) -> GapRow:
    return GapRow(
        group=f"{gap.group} against {gap.others}",
        measure=f"{plots.title_of(gap.measure)} for {gap.of}",
        counts=f"{gap.n_group:,} and {gap.n_others:,}",
        inside=_figure(gap.value_group),
        outside=_figure(gap.value_others),
        gap="too few" if gap.gap is None else f"{100 * gap.gap:+.1f}",
        interval="" if gap.low is None or gap.high is None else f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}",
        p="–" if gap.p_holm is None else p_in_words(gap.p_holm).removeprefix("p ").removeprefix("= "),
        detectable="–" if gap.detectable is None else f"{100 * gap.detectable:.0f}",
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
