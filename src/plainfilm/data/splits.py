"""Who trains, who chooses, who is tested: by patient, stratified, and checked."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.data.table import shown
from plainfilm.errors import LeakageError, TableError, UsageError

Indices = npt.NDArray[np.intp]
Cells = npt.NDArray[np.object_]
Patients = Literal["documented", "recovered", "declared", "unknown"]


class SplitOptions(BaseModel):
    """How rows are divided; patients are never divided unless `split` is `image`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Literal["auto", "patient", "image"] = Field(
        "auto",
        description="Auto: the table's own split if it has one, else by patient. Patient: a new split by patient. "
        "Image: images of one patient may be in several splits; every score is struck through.",
    )
    patients: Literal["column", "folder", "recovered", "image"] = Field(
        "column",
        description="Where patients are known from: the table's column, the name of the folder right above each image "
        "(the same name in two places is one patient), 'recovered' to group look-alike slices by their pixels, or "
        "'image' to declare one image per patient.",
    )
    missing_patients: Literal["refuse", "drop", "own"] = Field(
        "refuse",
        description="Rows without a patient id among rows with one: refuse to train, drop them, or count each "
        "as a patient of its own.",
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
    """

    folds: tuple[Fold, ...]
    unit: Literal["patient", "image"]
    patients: Patients
    groups: npt.NDArray[np.object_]
    tested_on: Literal["test", "validation"]
    notes: tuple[str, ...]


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
            `TAB_ONE_CLASS` or `TAB_TOO_MANY_CLASSES`.
    """
    options = options or SplitOptions()
    labels, given = _cells(rows, "label"), _cells(rows, "split")
    labelled, notes = _to_divide(labels, given)
    _check_classes(labels[labelled])
    known = _patients(rows, labels, labelled, options)
    notes += known.notes
    kept = known.rows
    units = np.arange(len(rows)).astype(object) if options.split == "image" else known.groups
    if options.split == "patient":
        given = np.full(len(rows), None, dtype=object)
    has_split = any(split is not None for split in given[kept])
    tested_on: Literal["test", "validation"] = "test"
    if options.folds is not None:
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
        development, test = _divide(labels, kept, units, options.test_fraction, options.split_seed)
        train, validation = _divide(labels, development, units, options.validation_fraction, options.split_seed)
        folds = (Fold(train, validation, test),)
    if tested_on == "test":
        folds = tuple(_with_calibration(labels, fold, units, options) for fold in folds)
    for fold in folds:
        _check_fold(labels, fold)
    if len(folds) == 1:
        notes += _notes_on_fold(rows, labels, folds[0])
    unit: Literal["patient", "image"] = "image" if options.split == "image" else "patient"
    return SplitPlan(folds, unit, known.how, known.groups, tested_on, tuple(notes))


def _cells(rows: pd.DataFrame, name: str) -> Cells:
    """A column as objects, None for what is missing."""
    return rows[name].astype(object).where(rows[name].notna(), None).to_numpy(dtype=object, copy=True)


def _to_divide(labels: Cells, given: Cells) -> tuple[Indices, list[str]]:
    """Rows with a label that are not set aside for later, and what to say of those that are."""
    labelled = np.array([label is not None for label in labels], dtype=bool)
    external = labelled & (given == "external")
    n_external = int(external.sum())
    notes = (
        [f"{n_external} labelled rows of the external split were set aside, as the table says."] if n_external else []
    )
    return np.flatnonzero(labelled & ~external), notes


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


@dataclass(frozen=True)
class _Known:
    """What is known of the patients: see `SplitPlan`; `rows` are the labelled rows that take part."""

    groups: Cells
    how: Patients
    rows: Indices
    notes: tuple[str, ...] = ()


def _patients(rows: pd.DataFrame, labels: Cells, labelled: Indices, options: SplitOptions) -> _Known:
    """The patient of every row, how that is known, the rows that take part, and what to say of it."""
    each_its_own = np.arange(len(rows)).astype(object)
    if options.patients == "image":
        _check_declaration(_cells(rows, "patient_id")[labelled])
        note = "One image per patient was declared, not found: if it is not so, the figures are too good."
        return _Known(each_its_own, "declared", labelled, (note,))
    if options.patients == "folder":
        groups = _folders_above(rows)
        _check_folders(groups[labelled], labels[labelled])
    else:
        groups = _cells(rows, "patient_id")
    missing = np.array([index for index in labelled if groups[index] is None], dtype=np.intp)
    how: Patients = "recovered" if options.patients == "recovered" else "documented"
    if not len(missing):
        return _Known(groups, how, labelled)
    if len(missing) == len(labelled):
        if options.split == "image":
            return _Known(each_its_own, "unknown", labelled)
        raise UsageError(
            "Nothing says which images belong to one patient, so no score would hold on new patients. Give a column "
            "patient_id (or --patient-column NAME); or --patients folder if each patient has a folder; or --patients "
            "recovered to group look-alike slices by their pixels; or --patients image to declare one image per "
            "patient; or --split image to split by image all the same, every score then struck through.",
            code="SPL_NO_PATIENTS",
        )
    if options.missing_patients == "drop":
        note = f"{len(missing)} labelled rows without a patient id were left out."
        return _Known(groups, how, np.setdiff1d(labelled, missing), (note,))
    if options.missing_patients == "refuse" and options.split != "image":
        raise TableError(
            f"{len(missing)} of {len(labelled)} labelled rows have no patient id, first "
            f"'{rows['path'].iat[missing[0]]}'. Use --missing-patients drop to leave them out, or --missing-patients "
            "own to count each as a patient.",
            code="SPL_MISSING_PATIENTS",
        )
    for index in missing:
        groups[index] = f"(row {index + 1})"
    note = f"{len(missing)} labelled rows without a patient id count as a patient each."
    return _Known(groups, how, labelled, (note,))


def known_patients(rows: pd.DataFrame, options: SplitOptions | None = None) -> tuple[Cells, Patients]:
    """The patient of every row, and how that is known, for whoever looks at images without dividing them.

    Args:
        rows: As for `split_table`.
        options: How patients are known.

    Returns:
        Ids, None where a row has none; and `unknown` where no labelled row has one.

    Raises:
        UsageError: `SPL_DECLARED_WRONGLY` or `SPL_FOLDER_IS_CLASS`.
    """
    labels = _cells(rows, "label")
    labelled, _ = _to_divide(labels, _cells(rows, "split"))
    whole = (options or SplitOptions()).model_copy(update={"split": "image"})  # nothing is divided: nothing is refused
    known = _patients(rows, labels, labelled, whole)
    return known.groups, known.how


def _folders_above(rows: pd.DataFrame) -> Cells:
    """The name of the folder right above each image, None at the root.

    Only the name: "001" among the healthy and "001" among the ill may be one patient, and taking two patients for
    one does no harm.
    """
    folders = [str(path).rpartition("/")[0].rpartition("/")[2] or None for path in rows["path"]]
    return np.array([*folders, None], dtype=object)[:-1]


def _check_folders(groups: Cells, labels: Cells) -> None:
    pairs = set(zip(groups, labels, strict=True))
    if len(pairs) == len(set(groups)) == len(set(labels)):
        raise UsageError(
            "The folder right above each image is its class, so it cannot be the patient. Use --patients folder only "
            "where each patient has a folder; else give a column patient_id.",
            code="SPL_FOLDER_IS_CLASS",
        )


def _check_declaration(ids: Cells) -> None:
    """Refuse to declare one image per patient where the table says otherwise."""
    counts = Counter(patient for patient in ids if patient is not None).most_common(1)
    if counts and counts[0][1] > 1:
        raise UsageError(
            f"--patients image declares one image per patient, but patient '{counts[0][0]}' has {counts[0][1]}. "
            "Leave it out: the table's own ids are better.",
            code="SPL_DECLARED_WRONGLY",
        )


def _check_patients(groups: Cells, given: Cells) -> None:
    """Refuse a table whose own split divides a patient."""
    frame = pd.DataFrame({"patient": groups, "split": given}).dropna()
    splits = frame.groupby("patient", sort=True)["split"].agg(lambda names: sorted(set(names)))
    divided = splits[splits.map(len) > 1]
    if divided.empty:
        return
    first = "; ".join(f"{patient} ({', '.join(names)})" for patient, names in divided.head(5).items())
    more = f" and {len(divided) - 5} more" if len(divided) > 5 else ""
    raise LeakageError(
        f"{len(divided)} of {len(splits)} patients are in more than one split: {first}{more}. Use --split patient for "
        "a new split by patient, or --split image to keep this one, every score then struck through.",
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
        train, validation = _divide(labels, train, units, options.validation_fraction, options.split_seed)
        notes.append(f"The table has no validation split: {len(validation)} training rows were set aside for it.")
    if len(test):
        return Fold(train, validation, test), "test", notes
    notes.append(
        "The table has no labelled test row: the figures are of the validation rows, which also chose the epoch, and "
        "are therefore too good. Use --folds 5, or --split patient, for a sealed test."
    )
    return Fold(train, validation, validation), "validation", notes


def _divide(labels: Cells, indices: Indices, units: Cells, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Part `indices` in two, the second about `fraction`; units stay whole, classes keep their shares."""
    free = np.setdiff1d(indices, _only_units(labels, indices, units))
    n_units = len(set(units[free]))
    if n_units < 2:
        raise TableError(
            f"{len(set(units[indices]))} patients are too few to set some aside: at least one class needs two. Add "
            "patients.",
            code="SPL_TOO_FEW_PATIENTS",
        )
    largest_class = Counter(labels[free]).most_common(1)[0][1]
    n_parts, n_leaving = _parts(fraction, min(n_units, largest_class))
    parts = [held_out for _, held_out in _grouped_folds(labels, free, units, n_parts, seed)]
    parts.sort(key=lambda part: -len(set(labels[part])))  # a class of few patients is in few parts: take those
    leaving = np.sort(np.concatenate(parts[:n_leaving]))
    must_stay = _last_of_a_class(labels, indices, leaving, units)
    leaving = leaving[[unit not in must_stay for unit in units[leaving]]]
    return np.setdiff1d(indices, leaving), leaving


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
    choosing, calibration = _divide(labels, fold.validation, units, options.calibration_fraction, options.split_seed)
    for part in (choosing, calibration):
        own = pd.DataFrame({"label": labels[part], "unit": units[part]}).groupby("label")["unit"].nunique()
        if any(own.get(label, 0) < options.calibration_patients for label in classes):
            return fold
    return replace(fold, validation=choosing, calibration=calibration)


def _parts(fraction: float, most: int) -> tuple[int, int]:
    """Into how many equal parts to divide, and how many of them make about `fraction`: 0.4 is 2 of 5."""
    candidates = [(n, min(n - 1, max(1, round(n * fraction)))) for n in range(2, max(2, min(most, 100)) + 1)]
    misses = [abs(taken / n - fraction) for n, taken in candidates]
    good_enough = max(min(misses), 0.05 * fraction)
    return next(parts for parts, miss in zip(candidates, misses, strict=True) if miss <= good_enough)


def _last_of_a_class(labels: Cells, indices: Indices, leaving: Indices, units: Cells) -> set[object]:
    """For each class of which nothing would stay, the smallest of its units: it must not leave."""
    staying = np.setdiff1d(indices, leaving)
    sizes = Counter(units[leaving])
    kept: set[object] = set()
    for label in sorted(set(labels[leaving]) - set(labels[staying])):
        own = dict.fromkeys(units[leaving[labels[leaving] == label]])  # in order of rows, each once
        if not own.keys() & kept:
            kept.add(min(own, key=lambda unit: sizes[unit]))
    return kept


def _only_units(labels: Cells, indices: Indices, units: Cells) -> Indices:
    """Rows of patients who are the only one of their class: they must stay where the class is learnt."""
    frame = pd.DataFrame({"label": labels[indices], "unit": units[indices]})
    counts = frame.groupby("label")["unit"].nunique()
    alone = frame.loc[frame["label"].isin(counts.index[counts == 1]), "unit"]
    return indices[frame["unit"].isin(alone).to_numpy()]


def _cross_validation(labels: Cells, kept: Indices, units: Cells, options: SplitOptions) -> Iterator[Fold]:
    assert options.folds is not None
    n_units = len(set(units[kept]))
    if n_units < options.folds:
        raise TableError(
            f"{n_units} patients cannot make {options.folds} folds. Use fewer --folds.", code="SPL_TOO_FEW_PATIENTS"
        )
    for development, test in _grouped_folds(labels, kept, units, options.folds, options.split_seed):
        train, validation = _divide(labels, development, units, options.validation_fraction, options.split_seed)
        yield Fold(train, validation, test)


def _grouped_folds(
    labels: Cells, indices: Indices, units: Cells, n_splits: int, seed: int
) -> Iterator[tuple[Indices, Indices]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # a second to import

    codes, seen = pd.factorize(units[indices])
    # Where every unit is one row there is nothing to keep together, and the plain splitter is a thousand times faster.
    grouped = len(seen) < len(indices)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(n_splits, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Said in our own words by `_notes_on_fold`, per class.
        warnings.filterwarnings("ignore", message="The least populated class")
        try:
            names = labels[indices].astype(str)
            parts = list(splitter.split(np.zeros(len(indices)), names, codes if grouped else None))
        except ValueError:
            raise TableError(
                f"no class has {n_splits} rows, so they cannot be parted into {n_splits}.",
                code="SPL_TOO_FEW_PATIENTS",
            ) from None
    for rest, held_out in parts:
        yield indices[np.sort(rest)], indices[np.sort(held_out)]


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
