"""What a report shows: everything the page needs, and nothing it must look up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.abstention import Abstention
from plainfilm.auditing.results import Audit
from plainfilm.calibration import Calibration
from plainfilm.config import RunOptions
from plainfilm.measures import Evaluation, Unit
from plainfilm.reporting.cohort import Cohort


@dataclass(frozen=True, kw_only=True)
class SplitCount:
    """How much of one class is in one split.

    Attributes:
        split: `train`, `validation`, `test` or `external`.
        label: The class.
        n_images: Images of it.
        n_patients: Patients of it; None where patients are not known.
    """

    split: str
    label: str
    n_images: int
    n_patients: int | None = None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Files that were not used for one and the same reason.

    Attributes:
        code: The stable code, such as `IMG_TRUNCATED`.
        reason: The same in words.
        n_images: How many.
        refused: True for a file that could not be used, False for one that was passed over by rule.
        names: Some of them, relative to the data folder.
    """

    code: str
    reason: str
    n_images: int
    refused: bool = True
    names: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """The images: what was found, what was used.

    Attributes:
        source: What the user called the data, never an absolute path.
        counts: One entry for each split and class.
        left_out: One entry for each reason; empty when every file was used.
    """

    source: str
    counts: Sequence[SplitCount]
    left_out: Sequence[LeftOut] = ()

    @property
    def used(self) -> int:
        """Images in any split."""
        return sum(count.n_images for count in self.counts)

    @property
    def skipped(self) -> int:
        """Files passed over by rule."""
        return sum(entry.n_images for entry in self.left_out if not entry.refused)

    @property
    def refused(self) -> int:
        """Files that could not be used."""
        return sum(entry.n_images for entry in self.left_out if entry.refused)


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The network.

    Attributes:
        name: As `plainfilm models` lists it.
        summary: One sentence.
        parameters: Trainable numbers.
        flops: For one image, forward; a multiplication and an addition count as 2.
        input_size: Pixels, (height, width).
        weights: Where the first weights came from, or "random".
        licence: Of those weights.
    """

    name: str
    summary: str = ""
    parameters: int
    flops: int | None = None
    input_size: tuple[int, int]
    weights: str = "random"
    licence: str = "none needed"


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """How the weights came about.

    Attributes:
        epochs: Epochs run.
        chosen_epoch: The epoch whose weights were kept.
        chosen_by: What decided it, on the validation split only.
        seconds: Wall-clock time.
        device: In words, such as "CPU, 2 cores".
        precision: Such as "float32" or "bfloat16".
        software: Name and version of what computed, such as `("torch", "2.15.0")`.
        history: One row per epoch; see `plots.training_plot` for the columns.
    """

    epochs: int
    chosen_epoch: int | None
    chosen_by: str = "lowest validation loss"
    seconds: float
    device: str
    precision: str
    history: pd.DataFrame
    software: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, kw_only=True)
class HeatFacts:
    """What the heat maps beside the pictures are, and whether they can be believed.

    Attributes:
        method: Its title.
        verdict: Of the randomisation check; heat maps of a method that failed are not shown.
        sentence: The verdict with its numbers.
    """

    method: str
    verdict: Literal["passed", "failed", "unchecked"]
    sentence: str

    @property
    def is_shown(self) -> bool:
        """Whether the heat maps stand beside the pictures."""
        return self.verdict != "failed"


Explainer = Callable[[npt.NDArray[np.intp]], tuple[HeatFacts, npt.NDArray[np.float32]] | None]
"""From row numbers of the table to `(n, height, width)` heat maps, 0 to 1, for the predicted classes."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image that the model was asked about.

    Attributes:
        thumbnail: Grey, `(height, width)`, any depth; shrunk for the page.
        path: Relative to the data folder.
        truth: The label.
        predicted: The class with the highest score.
        score: The score of `predicted`, 0 to 1.
        patient_id: The patient, where known and where it may be shown.
        overlay: `(height, width, 3)` uint8, the thumbnail under its heat map for `predicted`; None where there is none.
    """

    thumbnail: npt.NDArray[Any]
    path: str
    truth: str
    predicted: str
    score: float
    patient_id: str | None = None
    overlay: npt.NDArray[np.uint8] | None = None

    @property
    def is_right(self) -> bool:
        """Whether the model said what the table says."""
        return self.truth == self.predicted


@dataclass(frozen=True, kw_only=True)
class FoldSummary:
    """The same number from each fold of a cross-validation.

    Attributes:
        measure: Its name, such as `balanced_accuracy`.
        values: One for each fold.
    """

    measure: str
    values: Sequence[float]

    @property
    def mean(self) -> float:
        """Mean over the folds."""
        return fmean(self.values)

    @property
    def sd(self) -> float:
        """Standard deviation over the folds; nan for a single one."""
        return stdev(self.values) if len(self.values) > 1 else float(np.nan)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval; the ends are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class LeakGap:
    """The same figure on the data as they were given, and without what leaks.

    Attributes:
        measure: What was measured, such as "Balanced accuracy of the nearest neighbour".
        as_given: Under the split that was given.
        patient_safe: With whole patients on one side, or without the near copies.
        difference: The first minus the second, with its paired interval.
        counted: What is behind it, such as "1,280 images of 40 patients".
        words: What else to know, as one sentence.
    """

    measure: str
    as_given: Estimate
    patient_safe: Estimate
    difference: Estimate
    counted: str = ""
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything one report shows. Every text in it is shown as text, wherever it came from.

    Attributes:
        title: The heading.
        question: What the model was asked, as one sentence.
        when: When the run ended; None leaves it out, so that two reports can be compared byte for byte.
        version: Of plainfilm.
        command: What to type to run it again.
        options: Name to value, as resolved.
        data: The images.
        patients: How it is known which images belong to one patient; `known` and `documented` mean the same.
        split_unit: What the split kept together.
        site_column: Names the sites that were held out whole; None where the split is not by site.
        tested_on: The split that the figures are about.
        preprocessing: What happens to an image before the model sees it, a sentence for each step.
        model: The network.
        training: How it was trained; None for a report on predictions alone.
        evaluation: Every number.
        asked: The options as they are grouped in the code; None for a report on predictions alone.
        openings: How often the test rows were scored.
        cohort: Who is in the data; None for a run of before this was kept.
        audit: What the audit found; None where there was none.
        leak_gap: What the number was as given and what it is without leaks, where the audit measured that.
        calibration: What is done to the scores of the (first) model before anybody sees them.
        abstention: When that model says nothing.
        card: The model card as it stands beside the weights; empty where there is none.
        evidence_level: 3 or 4 when the audit has earned it; None takes the level from `evaluation`.
        examples: Images with their answers; the page puts the worst mistakes first.
        heat: What the overlays of the examples are; None where none were made.
        notes: Remarks, a sentence each.
        warnings: What a reader must not miss, a sentence each.
        folds: When there was a cross-validation.
    """

    title: str
    question: str
    when: datetime | None = None
    version: str
    command: str
    options: Mapping[str, object]
    data: DataSummary
    patients: Literal["known", "documented", "recovered", "declared", "unknown"]
    split_unit: Unit
    tested_on: Literal["test", "validation", "external"] = "test"
    preprocessing: Sequence[str]
    model: ModelFacts
    training: TrainingFacts | None
    evaluation: Evaluation
    evidence_level: int | None = None
    site_column: str | None = None
    examples: Sequence[Example] = ()
    heat: HeatFacts | None = None
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    folds: FoldSummary | None = None
    asked: RunOptions | None = None
    openings: int = 1
    cohort: Cohort | None = None
    audit: Audit | None = None
    leak_gap: LeakGap | None = None
    calibration: Calibration | None = None
    abstention: Abstention | None = None
    card: str = ""
