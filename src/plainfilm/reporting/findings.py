"""The findings of an audit, drawn: a page of its own, and a section of the report."""

from __future__ import annotations

import math
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any, Final

from markupsafe import Markup
from PIL import Image

from plainfilm import __version__
from plainfilm.auditing.findings import SEVERITY, Finding, Picture, Verdict
from plainfilm.auditing.results import Audit
from plainfilm.measures import plural
from plainfilm.pages import page_style
from plainfilm.reporting.environment import report_environment
from plainfilm.reporting.words import EVIDENCE

SECTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "A": ("Leakage", "Can the test be passed by knowing the training images or the training patients?"),
    "B": ("Shortcuts", "Can the label be told from something that is not the disease?"),
    "C": ("Controls", "Does the number fall to chance where it must, and beat what is simple?"),
    "D": ("How sure", "How far could the number be off with so many patients?"),
    "E": ("Calibration", "Does a score of 0.8 come true in 8 of 10?"),
    "F": ("Subgroups", "Is it as good for every kind of patient?"),
    "G": ("Labels", "Which labels should a person look at again?"),
    "H": ("Unlike the training data", "Does the model notice an image that it should not judge?"),
    "I": ("Learning curve", "Would more patients help?"),
    "J": ("Explanation", "Do the heat maps show what the model learned?"),
    "K": ("Another site", "Does the number hold where the images come from elsewhere?"),
}
"""Title of each section by the letter of its checks, and what it asks."""

KINDS: Final[Mapping[Verdict, tuple[str, str]]] = {
    "FAIL": ("fail", "✗"),
    "WARN": ("warn", "!"),
    "NOT ASSESSABLE": ("open", "?"),
    "PASS": ("pass", "✓"),
}
"""CSS class of a verdict, and the mark that tells it apart without its colour; worst first."""

SHOWN_DETAILS = 40
SHOWN_ITEMS = 8  # of a list in one line
SHOWN_COLUMNS = 8
SHOWN_ROWS = 20


@dataclass(frozen=True)
class Detail:
    """A further number, or a small table of them.

    Attributes:
        name: What it is.
        text: The value in words; empty for a table.
        columns: Headings of the table.
        rows: Its cells in words.
        more: Rows that are not shown.
    """

    name: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    more: int = 0


@dataclass(frozen=True)
class ShownPicture:
    """A picture inside the page."""

    source: Markup
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class ShownFinding:
    """A finding with all its numbers in words.

    Attributes:
        finding: What is shown.
        anchor: Its id in the page.
        kind: CSS class of its verdict.
        mark: The sign of its verdict.
        number: Value, interval and p in words; empty where there is no number.
        counted: What is behind it; empty where nothing was counted.
        details: Further numbers.
        pictures: For a person to look at.
        tables: Name of the file and number of rows of each longer list.
    """

    finding: Finding
    anchor: str
    kind: str
    mark: str
    number: str
    counted: str
    details: tuple[Detail, ...]
    pictures: tuple[ShownPicture, ...]
    tables: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Section:
    """The findings under one letter, the worst first."""

    letter: str
    title: str
    question: str
    shown: tuple[ShownFinding, ...]


@dataclass(frozen=True)
class Tally:
    """How many findings have one verdict."""

    verdict: Verdict
    kind: str
    mark: str
    count: int


@dataclass(frozen=True)
class FindingsView:
    """All findings as a page shows them.

    Attributes:
        tallies: For each verdict, worst first.
        sections: The section with the worst finding first, then by letter.
        attention: What fails or warns, worst first.
    """

    tallies: tuple[Tally, ...]
    sections: tuple[Section, ...]
    attention: tuple[ShownFinding, ...]


def findings_page(
    findings: Sequence[Finding],
    *,
    title: str,
    evidence_level: int | None = None,
    step: str | None = None,
    facts: Sequence[tuple[str, str]] = (),
    when: datetime | None = None,
    version: str = __version__,
) -> str:
    """One offline HTML page that needs no script.

    Args:
        findings: In any order.
        title: What was audited, never an absolute path.
        evidence_level: 0 to 4, see `EVIDENCE`; None where the audit does not give one.
        step: What is missing for the next level; see `next_step`.
        facts: Name and value of what a reader should know first, such as `("Patients", "200, recovered")`.
        when: When the audit ended; None leaves it out.
        version: Of plainfilm.
    """
    template = report_environment().get_template("audit.html.j2")
    return template.render(
        title=title,
        view=view_of(findings),
        level=None if evidence_level is None else (evidence_level, *EVIDENCE[evidence_level]),
        step=step,
        facts=facts,
        when=when,
        version=version,
        style=page_style(("plainfilm.reporting", "style.css"), ("plainfilm.reporting", "findings.css")),
    )


def audit_page(audit: Audit) -> str:
    """The page of a whole audit, `audit.html`."""
    return findings_page(
        audit.findings,
        title=audit.source,
        evidence_level=audit.evidence_level,
        step=None if audit.evidence_level is None else next_step(audit.evidence_level, audit),
        facts=audit_facts(audit),
        when=audit.when,
        version=audit.version,
    )


def audit_facts(audit: Audit) -> list[tuple[str, str]]:
    """What to know of an audit first: how much was looked at, and how long it took."""
    patients = "not known" if audit.n_patients is None else f"{audit.n_patients:,}, {audit.patients}"
    return [
        ("Images", f"{audit.n_images:,}"),
        ("Patients", patients),
        ("Checks", f"{len(audit.findings)}"),
        ("Time", f"{audit.seconds:.0f} s"),
    ]


def view_of(findings: Sequence[Finding]) -> FindingsView:
    """The findings grouped and put into words."""
    worst_first = sorted(findings, key=lambda finding: (*_rank(finding), finding.check))
    shown = [_shown(number, finding) for number, finding in enumerate(worst_first, start=1)]
    sections: dict[str, list[ShownFinding]] = {}
    for item in shown:  # so the section with the worst finding comes first
        sections.setdefault(item.finding.section, []).append(item)
    ordered = sorted(sections.items(), key=lambda entry: (_rank(entry[1][0].finding), entry[0]))
    counts = Counter(finding.verdict for finding in findings)
    return FindingsView(
        tallies=tuple(Tally(verdict, *KINDS[verdict], counts[verdict]) for verdict in KINDS),
        sections=tuple(
            Section(letter, *SECTIONS.get(letter, (f"Section {letter}", "")), tuple(items)) for letter, items in ordered
        ),
        attention=tuple(item for item in shown if item.finding.verdict in ("FAIL", "WARN")),
    )


def next_step(level: int, audit: Audit | None) -> str:
    """What is missing for the next evidence level; at the highest what the audit fails all the same, or nothing.

    Args:
        level: The one that is reached.
        audit: Of the same score; None where there was none.
    """
    steps = (
        "the patient of every image must be known: a column patient_id, or patients recovered from the pixels, "
        "and no patient in two splits.",
        "split by patient instead of by image, and train again.",
        _audit_step(audit),
        "measure the model on patients of another site: plainfilm evaluate RUN DATA; or hold whole sites out: "
        "plainfilm train DATA --split site.",
    )
    if level < len(steps):
        return f"For level {level + 1}: {steps[level]}"
    if audit is None or not audit.open_points:
        return ""
    return f"No level is above this one, but the audit is not clean. {_points(audit)}"


def _audit_step(audit: Audit | None) -> str:
    if audit is None:
        return "run the audit, and mend what it finds: plainfilm audit DATA --run RUN."
    if not audit.open_points:
        return "the audit must be about this score, and clean."
    return f"sections A to E of the audit must be clean. {_points(audit)}"


def _points(audit: Audit) -> str:
    named = " ".join(audit.open_points[:SHOWN_ITEMS])
    more = f" And {len(audit.open_points) - SHOWN_ITEMS} more." if len(audit.open_points) > SHOWN_ITEMS else ""
    return f"{named}{more}"


def _rank(finding: Finding) -> tuple[int, bool]:
    """Falling severity; of two alike, the one that nobody has accepted comes first."""
    return -SEVERITY.index(finding.verdict), finding.accepted is not None


def _shown(number: int, finding: Finding) -> ShownFinding:
    kind, mark = KINDS[finding.verdict]
    return ShownFinding(
        finding=finding,
        anchor=f"finding-{number}",
        kind=kind,
        mark=mark,
        number=_number(finding),
        counted=counted(finding.n_images, finding.n_patients),
        details=tuple(_details(finding.details))[:SHOWN_DETAILS],
        pictures=tuple(_picture(picture) for picture in finding.pictures),
        tables=tuple((f"{stem}.csv", len(table)) for stem, table in sorted(finding.tables.items())),
    )


def counted(n_images: int | None, n_patients: int | None) -> str:
    """What is behind a number: `1,280 images of 40 patients`."""
    images = None if n_images is None else f"{n_images:,} image{'' if n_images == 1 else 's'}"
    patients = None if n_patients is None else f"{n_patients:,} patient{'' if n_patients == 1 else 's'}"
    return " of ".join(filter(None, (images, patients)))


def _number(finding: Finding) -> str:
    parts = []
    if finding.value is not None:
        parts.append(in_digits(finding.value))
        if finding.low is not None and finding.high is not None:
            parts[-1] += f" (95 % interval {in_digits(finding.low)} to {in_digits(finding.high)})"
        elif finding.low is not None:
            parts[-1] += f" (at least {in_digits(finding.low)})"
        elif finding.high is not None:
            parts[-1] += f" (at most {in_digits(finding.high)})"
    if finding.p is not None:
        parts.append(p_in_words(finding.p))
    return ", ".join(parts)


def in_digits(value: float) -> str:
    """A number of unknown kind as a reader wants it: whole ones whole, shares with three places."""
    if not math.isfinite(value):
        return "not a number"
    if value == 0 or (value == round(value) and abs(value) >= 2):
        return f"{value:,.0f}"
    if 1e-3 <= abs(value) < 100:
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def p_in_words(p: float) -> str:
    """`p = 0.012`; below a thousandth only that it is."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _picture(picture: Picture) -> ShownPicture:
    with Image.open(BytesIO(picture.png), formats=["PNG"]) as opened:
        width, height = opened.size
    source = Markup(f"data:image/png;base64,{b64encode(picture.png).decode('ascii')}")
    return ShownPicture(source, picture.caption, width, height)


def _details(values: Mapping[str, Any], prefix: str = "") -> Iterable[Detail]:
    """Numbers as lines; a mapping inside a mapping under both names, a list of mappings as a table."""
    for name, value in values.items():
        spoken = f"{prefix}{str(name).replace('_', ' ')}"
        if isinstance(value, Mapping) and {"value", "low", "high"} <= set(value):
            yield Detail(spoken, _estimate(value))
        elif isinstance(value, Mapping):
            yield from _details(value, f"{spoken}: ")
        elif isinstance(value, list | tuple) and value and all(isinstance(entry, Mapping) for entry in value):
            columns = tuple(dict.fromkeys(key for entry in value for key in entry))[:SHOWN_COLUMNS]
            rows = tuple(tuple(_text(entry.get(key), str(key)) for key in columns) for entry in value[:SHOWN_ROWS])
            heads = tuple(str(key).replace("_", " ") for key in columns)
            yield Detail(spoken, columns=heads, rows=rows, more=max(0, len(value) - SHOWN_ROWS))
        else:
            yield Detail(spoken, _text(value, str(name)))


def _estimate(numbers: Mapping[str, Any]) -> str:
    """A number with its interval and its counts, as check after check keeps them."""
    counts = counted(numbers.get("n_images"), numbers.get("n_patients"))
    interval = f" ({_text(numbers['low'])} to {_text(numbers['high'])})" if numbers["low"] is not None else ""
    return f"{_text(numbers['value'])}{interval}{f', {counts}' if counts else ''}"


def _text(value: Any, name: str = "") -> str:
    """A value in words; `name` tells a p value from another number."""
    if isinstance(value, list | tuple):
        more = f" … {plural(len(value) - SHOWN_ITEMS, 'more value')}" if len(value) > SHOWN_ITEMS else ""
        return (", ".join(_text(entry) for entry in value[:SHOWN_ITEMS]) or "none") + more
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return "below 0.001" if "p" in name.split("_") and 0 <= value < 0.001 else in_digits(value)
    return "–" if value is None else str(value)
