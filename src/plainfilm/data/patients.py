"""Which images are of one patient, and how that is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.data.dividing import Indices
from plainfilm.data.table import Cells, cells
from plainfilm.errors import TableError, UsageError

Patients = Literal["documented", "recovered", "declared", "unknown"]


class PatientOptions(BaseModel):
    """Where patients are known from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


@dataclass(frozen=True)
class Known:
    """What is known of the patients: see `splits.SplitPlan`; `rows` are the labelled rows that take part."""

    groups: Cells
    how: Patients
    rows: Indices
    notes: tuple[str, ...] = ()


def find_patients(
    rows: pd.DataFrame, labels: Cells, labelled: Indices, options: PatientOptions, *, whole: bool
) -> Known:
    """The patient of every row, how that is known, the rows that take part, and what to say of it.

    Args:
        rows: `path` and `patient_id`.
        labels: Of each.
        labelled: Rows that could take part.
        options: Where patients are known from.
        whole: Whether patients must stay whole, so that not to know them is an error.

    Raises:
        UsageError: `SPL_NO_PATIENTS`, `SPL_DECLARED_WRONGLY` or `SPL_FOLDER_IS_CLASS`.
        TableError: `SPL_MISSING_PATIENTS`.
    """
    each_its_own = np.arange(len(rows)).astype(object)
    if options.patients == "image":
        _check_declaration(cells(rows, "patient_id")[labelled])
        note = "One image per patient was declared, not found: if it is not so, the figures are too good."
        return Known(each_its_own, "declared", labelled, (note,))
    if options.patients == "folder":
        groups = _folders_above(rows)
        _check_folders(groups[labelled], labels[labelled])
    else:
        groups = cells(rows, "patient_id")
    missing = np.array([index for index in labelled if groups[index] is None], dtype=np.intp)
    how: Patients = "recovered" if options.patients == "recovered" else "documented"
    if not len(missing):
        return Known(groups, how, labelled)
    if len(missing) == len(labelled):
        if not whole:
            return Known(each_its_own, "unknown", labelled)
        raise UsageError(
            "Nothing says which images belong to one patient, so no score would hold on new patients. Give a column "
            "patient_id (or --patient-column NAME); or --patients folder if each patient has a folder; or --patients "
            "recovered to group look-alike slices by their pixels; or --patients image to declare one image per "
            "patient; or --split image to split by image all the same, every score then struck through.",
            code="SPL_NO_PATIENTS",
        )
    if options.missing_patients == "drop":
        note = f"{len(missing)} labelled rows without a patient id were left out."
        return Known(groups, how, np.setdiff1d(labelled, missing), (note,))
    if options.missing_patients == "refuse" and whole:
        raise TableError(
            f"{len(missing)} of {len(labelled)} labelled rows have no patient id, first "
            f"'{rows['path'].iat[missing[0]]}'. Use --missing-patients drop to leave them out, or --missing-patients "
            "own to count each as a patient.",
            code="SPL_MISSING_PATIENTS",
        )
    for index in missing:
        groups[index] = f"(row {index + 1})"
    note = f"{len(missing)} labelled rows without a patient id count as a patient each."
    return Known(groups, how, labelled, (note,))


def known_patients(rows: pd.DataFrame, options: PatientOptions | None = None) -> tuple[Cells, Patients]:
    """The patient of every row, and how that is known, for whoever looks at images without dividing them.

    Args:
        rows: As for `splits.split_table`.
        options: How patients are known.

    Returns:
        Ids, None where a row has none; and `unknown` where no labelled row has one.

    Raises:
        UsageError: `SPL_DECLARED_WRONGLY` or `SPL_FOLDER_IS_CLASS`.
    """
    labels = cells(rows, "label")
    labelled = rows_to_divide(labels, cells(rows, "split"))
    known = find_patients(rows, labels, labelled, options or PatientOptions(), whole=False)
    return known.groups, known.how


def rows_to_divide(labels: Cells, given: Cells) -> Indices:
    """Rows with a label that their table does not set aside for later."""
    return np.flatnonzero(np.array([label is not None for label in labels], dtype=bool) & (given != "external"))


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


def first_of(places: pd.Series[list[str]], most: int = 5) -> str:
    """The first of some patients, each with the places where its images are; how many more there are."""
    named = "; ".join(f"{patient} ({', '.join(names)})" for patient, names in places.head(most).items())
    return f"{named} and {len(places) - most} more" if len(places) > most else named
