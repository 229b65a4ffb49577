"""Curves, matrices, intervals and contact sheets of one model's results."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from plainfilm.measures import Measure
from plainfilm.metrics import row_share
from plainfilm.plots.drawing import (
    DASHES,
    FULL_WIDTH,
    GRID,
    HALF_WIDTH,
    INK,
    MUTED,
    SERIES,
    Array,
    Drawing,
    bare,
    finished,
    house_style,
    readable,
)

CELL = (1.25, 1.6)  # inches, width and height of a picture with its caption on a contact sheet
PICTURE = 1.18  # of them, the longer side of the picture


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a ROC or precision-recall plot.

    Attributes:
        name: The class it is about.
        x: False positive rate, or recall; 0 to 1.
        y: True positive rate, or precision; 0 to 1.
        area: The area under it with its interval; None where it was not computed.
        prevalence: Share of the class: the precision of a guess. Used by precision-recall plots only.
    """

    name: str
    x: Sequence[float] | Array
    y: Sequence[float] | Array
    area: Measure | None = None
    prevalence: float | None = None


def training_plot(history: pd.DataFrame, *, chosen_epoch: int | None = None) -> Drawing:
    """Loss, accuracy and absolute error by epoch, training beside validation, with the learning rate below.

    The last drawing is kept: a run shows the same curves as a file of their own and in its report.

    Args:
        history: One row per epoch: `epoch`, and any of `train_loss`, `validation_loss`, `train_accuracy`,
            `validation_accuracy`, `train_mae`, `validation_mae`, `learning_rate`. Missing values are gaps in the line.
        chosen_epoch: The epoch whose weights were kept; marked.
    """
    key = (history.to_csv(index=False), chosen_epoch)
    drawing = _last_training.get(key)
    if drawing is None:
        drawing = _draw_training(history, chosen_epoch)
        _last_training.clear()
        _last_training[key] = drawing
    return drawing


_last_training: dict[tuple[str, int | None], Drawing] = {}


def _draw_training(history: pd.DataFrame, chosen_epoch: int | None) -> Drawing:
    known = {name: (f"train_{name}", f"validation_{name}") for name in ("loss", "accuracy", "mae")}
    metrics = [name for name, columns in known.items() if _has_any(history, *columns)]
    with_rate = _has_any(history, "learning_rate")
    columns = max(len(metrics), 1)
    with house_style():
        height = 3.5 if with_rate else 2.9
        figure = Figure(figsize=(FULL_WIDTH, height))
        ratios = [4.2, 1] if with_rate else [1]
        axes = figure.subplots(len(ratios), columns, squeeze=False, sharex=True, height_ratios=ratios)
        # Room for numbers of at most six signs, given in inches: to find it out takes as long as to draw.
        beside = 0.74
        width = (FULL_WIDTH - 0.08) / columns - beside
        figure.subplots_adjust(
            left=beside / FULL_WIDTH, right=1 - 0.08 / FULL_WIDTH, bottom=0.46 / height, top=1 - 0.3 / height,
            wspace=beside / width, hspace=0.1,
        )  # fmt: skip
        for ax, name in zip(axes[0], metrics, strict=False):
            _epoch_lines(ax, history, name, chosen_epoch)
        if with_rate:
            for ax in axes[1]:
                _learning_rate(ax, history)
        for ax in axes[-1]:
            ax.set_xlabel("Epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    kept = f"; the weights of epoch {chosen_epoch} were kept" if chosen_epoch is not None else ""
    what = " and ".join(metrics) or "nothing recorded"
    return finished(figure, f"Training and validation {what} over {len(history)} epochs{kept}.")


def confusion_plot(counts: Sequence[Sequence[int]] | Array, classes: Sequence[str]) -> Drawing:
    """Counts and row shares of a confusion matrix: truth on the rows, prediction on the columns.

    Args:
        counts: `(n_classes, n_classes)`; `counts[i, j]` of class i were called class j.
        classes: Names in the order of the rows.
    """
    matrix = np.asarray(counts, dtype=np.int64)
    names = [readable(name, limit=24) for name in classes]
    shares = np.nan_to_num(row_share(matrix.astype(np.float64)))
    side = min(max(2.6, 0.85 * len(names) + 1.4), FULL_WIDTH)
    with house_style():
        figure = Figure(figsize=(side, side * 0.86), layout="constrained")
        ax = figure.subplots()
        for row, column in np.ndindex(matrix.shape):
            _shaded_cell(ax, row, column, share=float(shares[row, column]))
            if len(names) <= 12:  # more would not be legible
                _cell_text(ax, row, column, count=int(matrix[row, column]), share=float(shares[row, column]))
        ax.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
        rotation, ha = (35, "right") if max(map(len, names), default=0) > 10 else (0, "center")
        ax.set_xticks(range(len(names)), names, rotation=rotation, ha=ha)
        ax.set_yticks(range(len(names)), names)
        ax.set(xlabel="Predicted", ylabel="Truth")
        bare(ax)
    right = int(np.trace(matrix))
    return finished(figure, f"Confusion matrix of {len(names)} classes: {right} of {int(matrix.sum())} right.")


def roc_plot(curves: Sequence[Curve]) -> Drawing:
    """True positive rate against false positive rate, one line per class; the diagonal is guessing."""
    with house_style():
        figure, ax = _unit_square("False positive rate", "True positive rate")
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        _draw_curves(ax, curves)
        _legend_below(figure, ax)
    return finished(figure, f"ROC curves. {_areas_in_words(curves)}")


def precision_recall_plot(curves: Sequence[Curve]) -> Drawing:
    """Precision against recall, one line per class; a tick at the right edge is the precision of a guess."""
    with house_style():
        figure, ax = _unit_square("Recall (sensitivity)", "Precision (PPV)")
        for curve, color, _ in _styled(curves):
            if curve.prevalence is not None:
                ax.plot([0.96, 1.02], [curve.prevalence] * 2, color=color, linewidth=1.2, clip_on=False)
        # Steps, since a straight line between two thresholds promises a precision that none of them gives.
        _draw_curves(ax, [_best_at_each_recall(curve) for curve in curves], drawstyle="steps-pre")
        _legend_below(figure, ax)
    return finished(figure, f"Precision-recall curves. {_areas_in_words(curves)}")


def reliability_plot(
    predicted: Sequence[float] | Array,
    observed: Sequence[float] | Array,
    *,
    low: Sequence[float] | Array,
    high: Sequence[float] | Array,
) -> Drawing:
    """How often the model was right where it claimed a given certainty; on the diagonal it can be believed.

    Args:
        predicted: Mean score in each bin, 0 to 1.
        observed: Share that was right in each bin, 0 to 1.
        low: Lower end of the interval of `observed`.
        high: Upper end.
    """
    x, y = np.asarray(predicted, dtype=float), np.asarray(observed, dtype=float)
    with house_style():
        figure, ax = _unit_square("Score of the model", "Share that was right")
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        ax.vlines(x, np.asarray(low), np.asarray(high), color=SERIES[0], linewidth=1.2)
        ax.plot(x, y, color=SERIES[0], marker="o", markersize=4.5)
    gap = float(np.abs(x - y).max()) if len(x) else 0.0
    return finished(figure, f"Reliability diagram of {len(x)} bins; the largest gap is {100 * gap:.0f} points.")


def interval_plot(measures: Sequence[Measure]) -> Drawing:
    """A panel for each kind of measure, a row for each class: the value as a dot, its interval as a line.

    Args:
        measures: Of one unit. Panels and rows stand in the order of first appearance; a withheld value is
            said to be so.
    """
    kinds = list(dict.fromkeys(measure.name for measure in measures))
    subjects = list(dict.fromkeys(measure.of or "all" for measure in measures))
    names = [readable(subject, limit=24) for subject in subjects]
    with house_style():
        figure = Figure(figsize=(FULL_WIDTH, 0.85 + 0.3 * len(subjects)), layout="constrained")
        axes = figure.subplots(1, max(len(kinds), 1), squeeze=False, sharey=True)[0]
        for ax, kind in zip(axes, kinds, strict=False):
            for measure in measures:
                if measure.name == kind:
                    _interval(ax, subjects.index(measure.of or "all"), measure)
            ax.set(xlim=(-0.03, 1.03), ylim=(len(subjects) - 0.5, -0.5))
            ax.set_title(title_of(kind), fontsize=9, loc="left")
            ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            ax.tick_params(length=0)
            ax.grid(axis="y", visible=False)
            ax.spines["left"].set_visible(False)
        axes[0].set_yticks(range(len(names)), names)
    listed = ", ".join(title_of(kind).lower() for kind in kinds)
    return finished(figure, f"Values with 95 % intervals for {len(subjects)} classes: {listed}.")


def contact_sheet(images: Sequence[Array], captions: Sequence[str], *, columns: int = 6) -> Drawing:
    """Small pictures in rows, each with a line below.

    Args:
        images: `(height, width)` arrays, any size and depth; each is shown over its own range.
        captions: One for each image.
        columns: Pictures in a row.
    """
    rows = max(1, math.ceil(len(images) / columns))
    with house_style():
        figure = Figure(figsize=(CELL[0] * columns, CELL[1] * rows))
        # One pair of axes, in inches, for all: a pair for each picture takes longer than drawing the pictures.
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, CELL[0] * columns), ylim=(CELL[1] * rows, 0), autoscale_on=False)
        ax.set_axis_off()
        for place, (image, caption) in enumerate(zip(images, captions, strict=False)):
            row, column = divmod(place, columns)
            tall, wide = (PICTURE * side / max(image.shape) for side in image.shape)
            left, top = CELL[0] * (column + 0.5) - wide / 2, CELL[1] * row + 0.03 + (PICTURE - tall) / 2
            box = (left, left + wide, top + tall, top)
            grey = to_eight_bits(image)
            ax.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="antialiased", aspect="auto", extent=box)
            # Two short lines: one that is wider than its picture would shrink all pictures.
            label = "\n".join(textwrap.wrap(readable(caption, limit=34), 19, max_lines=2, placeholder="..."))
            ax.text(left + wide / 2, top + tall + 0.04, label, ha="center", va="top", fontsize=6.5)
    return finished(figure, f"Contact sheet of {min(len(images), len(captions))} images.")


def thumbnail_png(image: Array, *, side: int = 160) -> bytes:
    """A grey image as a small PNG, its longer side at most `side` pixels; never enlarged."""
    picture = Image.fromarray(to_eight_bits(image))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=None)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def to_eight_bits(image: Array) -> npt.NDArray[np.uint8]:
    """A grey image for the screen: 8-bit as it is, any other depth stretched from its 0.5 to 99.5 percentile.

    For looking at only: a model never sees this.
    """
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    values = np.asarray(image, dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (0.0, 1.0)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-12)
    return (255 * np.clip(scaled, 0, 1)).round().astype(np.uint8)


def title_of(name: str) -> str:
    """A measure's name as a heading: `roc_auc` is "ROC AUC"."""
    spoken = {"roc": "ROC", "auc": "AUC", "f1": "F1", "ppv": "PPV", "npv": "NPV"}
    first, *rest = (spoken.get(word, word) for word in name.split("_"))
    return " ".join([first[:1].upper() + first[1:], *rest])


def _has_any(history: pd.DataFrame, *columns: str) -> bool:
    return any(column in history and history[column].notna().any() for column in columns)


def _epoch_lines(ax: Axes, history: pd.DataFrame, name: str, chosen_epoch: int | None) -> None:
    marker = "o" if len(history) <= 12 else "none"
    for split, label, color, dash in (
        ("train", "Training", SERIES[0], DASHES[0]),
        ("validation", "Validation", SERIES[1], DASHES[1]),
    ):
        if _has_any(history, f"{split}_{name}"):
            values = history[f"{split}_{name}"].astype(float)
            (line,) = ax.plot(history["epoch"], values, color=color, linestyle=dash, label=label)
            line.set(marker=marker, markersize=3.5)
    if chosen_epoch is not None:
        kept = ax.axvline(chosen_epoch, color=MUTED, linewidth=0.9, linestyle=(0, (1, 1.5)))
        kept.set_label(f"Kept: {chosen_epoch}")
    if name == "accuracy":
        ax.set_ylim(top=1.02)
    else:
        ax.set_ylim(bottom=0)
    ax.set_title({"mae": "Mean absolute error"}.get(name, name.capitalize()), fontsize=9.5, loc="left")
    ax.legend(loc="best")


def _learning_rate(ax: Axes, history: pd.DataFrame) -> None:
    rates = history["learning_rate"].astype(float)
    ax.plot(history["epoch"], rates, color=INK, linewidth=1.1, drawstyle="steps-mid")
    positive = rates[rates > 0]
    if len(positive) and positive.max() >= 5 * positive.min():
        ax.set_yscale("log")
    ax.set_ylabel("Rate", fontsize=8)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    ax.tick_params(labelsize=7.5)


def _shaded_cell(ax: Axes, row: int, column: int, *, share: float) -> None:
    color = SERIES[0] if row == column else SERIES[1]
    corner = (column - 0.48, row - 0.48)
    # Opacity, not a paler colour: the cell then suits a light page and a dark one.
    ax.add_patch(Rectangle(corner, 0.96, 0.96, facecolor=color, alpha=share, linewidth=0))
    ax.add_patch(Rectangle(corner, 0.96, 0.96, fill=False, edgecolor=GRID, linewidth=0.6))


def _cell_text(ax: Axes, row: int, column: int, *, count: int, share: float) -> None:
    ink = "#ffffff" if share > 0.6 else INK
    ax.text(column, row - 0.1, f"{count:,}", ha="center", va="center", color=ink, fontsize=10)
    ax.text(column, row + 0.24, f"{100 * share:.0f} %", ha="center", va="center", color=ink, fontsize=7.5)


def _unit_square(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(HALF_WIDTH, HALF_WIDTH), layout="constrained")
    ax = figure.subplots()
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=xlabel, ylabel=ylabel)
    ax.set_aspect("equal")
    ticks = np.linspace(0, 1, 6)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks.round(1)])
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks.round(1)])
    return figure, ax


def _styled(curves: Sequence[Curve]) -> Iterator[tuple[Curve, str, Any]]:
    for number, curve in enumerate(curves):
        yield curve, SERIES[number % len(SERIES)], DASHES[(number // len(SERIES)) % len(DASHES)]


def _draw_curves(ax: Axes, curves: Sequence[Curve], *, drawstyle: str = "default") -> None:
    for curve, color, dash in _styled(curves):
        (line,) = ax.plot(np.asarray(curve.x), np.asarray(curve.y), color=color, drawstyle=drawstyle)
        line.set(linestyle=dash, label=_legend_line(curve))


def _best_at_each_recall(curve: Curve) -> Curve:
    """Without the thresholds that cost precision and find nobody new: they would be drawn as spikes."""
    best: dict[float, float] = {}
    for recall, precision in zip(curve.x, curve.y, strict=True):
        best[recall] = max(precision, best.get(recall, 0))
    return replace(curve, x=tuple(best), y=tuple(best.values()))


def _legend_line(curve: Curve) -> str:
    name = readable(curve.name, limit=24)
    if curve.area is None or curve.area.value is None:
        return name
    return f"{name}  {_with_interval(curve.area)}"


def _with_interval(measure: Measure) -> str:
    value = f"{measure.value:.3f}"
    if measure.low is None or measure.high is None:
        return value
    return f"{value} ({measure.low:.3f}-{measure.high:.3f})"


def _legend_below(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        return
    # Below the square, which would otherwise shrink or be covered; taller by a line for each class.
    figure.set_size_inches(HALF_WIDTH, HALF_WIDTH + 0.19 * len(labels) + 0.1)
    ax.legend(handles, labels, loc="upper left", bbox_to_anchor=(-0.02, -0.16), borderaxespad=0)


def _areas_in_words(curves: Sequence[Curve]) -> str:
    areas = [
        f"{readable(curve.name, limit=40)} {_with_interval(curve.area)}"
        for curve in curves
        if curve.area is not None and curve.area.value is not None
    ]
    return f"Area under the curve: {'; '.join(areas)}." if areas else f"{len(curves)} classes."


def _interval(ax: Axes, row: int, measure: Measure) -> None:
    if measure.value is None:
        ax.text(0.5, row, "withheld", ha="center", va="center", fontsize=8, color=MUTED, style="italic")
        return
    if measure.low is not None and measure.high is not None:
        ax.plot([measure.low, measure.high], [row, row], color=SERIES[0], linewidth=2.2, solid_capstyle="butt")
    ax.plot([measure.value], [row], color=SERIES[0], marker="o", markersize=5.5, markeredgecolor="none")
