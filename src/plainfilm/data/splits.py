"""Who trains, who chooses, who is tested: by patient, stratified, and checked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.errors import LeakageError, TableError, UsageError

Indices = npt.NDArray[np.intp]
Patients = Literal["documented", "declared", "unknown"]


class SplitOptions(BaseModel):
    """How rows are divided; patients are never divided unless `split` is `image`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Literal["auto", "patient", "image"] = Field(
        "auto",
        description="Auto: the table's own split if it has one, else by patient. Patient: a new split by patient. "
        "Image: images of one patient may be in several splits; every score is struck through.",
    )
    patients: Literal["column", "folder", "image"] = Field(
        "column",
        description="Where patients are known from: the table's column, the folder right above each image, or "
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
    folds: int | None = Field(None, ge=2, le=50, description="Cross-validation: train this many times.")
    split_seed: int = Field(0, ge=0, description="Seed of the split.")


@dataclass(frozen=True)
class Fold:
    """Row numbers of one training: to train on, to choose the epoch on, sealed for the test."""

    train: Indices
    validation: Indices
    test: Indices


@dataclass(frozen=True)
class SplitPlan:
    """How a table was divided.

    Attributes:
        folds: One, or as many as asked for.
        unit: What was kept together.
        patients: `documented` (ids), `declared` (one image per patient), `unknown`.
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
        rows: `path`, `label`, `patient_id`, `split`; rows without a label are left out of every split.
        options: How.

    Raises:
        UsageError: `SPL_NO_PATIENTS` if nothing says which images belong together.
        LeakageError: `SPL_LEAK` if the table's own split puts a patient in two splits.
        TableError: If a class, a split or a fold would be empty.
    """
    options = options or SplitOptions()
    labelled = np.flatnonzero(rows["label"].notna())
    _check_classes(rows["label"].iloc[labelled])
    groups, patients, kept, notes = _groups(rows, labelled, options)
    by_image = options.split == "image"
    own_rows = groups if not by_image else np.arange(len(rows)).astype(object)
    given = rows["split"].to_numpy(dtype=object) if options.split != "patient" else np.full(len(rows), None)
    has_split = any(given[index] is not None for index in kept)
    tested_on: Literal["test", "validation"] = "test"
    if options.folds is not None:
        if has_split:
            notes.append("Cross-validation uses all labelled rows: the table's own split was set aside.")
        folds = tuple(_cross_validation(rows, kept, own_rows, options))
    elif has_split:
        if not by_image and patients == "documented":
            _check_patients(rows, kept, given)
        fold, tested_on, said = _given_split(rows, kept, given, own_rows, options)
        folds = (fold,)
        notes += said
    else:
        development, test = _divide(rows, kept, own_rows, options.test_fraction, options.split_seed)
        train, validation = _divide(rows, development, own_rows, options.validation_fraction, options.split_seed)
        folds = (Fold(train, validation, test),)
    for fold in folds:
        _check_fold(rows, fold)
    unit: Literal["patient", "image"] = "image" if by_image else "patient"
    notes += _warnings(rows, folds)
    return SplitPlan(folds, unit, patients, groups, tested_on, tuple(notes))


def _groups(
    rows: pd.DataFrame, labelled: Indices, options: SplitOptions
) -> tuple[npt.NDArray[np.object_], Patients, Indices, list[str]]:
    """The patient of every row, how that is known, the rows that take part, and what to say of it."""
    if options.patients == "image":
        note = "One image per patient was declared, not found: if it is not so, the figures are too good."
        return np.arange(len(rows)).astype(object), "declared", labelled, [note]
    ids = rows["patient_id"] if options.patients == "column" else _folder_above(rows["path"])
    groups = ids.to_numpy(dtype=object, na_value=None).copy()
    missing = np.array([index for index in labelled if groups[index] is None], dtype=np.intp)
    if len(missing) == len(labelled):
        if options.split == "image":
            return np.arange(len(rows)).astype(object), "unknown", labelled, []
        raise UsageError(
            "Nothing says which images belong to one patient, so no score would hold on new patients. Give a column "
            "patient_id (or --patient-column NAME); or --patients image to declare one image per patient; or "
            "--split image to split by image all the same, every score then struck through.",
            code="SPL_NO_PATIENTS",
        )
    if not len(missing):
        return groups, "documented", labelled, []
    if options.missing_patients == "refuse" and options.split != "image":
        raise TableError(
            f"{len(missing)} of {len(labelled)} labelled rows have no patient id, first '{rows['path'].iat[missing[0]]}'. "
            "Use --missing-patients drop to leave them out, or --missing-patients own to count each as a patient.",
            code="SPL_MISSING_PATIENTS",
        )
    if options.missing_patients == "drop":
        note = f"{len(missing)} labelled rows without a patient id were left out."
        return groups, "documented", np.setdiff1d(labelled, missing), [note]
    for index in missing:
        groups[index] = f"(row {index + 1})"
    return (
        groups,
        "documented",
        labelled,
        [f"{len(missing)} rows without a patient id count as a patient each."],
    )


def _folder_above(paths: pd.Series) -> pd.Series:
    """The folder path right above each image."""
    return paths.map(lambda path: str(path).rpartition("/")[0] or None)


def _check_classes(labels: pd.Series) -> None:
    classes = sorted(labels.unique())
    if not classes:
        raise TableError(
            "no image has a label: nothing to learn. Use class folders, or a column 'label'.",
            code="TAB_NO_LABELS",
        )
    if len(classes) == 1:
        raise TableError(f"every image has the one label '{classes[0]}': nothing to tell apart.", code="TAB_ONE_CLASS")
    if len(classes) > 1000 or len(classes) * 2 > len(labels):
        raise TableError(
            f"{len(classes)} different labels for {len(labels)} images: this column does not look like a class.",
            code="TAB_TOO_MANY_CLASSES",
        )


def _check_patients(rows: pd.DataFrame, kept: Indices, given: npt.NDArray[np.object_]) -> None:
    """Refuse a table whose own split divides a patient."""
    frame = pd.DataFrame({"patient": rows["patient_id"].to_numpy()[kept], "split": given[kept]}).dropna()
    splits = frame.groupby("patient", sort=True)["split"].agg(lambda names: sorted(set(names)))
    divided = splits[splits.map(len) > 1]
    if divided.empty:
        return
    first = "; ".join(f"{patient} ({', '.join(names)})" for patient, names in divided.head(5).items())
    more = f" and {len(divided) - 5} more" if len(divided) > 5 else ""
    raise LeakageError(
        f"{len(divided)} of {len(splits)} patients are in more than one split: {first}{more}. Use --split patient for a "
        "new split by patient, or --split image to keep this one, every score then struck through.",
        code="SPL_LEAK",
    )


def _given_split(
    rows: pd.DataFrame,
    kept: Indices,
    given: npt.NDArray[np.object_],
    groups: npt.NDArray[np.object_],
    options: SplitOptions,
) -> tuple[Fold, Literal["test", "validation"], list[str]]:
    """The table's own split; validation is taken out of train where it has none."""
    parts = {name: kept[given[kept] == name] for name in ("train", "validation", "test", "external")}
    notes = []
    unassigned = len(kept) - sum(len(part) for part in parts.values())
    if unassigned:
        notes.append(f"{unassigned} labelled rows name no split and were left out.")
    if not len(parts["train"]):
        raise TableError("the table's own split has no labelled training rows.", code="SPL_EMPTY")
    train, validation = parts["train"], parts["validation"]
    if not len(validation):
        train, validation = _divide(rows, train, groups, options.validation_fraction, options.split_seed)
        notes.append(f"The table has no validation split: {len(validation)} training rows were set aside for it.")
    if len(parts["test"]):
        return Fold(train, validation, parts["test"]), "test", notes
    notes.append(
        "The table has no labelled test row: the figures are of the validation rows, which also chose the epoch, and "
        "are therefore too good. Use --folds 5, or --split patient, for a sealed test."
    )
    return Fold(train, validation, validation), "validation", notes


def _divide(
    rows: pd.DataFrame, indices: Indices, groups: npt.NDArray[np.object_], fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Part `indices` in two, the second about `fraction`; groups stay whole, classes keep their shares."""
    n_parts = max(2, round(1 / fraction)) if fraction <= 0.5 else 2
    if len(set(groups[indices])) < n_parts:
        raise TableError(
            f"{len(set(groups[indices]))} patients cannot be parted into {n_parts}. Use fewer --folds, or add patients.",
            code="SPL_TOO_FEW_PATIENTS",
        )
    pinned = _only_patients(rows, indices, groups)
    free = np.setdiff1d(indices, pinned)
    stay, leave = next(_grouped_folds(rows, free, groups, n_parts, seed))
    return np.sort(np.concatenate([stay, pinned])), leave


def _only_patients(rows: pd.DataFrame, indices: Indices, groups: npt.NDArray[np.object_]) -> Indices:
    """Rows of patients who are the only one of their class: they must stay where the class is learnt."""
    frame = pd.DataFrame({"label": rows["label"].to_numpy()[indices], "group": groups[indices]})
    patients = frame.groupby("label")["group"].nunique()
    alone = set(frame.loc[frame["label"].isin(patients.index[patients == 1]), "group"])
    return indices[[group in alone for group in groups[indices]]]


def _cross_validation(
    rows: pd.DataFrame, kept: Indices, groups: npt.NDArray[np.object_], options: SplitOptions
) -> Iterator[Fold]:
    assert options.folds is not None
    n_groups = len(set(groups[kept]))
    if n_groups < options.folds:
        raise TableError(f"{n_groups} patients cannot make {options.folds} folds.", code="SPL_TOO_FEW_PATIENTS")
    for development, test in _grouped_folds(rows, kept, groups, options.folds, options.split_seed):
        train, validation = _divide(rows, development, groups, options.validation_fraction, options.split_seed)
        yield Fold(train, validation, test)


def _grouped_folds(
    rows: pd.DataFrame, indices: Indices, groups: npt.NDArray[np.object_], n_splits: int, seed: int
) -> Iterator[tuple[Indices, Indices]]:
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import

    labels = rows["label"].to_numpy(dtype=object)[indices].astype(str)
    codes = pd.factorize(groups[indices])[0]
    splitter = StratifiedGroupKFold(n_splits=n_splits, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Said in our own words by `_warnings`, per class and in patients.
        warnings.filterwarnings("ignore", message="The least populated class")
        try:
            parts = list(splitter.split(np.zeros(len(indices)), labels, codes))
        except ValueError:
            raise TableError(
                f"no class has {n_splits} rows, so they cannot be parted into {n_splits}.",
                code="SPL_TOO_FEW_PATIENTS",
            ) from None
    for rest, held_out in parts:
        yield indices[np.sort(rest)], indices[np.sort(held_out)]


def _check_fold(rows: pd.DataFrame, fold: Fold) -> None:
    labels = rows["label"]
    for name, part in (("training", fold.train), ("validation", fold.validation), ("test", fold.test)):
        if not len(part):
            raise TableError(f"the {name} split is empty.", code="SPL_EMPTY")
    unseen = sorted(set(labels.iloc[fold.test]) - set(labels.iloc[fold.train]))
    if unseen:
        raise TableError(
            f"class '{unseen[0]}' has test rows but no training rows; it cannot be learnt. Leave it out, or split anew.",
            code="SPL_UNSEEN_CLASS",
        )
    if labels.iloc[fold.train].nunique() < 2:
        raise TableError("the training split holds a single class.", code="TAB_ONE_CLASS")


def _warnings(rows: pd.DataFrame, folds: Sequence[Fold]) -> list[str]:
    notes = []
    absent = {
        name: sorted(set(rows["label"].dropna()) - set(rows["label"].iloc[part]))
        for name, part in (("validation", folds[0].validation), ("test", folds[0].test))
    }
    if len(folds) == 1:
        for name, classes in absent.items():
            notes += [f"Class '{label}' has no {name} row: too few patients to be in every split." for label in classes]
    if "pixel_sha256" in rows.columns:
        for fold in folds[:1]:
            seen = set(rows["pixel_sha256"].iloc[np.concatenate([fold.train, fold.validation])])
            copies = (
                int(rows["pixel_sha256"].iloc[fold.test].isin(seen).sum()) if fold.test is not fold.validation else 0
            )
            if copies:
                notes.append(f"{copies} test images have a pixel-identical copy outside the test split.")
    return notes
