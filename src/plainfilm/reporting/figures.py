"""The numbers of an `Evaluation`, arranged as the page shows them: headline, tables, matrices, curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plainfilm import plots
from plainfilm.measures import ConfusionMatrix, Evaluation, Measure, Unit
from plainfilm.reporting.content import ReportData, SplitCount
from plainfilm.reporting.sentences import reached_level
from plainfilm.reporting.words import EVIDENCE

CLASS_FIGURES = ("recall", "precision", "f1", "roc_auc", "average_precision")
CALIBRATION_FIGURES = ("calibration_slope", "calibration_error", "calibration_intercept")
DRAWN_FIGURES = CLASS_FIGURES[:4]
TWO_WAY_FIGURES = ("sensitivity", "specificity", "ppv", "npv", "roc_auc", "average_precision")
MATRIX_CLASSES = 14  # a larger matrix does not fit a page
DRAWN_CLASSES = 40
DRAWN_CURVES = 10
MIXED_UP = 20
SPLIT_ORDER = ("train", "validation", "calibration", "test", "external")


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The number in large type, with positions in percent for the little scale below it."""

    title: str
    value: str | None
    low: str | None
    high: str | None
    confidence: str
    left: str
    width: str
    at: str
    guess: str | None
    guess_words: str
    counts: str
    reason: str
    struck: str | None


@dataclass(frozen=True)
class Level:
    """One rung of the evidence ladder."""

    number: int
    name: str
    meaning: str
    reached: bool


@dataclass(frozen=True)
class Cell:
    """One cell of a confusion matrix; `kind` holds its CSS classes."""

    count: int
    share: float | None
    kind: str


@dataclass(frozen=True)
class MatrixRow:
    """One true class."""

    name: str
    cells: tuple[Cell, ...]
    total: int


@dataclass(frozen=True)
class MixUp:
    """One kind of mistake."""

    truth: str
    predicted: str
    count: int
    share: float | None


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix, or for many classes only the most frequent mistakes (`rows` is then empty)."""

    caption: str
    names: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    mixed_up: tuple[MixUp, ...]


@dataclass(frozen=True)
class Remark:
    """A caution, and what it is about."""

    subjects: str
    reason: str


@dataclass(frozen=True)
class Row:
    """One row of a table of figures; None where there is no such figure."""

    name: str
    of: str | None
    support: str
    measures: tuple[Measure | None, ...]


@dataclass(frozen=True)
class Table:
    """A table of figures with the cautions below it."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    remarks: tuple[Remark, ...]


@dataclass(frozen=True)
class TwoWay:
    """The reading as positive or negative."""

    positive: str
    unit: Unit
    matrix: Matrix
    table: Table


@dataclass(frozen=True)
class SplitRow:
    """Counts of one class, or of all, in each split and together."""

    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class SplitTable:
    """Images (and patients) by class and split."""

    names: tuple[str, ...]
    rows: tuple[SplitRow, ...]
    total: SplitRow
    with_patients: bool


def headline(report: ReportData) -> Headline:
    """The number to print large, what guessing would give, and whether it may stand."""
    evaluation = report.evaluation
    measure = evaluation.headline
    guess, guess_words = _guessing(measure, evaluation)
    value, low, high = measure.value, measure.low, measure.high
    return Headline(
        title=_headline_title(measure),
        value=None if value is None else f"{value:.3f}",
        low=None if low is None else f"{low:.3f}",
        high=None if high is None else f"{high:.3f}",
        confidence=f"{100 * measure.confidence:g} %",
        left=_percent(low or 0),
        width=_percent((high or 0) - (low or 0)),
        at=_percent(value or 0),
        guess=None if guess is None else _percent(guess),
        guess_words=guess_words,
        counts=f"On {measure.counted} of the {report.tested_on} set",
        reason=measure.reason,
        struck=evaluation.struck,
    )


def ladder(report: ReportData) -> tuple[Level, ...]:
    """All evidence levels, the reached one marked; an audit raises only what may stand."""
    reached = reached_level(report)
    return tuple(Level(number, name, meaning, number == reached) for number, (name, meaning) in enumerate(EVIDENCE))


def matrices(evaluation: Evaluation) -> tuple[Matrix, ...]:
    """The matrix of all classes, by patient first."""
    return tuple(_matrix(evaluation.confusion(unit=unit)) for unit in units(evaluation))


def class_tables(evaluation: Evaluation) -> tuple[Table, ...]:
    """A row for each class, a table for each unit."""
    return tuple(_class_table(evaluation, unit) for unit in units(evaluation))


def overall(evaluation: Evaluation) -> Table:
    """Figures over all classes, a column for each unit."""
    shown = units(evaluation)
    found = {
        (measure.name, measure.unit, measure.of): measure
        for measure in evaluation.measures
        if measure.name not in CLASS_FIGURES + TWO_WAY_FIGURES + CALIBRATION_FIGURES
    }
    keys = dict.fromkeys((name, of) for name, _, of in found)
    rows = tuple(
        Row(plots.title_of(name), of, "", tuple(found.get((name, unit, of)) for unit in shown)) for name, of in keys
    )
    cautioned = [measure for row in rows for measure in row.measures if measure]
    return Table("Over all classes", tuple(f"By {unit}" for unit in shown), rows, remarks(cautioned))


def site_table(evaluation: Evaluation) -> Table | None:
    """The main figure at each site that was held out; None where none was."""
    if not evaluation.sites:
        return None
    rows = tuple(
        Row(score.site, score.measure.of, f"{score.measure.n_patients or score.measure.n_images:,}", (score.measure,))
        for score in evaluation.sites
    )
    cautions = _once((score.site, score.measure.reason) for score in evaluation.sites)
    return Table("Site by site", (plots.title_of(evaluation.headline.name),), rows, cautions)


def two_way(evaluation: Evaluation) -> TwoWay | None:
    """The reading as positive or negative; None where no class was named positive."""
    positive = _positive(evaluation)
    if positive is None:
        return None
    unit = units(evaluation)[0]
    measures = [evaluation.measure(name, unit=unit, of=positive) for name in TWO_WAY_FIGURES]
    rows = tuple(Row(plots.title_of(measure.name), None, "", (measure,)) for measure in measures)
    matrix = _matrix(evaluation.confusion(unit=unit, of=positive))
    table = Table("Read as yes or no", (f"By {unit}",), rows, remarks(measures))
    return TwoWay(positive, unit, matrix, table)


def interval_drawing(evaluation: Evaluation) -> plots.Drawing | None:
    """The figures of each class with their intervals; None for too many classes to draw."""
    if len(evaluation.classes) > DRAWN_CLASSES:
        return None
    unit = units(evaluation)[0]
    return plots.interval_plot(
        [evaluation.measure(name, unit=unit, of=of) for name in DRAWN_FIGURES for of in evaluation.classes]
    )


def curves(evaluation: Evaluation) -> tuple[tuple[plots.Drawing, str], ...]:
    """ROC and precision-recall plots, each with its caption."""
    unit = units(evaluation)[0]
    roc, which = _curves_to_draw(evaluation, unit, kind="roc")
    precision_recall, _ = _curves_to_draw(evaluation, unit, kind="precision_recall")
    if not roc:
        return ()
    return (
        (
            plots.roc_plot(roc),
            f"ROC curves by {unit}, {which}, with the area below. The dashed line is guessing.",
        ),
        (
            plots.precision_recall_plot(precision_recall),
            f"Precision-recall curves by {unit}, with average precision. A tick at the right is guessing.",
        ),
    )


def splits(counts: Sequence[SplitCount], *, by_patient: bool) -> SplitTable:
    """Images and patients of each class in each split, with sums.

    Patients are added up only where none can be counted twice: never over classes, since a patient may have
    images under two labels, and over splits only where these were made by patient.
    """
    present = {count.split for count in counts}
    names = tuple(name for name in SPLIT_ORDER if name in present) + tuple(sorted(present - set(SPLIT_ORDER)))
    rows = []
    for label in dict.fromkeys(count.label for count in counts):
        own = {count.split: count for count in counts if count.label == label}
        patients = [count.n_patients for count in own.values()]
        all_patients = sum(filter(None, patients)) if by_patient and None not in patients else None
        cells = [_split_cell(own[name].n_images, own[name].n_patients) if name in own else "0" for name in names]
        cells.append(_split_cell(sum(count.n_images for count in own.values()), all_patients))
        rows.append(SplitRow(label, tuple(cells)))
    sums = [sum(count.n_images for count in counts if count.split == name) for name in names]
    total = SplitRow("All", tuple(f"{images:,}" for images in (*sums, sum(sums))))
    return SplitTable(names, tuple(rows), total, any(count.n_patients is not None for count in counts))


def units(evaluation: Evaluation) -> tuple[Unit, ...]:
    """The units to show, patients before images; one of them where every patient has one image."""
    if evaluation.n_patients == evaluation.n_images:
        return ("patient",)
    return tuple(reversed(evaluation.units))


def _headline_title(measure: Measure) -> str:
    joint = "over" if measure.name == "balanced_accuracy" else "for"
    subject = f" {joint} {plots.readable(measure.of, limit=60)}" if measure.of else ""
    return f"{plots.title_of(measure.name)}{subject}, by {measure.unit}"


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0), 1):.2f}"


def _guessing(measure: Measure, evaluation: Evaluation) -> tuple[float | None, str]:
    """What a model that knows nothing would get, and the sentence that says so."""
    if measure.name in ("roc_auc", "macro_roc_auc"):
        return 0.5, "Guessing gives 0.5"
    if measure.name == "balanced_accuracy":
        n_classes = len(measure.of.split(" + ")) if measure.of else len(evaluation.classes)
        return 1 / n_classes, f"Guessing gives {1 / n_classes:.3f}"
    return None, ""


def _matrix(confusion: ConfusionMatrix) -> Matrix:
    noun = "Patients" if confusion.unit == "patient" else "Images"
    small = len(confusion.classes) <= MATRIX_CLASSES
    return Matrix(
        caption=noun,
        names=confusion.classes,
        rows=tuple(_matrix_rows(confusion)) if small else (),
        mixed_up=() if small else _mixed_up(confusion),
    )


def _matrix_rows(confusion: ConfusionMatrix) -> Iterable[MatrixRow]:
    for row, name in enumerate(confusion.classes):
        total = confusion.support[row]
        cells = (
            _cell(count, count / total if total else 0.0, is_right=row == column)
            for column, count in enumerate(confusion.counts[row])
        )
        yield MatrixRow(name, tuple(cells), total)


def _cell(count: int, share: float, *, is_right: bool) -> Cell:
    kind = "hit" if is_right else "miss"
    return Cell(count, share, f"{kind} dark" if share > 0.6 else kind)


def _mixed_up(confusion: ConfusionMatrix) -> tuple[MixUp, ...]:
    mistakes = [
        MixUp(truth, predicted, count, count / confusion.support[row])
        for row, truth in enumerate(confusion.classes)
        for column, predicted in enumerate(confusion.classes)
        if row != column and (count := confusion.counts[row][column])
    ]
    return tuple(sorted(mistakes, key=lambda mistake: -mistake.count)[:MIXED_UP])


def _class_table(evaluation: Evaluation, unit: Unit) -> Table:
    support = evaluation.confusion(unit=unit).support
    rows = tuple(
        Row(
            of,
            None,
            f"{support[index]:,}",
            tuple(evaluation.measure(name, unit=unit, of=of) for name in CLASS_FIGURES),
        )
        for index, of in enumerate(evaluation.classes)
    )
    columns = tuple(plots.title_of(name) for name in CLASS_FIGURES)
    return Table(f"Class by class, by {unit}", columns, rows, _class_remarks(rows))


def remarks(measures: Iterable[Measure]) -> tuple[Remark, ...]:
    """Each caution once, with the figures it is about."""
    return _once((plots.title_of(measure.name), measure.reason) for measure in measures)


def _class_remarks(rows: Iterable[Row]) -> tuple[Remark, ...]:
    """Each caution once, with the classes it is about, and the figures unless it is about most of a row."""
    cautions = []
    for row in rows:
        reasons = [measure.reason for measure in row.measures if measure]
        for measure in filter(None, row.measures):
            usual = reasons.count(measure.reason) > 1
            name = plots.readable(row.name, limit=60)
            cautions.append((name if usual else f"{name}, {plots.title_of(measure.name)}", measure.reason))
    return _once(cautions)


def _once(cautions: Iterable[tuple[str, str]]) -> tuple[Remark, ...]:
    subjects: dict[str, dict[str, None]] = {}
    for subject, reason in cautions:
        if reason:
            subjects.setdefault(reason, {})[subject] = None
    return tuple(Remark("; ".join(names), reason) for reason, names in subjects.items())


def _positive(evaluation: Evaluation) -> str | None:
    """What the two-way reading is called among the measures."""
    return " + ".join(name for name in evaluation.classes if name in evaluation.options.positive) or None


def _curves_to_draw(evaluation: Evaluation, unit: Unit, *, kind: str) -> tuple[list[plots.Curve], str]:
    """The positive reading if there is one, else the classes; of many, those with the lowest area."""
    area = {"roc": "roc_auc", "precision_recall": "average_precision"}[kind]
    positive = _positive(evaluation)
    wanted = {positive} if positive else set(evaluation.classes)
    found = [
        plots.Curve(
            name=curve.of,
            x=curve.x,
            y=curve.y,
            area=evaluation.measure(area, unit=unit, of=curve.of),
            prevalence=curve.prevalence,
        )
        for curve in evaluation.curves
        if (curve.kind, curve.unit) == (kind, unit) and curve.of in wanted
    ]
    if len(found) <= DRAWN_CURVES:
        return found, "each class against the rest"
    lowest = sorted(found, key=lambda curve: _value(curve.area))[:DRAWN_CURVES]
    return lowest, f"the {DRAWN_CURVES} classes with the lowest area"


def _value(measure: Measure | None) -> float:
    return 1.0 if measure is None or measure.value is None else measure.value


def _split_cell(n_images: int, n_patients: int | None) -> str:
    return f"{n_images:,}" if n_patients is None else f"{n_images:,} ({n_patients:,})"
