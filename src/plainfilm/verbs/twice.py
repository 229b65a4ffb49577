"""The same recipe a second time, with whole patients held out: what a split by image was worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from plainfilm.config import RunOptions
from plainfilm.data.pixels import PixelStore
from plainfilm.data.splits import SplitPlan, split_table
from plainfilm.data.table import Table
from plainfilm.errors import TableError, UsageError
from plainfilm.prediction import Predictions
from plainfilm.progress import Progress
from plainfilm.runs import Run
from plainfilm.storage import make_folder
from plainfilm.team import ALONE, Team
from plainfilm.verbs.examining import FirstLook
from plainfilm.verbs.folds import score_fold, train_fold

BY_PATIENT: Final = "by-patient"  # folder of the second training, in the run's own


def plan_by_patient(table: Table, plan: SplitPlan, look: FirstLook | None, options: RunOptions) -> SplitPlan | None:
    """How the same images are divided by patient; None where no second training was asked for.

    Args:
        table: The images.
        plan: Their split by image.
        look: The first look of the audit, which may have recovered patients.
        options: Of the run.

    Raises:
        UsageError: `OPT_INVALID` where nothing is to be compared.
        TableError: `SPL_NOT_RECOVERED` where patients are neither documented nor recovered.
    """
    if not options.audit.leak_gap:
        return None
    if plan.unit != "image" or look is None:
        raise UsageError(
            "--leak-gap compares a split by image with one by patient, and is part of the audit: give --split image, "
            "without --no-audit.",
            code="OPT_INVALID",
        )
    subject = look.subject
    if subject.patients not in ("documented", "recovered"):
        raise TableError(
            "--leak-gap needs patients, and they are neither documented nor could they be recovered from the pixels.",
            code="SPL_NOT_RECOVERED",
        )
    ids = np.array([f"{code}" if code >= 0 else None for code in subject.group.tolist()], dtype=object)
    own = options.split.model_copy(update={"split": "patient", "patients": "column", "missing_patients": "drop"})
    return replace(split_table(table.rows.assign(patient_id=ids), own), patients=subject.patients)


def train_by_patient(
    run: Run,
    plan: SplitPlan,
    table: Table,
    pixels: PixelStore,
    options: RunOptions,
    *,
    resume: bool,
    team: Team = ALONE,
    progress: Progress,
) -> Predictions:
    """Train and test by patient in a folder of the run; gives the scores of the tested rows, and keeps them."""
    again = Run(run.folder / BY_PATIENT)
    make_folder(again.folder)
    progress.say("the same again, with whole patients held out")
    n_folds = len(plan.folds)
    for number, fold in enumerate(plan.folds, start=1):
        train_fold(number, fold, plan, table, pixels, options, again, resume=resume, team=team, progress=progress)
    predictions = Predictions.join(
        [
            score_fold(again.fold(number, n_folds), fold, plan, table, pixels, options, team=team, progress=progress)
            for number, fold in enumerate(plan.folds, start=1)
        ]
    )
    predictions.save(again.predictions)
    return predictions.tested("test")


def scores_by_patient(folder: Path) -> Predictions | None:
    """What the second training of a finished run said of the images it was tested on; None where there was none."""
    again = Run(folder / BY_PATIENT)
    return Predictions.load(again.predictions).tested("test") if again.predictions.is_file() else None
