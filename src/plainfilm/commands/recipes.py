"""The papers' experiments as commands: list them, run one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table as Grid
from rich.text import Text

from plainfilm.commands.flags import show
from plainfilm.terminal import Terminal

if TYPE_CHECKING:
    from plainfilm.recipes.comparison import Cell, Comparison


def list_recipes(*, json_: Annotated[bool, Parameter("--json", negative=())] = False) -> None:
    """List the papers' experiments: name, paper, images needed, minutes expected on two processors.

    Args:
        json_: Print JSON.
    """
    from plainfilm import recipes

    found = recipes.list_recipes()
    if json_:
        print(
            json.dumps([{**recipe.model_dump(mode="json"), "paper": recipe.paper.title} for recipe in found], indent=2)
        )
        return
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    grid.add_column("recipe", no_wrap=True)
    grid.add_column("what it does")
    grid.add_column("paper")
    grid.add_column("images", no_wrap=True)
    grid.add_column("minutes", justify="right", no_wrap=True)
    grid.add_column("--quick", justify="right", no_wrap=True)
    for recipe in found:
        paper = f"{recipe.paper.author.split()[-1]} {recipe.paper.year}, {recipe.section}"
        grid.add_row(recipe.name, recipe.title, paper, recipe.data, f"{recipe.minutes:g}", f"{recipe.quick_minutes:g}")
    show(grid)
    print("Images: see 'plainfilm data list'. Run one: plainfilm recipe run NAME --data FOLDER")


def run_recipe(
    name: str,
    /,
    *,
    data: Path,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    quick: Annotated[bool, Parameter(negative=())] = False,
    backbone: str | None = None,
    weights: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    images: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    json_: Annotated[bool, Parameter("--json", negative=())] = False,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
) -> None:
    """Do an experiment of a paper, and set it beside what holds on new patients.

    A recipe that was stopped goes on with the steps that are not finished: give the same command again.

    Args:
        name: See: plainfilm recipe list.
        data: Folder of the images.
        output: Folder; by default recipes/NAME.
        quick: Smaller and shorter, about two minutes; the table says so.
        backbone: Model to take where the pretrained weights of the paper's cannot be had, such as
            torchvision:squeezenet1_0.
        weights: A .safetensors file for that model (or, without --backbone, for the paper's), or 'pretrained'.
        epochs: Of every training, instead of the recipe's.
        seed: Of every training.
        images: Images to score or explain, in recipes that do so.
        overwrite: Begin again in a folder that holds a recipe.
        json_: Print the table as JSON.
        quiet: Only the result.
    """
    from plainfilm.recipes.running import Changes
    from plainfilm.recipes.running import run_recipe as run

    table, page = run(
        name,
        data,
        output=output,
        changes=Changes(
            quick=quick,
            epochs=epochs,
            seed=seed,
            backbone=backbone,
            weights=weights,
            images=None if images is None else str(images),
        ),
        overwrite=overwrite,
        progress=Terminal(quiet=quiet),
    )
    if json_:
        print(json.dumps(table.to_json(), indent=2, ensure_ascii=False))
        return
    _print_table(table)
    print(f"report: {page}")


def _print_table(table: Comparison) -> None:
    from plainfilm.recipes.comparison import COLUMNS

    grid = Grid(pad_edge=False, header_style="bold", show_lines=True)
    grid.add_column("quantity")
    for heading in COLUMNS.values():
        grid.add_column(heading)
    letters = {reason: chr(ord("a") + index) for index, reason in enumerate(table.reasons)}
    for line in table.lines:
        grid.add_row(
            Text(line.quantity),
            Text(line.printed.text if line.printed is not None else "–"),
            *(_in_cell(cell, letters) for cell in line.cells),
        )
    show(grid)
    for reason, letter in letters.items():
        show(f"struck [{letter}]: {reason}")
    for sentence in (*table.verdict, *(f"note: {note}" for note in table.notes)):
        show(sentence)


def _in_cell(cell: Cell, letters: dict[str, str]) -> Text:
    """A cell of the table; what is struck through is said in words too, for who sees no strokes."""
    shown = Text()
    shown.append(cell.text, style="strike" if cell.struck else "bold")
    if cell.struck:
        shown.append(f" struck [{letters[cell.struck]}]")
    for part in (f"95% CI {cell.interval}" if cell.interval else "", cell.counted, cell.note):
        if part:
            shown.append(f"\n{part}", style="dim")
    return shown
