"""What is gained by leaving the unsure answers out, drawn."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from plainfilm.plots.drawing import HALF_WIDTH, SERIES, Array, Drawing, finished, house_style


def risk_coverage_plot(answered: Sequence[float] | Array, risk: Sequence[float] | Array) -> Drawing:
    """Share of the answers that are wrong, against the share of images or patients that get an answer, surest first.

    Args:
        answered: 0 to 1, rising.
        risk: 0 to 1.
    """
    with house_style():
        figure = Figure(figsize=(HALF_WIDTH, HALF_WIDTH), layout="constrained")
        ax = figure.subplots()
        ax.plot(list(answered), list(risk), color=SERIES[0])
        ax.set(xlabel="Share answered, surest first", ylabel="Share of the answers that is wrong")
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(bottom=0)
    half = next((value for share, value in zip(answered, risk, strict=True) if share >= 0.5), 0.0)
    last = risk[-1] if len(risk) else 0.0
    return finished(
        figure,
        f"Risk against coverage: {100 * last:.0f} % wrong of all, {100 * half:.0f} % of the surer half.",
    )
