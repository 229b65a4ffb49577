"""What is compared, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from plainfilm.measures import Measure, Unit
from plainfilm.pairing import SampleSize

SCHEMA = 1


class ComparisonOptions(BaseModel):
    """What is compared, and which difference would matter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: tuple[str, ...] = Field((), description="Measures to compare beside the headline, such as accuracy.")
    of: str | None = Field(None, description="The class those measures are about; by default all that there are.")
    unit: Literal["image", "patient"] | None = Field(
        None, description="What one row is; by default the patient where patients are known."
    )
    difference: float = Field(
        0.05, gt=0, lt=1, description="A difference that would matter: how many patients would it need?*"
    )
    power: float = Field(0.8, gt=0.5, lt=1, description="How often those patients should find it.")
    all_pairs: bool = Field(False, description="Compare every pair, not only each run with the first.")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A model's own numbers on the rows that all models were tested on.

    Attributes:
        name: Of the model.
        struck: Why its numbers may not stand; None where they may.
        measures: The compared ones, in the order of `Comparison.measures`.
    """

    name: str
    struck: str | None
    measures: tuple[Measure, ...]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far one model is from another in one measure.

    Attributes:
        measure: Its name.
        of: The class it is about; None for a number over all classes.
        unit: What one row was.
        reference: The model compared with.
        model: The model compared.
        value: `model` minus `reference`; None where it is withheld, and then `sentence` says why.
        low: Lower end of its interval.
        high: Upper end.
        interval: `bootstrap` of whole patients, the same draws for both models; `mover` from the two intervals where
            the draws show no spread (Zou and Donner 2008).
        p: By exchanging the models for whole patients at random.
        p_holm: The same among all pairs of this measure.
        delong: DeLong's p, for a ROC AUC with one row per patient.
        mcnemar: McNemar's exact p, for an accuracy with one row per patient.
        n_images: Images compared.
        n_patients: Patients compared; None where they are not known.
        planned: How many patients the stated difference would need.
        struck: Whether one of the models' numbers may not stand.
        sentence: The answer in plain words.
    """

    measure: str
    of: str | None
    unit: Unit
    reference: str
    model: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    interval: Literal["bootstrap", "mover", "none"] = "none"
    p: float | None = None
    p_holm: float | None = None
    delong: float | None = None
    mcnemar: float | None = None
    n_images: int
    n_patients: int | None
    planned: SampleSize | None = None
    struck: bool = False
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything about some models on the rows that all of them were tested on.

    Attributes:
        standings: The models, in the order given.
        differences: By measure, the headline first, then by pair.
        notes: Sentences for the reader.
        options: What was asked for.
        confidence: What an interval covers.
    """

    standings: tuple[Standing, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    options: ComparisonOptions
    confidence: float

    @property
    def headline(self) -> tuple[Difference, ...]:
        """The differences in the headline measure."""
        first = self.differences[0]
        return tuple(found for found in self.differences if (found.measure, found.of) == (first.measure, first.of))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": SCHEMA, **asdict(self), "options": self.options.model_dump(mode="json")}
