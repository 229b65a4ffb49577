"""Classes of DICOM files from a table of their own, matched on whatever id it has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from plainfilm.data.dicom.facts import FileFacts
from plainfilm.data.manifests import (
    LABEL_NAMES,
    PATH_NAMES,
    SPLIT_NAMES,
    find_column,
    read_parquet_table,
    read_text_table,
)
from plainfilm.data.table import RESERVED, clean_text, free_name, shown, split_of
from plainfilm.errors import DataError, TableError

# Usual names of the columns that rows are matched on, from the narrowest to the widest.
KEYS = {
    "instance": ("sopinstanceuid", "sop_instance_uid", "instanceuid", "instance_uid"),
    "series": ("seriesinstanceuid", "series_instance_uid", "series_uid"),
    "study": ("studyinstanceuid", "study_instance_uid", "study_uid"),
    "accession": ("accessionnumber", "accession_number", "accession"),
    "file": PATH_NAMES,
    "patient_id": ("patientid", "patient_id", "patient", "subject_id", "participant_id", "mrn"),
}


@dataclass(frozen=True)
class LabelTable:
    """Rows by what they are matched on.

    Attributes:
        kind: A key of `KEYS`.
        rows: Label, split and the columns asked for, by the id as text.
        name: The table's file name.
    """

    kind: str
    rows: dict[str, dict[str, str | None]]
    name: str

    def find(self, facts: FileFacts, path: str) -> tuple[str, dict[str, str | None]] | None:
        """The row of a file, and the id it was found by."""
        if self.kind != "file":
            ids = [getattr(facts, self.kind)]
        else:
            pure = PurePosixPath(path)
            ids = [path, pure.name, pure.stem]
        return next(((one, self.rows[one]) for one in ids if one and one in self.rows), None)


def read_labels(path: Path, *, label_column: str | None, split_column: str | None, keep: tuple[str, ...]) -> LabelTable:
    """Read the table that `labels` names.

    Raises:
        DataError: `TAB_MISSING` if it is not there.
        TableError: `TAB_NO_COLUMN` without a column of ids or of labels; `TAB_CONFLICT` where one id has two labels.
    """
    if not path.is_file():
        raise DataError(f"The table of labels '{path}' does not exist.", code="TAB_MISSING")
    try:
        frame = read_parquet_table(path)[0] if path.suffix.lower() == ".parquet" else read_text_table(path)
        kind, key = _key_column(frame)
        label = find_column(frame, label_column, LABEL_NAMES, kind="label")
        if label is None:
            raise TableError("no column of labels. Name it with --label-column.", code="TAB_NO_COLUMN")
        split = find_column(frame, split_column, SPLIT_NAMES, kind="split")
        kept = {free_name(name, RESERVED): find_column(frame, name, (), kind="column to keep") for name in keep}
        rows: dict[str, dict[str, str | None]] = {}
        for place, record in zip(frame.index, frame.to_dict("records"), strict=True):
            cells = {"label": clean_text(record[label]), "split": _split(record, split)}
            cells |= {to: clean_text(record[column]) for to, column in kept.items()}
            one = clean_text(record[key])
            if one is None:
                continue
            one = one.replace("\\", "/").removeprefix("./") if kind == "file" else one
            if rows.setdefault(one, cells) != cells:
                raise TableError(
                    f"{frame.index.name} {place}: an earlier row says otherwise of the same '{key}'.",
                    code="TAB_CONFLICT",
                )
    except TableError as error:
        raise error.located(path.name) from None
    return LabelTable(kind, rows, path.name)


def _key_column(frame: pd.DataFrame) -> tuple[str, str]:
    for kind, names in KEYS.items():
        column = find_column(frame, None, names, kind="id")
        if column is not None:
            return kind, column
    raise TableError(
        "no column to match DICOM files on: SOPInstanceUID, SeriesInstanceUID, StudyInstanceUID, AccessionNumber, "
        "PatientID or file_name.",
        code="TAB_NO_COLUMN",
    )


def _split(record: dict[Any, Any], column: str | None) -> str | None:
    cell = clean_text(record[column]) if column else None
    if cell is None:
        return None
    split = split_of(cell)
    if split is None:
        raise TableError(f"'{shown(cell)}' in column '{column}' is not a split.", code="TAB_SPLIT_NAME")
    return split
