"""Images or patients as rows, resampled by patient: every figure with the spread of its draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm import metrics
from plainfilm.errors import UsageError, unknown_name
from plainfilm.measures import Cells, ConfusionMatrix, Curve, EvaluationOptions, Interval, Measure, Unit, plural
from plainfilm.metrics import Bools, Floats, Ints
from plainfilm.prediction import Predictions

# The average of a figure over the classes, and the name it goes by.
MACRO_NAMES = {
    "recall": "balanced_accuracy",
    "precision": "macro_precision",
    "f1": "macro_f1",
    "roc_auc": "macro_roc_auc",
    "average_precision": "macro_average_precision",
}

UNKNOWN_PATIENTS = "caution: the images are not known to be independent"

# Shares of rows: one row per patient makes them binomial.
PROPORTIONS = ("accuracy", "recall", "precision")

# Means of what a row loses: skewed, and without an upper end.
LOSSES = ("log_loss", "brier_score")

# The figures of a two-way reading are those of its two classes (0 negative, 1 positive) under other names.
BINARY_NAMES = {
    "sensitivity": ("recall", 1),
    "specificity": ("recall", 0),
    "ppv": ("precision", 1),
    "npv": ("precision", 0),
    "roc_auc": ("roc_auc", 1),
    "average_precision": ("average_precision", 1),
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Truth and scores of each image, over all classes or as two sides of one question."""

    classes: tuple[str, ...]
    of: str | None
    y_true: Ints
    scores: Floats
    threshold: float | Floats | None  # `(n_rows,)` where each row has its own


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a metric sees: one row per image, or per patient and label."""

    unit: Unit
    reading: Reading
    group: Ints
    y_true: Ints
    scores: Floats
    n_images: Ints
    patients_known: bool

    @property
    def y_pred(self) -> Ints:
        """What each row is called: the highest score, or positive from the threshold on."""
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
        """What the counts are of."""
        return "patient" if self.patients_known else "image"

    def n_groups(self, mask: Bools) -> int:
        """Patients behind some rows; images where patients are not known."""
        return len(np.unique(self.group[mask]))


def readings_of(labelled: Predictions, options: EvaluationOptions) -> list[Reading]:
    """All classes, then the two-way reading if one was asked for."""
    classes = labelled.classes
    y_true = pd.Categorical(labelled.table["label"], categories=list(classes)).codes.astype(np.intp)
    everything = Reading(classes=classes, of=None, y_true=y_true, scores=labelled.scores, threshold=None)
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
    two_way = Reading(
        classes=(negative, positive),
        of=positive,
        y_true=is_positive[y_true].astype(np.intp),
        scores=np.column_stack([1 - score, score]),
        threshold=options.threshold,
    )
    return [everything, two_way]


def rows_of(reading: Reading, group: Ints, *, unit: Unit, patients_known: bool) -> Rows:
    """The images themselves, or their mean for each patient and label."""
    if unit == "image":
        return Rows(
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
    return Rows(
        unit=unit,
        reading=reading,
        group=keys // n_classes,
        y_true=keys % n_classes,
        scores=summed / n_images[:, None],
        n_images=n_images,
        patients_known=patients_known,
    )


def strata_of(group: Ints, y_true: Ints, *, smallest: int) -> Ints:
    """The class each patient is drawn within: their most frequent label.

    Classes with fewer than `smallest` patients are drawn together: alone, a single patient would never vary.
    """
    n_patients, n_classes = group.max() + 1, y_true.max() + 1
    counts = np.bincount(group * n_classes + y_true, minlength=n_patients * n_classes)
    stratum = counts.reshape(n_patients, n_classes).argmax(axis=1)
    size = np.bincount(stratum)
    return np.unique(np.where(size[stratum] < smallest, -1, stratum), return_inverse=True)[1]


def figures_of(rows: Rows, weights: Floats | None = None) -> dict[str, Floats]:
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
class Sample:
    """Rows with their figures: as they are (`point`) and under every bootstrap draw (`draws`)."""

    rows: Rows
    point: dict[str, Floats]
    draws: dict[str, Floats]
    options: EvaluationOptions

    @classmethod
    def drawn(cls, rows: Rows, strata: Ints, options: EvaluationOptions) -> Sample:
        """Measure the rows, and every draw of their patients."""
        blocks = [
            figures_of(rows, weights)
            for weights in metrics.bootstrap_weights(rows.group, strata, draws=options.draws, seed=options.draw_seed)
        ]
        draws = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return cls(rows=rows, point=figures_of(rows), draws=draws, options=options)

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
        return [replace(measure, reason=joined(measure.reason, UNKNOWN_PATIENTS)) for measure in measures]

    def pick(self, measure: Measure, figures: dict[str, Floats]) -> Floats:
        """The figure that a measure of this sample is about, out of all figures of the same rows, `(...)`."""
        names = self.rows.reading.classes
        if measure.name in BINARY_NAMES and measure.of == self.rows.reading.of:
            name, c = BINARY_NAMES[measure.name]
            return figures[name][..., c]
        for name, macro in MACRO_NAMES.items():
            if measure.name == macro:
                usable = [c for c in range(len(names)) if self._of_class(name, c).value is not None]
                return np.asarray(figures[name][..., range(len(names)) if measure.of is None else usable].mean(axis=-1))
        figure = figures[measure.name]
        return figure if measure.of is None else figure[..., names.index(measure.of)]

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
            area = float(self.point[name][chosen].mean()) if name == "roc_auc" else None
            spread = self._resampled(draws, np.isin(self.rows.y_true, chosen), area=area)
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
        counted = f"only {plural(fewest.count, rows.counted)} {fewest.which}"
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
            reason=joined(*reasons),
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
            area, loss = (value if name in those else None for those in (("roc_auc",), LOSSES))
            return self._resampled(draws, mask, area=area, loss=loss)
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

    def _resampled(
        self, draws: Floats, mask: Bools, *, area: float | None = None, loss: float | None = None
    ) -> _Spread:
        """From the draws: their percentiles; of an area or a loss their spread, of log odds or of logarithms."""
        freedom = self.rows.n_groups(mask) - len(np.unique(self.rows.y_true[mask]))
        confidence = metrics.expanded(self.options.confidence, freedom)
        if area is not None and 0 < area < 1:
            low, high = metrics.logit_interval(area, draws, confidence=confidence)
        elif loss:
            low, high = metrics.log_interval(loss, draws, confidence=confidence)
        else:
            low, high = (float(end) for end in metrics.percentile_interval(draws, confidence=confidence))
        undefined = int(np.isnan(draws).sum())
        remark = f"caution: undefined in {undefined} of {len(draws)} draws" if undefined else ""
        return _Spread(low=low, high=high, interval="bootstrap", remark=remark)


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


def joined(*reasons: str) -> str:
    """Reasons and cautions as one text."""
    return "; ".join(filter(None, reasons))


def _cells(values: Floats, withheld: Bools) -> Cells:
    """Nested tuples for JSON; None where a number is withheld or undefined."""
    hidden = withheld | np.isnan(values)
    return tuple(
        tuple(None if gone else value for value, gone in zip(*row, strict=True))
        for row in zip(values.tolist(), hidden.tolist(), strict=True)
    )
