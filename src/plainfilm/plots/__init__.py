"""The only module that draws: curves, matrices, intervals and contact sheets, as SVG or PNG.

One look for all: thin axes, a faint grid, the colours of Okabe and Ito (2008), which colour-blind readers
can tell apart, and no title inside the frame, since the page around it has one. The same input gives the same
bytes.
"""

from plainfilm.plots.abstention import risk_coverage_plot
from plainfilm.plots.cohort import Segment, split_plot
from plainfilm.plots.drawing import (
    DASHES,
    FULL_WIDTH,
    GRID,
    HALF_WIDTH,
    INK,
    MUTED,
    SERIES,
    STYLE,
    THEME,
    Array,
    Drawing,
    readable,
)
from plainfilm.plots.operating import decision_plot
from plainfilm.plots.results import (
    Curve,
    confusion_plot,
    contact_sheet,
    interval_plot,
    precision_recall_plot,
    reliability_plot,
    roc_plot,
    thumbnail_png,
    title_of,
    to_eight_bits,
    training_plot,
)

__all__ = [
    "DASHES",
    "FULL_WIDTH",
    "GRID",
    "HALF_WIDTH",
    "INK",
    "MUTED",
    "SERIES",
    "STYLE",
    "THEME",
    "Array",
    "Curve",
    "Drawing",
    "Segment",
    "confusion_plot",
    "contact_sheet",
    "decision_plot",
    "interval_plot",
    "precision_recall_plot",
    "readable",
    "reliability_plot",
    "risk_coverage_plot",
    "roc_plot",
    "split_plot",
    "thumbnail_png",
    "title_of",
    "to_eight_bits",
    "training_plot",
]
