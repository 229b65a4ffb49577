"""Which column of a table says where, or on what, an image was made."""

from __future__ import annotations

import re
from typing import Final

import pandas as pd

from plainfilm.data.table import COLUMNS
from plainfilm.errors import UsageError, unknown_name

# Words in the name of a column that tells where, or on what, an image was made.
PLACES: Final = frozenset({"site", "hospital", "institution", "center", "centre"})
WORDS: Final = PLACES | frozenset({
    "scanner", "source", "manufacturer", "model", "vendor", "device", "machine", "station", "collection", "dataset",
    "cohort", "origin", "location", "field_strength",
})  # fmt: skip


def named_columns(rows: pd.DataFrame, words: frozenset[str] = WORDS) -> list[str]:
    """Columns in whose name one of some words stands."""
    return [str(name) for name in rows.columns if words & set(re.split(r"[\W_]+", _words(str(name))))]


def site_values(rows: pd.DataFrame) -> dict[str, set[str]]:
    """The values of each column that looks like a site, scanner or source and names one for every image."""
    return {name: set(rows[name].astype(str)) for name in named_columns(rows) if len(rows) and rows[name].notna().all()}


def site_column(rows: pd.DataFrame, asked: str | None = None) -> str:
    """The column that names the site of each image.

    Args:
        rows: The table.
        asked: Its name; None takes the only one that looks like a place, or else like a scanner or source.

    Raises:
        UsageError: `UNKNOWN_COLUMN` for a column that is not there; `SPL_SITE_COLUMN` where none, or more than one,
            looks like a site.
    """
    further = [str(name) for name in rows.columns if name not in COLUMNS]
    if asked is not None:
        if asked not in further:
            raise unknown_name("column", asked, further)
        return asked
    found = named_columns(rows, PLACES) or named_columns(rows)
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} columns look like one ({', '.join(found)})" if found else "no column looks like one"
    raise UsageError(
        f"--split site needs a column that names the site of every image, and {what}. Name it: --site-column NAME.",
        code="SPL_SITE_COLUMN",
    )


def _words(name: str) -> str:
    """`ScannerModel` as `scanner_model`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
