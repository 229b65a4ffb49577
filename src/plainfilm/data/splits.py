"""Who trains, who chooses, who is tested: by patient, stratified, and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from plainfilm.data.dividing import Indices, divide, grouped_folds
from plainfilm.data.patients import PatientOptions, Patients, find_patients, first_of, rows_to_divide
from plainfilm.data.site_splits import HeldOutSites, hold_out_sites
from plainfilm.data.table import Cells, cells, shown
from plainfilm.errors import LeakageError, TableError, UsageError


class SplitOptions(PatientOptions):
    """How rows are divided; patients are never divided unless `split` is `image`."""

    split: Literal["auto", "patient", "image", "site"] = Field(
        "auto",
        description="Auto: the table's own split if it has one, else by patient. Patient: a new split by patient. "
        "Image: images of one patient may be in several splits; every score is struck through. Site: each site in "
        "turn is tested by a model that learnt at the others, or with --folds several sites at once.",
    )
    site_column: str | None = Field(
        None,
        description="Column that names the site for --split site; by default the one called site, hospital, "
        "institution, center or the like.",
    )
    test_site: tuple[str, ...] = Field(
        (), description="Of --split site: hold out these sites alone, all in one training."
    )
    test_fraction: float = Field(0.2, gt=0, lt=0.9, description="Share of patients sealed for the test.")
    validation_fraction: float = Field(
        0.15, gt=0, lt=0.9, description="Share of the remaining patients for choosing the epoch."
    )
    calibration_fraction: float = Field(
        0.5, ge=0, lt=0.9, description="Share of the validation patients kept for calibration; they choose no epoch."
    )
    calibration_patients: int = Field(
        9,
        ge=1,
        description="Patients that each class needs on both sides, in choosing the epoch and in calibration; with "
        "fewer none are kept, and scores are not calibrated.*",
    )
    folds: int | None = Field(None, ge=2, le=50, description="Cross-validation: train this many times.")
    split_seed: int = Field(0, ge=0, description="Seed of the split.")


@dataclass(frozen=True)
class Fold:
    """Row numbers of one training: to train on, to choose the epoch on, sealed for the test, to calibrate on.

    `calibration` is empty where there are too few patients for it.
    """

    train: Indices
    validation: Indices
    test: Indices
    calibration: Indices = field(default_factory=lambda: np.empty(0, dtype=np.intp))


@dataclass(frozen=True)
class SplitPlan:
    """How a table was divided.

    Attributes:
        folds: One, or as many as asked for.
        unit: What was kept together.
        patients: `documented` (ids), `recovered` (from pixels), `declared` (one image per patient), `unknown`.
        groups: The patient of every row, or the row itself where patients are unknown.
        tested_on: `test`, or `validation` where there is no labelled test row.
        notes: Sentences for the report.
        sites: Whole sites that were held out; None where the split is not by site.
    """

    folds: tuple[Fold, ...]
    unit: Literal["patient", "image"]
    patients: Patients
    groups: Cells
    tested_on: Literal["test", "validation"]
    notes: tuple[str, ...]
    sites: HeldOutSites | None = None


def split_table(rows: pd.DataFrame, options: SplitOptions | None = None) -> SplitPlan:
    """Divide the labelled rows of a table.

    Args:
        rows: `path`, `label`, `patient_id`, `split`; rows without a label, and those of the split `external`, are in
            no part. Where patients are `recovered`, whoever recovered them has written them into `patient_id`.
        options: How.

    Raises:
        UsageError: `SPL_NO_PATIENTS` if nothing says which images belong together; `SPL_DECLARED_WRONGLY` or
            `SPL_FOLDER_IS_CLASS` if what was declared of the patients cannot be.
        LeakageError: `SPL_LEAK` if the table's own split puts a patient in two splits.
        TableError: `SPL_MISSING_PATIENTS`, `SPL_TOO_FEW_PATIENTS`, `SPL_EMPTY`, `SPL_UNSEEN_CLASS`, `TAB_NO_LABELS`,
            `TAB_ONE_CLASS` or `TAB_TOO_MANY_CLASSES`. By site also what `hold_out_sites` raises.
    """
    options = options or SplitOptions()
    if options.split != "site" and (options.site_column is not None or options.test_site):
        raise UsageError("--site-column and --test-site are about --split site: give that too.", code="OPT_INVALID")
    labels, given = cells(rows, "label"), cells(rows, "split")
    labelled = rows_to_divide(labels, given)
    notes = _notes_on_external(labels, given)
    _check_classes(labels[labelled])
    known = find_patients(rows, labels, labelled, options, whole=options.split != "image")
    notes += known.notes
    kept = known.rows
    units = np.arange(len(rows)).astype(object) if options.split == "image" else known.groups
    if options.split in ("patient", "site"):
        given = np.full(len(rows), None, dtype=object)
    has_split = any(split is not None for split in given[kept])
    tested_on: Literal["test", "validation"] = "test"
    sites = None
    if options.split == "site":
        sites, folds = _by_site(rows, labels, kept, units, options)
    elif options.folds is not None:
        if has_split:
            notes.append("Cross-validation divides all labelled rows: the table's own split was set aside.")
        folds = tuple(_cross_validation(labels, kept, units, options))
    elif has_split:
        if options.split != "image" and known.how in ("documented", "recovered"):
            _check_patients(known.groups[kept], given[kept])
        fold, tested_on, said = _given_split(labels, kept, given, units, options)
        folds = (fold,)
        notes += said
    else:
        development, test = divide(labels, kept, units, options.test_fraction, options.split_seed)
        train, validation = divide(labels, development, units, options.validation_fraction, options.split_seed)
        folds = (Fold(train, validation, test),)
    if tested_on == "test":
        folds = tuple(_with_calibration(labels, fold, units, options) for fold in folds)
    for fold in folds:
        _check_fold(labels, fold)
    if len(folds) == 1:
        notes += _notes_on_fold(rows, labels, folds[0])
    unit: Literal["patient", "image"] = "image" if options.split == "image" else "patient"
    return SplitPlan(folds, unit, known.how, known.groups, tested_on, tuple(notes), sites)


def _notes_on_external(labels: Cells, given: Cells) -> list[str]:
    n_external = sum(label is not None and split == "external" for label, split in zip(labels, given, strict=True))
    if not n_external:
        return []
    return [f"{n_external} labelled rows of the external split were set aside, as the table says."]


def _check_classes(labels: Cells) -> None:
    classes = sorted(set(labels))
    if not classes:
        raise TableError(
            "no image has a label: nothing to learn. Use class folders, or a column 'label'.",
            code="TAB_NO_LABELS",
        )
    if len(classes) == 1:
        raise TableError(
            f"every image has the one label '{shown(classes[0])}': nothing to tell apart.", code="TAB_ONE_CLASS"
        )
    if len(classes) > 1000 or (len(classes) > 10 and len(classes) * 2 > len(labels)):
        raise TableError(
            f"{len(classes)} different labels for {len(labels)} images: this column does not look like a class.",
            code="TAB_TOO_MANY_CLASSES",
        )


# --- patients -----------------------------------------------------------------------------------------------


def _check_patients(groups: Cells, given: Cells) -> None:
    """Refuse a table whose own split divides a patient."""
    frame = pd.DataFrame({"patient": groups, "split": given}).dropna()
    splits = frame.groupby("patient", sort=True)["split"].agg(lambda names: sorted(set(names)))
    divided = splits[splits.map(len) > 1]
    if divided.empty:
        return
    raise LeakageError(
        f"{len(divided)} of {len(splits)} patients are in more than one split: {first_of(divided)}. Use --split "
        "patient for a new split by patient, or --split image to keep this one, every score then struck through.",
        code="SPL_LEAK",
    )


# --- dividing -----------------------------------------------------------------------------------------------


def _given_split(
    labels: Cells, kept: Indices, given: Cells, units: Cells, options: SplitOptions
) -> tuple[Fold, Literal["test", "validation"], list[str]]:
    """The table's own split; validation is taken out of train where it has none."""
    train, validation, test = (kept[given[kept] == name] for name in ("train", "validation", "test"))
    notes = []
    unassigned = len(kept) - len(train) - len(validation) - len(test)
    if unassigned:
        notes.append(f"{unassigned} labelled rows name no split and were left out.")
    if not len(train):
        raise TableError(
            "the table's own split has no labelled training rows. Use --split patient for a new split.",
            code="SPL_EMPTY",
        )
    if not len(validation):
        train, validation = divide(labels, train, units, options.validation_fraction, options.split_seed)
        notes.append(f"The table has no validation split: {len(validation)} training rows were set aside for it.")
    if len(test):
        return Fold(train, validation, test), "test", notes
    notes.append(
        "The table has no labelled test row: the figures are of the validation rows, which also chose the epoch, and "
        "are therefore too good. Use --folds 5, or --split patient, for a sealed test."
    )
    return Fold(train, validation, validation), "validation", notes


def _with_calibration(labels: Cells, fold: Fold, units: Cells, options: SplitOptions) -> Fold:
    """The fold with some of its validation patients kept for calibration, if both sides then have enough."""
    counts = pd.DataFrame({"label": labels[fold.validation], "unit": units[fold.validation]})
    needed = 2 * options.calibration_patients
    classes = set(labels[fold.train])
    in_class = counts.groupby("label")["unit"].nunique()
    if (
        options.split == "image"
        or options.calibration_fraction == 0
        or any(in_class.get(label, 0) < needed for label in classes)
    ):
        return fold
    choosing, calibration = divide(labels, fold.validation, units, options.calibration_fraction, options.split_seed)
    for part in (choosing, calibration):
        own = pd.DataFrame({"label": labels[part], "unit": units[part]}).groupby("label")["unit"].nunique()
        if any(own.get(label, 0) < options.calibration_patients for label in classes):
            return fold
    return replace(fold, validation=choosing, calibration=calibration)


def _cross_validation(labels: Cells, kept: Indices, units: Cells, options: SplitOptions) -> Iterator[Fold]:
    assert options.folds is not None
    n_units = len(set(units[kept]))
    if n_units < options.folds:
        raise TableError(
            f"{n_units} patients cannot make {options.folds} folds. Use fewer --folds.", code="SPL_TOO_FEW_PATIENTS"
        )
    for development, test in grouped_folds(labels, kept, units, options.folds, options.split_seed):
        train, validation = divide(labels, development, units, options.validation_fraction, options.split_seed)
        yield Fold(train, validation, test)


def _by_site(
    rows: pd.DataFrame, labels: Cells, kept: Indices, units: Cells, options: SplitOptions
) -> tuple[HeldOutSites, tuple[Fold, ...]]:
    """Whole sites to test; the patients of the others are divided into training and validation."""
    sites, parts = hold_out_sites(
        rows,
        labels,
        kept,
        units,
        column=options.site_column,
        test_sites=options.test_site,
        folds=options.folds,
        seed=options.split_seed,
    )
    return sites, tuple(
        Fold(*divide(labels, rest, units, options.validation_fraction, options.split_seed), test)
        for rest, test in parts
    )


# --- checks -------------------------------------------------------------------------------------------------


def _check_fold(labels: Cells, fold: Fold) -> None:
    parts = {"training": fold.train, "validation": fold.validation, "test": fold.test}
    for name, part in parts.items():
        if not len(part):
            raise TableError(f"the {name} split is empty: too few patients, or they are too unequal.", code="SPL_EMPTY")
    learnt = set(labels[fold.train])
    for name, part in parts.items():
        unseen = sorted(set(labels[part]) - learnt)
        if unseen:
            raise TableError(
                f"class '{shown(unseen[0])}' has {name} rows but no training rows; it cannot be learnt. Leave "
                "the class out, or split anew.",
                code="SPL_UNSEEN_CLASS",
            )
    if len(learnt) < 2:
        raise TableError("the training split holds a single class.", code="TAB_ONE_CLASS")


def _notes_on_fold(rows: pd.DataFrame, labels: Cells, fold: Fold) -> list[str]:
    parts = {"validation": fold.validation}
    if fold.test is not fold.validation:
        parts["test"] = fold.test
    notes = [
        f"Class '{label}' has no {name} row: too few patients to be in every split."
        for name, part in parts.items()
        for label in sorted(set(labels[fold.train]) - set(labels[part]))
    ]
    if "test" in parts and "pixel_sha256" in rows.columns:
        seen = set(rows["pixel_sha256"].iloc[np.concatenate([fold.train, fold.validation, fold.calibration])])
        n_copies = int(rows["pixel_sha256"].iloc[fold.test].isin(seen).sum())
        if n_copies:
            notes.append(f"{n_copies} test images have a pixel-identical copy outside the test split.")
    return notes
