"""The look of every figure, and a finished figure as SVG or PNG."""

from __future__ import annotations

import io
import re
import threading
import unicodedata
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import matplotlib
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Array = npt.NDArray[Any]


INK: Final = "#1f2328"


MUTED: Final = "#6b7280"


GRID: Final = "#d9dde2"


SERIES: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195")


DASHES: Final = ("-", (0, (5, 2)), (0, (1.5, 1.5)))


THEME: Final = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {
    color: f"--series-{number}" for number, color in enumerate(SERIES, start=1)
}


"""The CSS variable that takes the place of each colour in an SVG put into a page."""


STYLE: Final[dict[Any, Any]] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5"
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "axes.titley": 1.0,  # a place of its own choosing is looked for at every drawing, a third of its time
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "axes.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: small, searchable, read aloud
    "svg.hashsalt": "plainfilm",
}


FULL_WIDTH: Final = 7.4  # inches; one plot across the report's column


HALF_WIDTH: Final = 3.8  # two beside each other


ZERO_WIDTH_JOINERS: Final = "\u200c\u200d"  # part of the spelling in Persian and Hindi


# matplotlib keeps its settings per process, so only one thread may draw at a time.
_drawing = threading.RLock()


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style; one thread at a time."""
    with _drawing, matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A browser has the glyphs that the drawing font lacks, and the SVG keeps the text.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        yield


@dataclass(frozen=True)
class Drawing:
    """A finished figure, with the sentence that stands for it where it cannot be seen."""

    figure: Figure
    alt: str

    def svg(self, *, for_page: bool = False) -> str:
        """The drawing as SVG text.

        Args:
            for_page: Give the bare `<svg>` element, without ids that could clash with another drawing's, on
                a transparent ground and in the colours of the page's CSS variables (`THEME`), so that it
                follows light and dark mode. Otherwise a file of its own.
        """
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with house_style():
            self.figure.savefig(buffer, format="svg", metadata=nothing, transparent=for_page)
        return _for_page(buffer.getvalue(), self.alt) if for_page else buffer.getvalue()

    def png(self, *, dpi: int = 150) -> bytes:
        """The drawing as the bytes of a PNG file."""
        buffer = io.BytesIO()
        with house_style():
            self.figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        return buffer.getvalue()


def readable(text: str, *, limit: int = 120) -> str:
    r"""The text as it may be shown: nothing invisible, nothing that turns the line around, not endless.

    Control and bidirectional characters are written out (`\u202e`), since they can make a name look like
    another; a text above `limit` characters keeps its beginning and its end.
    """
    visible = "".join(_visible(character) for character in text[: 4 * limit])
    if len(text) > 4 * limit:
        visible += "".join(_visible(character) for character in text[-limit:])
    if len(visible) <= limit:
        return visible
    tail = limit // 3
    return f"{visible[: limit - tail - 1]}…{visible[-tail:]}"


def finished(figure: Figure, alt: str) -> Drawing:
    """The figure laid out, with the words that stand for it."""
    layout = figure.get_layout_engine()
    if layout is not None:
        with house_style():
            layout.execute(figure)
    # Once only: every save would else move the frames a little again, and no two files were alike.
    figure.set_layout_engine("none")
    return Drawing(figure, alt)


def _visible(character: str) -> str:
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    if not hidden or character in ZERO_WIDTH_JOINERS:
        return character
    return f"\\u{ord(character):04x}"


def bare(ax: Axes) -> None:
    """Take grid, ticks and frame away."""
    ax.grid(visible=False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _for_page(svg: str, alt: str) -> str:
    body = svg[svg.index("<svg") :].strip()
    body = re.sub(r"<style[^<]*</style>", "", body, count=1)  # it would style the whole page
    used = {name for pair in re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", body) for name in pair}
    prefix = f"d{zlib.crc32(body.encode()):08x}-"
    # Text is escaped, so "<" begins nothing but matplotlib's own tags: names of classes are left alone.
    body = re.sub(r"<[^>]*>", lambda tag: _tag_for_page(tag[0], used, prefix), body)
    opening = f'<svg role="img" aria-label="{escape(alt)}" style="stroke-linejoin: round" '
    return body.replace("<svg ", opening, 1)


def _tag_for_page(tag: str, used: set[str], prefix: str) -> str:
    if tag.startswith("<svg"):
        return re.sub(r" (?:width|height|xmlns:xlink)=\"[^\"]*\"", "", tag)
    tag = re.sub(r" id=\"([^\"]+)\"", lambda match: f' id="{prefix}{match[1]}"' if match[1] in used else "", tag)
    tag = re.sub(r"(?<=url\(#)|(?<=href=\"#)", prefix, tag)
    tag = re.sub(r"font-family: [^;\"]+", "font-family: inherit", tag)
    return re.sub(r"#[0-9a-f]{6}\b", lambda color: _theme_color(color[0]), tag)


def _theme_color(color: str) -> str:
    return f"var({THEME[color]}, {color})" if color in THEME else color
