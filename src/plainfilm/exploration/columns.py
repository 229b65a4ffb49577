"""What a table says of its images: the columns that clusters can be compared with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from plainfilm.data.images import DecodeRecord
from plainfilm.data.table import COLUMNS
from plainfilm.exploration.results import Ints

Kind = Literal["label", "patient", "source", "file"]

MISSING = -1  # code of an image without a value
MOST_NUMBERS = 10  # different numbers that still count as groups; more are put into quarters


@dataclass(frozen=True)
class Column:
    """What a column of the table says of each image.

    Attributes:
        name: As the table has it.
        kind: What sort of thing it says.
        codes: Group of each image, from 0; `MISSING` without a value.
    """

    name: str
    kind: Kind
    codes: Ints


def columns_of(rows: pd.DataFrame) -> list[Column]:
    """The columns clusters can be compared with: of two groups at least, patients with more than one image.

    Numbers with many values are put into quarters, and so are the sizes of files; text with more than one value
    for every two images is taken for a name, and left out.
    """
    found = [
        Column("label", "label", codes_of(rows["label"])),
        Column("patient_id", "patient", codes_of(rows["patient_id"])),
        Column("split", "source", codes_of(rows["split"])),
        Column("name_begins", "source", codes_of(_first_letters(rows["path"]))),
    ]
    facts = set(DecodeRecord.__dataclass_fields__)
    further = [name for name in rows.columns if name not in COLUMNS and name not in facts]
    found += [Column(name, "source", _grouped(rows[name])) for name in further]
    found += _file_columns(rows)
    named_by = codes_of(rows["label"])
    return [
        column
        for column in found
        if _has_groups(column) and not (column.name == "name_begins" and _same_groups(column.codes, named_by))
    ]


def _file_columns(rows: pd.DataFrame) -> list[Column]:
    """How files were stored, as far as the table knows it."""
    columns = [Column(name, "file", codes_of(rows[name])) for name in ("format", "mode", "bits") if name in rows]
    if {"width", "height"} <= set(rows.columns):
        size = rows["width"].astype(str) + "x" + rows["height"].astype(str)
        pixels = rows["width"].astype(float) * rows["height"].astype(float)
        columns.append(Column("size", "file", codes_of(size) if size.nunique() <= MOST_NUMBERS else _quarters(pixels)))
    if "file_bytes" in rows:
        columns.append(Column("file_bytes", "file", _quarters(rows["file_bytes"].astype(float))))
    return columns


def codes_of(values: pd.Series) -> Ints:
    """Number of each value, from 0 in sorted order; `MISSING` where there is none."""
    return np.asarray(pd.factorize(values, sort=True)[0], dtype=np.intp)


def _quarters(values: pd.Series) -> Ints:
    cut = pd.qcut(values, 4, labels=False, duplicates="drop")
    return np.asarray(cut.fillna(MISSING), dtype=np.intp)


def _grouped(values: pd.Series) -> Ints:
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().sum() == values.notna().sum() and numbers.nunique() > MOST_NUMBERS:
        return _quarters(numbers.astype(float))
    return codes_of(values)


def _first_letters(paths: pd.Series) -> pd.Series:
    """The letters a file's name begins with: `openi` of `folder/openI_12.png`; nothing of `12.png`."""
    names = [re.match(r"[^\W\d_]*", str(path).rsplit("/", maxsplit=1)[-1]) for path in paths]
    return pd.Series([name[0].casefold() if name else "" for name in names], dtype=object)


def _has_groups(column: Column) -> bool:
    known = column.codes[column.codes != MISSING]
    n_groups = len(np.unique(known))
    return 2 <= n_groups <= len(known) / 2 or (column.kind == "patient" and 2 <= n_groups < len(known))


def _same_groups(one: Ints, other: Ints) -> bool:
    """Whether two columns divide the images alike, whatever the groups are called."""
    pairs = len(np.unique(np.column_stack([one, other]), axis=0))
    return pairs == len(np.unique(one)) == len(np.unique(other))


def patients_of(rows: pd.DataFrame) -> Ints:
    """Number of each image's patient, from 0; an image without one is a patient of its own."""
    codes = codes_of(rows["patient_id"])
    unknown = codes == MISSING
    codes[unknown] = codes.max(initial=-1) + 1 + np.arange(unknown.sum())
    return codes
