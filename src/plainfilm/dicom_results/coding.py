"""Codes: those of the standard, those of a user's classes, and plainfilm's own where the standard has none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pandas as pd
from pydicom.sr.coding import Code

from plainfilm.errors import TableError

SCHEME: Final = "99PLAINFILM"
LONGEST_MEANING: Final = 64  # of a Code Meaning, VR LO

IMAGING: Final = Code("363679005", "SCT", "Imaging")
PROBABILITY: Final = Code("122157", "DCM", "Probability")
NO_UNITS: Final = Code("1", "UCUM", "no units")
FINDING: Final = Code("121071", "DCM", "Finding")
COMMENT: Final = Code("121106", "DCM", "Comment")
YES: Final = Code("373066001", "SCT", "Yes")
NO: Final = Code("373067005", "SCT", "No")
SOURCE_IMAGE: Final = Code("121322", "DCM", "Source image for image processing operation")

# Names of evaluations. Not 121071 Finding: readers take a CODE of that name for the group's own finding.
ANSWER: Final = Code("PF-ANSWER", SCHEME, "Answer of the model")
POSSIBLE: Final = Code("PF-POSSIBLE", SCHEME, "Class that it may be")
UNLIKE: Final = Code("PF-UNLIKE", SCHEME, "Image unlike the training images")
# Values where no class is found.
ABSTAINS: Final = Code("PF-ABSTAINS", SCHEME, "No answer: the model abstains")
WITHHELD: Final = Code("PF-WITHHELD", SCHEME, "No answer: image unlike the training images")

_COLUMNS = ("class", "value", "scheme", "meaning")


def class_codes(classes: Sequence[str], table: Path | None = None) -> dict[str, Code]:
    """A code for each class.

    Args:
        classes: Names, in the order of the scores.
        table: CSV of `DicomResultOptions.codes`.

    Raises:
        TableError: `TAB_CODES` if the table cannot be used; what is wrong is said.
    """
    given = {} if table is None else _read_codes(table, classes)
    return {name: given.get(name) or _own_code(name) for name in classes}


def _own_code(name: str) -> Code:
    """A code of plainfilm's own scheme: the same for the same name, everywhere."""
    digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()
    return Code(f"C-{digest[:12]}", SCHEME, one_line(name))


def one_line(text: str, most: int = LONGEST_MEANING) -> str:
    r"""Text as VR LO takes it: printable, without `\`, which separates values, and no longer than `most`."""
    cleaned = "".join(char if char.isprintable() else "?" for char in text.replace("\\", "/")).strip()
    return (cleaned if len(cleaned) <= most else f"{cleaned[: most - 3]}...") or "?"


def _read_codes(table: Path, classes: Sequence[str]) -> Mapping[str, Code]:
    try:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except (OSError, ValueError):
        raise TableError(f"'{table.name}' cannot be read as a CSV of codes.", code="TAB_CODES") from None
    missing = [name for name in _COLUMNS if name not in rows.columns]
    if missing:
        raise TableError(f"'{table.name}' has no column '{missing[0]}'.", code="TAB_CODES")
    unknown = sorted(set(rows["class"]) - set(classes))
    if unknown:
        raise TableError(
            f"'{table.name}' names class '{one_line(unknown[0])}', which this model does not know.", code="TAB_CODES"
        )
    found = {}
    for row in rows.to_dict("records"):
        value, scheme, meaning = (str(row[name]).strip() for name in _COLUMNS[1:])
        if not (0 < len(value) <= LONGEST_MEANING and 0 < len(scheme) <= 16 and 0 < len(meaning) <= LONGEST_MEANING):
            raise TableError(
                f"'{table.name}': the code of class '{one_line(row['class'])}' needs a value and a meaning of 1 to 64 "
                "characters and a scheme of 1 to 16, such as SCT.",
                code="TAB_CODES",
            )
        if row["class"] in found:
            raise TableError(f"'{table.name}' names class '{one_line(row['class'])}' twice.", code="TAB_CODES")
        found[str(row["class"])] = Code(value, scheme, one_line(meaning))
    return found
