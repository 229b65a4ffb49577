"""Models under several seeds, as a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table as Grid
from rich.text import Text

from plainfilm.commands.flags import SweepFlags, asked, show
from plainfilm.config import RunOptions, read_options
from plainfilm.errors import UsageError
from plainfilm.terminal import Terminal

if TYPE_CHECKING:
    from plainfilm.verbs.sweeping import Sweep


def sweep(
    data: Path | None = None,
    /,
    *,
    model: tuple[str, ...] = (),
    seeds: int = 3,
    prune: bool = True,
    test: Annotated[bool, Parameter(negative=())] = False,
    options: Path | None = None,
    output: Annotated[Path, Parameter(["--output", "-o"])] = Path("sweep"),
    resume: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    json_: Annotated[bool, Parameter("--json", negative=())] = False,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    flags: Annotated[SweepFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Try models under several seeds, compared on validation images alone; the test images stay sealed.

    Args:
        data: Class folders, a CSV, TSV or parquet table, a folder of parquet shards, or a MedMNIST .npz.
        model: A model to try; give it once for each.
        seeds: How many times each model is trained, each time from another seed; the first is --seed.
        prune: End trials that are worse, at the same epoch, than the median of those before them.
        test: Train the chosen model once more and test it, once, in the folder 'run'.
        options: TOML file of options for all trials; flags come before it.
        output: Folder of the sweep.
        resume: Folder of a stopped sweep to go on with; what it began with is used.
        overwrite: Replace the sweep in --output.
        json_: Print the trials as JSON.
        quiet: Only warnings.
    """
    from plainfilm import verbs
    from plainfilm.summaries import run_summary

    given = asked(flags)
    if resume is not None and (options is not None or model or overwrite or given or data is not None):
        raise UsageError("--resume uses what the sweep began with; only --test may go with it.", code="OPT_RESUME")
    values = (read_options(options) if options is not None else {}) | given
    source = values.pop("data", None)
    found = verbs.sweep(
        data or source,
        RunOptions.from_flat(values),
        models=model,
        seeds=seeds,
        prune=prune,
        test=test,
        output=resume or output,
        overwrite=overwrite,
        resume=resume is not None,
        progress=Terminal(quiet=quiet),
    )
    if json_:
        print(json.dumps(found.table.astype(object).where(found.table.notna(), None).to_dict("records"), indent=2))
    else:
        show(_grid(found))
    if found.run is not None:
        show(run_summary(found.run))
    elif found.chosen is None:
        print("none is chosen: of every model a seed was pruned or failed")
    elif not json_:
        chosen, seed = found.chosen
        print(f"chosen on validation images: {chosen}; no test image was scored")
        print(f"test it, once: plainfilm train --options {found.folder / 'chosen.toml'}  (seed {seed})")


def _grid(found: Sweep) -> Grid:
    """A line for each trial."""
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    value = found.measure.replace("_", " ")
    for heading in ("model", "seed", "", value, "epoch", "of", "seconds"):
        grid.add_column(heading)
    for row in found.table.astype(object).where(found.table.notna(), None).to_dict("records"):
        cells = [None if row[name] is None else str(int(row[name])) for name in ("chosen_epoch", "epochs")]
        grid.add_row(
            Text(row["model"]),
            str(row["seed"]),
            row["state"] if row["code"] is None else f"{row['state']} ({row['code']})",
            "–" if row["value"] is None else f"{row['value']:.4f}",
            *(cell or "–" for cell in cells),
            "–" if row["seconds"] is None else f"{row['seconds']:.0f}",
        )
    return grid
