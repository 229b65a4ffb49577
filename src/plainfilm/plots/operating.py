"""What acting on the scores is worth, drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from plainfilm.plots.drawing import DASHES, HALF_WIDTH, MUTED, SERIES, Array, Drawing, finished, house_style


def decision_plot(
    thresholds: Sequence[float] | Array,
    model: Sequence[float] | Array,
    *,
    low: Sequence[float] | Array,
    high: Sequence[float] | Array,
    treat_all: Sequence[float] | Array,
) -> Drawing:
    """Net benefit of acting on the scores with its band, of acting on everybody, and of acting on nobody.

    Args:
        thresholds: 0 to 1, rising.
        model: Net benefit at each.
        low: Lower end of its band.
        high: Upper end.
        treat_all: Net benefit of acting on everybody.
    """
    highest = float(max(np.max(high), np.max(treat_all), 0.01))
    with house_style():
        figure = Figure(figsize=(HALF_WIDTH, HALF_WIDTH), layout="constrained")
        ax = figure.subplots()
        # What is far below 0 is of no use to anybody, and would hide what is above.
        floor = -0.25 * highest
        ax.fill_between(
            list(thresholds), np.maximum(low, floor), np.maximum(high, floor), color=SERIES[0], alpha=0.2, linewidth=0
        )
        ax.plot(list(thresholds), list(model), color=SERIES[0], label="By the scores")
        ax.plot(list(thresholds), list(treat_all), color=SERIES[1], linestyle=DASHES[1], label="Everybody")
        ax.axhline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), label="Nobody")
        ax.set(xlabel="Score from which one acts", ylabel="Net benefit", ylim=(floor, 1.08 * highest))
        ax.set_xlim(-0.02, 1.02)
        ax.legend(loc="upper right")
    best = int(np.argmax(np.asarray(model) - np.maximum(treat_all, 0)))
    gained = model[best] - max(treat_all[best], 0.0)
    return finished(
        figure,
        f"Decision curve over {len(thresholds)} thresholds; the most that the scores gain over acting on everybody or "
        f"nobody is {gained:.3f}, at {thresholds[best]:.2f}.",
    )
