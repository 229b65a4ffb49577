"""Who the patients are: what is fixed about each before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from plainfilm.data.phantoms.options import PhantomOptions
from plainfilm.data.phantoms.streams import Stream, rng_of

Sex = Literal["F", "M"]

SPLIT_CYCLE = ("train", "test", "train", "validation", "train")  # 60 / 20 / 20 within each class
SEVERITY_SPREAD = 0.15  # patients of one grade differ; 1 is the way from the first class to the last


@dataclass(frozen=True)
class Patient:
    """What is fixed about one patient before anything is drawn."""

    number: int
    grade: int
    severity: float
    site: int
    sex: Sex
    age: int
    n_images: int
    split: str

    @property
    def patient_id(self) -> str:
        """P001 for the first, and so on."""
        return f"P{self.number:03d}"


def draw_patient(options: PhantomOptions, number: int) -> Patient:
    """The patient of this number; how many others there are changes nothing."""
    n_classes = len(options.classes)
    block, place = divmod(number - 1, n_classes)
    grade = int(rng_of(Stream.BLOCK, options.seed, block).permutation(n_classes)[place])
    # Each draw below takes the same share of the stream whatever the options, so that sex and age stay the same.
    rng = rng_of(Stream.STACK, options.seed, number)
    low, high = options.stack_range
    shift = float(np.clip(rng.normal(0, SEVERITY_SPREAD), -2.5 * SEVERITY_SPREAD, 2.5 * SEVERITY_SPREAD))
    return Patient(
        number=number,
        grade=grade,
        severity=options.effect * grade / (n_classes - 1) + shift,
        site=int(options.sites * rng.random()),
        sex="F" if rng.random() < 0.5 else "M",
        age=int(np.clip(rng.normal(70, 9), 45, 95)) if options.kind == "brain" else int(rng.uniform(20, 90)),
        n_images=low + int((high - low + 1) * rng.random()),
        split=SPLIT_CYCLE[block % len(SPLIT_CYCLE)],
    )
