"""The folder of one training: where everything lies, and when it counts as finished."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from plainfilm.errors import BundleError, ResourceError, UsageError
from plainfilm.storage import (
    MANIFEST,
    make_folder,
    read_json,
    verify_manifest,
    write_bytes,
    write_json,
    write_manifest,
)


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
    def evaluation(self) -> Path:
        """Every number with interval and count."""
        return self.folder / "evaluation.json"

    @property
    def report(self) -> Path:
        """One offline page."""
        return self.folder / "report.html"

    @property
    def ledger(self) -> Path:
        """When the sealed test rows were scored."""
        return self.folder / "test-openings.json"

    def fold(self, number: int, n_folds: int) -> Path:
        """Where one training of this run keeps its model: the folder itself unless there are folds."""
        return self.folder if n_folds == 1 else self.folder / "folds" / str(number)

    @property
    def is_finished(self) -> bool:
        """Whether the manifest, written last, is there."""
        return (self.folder / MANIFEST).is_file()

    def finish(self) -> None:
        """Commit: hash every file that stays, and write the manifest."""
        names = [
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name not in (MANIFEST, ".lock") and "checkpoints" not in path.parts
        ]
        write_manifest(self.folder, names)

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


def new_run(output: Path | None, *, name: str, overwrite: bool) -> Run:
    """A folder for a new run; by default `runs/<date>-<name>`, numbered where that exists.

    Raises:
        UsageError: `RUN_EXISTS` if `output` already holds something and `overwrite` is False.
    """
    if output is None:
        stem = f"{date.today().isoformat()}-{name}"
        number = 1
        while (output := Path("runs") / (stem if number == 1 else f"{stem}-{number}")).exists():
            number += 1
    elif output.exists() and not output.is_dir():
        raise UsageError(f"'{output}' is a file; --output names a folder.", code="RUN_EXISTS")
    elif output.is_dir() and any(path.name != ".lock" for path in output.iterdir()):
        run = Run(output)
        if not overwrite:
            way = "--overwrite replaces it" if run.is_finished else "--resume goes on with it, --overwrite replaces it"
            raise UsageError(f"'{output}' is not empty. Choose another --output; {way}.", code="RUN_EXISTS")
        if not (run.is_finished or run.options.is_file()):
            raise UsageError(
                f"'{output}' holds something that is not a run; it is not overwritten. Choose another --output.",
                code="RUN_NOT_A_RUN",
            )
        try:
            shutil.rmtree(output)
        except OSError as error:
            raise ResourceError(f"'{output}' cannot be replaced: {error.strerror}.", code="RES_WRITE") from None
    make_folder(output)
    return Run(output)


def open_run(folder: Path) -> Run:
    """A finished run, every file of it checked against its hash.

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
    verify_manifest(folder)
    return run
