"""The table every recipe ends in: what the paper printed, what its own way gives here, and what is done right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from plainfilm.recipes.outcome import Number, Outcome
from plainfilm.recipes.recipe import Printed, Recipe, Row, Step

SCHEMA = 1
COLUMNS = {
    "printed": "the paper printed",
    "paper": "our run in the paper's way",
    "right": "our run done right (patients, sealed test)",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One of our numbers in the table.

    Attributes:
        text: The number as it is shown; a dash where there is none.
        interval: `0.874-0.943`; empty where there is none, and `note` says why.
        counted: What is behind it.
        struck: Why it must not stand; empty where it may.
        note: What to know of it.
        number: The same with every digit; None for an empty cell.
    """

    text: str = "–"
    interval: str = ""
    counted: str = ""
    struck: str = ""
    note: str = ""
    number: Number | None = None

    def __str__(self) -> str:
        """The cell in one line."""
        behind = ", ".join(filter(None, (f"95% CI {self.interval}" if self.interval else "", self.counted)))
        shown = f"{self.text} ({behind})" if behind else self.text
        return f"struck: {shown}" if self.struck else shown


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the table."""

    quantity: str
    printed: Printed | None
    paper: Cell
    right: Cell

    @property
    def cells(self) -> tuple[Cell, Cell]:
        """Our two cells."""
        return self.paper, self.right


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The table of a recipe.

    Attributes:
        recipe: Its name.
        title: What it is.
        lines: The rows.
        verdict: What the last column is worth, in sentences made from its numbers.
        notes: What was otherwise than in the paper.
    """

    recipe: str
    title: str
    lines: tuple[Line, ...]
    verdict: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why numbers are struck through, each once."""
        return tuple(dict.fromkeys(cell.struck for line in self.lines for cell in line.cells if cell.struck))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        lines = [
            {**asdict(line), "printed": line.printed and line.printed.model_dump(mode="json")} for line in self.lines
        ]
        return {"schema": SCHEMA, "columns": COLUMNS, **asdict(self), "lines": lines}


def compare(recipe: Recipe, outcomes: Mapping[str, Outcome], *, notes: Sequence[str] = ()) -> Comparison:
    """Put the numbers of the steps beside those of the paper.

    Args:
        recipe: With the rows.
        outcomes: By step.
        notes: See `Comparison`.
    """
    lines = [line for row in recipe.rows for line in _lines(row, recipe, outcomes)]
    left_out = [
        f"Not run: {step.title}. {outcomes[step.id].not_run}" for step in recipe.steps if outcomes[step.id].not_run
    ]
    return Comparison(
        recipe=recipe.name,
        title=recipe.title,
        lines=tuple(lines),
        verdict=tuple(_verdict(recipe.steps, outcomes)),
        notes=(*left_out, *notes),
    )


def _lines(row: Row, recipe: Recipe, outcomes: Mapping[str, Outcome]) -> Iterable[Line]:
    """The lines of one row: one, or one for each number whose name begins as the row says."""
    printed = recipe.paper.numbers[row.printed] if row.printed is not None else None
    if row.difference and printed is not None:
        cells = [_difference(reference, printed.values, outcomes) for reference in (row.paper, row.right)]
        yield Line(quantity=row.quantity, printed=printed, paper=cells[0], right=cells[1])
    elif row.every:
        for ending in _endings(row, outcomes):
            cells = [
                _cell(reference and reference + ending, row, outcomes, absent="")
                for reference in (row.paper, row.right)
            ]
            yield Line(quantity=f"{row.quantity} {ending}", printed=printed, paper=cells[0], right=cells[1])
    else:
        cells = [_cell(reference, row, outcomes) for reference in (row.paper, row.right)]
        yield Line(quantity=row.quantity, printed=printed, paper=cells[0], right=cells[1])


def _endings(row: Row, outcomes: Mapping[str, Outcome]) -> list[str]:
    """What comes after the row's beginning in the names of its steps' numbers, in order, each once."""
    found: dict[str, None] = {}
    for reference in filter(None, (row.paper, row.right)):
        step, _, beginning = reference.partition(": ")
        names = (name for name in outcomes[step].numbers if name.startswith(beginning))
        found |= dict.fromkeys(name.removeprefix(beginning) for name in names)
    return list(found)


def _cell(reference: str | None, row: Row, outcomes: Mapping[str, Outcome], *, absent: str = "not measured") -> Cell:
    """The cell of a number `step: name`."""
    if reference is None:
        return Cell()
    step, _, name = reference.partition(": ")
    if outcomes[step].not_run:
        return Cell(note="not run: see the notes")
    number = outcomes[step].numbers.get(name)
    if number is None:
        return Cell(note=absent)
    if number.value is None:
        return Cell(text="withheld", note=number.note, number=number)
    return Cell(
        text=_shown(number.value, row),
        interval="" if number.low is None or number.high is None else f"{number.low:.3f}-{number.high:.3f}",
        counted=number.counted,
        struck=number.struck,
        note=number.note,
        number=number,
    )


def _shown(value: float, row: Row) -> str:
    return f"{value:,.0f}" if row.shown == "count" else f"{value:.4f}" if row.shown == "score" else f"{value:.3f}"


def _difference(reference: str | None, printed: Sequence[float], outcomes: Mapping[str, Outcome]) -> Cell:
    """How far our numbers `beginning1`, `beginning2`, ... are from the printed ones at most."""
    if reference is None:
        return Cell()
    step, _, beginning = reference.partition(": ")
    ours = [outcomes[step].numbers.get(f"{beginning}{index}") for index in range(1, len(printed) + 1)]
    known = [number.value for number in ours if number is not None and number.value is not None]
    if len(known) != len(printed):
        return Cell(note=f"{len(known)} of {len(printed)} to compare")
    largest = max(abs(own - theirs) for own, theirs in zip(known, printed, strict=True))
    return Cell(
        text=f"differs by {largest:.1e}",
        counted=f"at most, of {len(printed)}",
        note="arithmetic on the same images: no interval",
        number=Number(value=largest),
    )


def _verdict(steps: Sequence[Step], outcomes: Mapping[str, Outcome]) -> Iterable[str]:
    """What each training done right is worth: accuracy against always naming the most frequent class."""
    for step in steps:
        numbers = outcomes[step.id].numbers
        unit = "patient" if "accuracy/patient" in numbers else "image"
        accuracy, majority = numbers.get(f"accuracy/{unit}"), numbers.get(f"majority_rate/{unit}")
        if step.column != "right" or accuracy is None or majority is None:
            continue
        if None in (accuracy.value, accuracy.low, accuracy.high, majority.value):
            continue
        assert accuracy.low is not None
        assert accuracy.high is not None
        assert majority.value is not None
        measured = (
            f"{step.title}: accuracy by {unit} {accuracy.value:.3f} (95% CI {accuracy.low:.3f}-{accuracy.high:.3f}, "
            f"{accuracy.counted}); always naming the most frequent class gives {majority.value:.3f}."
        )
        if accuracy.low > majority.value:
            yield f"{measured} The whole interval is above that."
        elif accuracy.high < majority.value:
            yield f"{measured} The whole interval is below that: worse than not looking."
        else:
            yield f"{measured} The interval holds that too: on so many, this is not told apart from not looking."
