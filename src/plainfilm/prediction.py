"""A model and images make `Predictions`: one row per image, one score per class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

SCORE_PREFIX = "score_"


@dataclass(frozen=True)
class Predictions:
    """The scores of some images, with what is known about them.

    Attributes:
        classes: Class names, in the order of the columns of `scores`.
        table: One row per image, index 0..n-1: `path` (text), `label` (text, or missing where the truth is
            not known), `patient_id` (text, or missing where it is not known), `split`.
        scores: `(n_images, n_classes)` float64; each row is a probability distribution.
    """

    classes: tuple[str, ...]
    table: pd.DataFrame
    scores: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def y_pred(self) -> npt.NDArray[np.intp]:
        """Index of the class with the highest score; the first of equals."""
        return self.scores.argmax(axis=1)

    def labelled(self) -> Predictions:
        """The rows whose truth is known."""
        return self.where(self.table["label"].notna().to_numpy())

    def where(self, mask: npt.NDArray[np.bool_]) -> Predictions:
        """The rows for which `mask` is True."""
        return Predictions(self.classes, self.table[mask].reset_index(drop=True), self.scores[mask])
