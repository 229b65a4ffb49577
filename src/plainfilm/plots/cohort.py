"""How the data were divided, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from plainfilm.plots.drawing import FULL_WIDTH, SERIES, Drawing, finished, house_style, readable

COLOR_OF = {"train": SERIES[5], "validation": SERIES[4], "calibration": SERIES[3], "test": SERIES[2]}


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A piece of a bar: what of one class, or of one fold, went to one split.

    Attributes:
        row: The class or fold.
        split: `train`, `validation`, `calibration` or `test`.
        count: Images or patients.
    """

    row: str
    split: str
    count: int


def split_plot(segments: Sequence[Segment], *, counted: str) -> Drawing:
    """A bar for each class or fold, as long as it has images or patients, divided by split.

    Args:
        segments: In the order they are drawn.
        counted: What the counts are: `patients` or `images`.
    """
    rows = list(dict.fromkeys(segment.row for segment in segments))
    splits = list(dict.fromkeys(segment.split for segment in segments))
    longest = max((sum(s.count for s in segments if s.row == row) for row in rows), default=1)
    with house_style():
        figure = Figure(figsize=(FULL_WIDTH, 0.95 + 0.36 * len(rows)), layout="constrained")
        ax = figure.subplots()
        for place, row in enumerate(rows):
            start = 0
            for segment in (segment for segment in segments if segment.row == row and segment.count):
                color = COLOR_OF.get(segment.split, SERIES[6])
                ax.barh(place, segment.count, left=start, height=0.62, color=color, edgecolor="none")
                if segment.count >= 0.05 * longest:
                    middle = start + segment.count / 2
                    # Black: unlike the ink of the page it stays dark on these colours in dark mode.
                    ax.text(middle, place, f"{segment.count:,}", ha="center", va="center", color="black", fontsize=8.5)
                start += segment.count
        for split in splits:
            ax.barh([0], [0], color=COLOR_OF.get(split, SERIES[6]), label=split.capitalize())
        ax.set_yticks(range(len(rows)), [readable(row, limit=24) for row in rows])
        ax.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, longest * 1.02), xlabel=counted.capitalize())
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=len(splits), handlelength=1.2, columnspacing=1.4)
    told = "; ".join(
        f"{readable(row, limit=24)}: " + ", ".join(f"{s.count} {s.split}" for s in segments if s.row == row)
        for row in rows
    )
    return finished(figure, f"{counted.capitalize()} in each split. {told}.")
