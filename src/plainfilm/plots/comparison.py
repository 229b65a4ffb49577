"""Differences between models, one line each, on both sides of no difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from plainfilm.plots.drawing import FULL_WIDTH, INK, MUTED, SERIES, Drawing, finished, house_style, readable


@dataclass(frozen=True, kw_only=True)
class ForestLine:
    """One difference.

    Attributes:
        name: What it is the difference of.
        value: The difference; None where it is withheld.
        low: Lower end of its interval.
        high: Upper end.
        struck: Drawn in grey: it is not a result.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    struck: bool = False


def forest_plot(lines: Sequence[ForestLine], *, xlabel: str, margin: float | None = None) -> Drawing:
    """Each difference as a dot, its interval as a line; the upright line is no difference.

    Args:
        lines: From top to bottom.
        xlabel: What the differences are, with the side that is better.
        margin: A difference that would matter: shaded from minus it to plus it.
    """
    with house_style():
        figure = Figure(figsize=(FULL_WIDTH, 0.9 + 0.34 * len(lines)), layout="constrained")
        ax = figure.subplots()
        if margin is not None:
            ax.axvspan(-margin, margin, color=MUTED, alpha=0.12, linewidth=0)
        ax.axvline(0, color=INK, linewidth=0.9)
        for row, line in enumerate(lines):
            color = MUTED if line.struck else SERIES[0]
            if line.value is None:
                ax.text(0, row, "withheld", ha="center", va="center", fontsize=8, color=MUTED, style="italic")
                continue
            if line.low is not None and line.high is not None:
                ax.plot([line.low, line.high], [row, row], color=color, linewidth=2.2, solid_capstyle="butt")
            ax.plot([line.value], [row], color=color, marker="o", markersize=5.5, markeredgecolor="none")
        ax.set(ylim=(len(lines) - 0.5, -0.5), xlabel=xlabel)
        reach = max(abs(end) for end in ax.get_xlim())
        ax.set_xlim(-reach, reach)  # no difference stands in the middle
        names = [f"{readable(line.name, limit=48)}{' (struck)' if line.struck else ''}" for line in lines]
        ax.set_yticks(range(len(lines)), names)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
        ax.spines["left"].set_visible(False)
    away = sum(1 for line in lines if line.low is not None and line.high is not None and not line.low <= 0 <= line.high)
    return finished(figure, f"{len(lines)} differences with their intervals; {away} leave no difference out.")
