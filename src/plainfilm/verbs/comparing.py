"""Which of several runs is better, on the patients that all of them were tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plainfilm.comparison import Comparison, ComparisonOptions, Contender, compare_predictions
from plainfilm.errors import BundleError
from plainfilm.measures import Evaluation, EvaluationOptions
from plainfilm.prediction import Predictions
from plainfilm.progress import Progress, Silent
from plainfilm.runs import Run, open_run
from plainfilm.storage import check_output, delete, make_folder, read_json, write_json, write_text

PAGE, NUMBERS = "compare.html", "compare.json"


def compare(
    runs: Sequence[str | Path],
    options: ComparisonOptions | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Compare finished runs on the patients that all of them were tested on; the scores on file are used.

    Args:
        runs: Their folders; the others are compared with the first.
        options: What is compared.
        overrides: Options of `EvaluationOptions` that differ from the first run's own, such as `{"positive": ["ill"]}`.
        output: Folder for the page and the numbers; nothing is written without it.
        overwrite: Replace a comparison in `output`.
        progress: Told after every run.

    Raises:
        UsageError: `CMP_...` if there is nothing to compare, `OUT_EXISTS` or `OUT_STRANGE`.
        DataError: `CMP_...` if the runs were not asked the same; `BundleError` for a damaged run.
    """
    folder = None if output is None else Path(output)
    if folder is not None:
        check_output(folder, "a comparison", {PAGE, NUMBERS}, mark=NUMBERS, overwrite=overwrite)
    progress = progress or Silent()
    opened = [open_run(Path(run)) for run in runs]
    names = _names(opened)
    with progress.task("reading runs", len(opened)) as advance:
        contenders = []
        for run, name in zip(opened, names, strict=True):
            contenders.append(_contender(run, name))
            advance(1)
    own = read_json(opened[0].facts)["options"]["evaluation"] if opened else {}
    found = compare_predictions(
        contenders, evaluation=EvaluationOptions.model_validate(own | dict(overrides or {})), options=options
    )
    if folder is not None:
        _write(found, folder)
    return found


def _contender(run: Run, name: str) -> Contender:
    facts = read_json(run.facts)
    evaluation = Evaluation.from_json(read_json(run.evaluation))
    rows = run.read_table()
    if "pixel_sha256" not in rows.columns:
        raise BundleError(f"'{run.table.name}' of '{name}' is damaged.", code="BUN_DAMAGED")
    return Contender(
        name=name,
        predictions=Predictions.load(run.predictions).tested(facts["tested_on"]),
        patients=facts["patients"],
        struck=evaluation.struck,
        digests=dict(zip(rows["path"], rows["pixel_sha256"], strict=True)),
    )


def _names(runs: Sequence[Run]) -> list[str]:
    """The last part of each folder, and more of it where that is not enough to tell them apart."""
    paths = [run.folder.resolve() for run in runs]
    short = [path.name for path in paths]
    return [
        name if short.count(name) == 1 else "/".join(path.parts[-2:]) for name, path in zip(short, paths, strict=True)
    ]


def _write(found: Comparison, folder: Path) -> None:
    """The numbers first, and removed last: a folder without them is not taken for a comparison."""
    from plainfilm.pages.comparison import write_comparison

    make_folder(folder)
    for name in (PAGE, NUMBERS):
        delete(folder / name)
    write_json(folder / NUMBERS, found.to_json())
    write_text(folder / PAGE, write_comparison(found))
