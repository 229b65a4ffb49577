"""Heat maps over images, feature maps in a grid, and how alike heat maps of ever more random networks are."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from plainfilm.measures import Measure
from plainfilm.plots.drawing import (
    DASHES,
    FULL_WIDTH,
    HALF_WIDTH,
    MUTED,
    SERIES,
    Array,
    Drawing,
    bare,
    finished,
    house_style,
    readable,
)
from plainfilm.plots.results import to_eight_bits

Bytes = npt.NDArray[np.uint8]

HEAT = "inferno"  # even steps in lightness, read rightly by the colour-blind and in grey print
FOR, AGAINST = SERIES[1], SERIES[0]  # of a signed heat map
CAPTION = 0.3  # inches below the maps
STRONGEST = 0.75  # opacity of the hottest place: what lies below stays visible


def heat_layer(heat: Array, *, signed: bool = False) -> Bytes:
    """`(height, width, 4)`: the colours of a heat map, and nothing where there is no heat.

    Args:
        heat: `(height, width)`, 0 to 1; with `signed` -1 to 1, orange for the class and blue against it.
        signed: Whether the sign has a colour.
    """
    strength = np.clip(np.abs(np.asarray(heat, dtype=np.float64)), 0, 1)
    if signed:
        ends = np.array([_rgb(AGAINST), _rgb(FOR)])
        colour = ends[(np.asarray(heat) > 0).astype(np.intp)]
    else:
        # The dark end of the map is left out: on an X-ray it would look like a shadow.
        colour = matplotlib.colormaps[HEAT](0.25 + 0.7 * strength)[..., :3]
    return np.asarray(np.dstack([255 * colour, 255 * strength]).round(), dtype=np.uint8)


def overlay(image: Array, heat: Array, *, signed: bool = False, opacity: float = STRONGEST) -> Bytes:
    """`(height, width, 3)`: a grey image with its heat map over it; cold places show the image alone.

    Args:
        image: `(height, width)`, any depth.
        heat: As for `heat_layer`, of the same size.
        signed: Likewise.
        opacity: Of the hottest place, 0 to 1.
    """
    layer = heat_layer(heat, signed=signed).astype(np.float64)
    grey = np.repeat(to_eight_bits(image)[..., None], 3, axis=2)
    cover = opacity * layer[..., 3:] / 255
    return np.asarray((grey * (1 - cover) + layer[..., :3] * cover).round(), dtype=np.uint8)


def picture_png(picture: Array, *, side: int | None = None) -> bytes:
    """A grey `(h, w)`, RGB or RGBA picture as PNG, its longer side at most `side` pixels; never enlarged."""
    image = Image.fromarray(to_eight_bits(picture) if picture.ndim == 2 else np.ascontiguousarray(picture))
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=None)
    if image.mode == "RGBA":
        image = image.quantize(256, method=Image.Quantize.FASTOCTREE)  # a third of the bytes, and no visible step
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def feature_map_grid(maps: Array, *, layer: str, subject: str, weights: str, most: int = 64) -> Drawing:
    """The maps of one layer for one image, each over its own range, as in a contact sheet.

    Args:
        maps: `(channels, height, width)`.
        layer: Its name.
        subject: What the image is.
        weights: Where the layer's weights come from; "random" is said in the caption.
        most: Maps to draw, the first ones.
    """
    shown = maps[:most]
    columns = max(1, math.ceil(math.sqrt(len(shown))))
    rows = math.ceil(len(shown) / columns)
    with house_style():
        figure = Figure(figsize=(FULL_WIDTH, FULL_WIDTH * rows / columns + CAPTION))
        edges = {"left": 0, "right": 1, "top": 1, "bottom": CAPTION / figure.get_figheight()}
        cells = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.03, **edges})
        for number, ax in enumerate(cells.ravel()):
            bare(ax)
            ax.set_xticks([])
            ax.set_yticks([])
            if number < len(shown):
                ax.imshow(_stretched(shown[number]), cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
        count = f"{len(maps)} maps" if len(shown) == len(maps) else f"first {len(shown)} of {len(maps)} maps"
        caption = f"{readable(layer, limit=60)}: {count} of {maps.shape[1]}x{maps.shape[2]}, weights: {weights}"
        figure.text(0.004, 0.012, caption, fontsize=8, color=MUTED, va="bottom")
    return finished(
        figure,
        f"Feature maps of layer {readable(layer, limit=60)} for {readable(subject, limit=60)}: {count}, each over its "
        f"own range; weights: {weights}.",
    )


def similarity_plot(curves: Mapping[str, Sequence[Measure]], shares: Sequence[float], *, bound: float) -> Drawing:
    """How alike heat maps stay while a network is made random from its head down.

    Args:
        curves: For each method a measure at each of `shares`.
        shares: Random layers as a share of all, rising.
        bound: Below it a method passes.
    """
    with house_style():
        figure = Figure(figsize=(HALF_WIDTH * 1.25, HALF_WIDTH), layout="constrained")
        ax = figure.subplots()
        ax.axhline(0, color=MUTED, linewidth=0.6)
        ax.axhline(bound, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for number, (name, measures) in enumerate(curves.items()):
            colour = SERIES[number % len(SERIES)]
            values = [float("nan") if measure.value is None else measure.value for measure in measures]
            ax.plot(shares, values, color=colour, linestyle=DASHES[number % len(DASHES)], marker="o", markersize=3.5,
                    label=readable(name, limit=30))  # fmt: skip
            if all(measure.low is not None for measure in measures):
                low, high = ([getattr(m, end) for m in measures] for end in ("low", "high"))
                ax.fill_between(shares, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.set(xlim=(0, 1.02), ylim=(-0.3, 1.02), xlabel="Share of layers with random weights, from the head down")
        ax.set_ylabel("Rank similarity to the trained network")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.legend(loc="upper right")
    ends = ", ".join(f"{name} {measures[-1].value:.2f}" for name, measures in curves.items())
    return finished(figure, f"Rank similarity of heat maps to those of a wholly random network: {ends}.")


def _rgb(colour: str) -> tuple[float, float, float]:
    return tuple(int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))  # type: ignore[return-value]


def _stretched(values: Array) -> npt.NDArray[np.float64]:
    """Over its own range, 0 to 1; a constant is black."""
    low, high = float(np.min(values)), float(np.max(values))
    return np.asarray((values - low) / (high - low) if high > low else np.zeros_like(values), dtype=np.float64)
