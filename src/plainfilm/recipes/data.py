"""Where a recipe's images lie in the folder a user gives, and the smaller table of --quick."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from plainfilm.data.sources import SourceOptions, list_images
from plainfilm.errors import DataError
from plainfilm.recipes.recipe import Recipe
from plainfilm.storage import write_text


@dataclass(frozen=True)
class Images:
    """The images of a recipe.

    Attributes:
        path: What the verbs are given: a table or a folder.
        folder: What places in a recipe are relative to.
        options: Options that go with it.
        rule: How images were left out, in words; empty where all are there.
    """

    path: Path
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    rule: str = ""

    @property
    def is_table(self) -> bool:
        """Whether it is a table that names patients and splits, not a folder."""
        return self.path.suffix.lower() == ".csv"

    def smaller(self, patients: int, table: Path) -> Images:
        """The first patients of each class, in the order of their ids.

        Args:
            patients: Of each class; all of a class that has fewer.
            table: Where the table of them is written.
        """
        if not self.is_table:
            return replace(self, rule="All images were used: without patient ids none can be left out fairly.")
        rows = pd.read_csv(self.path, dtype=str, keep_default_na=False)
        kept = {
            patient
            for _, ids in rows[rows["patient_id"] != ""].groupby("label")["patient_id"]
            for patient in sorted(set(ids))[:patients]
        }
        fewer = rows[rows["patient_id"].isin(kept)]
        write_text(table, fewer.to_csv(index=False))
        rule = (
            f"Of each class the first {patients} patients by id were used: {len(kept)} of "
            f"{rows['patient_id'].nunique()} patients, {len(fewer):,} of {len(rows):,} images."
        )
        return Images(table, self.folder, {"images": str(self.folder)}, rule)

    def labelled(self, table: Path) -> Images:
        """The images that have a class.

        Args:
            table: Where the table of them is written.
        """
        rows = list_images(self.path, SourceOptions(**self.options)).rows
        kept = rows.loc[rows["label"].notna(), ["path", "label", "patient_id", "split"]]
        write_text(table, kept.to_csv(index=False))
        return replace(self, path=table, options={"images": str(self.folder)})


def find_images(recipe: Recipe, data: Path) -> Images:
    """The first place of the recipe that there is under `data`.

    Raises:
        DataError: `RCP_DATA`, with the layout that is expected and how to get the images.
    """
    for place in recipe.places:
        found = data / place.path
        if found.exists() and all((found / name).is_dir() for name in place.holds):
            return Images(found, found if found.is_dir() else found.parent)
    raise DataError(
        f"'{data}' is not laid out as recipe '{recipe.name}' expects: {recipe.layout} To get the images: "
        f"plainfilm data get {recipe.data}.",
        code="RCP_DATA",
    )
