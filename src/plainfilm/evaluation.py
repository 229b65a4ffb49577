"""From predictions to numbers: every one with its interval and its count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from plainfilm import metrics
from plainfilm.errors import DataError, UsageError, nearest_name, unknown_name
from plainfilm.metrics import Bools, Floats, Ints
from plainfilm.prediction import Predictions

SCHEMA = 1
SCORE_SUM_TOLERANCE = 1e-3  # scores may have passed through half precision or a rounded CSV

Unit = Literal["image", "patient"]
PatientSource = Literal["documented", "recovered", "declared", "unknown"]
Interval = Literal["wilson", "newcombe", "bootstrap", "none"]
Cells = tuple[tuple[float | None, ...], ...]

# What stands beside every score below evidence level 2.
STRUCK = {
    0: "The patients are not known: images of one patient can be in both training and test. "
    "The number need not hold on new patients.",
    1: "The split is by image: images of one patient can be in both training and test. "
    "The number does not hold on new patients.",
}

# The average of a figure over the classes, and the name it goes by.
MACRO_NAMES = {
    "recall": "balanced_accuracy",
    "precision": "macro_precision",
    "f1": "macro_f1",
    "roc_auc": "macro_roc_auc",
    "average_precision": "macro_average_precision",
}

# Shares of rows: one row per patient makes them binomial.
PROPORTIONS = ("accuracy", "recall", "precision")

# The figures of a two-way reading are those of its two classes (0 negative, 1 positive) under other names.
BINARY_NAMES = {
    "sensitivity": ("recall", 1),
    "specificity": ("recall", 0),
    "ppv": ("precision", 1),
    "npv": ("precision", 0),
    "roc_auc": ("roc_auc", 1),
    "average_precision": ("average_precision", 1),
}


# --- results ---


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number, never without its interval and its counts.

    Attributes:
        name: `accuracy`, `majority_rate`, `balanced_accuracy`, `log_loss`, `brier_score`; for each class
            `precision`, `recall`, `f1`, `roc_auc`, `average_precision` (one against the rest) and over the
            classes `macro_precision`, ...; for a two-way reading `sensitivity`, `specificity`, `ppv`, `npv`.
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
            return _plural(self.n_images, "image")
        if self.unit == "patient":
            return _plural(self.n_patients, "patient")
        return f"{_plural(self.n_images, 'image')} of {_plural(self.n_patients, 'patient')}"


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
        evidence_level: 0 patients unknown, 1 split by image, 2 split by patient. An audit may raise it.
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


# --- the call ---


def evaluate_predictions(
    predictions: Predictions,
    *,
    patients: PatientSource,
    split_unit: Unit,
    options: EvaluationOptions | None = None,
) -> Evaluation:
    """Measure predictions against the truth, by image and by patient.

    A patient's score is the mean of the scores of their images. A patient with images under two labels has
    one row for each label, and is drawn as one. Images without a label are left out.

    Args:
        predictions: Scores, labels and patients of images of one split.
        patients: How `patient_id` is known. `declared`: every image is its own patient. `unknown`: images are
            resampled as if they were independent, with a caution, and nothing is given by patient.
        split_unit: What was dealt to training and test. Where every image is declared to be another patient,
            an image split is a patient split.
        options: Draws, confidence, limits, and the positive classes.

    Raises:
        UsageError: If `positive` names an unknown class, or every class.
        DataError: `EVL_...` if labels, patient ids or scores are not what `Predictions` promises.
    """
    options = options or EvaluationOptions()
    labelled = _checked(predictions)
    readings = _readings(labelled, options)
    group = _patient_of_image(labelled, patients)
    known = patients != "unknown"
    strata = _strata(group, readings[0].y_true, smallest=options.min_patients)
    units: tuple[Unit, ...] = ("image", "patient") if known else ("image",)
    samples = [
        _Sample.drawn(_rows(reading, group, unit=unit, patients_known=known), strata, options)
        for reading in readings
        for unit in units
    ]
    measures: dict[tuple[str, Unit, str | None], Measure] = {}
    curves: dict[tuple[str, Unit, str], Curve] = {}
    for sample in samples:
        # A two-way reading of one class repeats that class against the rest: the first is kept.
        for measure in sample.measures():
            measures.setdefault((measure.name, measure.unit, measure.of), measure)
        for curve in sample.curves():
            curves.setdefault((curve.kind, curve.unit, curve.of), curve)

    level = _evidence_level(patients, split_unit)
    design_effect = samples[0].design_effect() if known else None
    return Evaluation(
        classes=labelled.classes,
        options=options,
        patients=patients,
        split_unit=split_unit,
        n_images=len(labelled),
        n_patients=len(strata) if known else None,
        evidence_level=level,
        struck=_struck(labelled, level),
        headline=_headline(list(measures.values()), unit=units[-1], positive=readings[-1].of),
        measures=tuple(measures.values()),
        confusions=tuple(sample.confusion() for sample in samples),
        curves=tuple(curves.values()),
        design_effect=design_effect,
        effective_images=len(labelled) / design_effect if design_effect else None,
        notes=_notes(predictions, labelled, group, patients),
    )


# --- what is looked at ---


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """Truth and scores of each image, over all classes or as two sides of one question."""

    classes: tuple[str, ...]
    of: str | None
    y_true: Ints
    scores: Floats
    threshold: float | None


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What a metric sees: one row per image, or per patient and label."""

    unit: Unit
    reading: _Reading
    group: Ints
    y_true: Ints
    scores: Floats
    n_images: Ints
    patients_known: bool

    @property
    def y_pred(self) -> Ints:
        threshold = self.reading.threshold
        if threshold is None:
            return np.asarray(self.scores.argmax(axis=1))
        return np.asarray(self.scores[:, 1] >= threshold, dtype=np.intp)

    @property
    def independent(self) -> bool:
        """Whether every row is another patient."""
        return len(np.unique(self.group)) == len(self.group)

    @property
    def counted(self) -> str:
        return "patient" if self.patients_known else "image"

    def n_groups(self, mask: Bools) -> int:
        """Patients behind some rows; images where patients are not known."""
        return len(np.unique(self.group[mask]))


def _readings(labelled: Predictions, options: EvaluationOptions) -> list[_Reading]:
    """All classes, then the two-way reading if one was asked for."""
    classes = labelled.classes
    y_true = pd.Categorical(labelled.table["label"], categories=list(classes)).codes.astype(np.intp)
    everything = _Reading(classes=classes, of=None, y_true=y_true, scores=labelled.scores, threshold=None)
    if not options.positive:
        return [everything]
    for name in options.positive:
        if name not in classes:
            raise unknown_name("class", name, classes)
    is_positive = np.isin(classes, options.positive)
    if is_positive.all():
        raise UsageError("Every class is named as positive; leave at least one out.", code="EVL_ALL_POSITIVE")
    negative, positive = (
        " + ".join(name for name, chosen in zip(classes, is_positive, strict=True) if chosen == side)
        for side in (False, True)
    )
    score = labelled.scores[:, is_positive].sum(axis=1)
    two_way = _Reading(
        classes=(negative, positive),
        of=positive,
        y_true=is_positive[y_true].astype(np.intp),
        scores=np.column_stack([1 - score, score]),
        threshold=options.threshold,
    )
    return [everything, two_way]


def _rows(reading: _Reading, group: Ints, *, unit: Unit, patients_known: bool) -> _Rows:
    """The images themselves, or their mean for each patient and label."""
    if unit == "image":
        return _Rows(
            unit=unit,
            reading=reading,
            group=group,
            y_true=reading.y_true,
            scores=reading.scores,
            n_images=np.ones(len(group), dtype=np.intp),
            patients_known=patients_known,
        )
    n_classes = len(reading.classes)
    keys, row, n_images = np.unique(group * n_classes + reading.y_true, return_inverse=True, return_counts=True)
    summed = np.column_stack([np.bincount(row, weights=column) for column in reading.scores.T])
    return _Rows(
        unit=unit,
        reading=reading,
        group=keys // n_classes,
        y_true=keys % n_classes,
        scores=summed / n_images[:, None],
        n_images=n_images,
        patients_known=patients_known,
    )


def _strata(group: Ints, y_true: Ints, *, smallest: int) -> Ints:
    """The class each patient is drawn within: their most frequent label.

    Classes with fewer than `smallest` patients are drawn together: alone, a single patient would never vary.
    """
    n_patients, n_classes = group.max() + 1, y_true.max() + 1
    counts = np.bincount(group * n_classes + y_true, minlength=n_patients * n_classes)
    stratum = counts.reshape(n_patients, n_classes).argmax(axis=1)
    size = np.bincount(stratum)
    return np.unique(np.where(size[stratum] < smallest, -1, stratum), return_inverse=True)[1]


# --- measuring ---


def _figures(rows: _Rows, weights: Floats | None = None) -> dict[str, Floats]:
    """Every metric under one set of weights, or many; `(...)` or, for each class, `(..., K)`."""
    cm = metrics.confusion_matrix(rows.y_true, rows.y_pred, len(rows.reading.classes), weights)
    figures = {
        "accuracy": metrics.accuracy(cm),
        "majority_rate": metrics.majority_rate(cm),
        "log_loss": metrics.log_loss(rows.y_true, rows.scores, weights),
        "brier_score": metrics.brier_score(rows.y_true, rows.scores, weights),
        "recall": metrics.recall(cm),
        "precision": metrics.precision(cm),
        "f1": metrics.f1(cm),
        "row_share": metrics.row_share(cm),
    }
    # The negative side of a two-way reading is not ranked: nothing is said about it.
    ranked = [c for c in range(len(rows.reading.classes)) if rows.reading.of is None or c == 1]
    for name in ("roc_auc", "average_precision"):
        figures[name] = np.full_like(figures["recall"], np.nan)
    for c in ranked:
        areas = metrics.ranking_areas(rows.y_true == c, rows.scores[:, c], weights)
        figures["roc_auc"][..., c], figures["average_precision"][..., c] = areas
    return figures


@dataclass(frozen=True, kw_only=True)
class _Spread:
    """The interval of a figure, and how it was found."""

    low: float | None = None
    high: float | None = None
    interval: Interval = "none"
    remark: str = ""


@dataclass(frozen=True)
class _Few:
    """The smallest group that a figure rests on, and which it is."""

    count: int
    which: str


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """Rows with their figures: as they are (`point`) and under every bootstrap draw (`draws`)."""

    rows: _Rows
    point: dict[str, Floats]
    draws: dict[str, Floats]
    options: EvaluationOptions

    @classmethod
    def drawn(cls, rows: _Rows, strata: Ints, options: EvaluationOptions) -> _Sample:
        """Measure the rows, and every draw of their patients."""
        blocks = [
            _figures(rows, weights)
            for weights in metrics.bootstrap_weights(rows.group, strata, draws=options.draws, seed=options.draw_seed)
        ]
        draws = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return cls(rows=rows, point=_figures(rows), draws=draws, options=options)

    def measures(self) -> list[Measure]:
        """Every number about these rows, the overall ones first."""
        reading = self.rows.reading
        n_classes = len(reading.classes)
        if reading.of is None:
            measures = [
                *(self._overall(name) for name in ("accuracy", "majority_rate", "log_loss", "brier_score")),
                *(measure for name in MACRO_NAMES for measure in self._averages(name)),
                *(self._of_class(name, c) for c in range(n_classes) for name in MACRO_NAMES),
            ]
        else:
            measures = [
                replace(self._of_class(figure, c), name=name, of=reading.of)
                for name, (figure, c) in BINARY_NAMES.items()
            ]
        if self.rows.patients_known:
            return measures
        caution = "caution: the images are not known to be independent"
        return [replace(measure, reason=_joined(measure.reason, caution)) for measure in measures]

    def confusion(self) -> ConfusionMatrix:
        """Counts of truth against prediction, with the interval of every row share."""
        rows, share = self.rows, self.point["row_share"]
        n_classes = len(rows.reading.classes)
        counts = metrics.confusion_matrix(rows.y_true, rows.y_pred, n_classes).astype(int)
        n_groups = np.array([rows.n_groups(rows.y_true == c) for c in range(n_classes)])
        # Wilson, counting patients: for one row per patient, and where the draws of a cell show no spread.
        low, high = metrics.wilson_interval(share, n_groups[:, None], confidence=self.options.confidence)
        if not rows.independent:
            draws = self.draws["row_share"]
            spread = ~_all_equal(draws)
            drawn = metrics.percentile_interval(draws[:, spread], confidence=self.options.confidence)
            low[spread], high[spread] = drawn
        withheld = np.broadcast_to(n_groups[:, None] < self.options.min_patients, share.shape)
        return ConfusionMatrix(
            unit=rows.unit,
            of=rows.reading.of,
            classes=rows.reading.classes,
            counts=tuple(tuple(row) for row in counts.tolist()),
            share=_cells(share, withheld),
            low=_cells(low, withheld),
            high=_cells(high, withheld),
        )

    def curves(self) -> list[Curve]:
        """ROC and precision-recall points of each class that has enough patients."""
        rows = self.rows
        curves = []
        for c, name in enumerate(rows.reading.classes):
            is_negative_side = rows.reading.of is not None and c == 0
            if is_negative_side or self._fewest("roc_auc", c).count < self.options.min_patients:
                continue
            is_class, score = rows.y_true == c, rows.scores[:, c]
            points: dict[Literal["roc", "precision_recall"], tuple[Floats, Floats]] = {
                "roc": metrics.roc_curve(is_class, score),
                "precision_recall": metrics.precision_recall_curve(is_class, score),
            }
            for kind, (x, y) in points.items():
                thin_x, thin_y = metrics.thin_curve(x, y)
                curves.append(
                    Curve(
                        kind=kind,
                        unit=rows.unit,
                        of=name,
                        x=tuple(thin_x.tolist()),
                        y=tuple(thin_y.tolist()),
                        prevalence=float(is_class.mean()),
                    )
                )
        return curves

    def design_effect(self) -> float | None:
        """Variance of accuracy over that of independent rows; None where rows are so, or all alike."""
        accuracy = float(self.point["accuracy"])
        if self.rows.independent or accuracy in (0.0, 1.0):
            return None
        return float(self.draws["accuracy"].var() / (accuracy * (1 - accuracy) / len(self.rows.group)))

    def _overall(self, name: str) -> Measure:
        """A number over all rows."""
        everything = np.ones(len(self.rows.group), dtype=bool)
        fewest = _Few(self.rows.n_groups(everything), "in all")
        value = float(self.point[name])
        if name == "majority_rate":
            # A property of the test set, not of the model: there is nothing to be unsure about.
            most = int(np.bincount(self.rows.y_true).argmax())
            spread = _Spread(remark=f"always naming '{self.rows.reading.classes[most]}'")
        else:
            spread = self._spread(name, value, self.draws[name], everything)
        return self._measure(name, None, everything, value=value, fewest=fewest, spread=spread)

    def _of_class(self, name: str, c: int) -> Measure:
        """A number about one class."""
        rows, label = self.rows, self.rows.reading.classes[c]
        is_class, is_predicted = rows.y_true == c, rows.y_pred == c
        behind = {"recall": is_class, "precision": is_predicted, "f1": is_class | is_predicted}
        mask = behind.get(name, np.ones(len(is_class), dtype=bool))
        fewest, value = self._fewest(name, c), float(self.point[name][c])
        if np.isnan(value):
            spread = _Spread(remark=f"undefined: no {rows.unit} is predicted as '{label}'")
        else:
            sides = (rows.n_groups(is_class), rows.n_groups(~is_class))
            spread = self._spread(name, value, self.draws[name][:, c], mask, sides=sides)
        return self._measure(name, label, mask, value=value, fewest=fewest, spread=spread)

    def _averages(self, name: str) -> list[Measure]:
        """The mean over all classes; where one is missing also the mean over the others, by their names."""
        parts = [self._of_class(name, c) for c in range(len(self.rows.reading.classes))]
        usable = [part for part in parts if part.value is not None]
        if len(usable) == len(parts):
            return [self._average(name, parts, of=None)]
        missing = "; ".join(part.reason for part in parts if part.value is None)
        everything = np.ones(len(self.rows.group), dtype=bool)
        withheld = self._measure(
            MACRO_NAMES[name],
            None,
            everything,
            value=np.nan,
            fewest=_Few(self.rows.n_groups(everything), "in all"),
            spread=_Spread(remark=f"needs every class, but: {missing}"),
        )
        if len(usable) < 2:
            return [withheld]
        return [withheld, self._average(name, usable, of=" + ".join(str(part.of) for part in usable))]

    def _average(self, name: str, parts: list[Measure], *, of: str | None) -> Measure:
        """The mean of some of the classes."""
        chosen = [self.rows.reading.classes.index(str(part.of)) for part in parts]
        draws = self.draws[name][:, chosen].mean(axis=1)
        if _all_equal(draws) or all(part.interval == "wilson" for part in parts):
            spread = _combined(parts, independent=name in PROPORTIONS)
        else:
            spread = self._resampled(draws)
        return self._measure(
            MACRO_NAMES[name],
            of,
            np.isin(self.rows.y_true, chosen),
            value=float(self.point[name][chosen].mean()),
            fewest=min((self._fewest(name, c) for c in chosen), key=lambda few: few.count),
            spread=spread,
        )

    def _measure(
        self, name: str, of: str | None, mask: Bools, *, value: float, fewest: _Few, spread: _Spread
    ) -> Measure:
        """Put a number together, or withhold it; cautions go along."""
        rows, options = self.rows, self.options
        counted = f"only {_plural(fewest.count, rows.counted)} {fewest.which}"
        reasons = [spread.remark]
        if fewest.count < options.min_patients:
            reasons = [f"{counted}; {options.min_patients} are needed"]
            value, spread = np.nan, _Spread()
        elif fewest.count < options.caution_patients:
            reasons.append(f"caution: {counted}")
        return Measure(
            name=name,
            unit=rows.unit,
            of=of,
            value=None if np.isnan(value) else value,
            low=spread.low,
            high=spread.high,
            n_images=int(rows.n_images[mask].sum()),
            n_patients=rows.n_groups(mask) if rows.patients_known else None,
            interval=spread.interval,
            reason=_joined(*reasons),
            confidence=options.confidence,
        )

    def _fewest(self, name: str, c: int) -> _Few:
        """The smaller of the two groups that a figure of a class compares; a recall looks at one only."""
        rows, label = self.rows, self.rows.reading.classes[c]
        inside = _Few(rows.n_groups(rows.y_true == c), f"with the label '{label}'")
        outside = _Few(rows.n_groups(rows.y_true != c), f"without the label '{label}'")
        return inside if name == "recall" or inside.count <= outside.count else outside

    def _spread(
        self, name: str, value: float, draws: Floats, mask: Bools, *, sides: tuple[int, int] = (0, 0)
    ) -> _Spread:
        """The interval of a figure.

        Resampling shows no spread where all is right or all is wrong. There a formula takes over, and counts
        patients: where all their images agree, they tell no more than one.
        """
        rows, confidence = self.rows, self.options.confidence
        if name in PROPORTIONS and rows.independent:
            return _wilson(value, int(mask.sum()), confidence)
        if not _all_equal(draws):
            return self._resampled(draws)
        if name in PROPORTIONS:
            return _wilson(value, rows.n_groups(mask), confidence)
        if name == "f1":
            # F1 = 2q / (1 + q), q being the share of rows true or predicted as the class that are both.
            q = value / (2 - value)
            low, high = metrics.wilson_interval(q, rows.n_groups(mask), confidence=confidence)
            return _Spread(low=float(2 * low / (1 + low)), high=float(2 * high / (1 + high)), interval="wilson")
        if name == "roc_auc":
            auc_low, auc_high = metrics.auc_interval(value, *sides, confidence=confidence)
            return _Spread(low=auc_low, high=auc_high, interval="newcombe")
        return _Spread(remark="no interval: every draw gave the same value")

    def _resampled(self, draws: Floats) -> _Spread:
        low, high = metrics.percentile_interval(draws, confidence=self.options.confidence)
        undefined = int(np.isnan(draws).sum())
        remark = f"caution: undefined in {undefined} of {len(draws)} draws" if undefined else ""
        return _Spread(low=float(low), high=float(high), interval="bootstrap", remark=remark)


def _wilson(value: float, n: int, confidence: float) -> _Spread:
    low, high = metrics.wilson_interval(value, n, confidence=confidence)
    return _Spread(low=float(low), high=float(high), interval="wilson")


def _combined(parts: list[Measure], *, independent: bool) -> _Spread:
    """Interval of the mean of some figures from their own intervals."""
    low, value, high = (
        np.array([getattr(part, end) for part in parts], dtype=np.float64) for end in ("low", "value", "high")
    )
    if np.isnan(low).any():
        return _Spread(remark="no interval: every draw gave the same value")
    if independent:
        mean_low, mean_high = metrics.mean_interval(value, low, high)
    else:
        # The figures share rows: as if they rose and fell together, the widest that their mean can be.
        mean_low, mean_high = float(low.mean()), float(high.mean())
    return _Spread(low=mean_low, high=mean_high, interval=parts[0].interval)


def _all_equal(draws: Floats) -> npt.NDArray[np.bool_]:
    """Whether the draws, along the first axis, show no spread."""
    low = np.min(draws, axis=0, initial=np.inf, where=~np.isnan(draws))
    high = np.max(draws, axis=0, initial=-np.inf, where=~np.isnan(draws))
    return np.asarray(high - low < 1e-12)


# --- what it is worth ---


def _evidence_level(patients: PatientSource, split_unit: Unit) -> int:
    if patients == "unknown":
        return 0
    return 2 if split_unit == "patient" or patients == "declared" else 1


def _struck(labelled: Predictions, level: int) -> str | None:
    """Why no number may stand; None when they may."""
    trained_on = int((labelled.table["split"] == "train").sum())
    if trained_on:
        return f"{_plural(trained_on, 'image')} of {len(labelled)} trained the model: it may know them by heart."
    return STRUCK.get(level)


def _headline(measures: list[Measure], *, unit: Unit, positive: str | None) -> Measure:
    """The number to print large; see `Evaluation.headline`."""
    name, of = ("balanced_accuracy", None) if positive is None else ("roc_auc", positive)
    named = [measure for measure in measures if (measure.name, measure.unit) == (name, unit)]
    whole = next(measure for measure in named if measure.of == of)
    if whole.value is not None or positive is not None:
        return whole
    return next((measure for measure in named if measure.value is not None), whole)


def _notes(predictions: Predictions, labelled: Predictions, group: Ints, patients: PatientSource) -> tuple[str, ...]:
    """What a reader should know about the rows and the patients."""
    notes = {
        "documented": "",
        "recovered": "Patients were recovered from the pixels; no document names them.",
        "declared": "It was declared that every image is of another patient; no document says so.",
        "unknown": "Patients are not known: intervals take images as independent, and can be too narrow.",
    }
    unlabelled = len(predictions) - len(labelled)
    choosing = int((labelled.table["split"] == "validation").sum())
    twice = int((labelled.table["label"].groupby(group).nunique() > 1).sum())
    return tuple(
        note
        for note, holds in (
            (notes[patients], True),
            (f"{_plural(unlabelled, 'image')} without a label left out.", unlabelled),
            (
                f"{_plural(choosing, 'image')} of the validation split, by which the model was chosen.",
                choosing,
            ),
            (
                f"{_plural(twice, 'patient')} with images under two labels or more: "
                "one row for each label, drawn together as one patient.",
                twice,
            ),
        )
        if note and holds
    )


# --- the door ---


def _checked(predictions: Predictions) -> Predictions:
    """The labelled rows, when labels and scores are what `Predictions` promises."""
    labelled = predictions.labelled()
    if not len(labelled):
        raise DataError("No image has a label: there is no truth to measure against.", code="EVL_NO_LABELS")
    label = labelled.table["label"]
    unknown = label[~label.isin(predictions.classes)]
    if len(unknown):
        raise DataError(
            f"{_plural(len(unknown), 'image')} with a label that the model does not know, first "
            f"'{unknown.iloc[0]}'. Known: {', '.join(predictions.classes)}. Rename it, or leave them out.",
            code="EVL_UNKNOWN_LABEL",
        )
    scores, shape = labelled.scores, (len(labelled), len(predictions.classes))
    if scores.shape != shape:
        raise DataError(f"The scores are {scores.shape}, but there are {shape} (images, classes).", code="EVL_SCORES")
    bad = ~(np.isfinite(scores).all(axis=1) & (scores >= 0).all(axis=1))
    bad |= ~np.isclose(scores.sum(axis=1), 1, rtol=0, atol=SCORE_SUM_TOLERANCE)
    if bad.any():
        raise DataError(
            f"The scores of {_plural(int(bad.sum()), 'image')} are not a probability distribution, first row "
            f"{int(bad.argmax())}. Give softmax scores that are 0 or more and sum to 1.",
            code="EVL_SCORES",
        )
    return labelled


def _patient_of_image(labelled: Predictions, patients: PatientSource) -> Ints:
    """Index of each image's patient, 0 to n - 1 by rising id; its own row where it has none."""
    ids = labelled.table["patient_id"]
    if patients in ("documented", "recovered"):
        if ids.isna().any():
            raise DataError(
                f"{_plural(int(ids.isna().sum()), 'image')} of {len(ids)} without a patient id, though the "
                f"patients are {patients}. Fill the ids in, or evaluate with patients='unknown'.",
                code="EVL_NO_PATIENT_ID",
            )
        return np.unique(ids.astype(str), return_inverse=True)[1]
    repeated = ids[ids.notna() & ids.duplicated()]
    if patients == "declared" and len(repeated):
        raise DataError(
            f"Patient {repeated.iloc[0]} has several images, but one image per patient was declared. "
            "Use the patient ids of the table.",
            code="EVL_NOT_ONE_EACH",
        )
    return np.arange(len(ids))


# --- words ---


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def _cells(values: Floats, withheld: Bools) -> Cells:
    """Nested tuples for JSON; None where a number is withheld or undefined."""
    hidden = withheld | np.isnan(values)
    return tuple(
        tuple(None if gone else value for value, gone in zip(*row, strict=True))
        for row in zip(values.tolist(), hidden.tolist(), strict=True)
    )
