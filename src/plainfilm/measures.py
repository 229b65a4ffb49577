"""Results: one number with its interval and counts, and all the numbers of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from plainfilm.errors import DataError, UsageError, nearest_name, unknown_name

SCHEMA = 1

Unit = Literal["image", "patient"]
PatientSource = Literal["documented", "recovered", "declared", "unknown"]
Interval = Literal["wilson", "newcombe", "bootstrap", "none"]
Cells = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number, never without its interval and its counts.

    Attributes:
        name: `accuracy`, `majority_rate`, `balanced_accuracy`, `log_loss`, `brier_score`; for each class
            `precision`, `recall`, `f1`, `roc_auc`, `average_precision` (one against the rest) and over the
            classes `macro_precision`, ...; for a two-way reading `sensitivity`, `specificity`, `ppv`, `npv`; how far
            scores can be believed: `calibration_slope`, `calibration_error`, `calibration_intercept` of each class.
        unit: What one row was: an image, or a patient (mean of the scores of their images).
        of: The class or classes it is about, joined by ` + `; None for a number over all classes.
        value: The number; None where it is withheld, and then `reason` says why.
        low: Lower end of the interval; None with `value`, and where `interval` is `none`.
        high: Upper end.
        n_images: Images behind it: for a recall those of the class, for a precision those predicted as it.
        n_patients: Patients behind it; None where patients are not known.
        interval: How the interval was found. `wilson` also for an average of proportions (their Wilson
            intervals combined); `newcombe` for a ROC AUC whose draws show no spread.
        reason: Why the number is withheld, or a caution to print beside it; empty otherwise.
        confidence: What the interval covers, such as 0.95.
    """

    name: str
    unit: Unit
    of: str | None
    value: float | None
    low: float | None
    high: float | None
    n_images: int
    n_patients: int | None
    interval: Interval
    reason: str = ""
    confidence: float = 0.95

    def __str__(self) -> str:
        """`0.912 (95% CI 0.874-0.943, 412 patients)`, or why there is no number."""
        if self.value is None:
            return f"not given ({self.reason})"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} ({self.counted})"
        interval = f"{100 * self.confidence:g}% CI {self.low:.3f}-{self.high:.3f}"
        return f"{self.value:.3f} ({interval}, {self.counted})"

    @property
    def counted(self) -> str:
        """What is behind the number, in words: `412 patients`, `1280 images of 40 patients`."""
        if self.n_patients is None:
            return plural(self.n_images, "image")
        if self.unit == "patient":
            return plural(self.n_patients, "patient")
        return f"{plural(self.n_images, 'image')} of {plural(self.n_patients, 'patient')}"


@dataclass(frozen=True, kw_only=True)
class ConfusionMatrix:
    """Counts of truth (rows) against prediction (columns).

    Attributes:
        unit: What was counted; a patient under two labels counts once in each row.
        of: The positive classes of a two-way reading; None for the matrix of all classes.
        classes: Names of the rows, and of the columns.
        counts: Images or patients in each cell.
        share: Each cell as a share of its row; None where the row has too few patients.
        low: Lower end of the interval of `share`.
        high: Upper end.
    """

    unit: Unit
    of: str | None
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    share: Cells
    low: Cells
    high: Cells

    @property
    def support(self) -> tuple[int, ...]:
        """True count of each class: the sum of its row."""
        return tuple(sum(row) for row in self.counts)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The points of one curve, thinned to what its drawn shape needs.

    Attributes:
        kind: `roc` (x is the false positive rate, y the true positive rate; straight lines between points) or
            `precision_recall` (x is recall, y is precision; each step takes the height of its right end).
        unit: What one row was.
        of: The class, or the classes of a two-way reading, against the rest.
        x: 0 to 1, rising.
        y: 0 to 1.
        prevalence: Share of positives: the precision of calling everything positive.
    """

    kind: Literal["roc", "precision_recall"]
    unit: Unit
    of: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    prevalence: float


class SubgroupOptions(BaseModel):
    """Groups of patients that a model should serve alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subgroup: tuple[str, ...] = Field((), description="Columns that make groups of patients, such as sex, age, site.")
    age_bands: tuple[float, ...] = Field(
        (18.0, 40.0, 60.0, 80.0), min_length=1, description="Where a column of many numbers is cut into bands.*"
    )
    subgroup_patients: int = Field(20, ge=2, description="Patients that a group needs to be compared.*")
    subgroup_positives: int = Field(10, ge=2, description="Patients of the class that a group needs.*")


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far one group of patients is from all others in one measure.

    Attributes:
        column: What makes the groups.
        group: One of them.
        others: The one other group, or `all others`.
        measure: `sensitivity`, `specificity`, `false_negative_rate` or `roc_auc`.
        of: The class it is about.
        unit: What one row was; images where patients are in several groups.
        n_group: Patients of the group; images where patients are not known.
        n_others: Of the others.
        n_positive_group: Those of the class that the measure looks at (of the negatives, for specificity).
        n_positive_others: Of the others.
        value_group: The measure in the group; None with `gap`.
        value_others: In the others.
        gap: `value_group` minus `value_others`; None where patients are too few.
        low: Lower end of its interval, from whole patients drawn alike for both.
        high: Upper end.
        p: By dealing the groups anew to whole patients of the same class.
        p_holm: Among all gaps of the column.
        detectable: The smallest gap that so many patients would show 80 times of 100.
    """

    column: str
    group: str
    others: str
    measure: str
    of: str
    unit: Unit
    n_group: int
    n_others: int
    n_positive_group: int
    n_positive_others: int
    value_group: float | None = None
    value_others: float | None = None
    gap: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How often claims of a given certainty were right, and what is gained by leaving the unsure ones out.

    Attributes:
        unit: What one row was.
        of: The positive classes of a two-way reading, whose score is the claim; None for the highest score.
        claimed: Mean score of each bin, rising, 0 to 1.
        observed: Share that was right in each bin.
        low: Lower end of the interval of `observed`, patients counted.
        high: Upper end.
        n_patients: Patients in each bin; images where patients are not known.
        answered: Share of rows answered when only the surest are, rising to 1.
        risk: Share of those that is wrong.
        chance: How often honest scores of as many patients look as far off (p); None where rows share patients.
    """

    unit: Unit
    of: str | None
    claimed: tuple[float, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n_patients: tuple[int, ...]
    answered: tuple[float, ...]
    risk: tuple[float, ...]
    chance: float | None = None


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A threshold chosen on validation patients, and what it does on the patients that are measured.

    Attributes:
        of: The positive classes.
        rule: How it was chosen: `youden`, or a floor such as `sensitivity=0.9`.
        threshold: Patients whose mean score reaches it are called positive; None where none was chosen. The median of
            `folds` where each fold chose its own.
        reason: Why none was chosen, or a caution; empty otherwise.
        n_positive: Validation patients behind the choice that are positive.
        n_negative: Those that are not.
        prevalence: Share of positives for which `ppv` and `npv` are given; None if none was stated.
        measures: `sensitivity`, `specificity` and, where a prevalence was stated, `ppv` and `npv` at that prevalence.
        folds: In a cross-validation the threshold of each fold, at which its own tested patients were called;
            `n_positive` and `n_negative` are then those of the fold with fewest.
    """

    of: str
    rule: str
    threshold: float | None
    reason: str
    n_positive: int
    n_negative: int
    prevalence: float | None
    measures: tuple[Measure, ...] = ()
    folds: tuple[float, ...] = ()

    @property
    def chosen(self) -> str:
        """The threshold in digits; of several the range."""
        if not self.folds:
            return "" if self.threshold is None else f"{self.threshold:.3f}"
        return f"{min(self.folds):.3f} to {max(self.folds):.3f}"


@dataclass(frozen=True, kw_only=True)
class DecisionCurve:
    """What acting on the scores is worth, over how sure one wants to be; acting on nobody is worth 0.

    Attributes:
        of: The positive classes.
        prevalence: Share of positives among these patients.
        n_patients: Patients behind it.
        confidence: What the band covers at each threshold.
        thresholds: Score from which one acts, rising; also what a false alarm weighs: odds of it to one.
        model: Net benefit of acting on the scores, in true positives for each patient.
        low: Lower end of its band, from whole patients drawn.
        high: Upper end.
        treat_all: Net benefit of acting on everybody.
    """

    of: str
    prevalence: float
    n_patients: int
    confidence: float
    thresholds: tuple[float, ...]
    model: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    treat_all: tuple[float, ...]

    @property
    def useful(self) -> tuple[float, float] | None:
        """First and last threshold of the longest run of those at which the band is above treating all and none."""
        runs: list[list[float]] = [[]]
        for threshold, low, everybody in zip(self.thresholds, self.low, self.treat_all, strict=True):
            if low > max(everybody, 0.0):
                runs[-1].append(threshold)
            elif runs[-1]:
                runs.append([])
        longest = max(runs, key=len)
        return (longest[0], longest[-1]) if longest else None


class EvaluationOptions(BaseModel):
    """How predictions become numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: int = Field(default=2000, ge=100, description="Bootstrap draws of patients behind each interval.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="What an interval covers.")
    draw_seed: int = Field(default=0, ge=0, description="Seed of the draws.")
    min_patients: int = Field(default=5, ge=2, description="A class with fewer patients gets no figures of its own.")
    caution_patients: int = Field(default=30, description="A class with fewer patients gets a caution.")
    positive: tuple[str, ...] = Field(
        default=(), description="Classes that together are 'positive' in a two-way reading."
    )
    threshold: float = Field(default=0.5, gt=0, lt=1, description="Summed score from which the reading is positive.")


@dataclass(frozen=True)
class SiteScore:
    """The headline at one site that the model had not learnt from."""

    site: str
    measure: Measure


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Every number about some predictions, and how far it can be trusted.

    Attributes:
        classes: Class names, in the order of every matrix.
        options: What was asked for.
        patients: How patients are known: `documented` (by the table), `recovered` (from pixels), `declared`
            (one image each) or `unknown`.
        split_unit: Whether patients or images were dealt to training and test.
        n_images: Images with a truth.
        n_patients: Their patients; None where not known.
        evidence_level: 0 patients unknown, 1 split by image, 2 split by patient, 4 another site. An audit may raise it.
        struck: Why no number here may stand; None when they may.
        headline: The number to print large; by patient where patients are known. With `positive`, the ROC AUC
            of that reading, which needs no threshold. Else balanced accuracy, which unlike accuracy is not
            had by naming the most frequent class. Its `low` is the figure to plan with.
        measures: Every number.
        confusions: By unit; then those of the two-way reading.
        curves: By unit and class; none for a class with too few patients.
        design_effect: How many times larger the variance of image-level accuracy is than it would be for
            independent images; None where there is nothing to compare.
        effective_images: Independent images that would give an equally sure accuracy.
        notes: Sentences for the reader.
        reliability: By unit; then that of the two-way reading. Older evaluations have none.
        gaps: Between groups of patients, where columns were named.
        operating: With `positive`, a threshold chosen on validation patients; None where none was asked for.
        decision: With `positive`, what acting on the scores is worth; None for too few patients.
        sites: The headline at each site, where whole sites were held out.
    """

    classes: tuple[str, ...]
    options: EvaluationOptions
    patients: PatientSource
    split_unit: Unit
    n_images: int
    n_patients: int | None
    evidence_level: int
    struck: str | None
    headline: Measure
    measures: tuple[Measure, ...]
    confusions: tuple[ConfusionMatrix, ...]
    curves: tuple[Curve, ...]
    design_effect: float | None = None
    effective_images: float | None = None
    notes: tuple[str, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    gaps: tuple[Gap, ...] = ()
    operating: OperatingPoint | None = None
    decision: DecisionCurve | None = None
    sites: tuple[SiteScore, ...] = ()

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units that were evaluated; `patient` is missing where patients are not known."""
        return ("image",) if self.patients == "unknown" else ("image", "patient")

    def measure(self, name: str, *, unit: Unit, of: str | None = None) -> Measure:
        """Look one number up.

        Raises:
            UsageError: If there is none; names the nearest.
        """
        self._check_unit(unit)
        named = {measure.of: measure for measure in self.measures if (measure.name, measure.unit) == (name, unit)}
        if not named:
            raise unknown_name("measure", name, {measure.name for measure in self.measures})
        if of not in named:
            known = [f"of={other!r}" for other in named]
            near = nearest_name(of, [other for other in named if other]) if of else ""
            raise UsageError(
                f"There is no {name} with of={of!r}.{near} Known: {', '.join(known)}.", code="UNKNOWN_MEASURE"
            )
        return named[of]

    def confusion(self, *, unit: Unit, of: str | None = None) -> ConfusionMatrix:
        """The matrix over all classes, or that of the two-way reading `of`.

        Raises:
            UsageError: If there is none.
        """
        self._check_unit(unit)
        found = {matrix.of: matrix for matrix in self.confusions if matrix.unit == unit}
        if of not in found:
            raise unknown_name("two-way reading", str(of), [name for name in found if name])
        return found[of]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text; `from_json` gives the same evaluation back."""
        return {"schema": SCHEMA, **_adapter().dump_python(self, mode="json")}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Evaluation:
        """Read what `to_json` wrote.

        Raises:
            DataError: `EVL_SCHEMA` if another version wrote it, `EVL_INVALID` if it is not an evaluation.
        """
        if data.get("schema") != SCHEMA:
            raise DataError(
                f"This evaluation has schema {data.get('schema')!r}, but this version reads {SCHEMA}. "
                "Evaluate the predictions again.",
                code="EVL_SCHEMA",
            )
        try:
            return _adapter().validate_python({key: value for key, value in data.items() if key != "schema"})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DataError(f"Not an evaluation: {where}: {first['msg']}.", code="EVL_INVALID") from None

    def _check_unit(self, unit: Unit) -> None:
        if unit not in self.units:
            raise UsageError(
                f"There is nothing by {unit}: patients are not known. Give patient ids, or ask by image.",
                code="EVL_NO_PATIENTS",
            )


@cache
def _adapter() -> TypeAdapter[Evaluation]:
    return TypeAdapter(Evaluation)


def plural(count: int, noun: str) -> str:
    """A count and what is counted."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
