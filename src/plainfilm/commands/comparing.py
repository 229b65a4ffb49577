"""Runs beside each other, as a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table as Grid
from rich.text import Text

from plainfilm.commands.flags import asked, flags_class, show
from plainfilm.comparison.results import ComparisonOptions
from plainfilm.terminal import Terminal

if TYPE_CHECKING:
    from plainfilm.comparison import Comparison

CompareFlags = flags_class("CompareFlags", ["evaluation"])


def compare(
    *runs: Path,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    json_: Annotated[bool, Parameter("--json", negative=())] = False,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    options: Annotated[ComparisonOptions | None, Parameter(name="*", group="Compare", negative=())] = None,
    flags: Annotated[CompareFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Which run is better, by how much and how surely, on the patients that all of them were tested on.

    Args:
        runs: Folders of two or more finished runs; the others are compared with the first.
        output: Folder for a page with the plot, and every number as JSON.
        overwrite: Replace the comparison in --output.
        json_: Print every number as JSON.
        quiet: No progress.
    """
    from plainfilm import verbs

    found = verbs.compare(
        runs, options, overrides=asked(flags), output=output, overwrite=overwrite, progress=Terminal(quiet=quiet)
    )
    if json_:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
        return
    show(_table(found))
    for one in found.headline:
        show(one.sentence)
    for note in found.notes:
        show(f"note: {note}")
    if output is not None:
        from plainfilm.verbs.comparing import PAGE

        print(f"page: {output / PAGE}")


def _table(found: Comparison) -> Grid:
    """A line for each difference; what must not stand is struck through, and said in words too."""
    from plainfilm.comparison.words import LOSSES, difference_cell, shown_p, title_of_difference

    level = f"{100 * found.confidence:g}% CI"
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for heading in ("measure", "run", "against", f"difference ({level})", "p", "p (pairs)", "DeLong/McNemar", "needed"):
        grid.add_column(heading, overflow="fold")
    for one in found.differences:
        exact = one.delong if one.delong is not None else one.mcnemar
        needed = None if one.planned is None or one.measure in LOSSES else one.planned.patients
        difference = Text(difference_cell(one), style="strike" if one.struck else "bold")
        grid.add_row(
            Text(title_of_difference(one)),
            Text(one.model),
            Text(one.reference),
            difference.append(" struck", style="not strike") if one.struck else difference,
            *("–" if p is None else shown_p(p) for p in (one.p, one.p_holm, exact)),
            "–" if needed is None else f"{needed:,}",
        )
    return grid
