"""Data from elsewhere: did the model see these images or patients, and do they come from another site?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pandas as pd

from plainfilm.data.sites import site_values
from plainfilm.data.table import Table
from plainfilm.measures import Evaluation, plural
from plainfilm.runs import Run
from plainfilm.sitewise import as_other_site

NOT_KNOWN_AGAIN: Final = "A bundle does not say which images trained it: that none of these did is for you to know."
DECLARED: Final = "Another site: declared by who ran this, not checked."


@dataclass(frozen=True)
class Acquaintance:
    """What a model may have met of some images before.

    Attributes:
        split: Of each image: what it was in the run, known again by its pixels; else `external`.
        patients: How many patients of the data have an id that the run trained or chose its epoch on.
        sites: In words, why these are other sites; empty where that is not known.
        notes: What the reader must know beside.
    """

    split: tuple[str, ...]
    patients: int
    sites: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Run | None, facts: Mapping[str, Any], table: Table, *, ids: bool, declared: bool) -> Acquaintance:
        """Compare images with those of a run.

        Args:
            run: None where only the bundle is at hand, which names no image.
            facts: Of the run.
            table: The images, with the ids of their patients.
            ids: Whether these are ids of documents, which can be compared; those of recovered patients are numbers.
            declared: Whether the user says that the images come from another site.
        """
        if run is None:  # a declaration is printed, and earns no level where nothing can be held against it
            return cls(("external",) * len(table), 0, "", (NOT_KNOWN_AGAIN, *([DECLARED] if declared else [])))
        before = run.read_table()
        if "fold" in before.columns:  # every fold but one saw it
            before = before.assign(split="train")
        seen = dict(zip(before["pixel_sha256"], before["split"], strict=True))
        split = tuple(str(seen.get(digest) or "external") for digest in table.rows["pixel_sha256"])
        comparable = ids and not declared and facts.get("patients") == "documented"
        shared = _shared_patients(before, table.rows) if comparable else 0
        return cls(split, shared, DECLARED if declared else _other_sites(before, table.rows))

    def weighed(self, evaluation: Evaluation) -> Evaluation:
        """The evaluation with the evidence level that follows, or struck where the patients are no new ones."""
        weighed = replace(evaluation, notes=(*evaluation.notes, *self.notes))
        if self.patients and evaluation.struck is None:
            why = (
                f"{plural(self.patients, 'patient')} of {evaluation.n_patients} have an id that trained the model: "
                "these are not new patients. Where the ids are another hospital's own, say so with --other-site."
            )
            weighed = replace(weighed, struck=why, evidence_level=min(1, evaluation.evidence_level))
        if not self.sites:
            return weighed
        if set(self.split) == {"external"}:
            return as_other_site(weighed, self.sites)
        return replace(weighed, notes=(*weighed.notes, self.sites))


def _shared_patients(before: pd.DataFrame, rows: pd.DataFrame) -> int:
    """Patients of `rows` whose id stands in training or validation: of one sealed for the test nothing was learnt."""
    known = set(before.loc[before["split"].isin(("train", "validation")), "patient_id"].dropna().astype(str))
    return len(known & set(rows["patient_id"].dropna().astype(str)))


def _other_sites(before: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Why the sites are others, where a column of both tables names the site of every image; else nothing."""
    for name, here in site_values(rows).items():
        there = site_values(before).get(name)
        if there and here and not here & there:
            return f"Another site: no {name} of these images ({', '.join(sorted(here))}) is one of the training's."
    return ""
