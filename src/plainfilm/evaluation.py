"""From predictions to numbers: every one with its interval and its count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["image", "patient"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number, never without its interval and its counts.

    Attributes:
        name: `accuracy`, `balanced_accuracy`, `precision`, `recall`, `f1`, `roc_auc`, ...
        unit: What one row was: an image, or a patient (mean of the scores of their images).
        of: The class it is about; None for a number over all classes.
        value: The number; None where it is withheld, and then `reason` says why.
        low: Lower end of the 95 % interval; None with `value`.
        high: Upper end.
        n_images: Images behind it.
        n_patients: Patients behind it; None where patients are not known.
        interval: How the interval was found.
        reason: Why the number is withheld, or a caution to print beside it; empty otherwise.
    """

    name: str
    unit: Unit
    of: str | None
    value: float | None
    low: float | None
    high: float | None
    n_images: int
    n_patients: int | None
    interval: Literal["wilson", "bootstrap", "none"]
    reason: str = ""
