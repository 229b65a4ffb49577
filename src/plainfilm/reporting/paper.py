"""What a paper can take as it stands: methods, results and Table 1 as Markdown and LaTeX, checklists as CSV.

Every number has its interval and count, no file names a patient, and a number that may not stand is marked as such
wherever it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from plainfilm import plots
from plainfilm.measures import Measure
from plainfilm.plots import readable
from plainfilm.prediction import safe_csv
from plainfilm.reporting import figures
from plainfilm.reporting.cohort import Cohort, Column
from plainfilm.reporting.content import ReportData
from plainfilm.reporting.sentences import main_unit, sentences_of
from plainfilm.reporting.standards import checklists

PAPER_FILES: Final = ("methods.md", "results.md", "results.tex", "checklist.csv", "table1.csv", "table1.tex")
"""Every file that may be written; Table 1 only where the run says who is in the data."""

TEXT_LIMIT = 4_000  # characters of one sentence
NAME_LIMIT = 80

METHODS: Final = (
    ("Data", ("source", "task", "patients_known", "exclusions", "missing", "characteristics", "stored")),
    ("Partitions", ("partition", "disjoint")),
    ("Images", ("preprocessing",)),
    (
        "Model and training",
        (
            "technology",
            "model",
            "initial",
            "training",
            "selection",
            "ensemble",
            "calibrated",
            "abstaining",
            "heat",
            "software",
        ),
    ),
    ("Evaluation", ("metrics", "uncertainty", "internal", "external", "precision")),
)
"""Paragraphs of the methods, each with the sentences it is made of."""

RESULTS: Final = ("headline", "gap", "per_class", "failures", "calibration", "subgroups", "labels", "audit", "limits")
"""Sentences of the results."""

LATEX: Final = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': "''",
        "`": r"\textasciigrave{}",
        "–": "--",
        "…": r"\ldots{}",
    }
)


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        caption: What it shows, and of whom.
        head: Headings of the columns; the first is over the names of the rows.
        rows: Name of the row, then its cells.
        struck: Whether its numbers may not stand.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    struck: bool


def paper_files(report: ReportData) -> dict[str, str]:
    """The text of every file, by its name."""
    grids = list(_results(report))
    files = {
        "methods.md": _methods_markdown(report),
        "results.md": _results_markdown(report, grids),
        "results.tex": _latex(grids),
        "checklist.csv": safe_csv(_checklist(report)),
    }
    if report.cohort is not None:
        table = table_one(report.cohort)
        files["table1.csv"] = safe_csv(_table_one_frame(report.cohort))
        files["table1.tex"] = _latex([table])
    return files


def methods_paragraphs(report: ReportData) -> list[tuple[str, str]]:
    """Heading and text of each paragraph on what was done."""
    said = sentences_of(report)
    paragraphs = ((title, " ".join(said[name] for name in names if name in said)) for title, names in METHODS)
    return [(title, text) for title, text in paragraphs if text]


def results_sentences(report: ReportData) -> list[str]:
    """What was found, a sentence or more for each matter."""
    said = sentences_of(report)
    return [said[name] for name in RESULTS if name in said]


def table_one(cohort: Cohort) -> Grid:
    """Table 1 as text; a characteristic of several values has a row for each."""
    rows = tuple(
        (f"{line.name}: {line.level}" if line.level else line.name, *line.cells) for line in _counted_lines(cohort)
    )
    unit = "patients" if cohort.columns[0].n_patients is not None else "images"
    return Grid(
        caption=f"Who is in the data. Counts are {unit}, with their share in brackets, unless images are named.",
        head=("Characteristic", *(_column_name(column) for column in cohort.columns)),
        rows=rows,
        struck=False,
    )


@dataclass(frozen=True)
class _CountedLine:
    name: str
    level: str
    cells: tuple[str, ...]


def _counted_lines(cohort: Cohort) -> Iterator[_CountedLine]:
    """The rows of Table 1; where patients are known, what is counted by image says so."""
    by_patient = cohort.columns[0].n_patients is not None
    for line in cohort.lines:
        by_image = by_patient and line.counted == "images" and line.name != "Images"
        yield _CountedLine(f"{line.name} (images)" if by_image else line.name, line.level, line.cells)


def _column_name(column: Column) -> str:
    return "All" if column.kind == "all" else column.name.capitalize() if column.kind == "split" else column.name


def _table_one_frame(cohort: Cohort) -> pd.DataFrame:
    heads = [f"{column.kind}: {column.name}" if column.name else column.kind for column in cohort.columns]
    return pd.DataFrame(
        [(line.name, line.level, line.counted, *line.cells) for line in cohort.lines],
        columns=["characteristic", "value", "counted", *heads],
    )


def _checklist(report: ReportData) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (
                checklist.standard.name,
                answer.item.id,
                answer.item.part,
                answer.item.asks,
                answer.status,
                answer.said,
                answer.todo,
            )
            for checklist in checklists(report)
            for answer in checklist.answers
        ],
        columns=["standard", "item", "part", "asks", "status", "said by the run", "left to the authors"],
    )


# --- the tables of the results ------------------------------------------------------------------------------


def _results(report: ReportData) -> Iterator[Grid]:
    evaluation = report.evaluation
    unit = main_unit(evaluation)
    percent = f"{100 * evaluation.options.confidence:g} %"
    patients = "" if evaluation.n_patients is None else f" of {evaluation.n_patients:,} patients"
    about = f"{evaluation.n_images:,} images{patients}, {report.tested_on} set, {percent} intervals in brackets"
    struck = evaluation.struck is not None
    support = evaluation.confusion(unit=unit).support
    yield Grid(
        caption=f"Performance for each class by {unit}: {about}.",
        head=("Class", f"{unit.capitalize()}s", *(_spoken(name) for name in figures.CLASS_FIGURES)),
        rows=tuple(
            (
                label,
                f"{support[index]:,}",
                *(_cell(evaluation.measure(name, unit=unit, of=label)) for name in figures.CLASS_FIGURES),
            )
            for index, label in enumerate(evaluation.classes)
        ),
        struck=struck,
    )
    overall = figures.overall(evaluation)
    yield Grid(
        caption=f"Performance over all classes: {about}.",
        head=("Figure", *overall.columns),
        rows=tuple(
            (f"{row.name} over {row.of}" if row.of else row.name, *(_cell(measure) for measure in row.measures))
            for row in overall.rows
        ),
        struck=struck,
    )


def _spoken(name: str) -> str:
    return {"recall": "Sensitivity", "precision": "PPV"}.get(name, plots.title_of(name))


def _cell(measure: Measure | None) -> str:
    if measure is None:
        return "–"
    if measure.value is None:
        return "withheld"
    if measure.low is None or measure.high is None:
        return f"{measure.value:.3f}"
    return f"{measure.value:.3f} ({measure.low:.3f}–{measure.high:.3f})"


# --- Markdown -----------------------------------------------------------------------------------------------


def markdown_text(text: str, *, limit: int = TEXT_LIMIT) -> str:
    """Text that Markdown shows as it is."""
    shown = readable(text, limit=limit)
    return "".join(f"\\{char}" if char in "\\`*_[]<>#|~" else char for char in shown)


def _methods_markdown(report: ReportData) -> str:
    lines = [
        "# Methods",
        "",
        f"Drawn up by plainfilm {markdown_text(report.version)} from the files of the run. It says what was done with "
        "the images after they were handed over; `checklist.csv` lists what only the authors can say.",
    ]
    for title, text in methods_paragraphs(report):
        lines += ["", f"## {title}", "", markdown_text(text)]
    return "\n".join([*lines, ""])


def _results_markdown(report: ReportData, grids: Sequence[Grid]) -> str:
    struck = report.evaluation.struck
    lines = ["# Results", ""]
    if struck is not None:
        lines += [f"**Not a result. {markdown_text(struck)} The numbers are struck through.**", ""]
    for sentence in results_sentences(report):
        lines += [markdown_text(sentence), ""]
    for grid in grids:
        lines += [*_markdown_table(grid), ""]
    return "\n".join(lines)


def _markdown_table(grid: Grid) -> Iterator[str]:
    yield f"*{markdown_text(grid.caption)}*"
    yield ""
    yield "| " + " | ".join(markdown_text(name, limit=NAME_LIMIT) for name in grid.head) + " |"
    yield "|---" + "|---:" * (len(grid.head) - 1) + "|"
    for name, *cells in grid.rows:
        shown = [_marked(cell, grid, markdown_text, "~~{}~~") for cell in cells]
        yield "| " + " | ".join([markdown_text(name, limit=NAME_LIMIT), *shown]) + " |"


# --- LaTeX --------------------------------------------------------------------------------------------------


def latex_text(text: str, *, limit: int = TEXT_LIMIT) -> str:
    """Text that LaTeX prints as it is."""
    return readable(text, limit=limit).translate(LATEX)


def _latex(grids: Sequence[Grid]) -> str:
    lines = ["% Drawn up by plainfilm. Needs \\usepackage{booktabs}; the file is UTF-8."]
    if any(grid.struck for grid in grids):
        lines += [
            "% These numbers may not be reported as results: see the caption.",
            r"\providecommand{\struck}[1]{\textit{[not valid: #1]}}",
        ]
    for grid in grids:
        lines += _latex_table(grid)
    return "\n".join([*lines, ""])


def _latex_table(grid: Grid) -> Iterator[str]:
    warning = (
        "NOT A RESULT: images of one patient can be on both sides of the split, or the scores are otherwise void. "
    )
    yield r"\begin{table}"
    yield rf"\caption{{{warning if grid.struck else ''}{latex_text(grid.caption)}}}"
    yield rf"\begin{{tabular}}{{l{'r' * (len(grid.head) - 1)}}}"
    yield r"\toprule"
    yield " & ".join(latex_text(name, limit=NAME_LIMIT) for name in grid.head) + r" \\"
    yield r"\midrule"
    for name, *cells in grid.rows:
        shown = [_marked(cell, grid, latex_text, r"\struck{{{}}}") for cell in cells]
        yield " & ".join([latex_text(name, limit=NAME_LIMIT), *shown]) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def _marked(cell: str, grid: Grid, escape: Callable[[str], str], mark: str) -> str:
    """A cell, marked where it is a score that may not stand; a count may always stand."""
    is_score = "." in cell and cell[:1].isdigit()
    return mark.format(escape(cell)) if grid.struck and is_score else escape(cell)
