"""The folder of one training: where everything lies, and when it counts as finished."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import pandas as pd

from plainfilm.errors import BundleError, UsageError
from plainfilm.storage import (
    LOCK,
    MANIFEST,
    delete,
    is_temporary,
    read_json,
    verify_manifest,
    write_bytes,
    write_json,
    write_manifest,
)

CHOOSING: Final = "validation.csv"  # of each of several trainings: what its own model says of its validation rows


@dataclass(frozen=True)
class Run:
    """Paths inside a run's folder; nothing is read or written by naming them."""

    folder: Path

    @property
    def options(self) -> Path:
        """Everything that was asked for."""
        return self.folder / "options.toml"

    @property
    def table(self) -> Path:
        """The images used, their splits and hashes."""
        return self.folder / "table.parquet"

    @property
    def facts(self) -> Path:
        """What was found and decided: counts, model, split, notes."""
        return self.folder / "run.json"

    @property
    def predictions(self) -> Path:
        """One row per image."""
        return self.folder / "predictions.csv"

    @property
    def augmentation(self) -> Path:
        """Training images beside what augmentation makes of them."""
        return self.folder / "augmentation.png"

    @property
    def evaluation(self) -> Path:
        """Every number with interval and count."""
        return self.folder / "evaluation.json"

    @property
    def report(self) -> Path:
        """One offline page."""
        return self.folder / "report.html"

    @property
    def paper(self) -> Path:
        """Methods, results, Table 1 and checklists, for a paper to take."""
        return self.folder / "paper"

    @property
    def ledger(self) -> Path:
        """When the sealed test rows were scored."""
        return self.folder / "test-openings.json"

    def fold(self, number: int, n_folds: int) -> Path:
        """Where one training of this run keeps its model: the folder itself unless there are folds."""
        return self.folder if n_folds == 1 else self.folder / "folds" / str(number)

    def choosing(self, number: int, n_folds: int) -> Path:
        """Scores of the validation rows of one of several trainings, by its own model."""
        return self.fold(number, n_folds) / CHOOSING

    @property
    def has_begun(self) -> bool:
        """Whether the images were settled; from then on they must stay what they are."""
        return self.table.is_file() or any(self.folder.glob("**/checkpoints/*"))

    @property
    def is_finished(self) -> bool:
        """Whether the manifest, written last, is there."""
        return (self.folder / MANIFEST).is_file()

    def finish(self) -> None:
        """Commit: hash every file that stays, and write the manifest.

        Not hashed: checkpoints, which have manifests of their own, and the model card, which its authors fill in.
        """
        files = [path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()]
        write_manifest(self.folder, [file.as_posix() for file in files if _stays(file)])

    def drop_checkpoints(self) -> None:
        """Delete the training states of a finished run."""
        for folder in self.folder.glob("**/checkpoints"):
            delete(folder)

    def contents(self) -> list[Path]:
        """What lies in the folder, but for the lock of whoever holds it and what a killed writer left."""
        try:
            return sorted(path for path in self.folder.iterdir() if path.name != LOCK and not is_temporary(path))
        except OSError:
            return []

    def clear(self) -> None:
        """Delete everything in the folder; the manifest first, so that half a run never counts as finished."""
        delete(self.folder / MANIFEST)
        for path in self.contents():
            delete(path)

    def write_table(self, rows: pd.DataFrame) -> None:
        """Save the table of images."""
        text = rows.astype({name: "string" for name in rows.columns if rows[name].dtype == object})
        write_bytes(self.table, text.to_parquet(index=False))

    def read_table(self) -> pd.DataFrame:
        """The table of images; ids as text, missing values as None."""
        try:
            rows = pd.read_parquet(self.table)
        except (OSError, ValueError):
            raise BundleError(f"'{self.table.name}' is missing or damaged.", code="BUN_DAMAGED") from None
        return rows.astype(object).where(rows.notna(), None)

    def open_test(self, why: str) -> int:
        """Note that the sealed test rows are scored now, and say how often they have been."""
        openings: list[Any] = read_json(self.ledger) if self.ledger.is_file() else []
        openings.append({"by": why, "on": date.today().isoformat()})
        write_json(self.ledger, openings)
        return len(openings)


def _stays(file: Path) -> bool:
    return file.name not in (LOCK, "README.md") and "checkpoints" not in file.parts and file != Path(MANIFEST)


def new_run(output: Path | None, *, name: str) -> Run:
    """Where a new run goes; by default `runs/<date>-<name>`, numbered where that exists. Nothing is made yet.

    Raises:
        UsageError: `RUN_EXISTS` if `output` is a file.
    """
    if output is not None:
        if output.is_file():
            raise UsageError(f"'{output}' is a file; --output names a folder.", code="RUN_EXISTS")
        return Run(output)
    stem = f"{date.today().isoformat()}-{name}"
    numbers = itertools.count(2)
    output = Path("runs") / stem
    while output.exists():
        output = Path("runs") / f"{stem}-{next(numbers)}"
    return Run(output)


def check_free(run: Run, *, overwrite: bool) -> None:
    """Refuse a folder that holds something, unless it is a run that may be overwritten.

    Raises:
        UsageError: `RUN_EXISTS`, or `RUN_NOT_A_RUN` for what is never overwritten.
    """
    if not run.contents():
        return
    if not overwrite:
        way = "--overwrite replaces it" if run.is_finished else "--resume goes on with it, --overwrite replaces it"
        raise UsageError(f"'{run.folder}' is not empty. Choose another --output; {way}.", code="RUN_EXISTS")
    if not (run.is_finished or run.options.is_file()):
        raise UsageError(
            f"'{run.folder}' holds something that is not a run; it is not overwritten. Choose another --output.",
            code="RUN_NOT_A_RUN",
        )


def check_resumable(run: Run) -> None:
    """Refuse to go on with what is not a stopped run.

    Raises:
        BundleError: `RUN_FINISHED`, or `BUN_MISSING`.
    """
    if run.is_finished:
        raise BundleError(f"'{run.folder}' is already finished; there is nothing to resume.", code="RUN_FINISHED")
    if not run.options.is_file():
        raise BundleError(f"'{run.folder}' is not a stopped run: it has no options.toml.", code="BUN_MISSING")


def open_run(folder: Path, *, unchecked: Iterable[str] = ()) -> Run:
    """A finished run, every file of it checked against its hash.

    Args:
        folder: The run's.
        unchecked: Files that are about to be written again.

    Raises:
        BundleError: `BUN_MISSING` or `BUN_DAMAGED`.
    """
    run = Run(folder)
    if not folder.is_dir():
        raise BundleError(f"No run at '{folder}'.", code="BUN_MISSING")
    if not run.is_finished:
        raise BundleError(
            f"'{folder}' is not a finished run. If it was stopped, go on with --resume.", code="BUN_MISSING"
        )
    verify_manifest(folder, unchecked=unchecked)
    return run
