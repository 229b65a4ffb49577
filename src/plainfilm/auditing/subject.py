"""What is audited: images with labels, who they are of, how they were divided, and what a model said of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.data.pixels import PixelStore
from plainfilm.measures import PatientSource, Unit
from plainfilm.prediction import Predictions

Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Everything a check may look at. No check changes it; a check looks only at what its question needs.

    Attributes:
        rows: One row per image, index 0..n-1: `path`, `label` (None where unknown), `patient_id`, further columns of
            the source, and the facts of the decoder (`file_bytes`, `width`, `height`, `pixel_sha256`, ...).
        pixels: The images in the same order, fitted to one size; None for predictions without their images.
        patients: How `group` is known.
        group: `(n,)` code of each image's patient from 0 on; -1 where unknown. Where patients are `unknown`, all -1.
        split: `(n,)` `train`, `validation`, `test`, `external` or None, as the table or the run has it; None where
            nothing is divided.
        split_unit: What was kept together when the images were divided; None where that is not known.
        predictions: What a model said of some of the images, matched by `path`; None where there is no model.
    """

    rows: pd.DataFrame
    pixels: PixelStore | None
    patients: PatientSource
    group: Ints
    split: npt.NDArray[np.object_] | None = None
    split_unit: Unit | None = None
    predictions: Predictions | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted."""
        return tuple(sorted(self.rows["label"].dropna().unique()))

    @property
    def y(self) -> Ints:
        """`(n,)` index into `classes`; -1 where the label is unknown."""
        return np.asarray(pd.Categorical(self.rows["label"], categories=list(self.classes)).codes, dtype=np.intp)

    @property
    def n_patients(self) -> int | None:
        """Patients of all images; None where they are not known."""
        return None if self.patients == "unknown" else len(np.unique(self.group[self.group >= 0]))

    @property
    def knows_patients(self) -> bool:
        """Whether every labelled image has a patient."""
        return self.patients != "unknown" and bool((self.group[self.y >= 0] >= 0).all())
