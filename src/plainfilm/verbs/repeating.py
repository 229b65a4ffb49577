"""Runs that are the same training under other seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from plainfilm.auditing.seeds import Training
from plainfilm.bundle import find_bundles, read_config
from plainfilm.config import SECTION_OF, RunOptions, read_options
from plainfilm.errors import UsageError
from plainfilm.measures import Evaluation
from plainfilm.runs import Run, open_run
from plainfilm.storage import read_json, sha256_of

DECIDING: Final = ("split", "fitting", "intensity", "model", "augment", "training", "evaluation")
"""Sections of the options that two runs must share to be the same training, but for the seed."""
FREE: Final = ("seed", "device", "keep_checkpoints", "keep_features", "draws")
SAME_ROWS: Final = ("pixel_sha256", "label", "split", "fold")


def trainings_of(run: Run, others: Sequence[str | Path]) -> list[Training]:
    """What a run and others of other seeds came to, the run itself first.

    Args:
        run: Finished.
        others: Folders of finished runs on the same images, divided alike, with the same options but for the seed.

    Raises:
        UsageError: `AUD_OTHER_TRAINING`, naming the first difference.
    """
    if not others:
        return []
    opened = [open_run(Path(other)) for other in others]
    for other in opened:
        _check_same(run, other)
    return [_training(each) for each in (run, *opened)]


def _check_same(run: Run, other: Run) -> None:
    one, two = _deciding(run), _deciding(other)
    for name, value in one.items():
        if two[name] != value:
            raise UsageError(
                f"'{other.folder.name}' was trained with {name} = {two[name]}, '{run.folder.name}' with {value}: "
                "--seeds is for runs that differ by their seed alone.",
                code="AUD_OTHER_TRAINING",
            )
    own, theirs = run.read_table(), other.read_table()
    for name in SAME_ROWS:
        if name in own.columns and (name not in theirs.columns or list(own[name]) != list(theirs[name])):
            raise UsageError(
                f"'{other.folder.name}' has other images, labels or splits than '{run.folder.name}' ({name}): --seeds "
                "is for runs that differ by their seed alone.",
                code="AUD_OTHER_TRAINING",
            )


def _deciding(run: Run) -> dict[str, Any]:
    given = {name: value for name, value in read_options(run.options).items() if name != "data"}
    options = RunOptions.from_flat(given).flat()
    return {name: v for name, v in options.items() if SECTION_OF[name] in DECIDING and name not in FREE}


def _training(run: Run) -> Training:
    given = {name: value for name, value in read_options(run.options).items() if name != "data"}
    evaluation = Evaluation.from_json(read_json(run.evaluation))
    figure = evaluation.measure("balanced_accuracy", unit=evaluation.units[-1])
    digest = hashlib.sha256(sha256_of(run.predictions).encode())
    for folder in find_bundles(run.folder):
        digest.update(read_config(folder).weights_sha256.encode())
    return Training(
        name=run.folder.name,
        seed=RunOptions.from_flat(given).training.seed,
        digest=digest.hexdigest(),
        score=figure.value,
        low=figure.low,
        high=figure.high,
    )
