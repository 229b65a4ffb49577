"""Pictures of an exploration: its components, embeddings, trees and clusters, and how far they follow the table.

Labels have a colour and a shape or a row of their own, so that no picture needs colours to be read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from plainfilm.plots.drawing import (
    DASHES,
    FULL_WIDTH,
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

MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
MISSING: Final = "(no value)"
OTHERS: Final = "(others)"
LEAVES: Final = 100  # more cannot be told apart across a page
POINTS: Final = 1500  # more are drawn as pixels: as shapes they would make the page heavy
KINDS: Final = {  # what a column may be: its words, its colour and its shape
    "label": ("the label", SERIES[0], "o"),
    "patient": ("the patient", SERIES[1], "s"),
    "source": ("where the image comes from", SERIES[2], "^"),
    "file": ("how it was stored", SERIES[6], "D"),
}
AT_CUT: Final = (0, (5, 3))


class Explored(Protocol):
    """What is read of an `Exploration`, which stands later in the order of imports."""

    @property
    def rows(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def components(self) -> Any: ...  # noqa: D102
    @property
    def embeddings(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def dendrograms(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def kmeans(self) -> Any: ...  # noqa: D102
    @property
    def agreements(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def networks(self) -> Sequence[Any]: ...  # noqa: D102


def drawings(exploration: Explored) -> dict[str, Drawing]:
    """Every picture of an exploration by its name: `variance`, `scatter_t_sne`, `dendrogram_ward`, `kmeans`, ...

    Pictures of what was not computed are left out.
    """
    labels = texts(exploration.rows["label"])
    drawn = {"variance": variance_plot(exploration.components)}
    for embedding in exploration.embeddings:
        drawn[f"scatter_{_file_name(embedding.name)}"] = scatter_plot(embedding, labels)
    for tree in exploration.dendrograms:
        drawn[f"dendrogram_{tree.method}"] = dendrogram_plot(tree, labels)
    drawn["kmeans"] = kmeans_plot(exploration.kmeans)
    if exploration.agreements:
        drawn["agreement"] = agreement_plot(exploration.agreements)
    trained = [network for network in exploration.networks if len(network.history)]
    if trained:
        drawn["networks"] = networks_plot(trained)
    return drawn


def texts(values: pd.Series[Any]) -> npt.NDArray[np.object_]:
    """A column as text, `MISSING` where it has no value; whole numbers without a decimal point."""
    known = values.notna().to_numpy(dtype=bool)
    given = values[known].to_numpy(dtype=object)  # at once: pandas hands out one text after another slowly
    words = np.full(len(values), MISSING, dtype=object)
    if pd.api.types.is_float_dtype(values):
        words[known] = [f"{value:g}" for value in given]
    else:
        words[known] = [str(value) or MISSING for value in given]
    return words


def in_order(counts: Mapping[str, int]) -> list[str]:
    """Names as a reader looks for them: 2 before 10 where they are few, the frequent first where they are many."""
    names = sorted(counts, key=_natural)
    ordered = names if len(names) <= 20 else sorted(names, key=lambda name: -counts[name])
    return [name for name in ordered if name != MISSING] + [name for name in ordered if name == MISSING]


def variance_plot(components: Any) -> Drawing:
    """Cumulative explained variance, with the share that was asked for and the component that reaches it.

    References:
        Figure 7 of the X-ray paper.
    """
    total = np.cumsum(components.all_ratios)
    kept, asked = len(components.ratios), components.variance_kept
    with house_style():
        figure = Figure(figsize=(FULL_WIDTH, 3.0), layout="constrained")
        ax = figure.subplots()
        number = np.arange(1, len(total) + 1)
        ax.bar(number, components.all_ratios, width=0.7, color=SERIES[0], alpha=0.3, linewidth=0)
        ax.plot(number, total, color=SERIES[0], marker="o" if len(total) <= 40 else "none", markersize=3.2)
        ax.axhline(asked, color=MUTED, linewidth=0.9, linestyle=AT_CUT)
        ax.plot([kept, kept], [0, total[kept - 1]], color=SERIES[1], linewidth=1.1, linestyle=AT_CUT)
        ax.plot([kept], [total[kept - 1]], color=SERIES[1], marker="D", markersize=5.5)
        beside, side = (-7, "right") if kept > 0.6 * len(total) else (7, "left")
        words = f"{_count(kept, 'component')}: {100 * total[kept - 1]:.1f} %"
        ax.annotate(words, (kept, total[kept - 1]), (beside, -14), textcoords="offset points", ha=side)
        ax.set(xlim=(0.3, len(total) + 0.7), ylim=(0, 1.04), xlabel="Number of components", ylabel="Variance explained")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    first = ", ".join(f"{100 * share:.1f}" for share in components.ratios[:5])
    return finished(
        figure,
        f"Cumulative explained variance of {_count(components.n_images, 'image')}: {_count(kept, 'component')} for "
        f"the {100 * asked:g} % asked for, together {100 * total[kept - 1]:.1f} %; the first {min(kept, 5)} "
        f"explain {first} %.",
    )


def scatter_plot(embedding: Any, labels: Array) -> Drawing:
    """Images as points, coloured and shaped by label; the legend counts those drawn."""
    shown = np.isfinite(embedding.coordinates).all(axis=1)
    points, words = embedding.coordinates[shown], labels[shown]
    groups = _groups(words, most=21)
    with house_style():
        # The resolution is that of points drawn as pixels.
        figure = Figure(figsize=(HALF_WIDTH, HALF_WIDTH + 0.19 * len(groups) + 0.1), layout="constrained", dpi=160)
        ax = figure.subplots()
        for place, (name, of_group) in enumerate(groups.items()):
            color, marker = (MUTED, ".") if name in (MISSING, OTHERS) else _label_style(place)
            (dots,) = ax.plot(*points[of_group].T, color=color, marker=marker, linestyle="none")
            dots.set_label(f"{_short(name)}  ({of_group.sum():,})")
        for line in ax.get_lines():
            size = float(np.clip(9 - 1.6 * math.log10(max(len(points), 1)), 1.2, 6))
            line.set(markersize=size, markeredgewidth=0, alpha=0.85, rasterized=len(points) > POINTS)
        ax.set(xlabel=f"{embedding.name} 1", ylabel=f"{embedding.name} 2")
        ax.set_box_aspect(1)
        if embedding.name != "PCA":  # the place of a point is arbitrary there: only neighbours mean something
            ax.tick_params(labelbottom=False, labelleft=False, length=0)
        under = -0.17 if embedding.name == "PCA" else -0.1
        below = ax.legend(loc="upper left", bbox_to_anchor=(-0.02, under), borderaxespad=0, handletextpad=0.3)
        for handle in below.legend_handles:
            if handle is not None:
                handle.set(markersize=5.5, alpha=1)
    counted = "; ".join(f"{_short(name)} {of_group.sum():,}" for name, of_group in groups.items())
    return finished(figure, f"{embedding.name} of {_count(len(points), 'image')} by label: {counted}.")


def dendrogram_plot(tree: Any, labels: Array) -> Drawing:
    """The tree with its cut, above a row for each label with a tick at each of its leaves.

    A branch has the colour of a label where all images below it carry that label. Above `LEAVES` images only the
    last merges are drawn, and a tick is as strong as the label's share of the leaf.

    References:
        Figure 2 of the X-ray paper.
    """
    from scipy.cluster.hierarchy import dendrogram

    groups = _groups(labels[tree.rows], most=len(SERIES))
    counts = _counts_of_nodes(tree.linkage, np.column_stack(list(groups.values())))
    colors = [MUTED if name in (MISSING, OTHERS) else SERIES[place] for place, name in enumerate(groups)]
    laid = dendrogram(
        tree.linkage,
        no_plot=True,
        truncate_mode="lastp" if len(tree.rows) > LEAVES else None,
        p=LEAVES,
        link_color_func=lambda node: _color_of(counts[node], colors),
    )
    with house_style():
        figure = Figure(figsize=(FULL_WIDTH, 3.3 + 0.2 * len(groups)), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.9, 0.2 * len(groups)])
        _draw_tree(above, laid, tree)
        _draw_leaves(below, counts[np.asarray(laid["leaves"])], groups, colors)
    truncated = f"; the last {LEAVES} branches are drawn" if len(tree.rows) > LEAVES else ""
    return finished(
        figure,
        f"Dendrogram of {_count(len(tree.rows), 'image')}, {tree.method} linkage{truncated}: the cut at height "
        f"{tree.cut_height:.4g}, in the middle of a gap of {tree.gap:.4g}, leaves "
        f"{_count(tree.n_clusters, 'cluster')}.",
    )


def kmeans_plot(scan: Any) -> Drawing:
    """Inertia and mean distance with their elbow, and the silhouette with its best k."""
    panels = (
        ("Inertia", scan.inertia, scan.elbow, "Elbow"),
        ("Mean distance to the centre", scan.mean_distance, scan.elbow, "Elbow"),
        ("Mean silhouette", scan.silhouette, scan.best_silhouette, "Best"),
    )
    with house_style():
        figure = Figure(figsize=(FULL_WIDTH, 2.6), layout="constrained")
        for ax, (title, values, chosen, word) in zip(figure.subplots(1, 3), panels, strict=True):
            ax.plot(scan.k, values, color=SERIES[0], marker="o" if len(scan.k) <= 25 else "none", markersize=3.5)
            at = np.flatnonzero(scan.k == chosen)
            ax.axvline(chosen, color=MUTED, linewidth=0.9, linestyle=AT_CUT)
            ax.plot(scan.k[at], values[at], color=SERIES[1], marker="D", markersize=6, linestyle="none")
            ax.set_title(title, fontsize=9.5, loc="left")
            ax.set(xlabel=f"k   ({word}: {chosen})")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _figures(value)))
            if np.nanmin(values, initial=0) >= 0:
                ax.set_ylim(bottom=0)
    best = scan.silhouette[scan.k == scan.best_silhouette]
    reached = f" of {best[0]:.3f}" if len(best) else ""
    return finished(
        figure,
        f"k-means on {_count(scan.n_images, 'image')} for k from {scan.k[0]} to {scan.k[-1]}: the elbow of the inertia "
        f"is at k = {scan.elbow}; the largest mean silhouette{reached} (on {_count(scan.n_silhouette, 'image')}) is at "
        f"k = {scan.best_silhouette}.",
    )


def agreement_plot(agreements: Sequence[Any]) -> Drawing:
    """A panel for each clustering, a row for each column: the adjusted Rand index as a dot, its interval as a line."""
    clusterings = list(dict.fromkeys(agreement.clustering for agreement in agreements))
    columns = list(dict.fromkeys(agreement.column for agreement in agreements))
    lowest = min([-0.1, *(a.ari_low - 0.03 for a in agreements if math.isfinite(a.ari_low))])
    kinds = [kind for kind in KINDS if any(agreement.kind == kind for agreement in agreements)]
    with house_style():
        figure = Figure(figsize=(FULL_WIDTH, 1.15 + 0.3 * len(columns)), layout="constrained")
        axes = figure.subplots(1, len(clusterings), squeeze=False, sharey=True)[0]
        for ax, clustering in zip(axes, clusterings, strict=True):
            ax.axvline(0, color=MUTED, linewidth=0.9)
            for agreement in agreements:
                if agreement.clustering == clustering:
                    _agreement(ax, columns.index(agreement.column), agreement)
            ax.set(xlim=(lowest, 1.05), ylim=(len(columns) - 0.5, -0.5))
            ax.set_title(clustering_title(clustering), fontsize=9.5, loc="left")
            ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            ax.tick_params(length=0)
            ax.grid(axis="y", visible=False)
            ax.spines["left"].set_visible(False)
        axes[0].set_yticks(range(len(columns)), [_short(column) for column in columns])
        for kind in kinds:
            words, color, marker = KINDS[kind]
            axes[0].plot([], [], color=color, marker=marker, linestyle="none", markersize=5.5, label=words)
        figure.legend(loc="outside lower left", ncols=len(kinds), handletextpad=0.2, columnspacing=1.4)
    told = "; ".join(
        f"{clustering_title(a.clustering)} and {_short(a.column)} {a.ari:.2f} ({a.ari_low:.2f} to {a.ari_high:.2f})"
        for a in agreements
    )
    return finished(figure, f"Adjusted Rand index with its 95 % interval: {told}.")


def networks_plot(networks: Sequence[Any]) -> Drawing:
    """Training accuracy and loss per epoch, a column for each way of training, on the same scales.

    References:
        Figure 8 of the X-ray paper, beside the same training on shuffled labels.
    """
    with house_style():
        figure = Figure(figsize=(max(FULL_WIDTH * len(networks) / 2, HALF_WIDTH), 3.9), layout="constrained")
        axes = figure.subplots(2, len(networks), squeeze=False, sharex=True, sharey="row")
        for place, network in enumerate(networks):
            for ax, metric, color in zip(axes[:, place], ("accuracy", "loss"), SERIES, strict=False):
                history = network.history
                ax.plot(history["epoch"], history[f"train_{metric}"], color=color, linestyle=DASHES[0])
            axes[0, place].set_title(_short(network.name), fontsize=9.5, loc="left")
            axes[1, place].set_xlabel("Epoch")
            axes[1, place].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes[0, 0].set(ylabel="Training accuracy", ylim=(0, 1.04))
        axes[1, 0].set_ylabel("Training loss")
        axes[1, 0].set_ylim(bottom=0)
    told = "; ".join(
        f"{_short(network.name)} ends at accuracy {network.accuracy:.3f} ({network.low:.3f} to {network.high:.3f}, "
        f"{_count(network.n_images, 'image')}) and loss {network.loss:.3f} after "
        f"{_count(len(network.history), 'epoch')}"
        for network in networks
    )
    return finished(figure, f"PCA network by epoch: {told}.")


def clustering_title(name: str) -> str:
    """A clustering's name as a heading."""
    return {"k-means": "k-means"}.get(name, name.capitalize())


def _groups(words: Array, *, most: int) -> dict[str, npt.NDArray[np.bool_]]:
    """Rows of each name; the rarest together as `OTHERS` where there are more than `most` names."""
    names, counts = np.unique(words.astype(str), return_counts=True)
    counted = dict(zip(names.tolist(), counts.tolist(), strict=True))
    ordered = in_order(counted)
    if len(ordered) <= most:
        return {name: words == name for name in ordered}
    kept = sorted((name for name in ordered if name != MISSING), key=lambda name: -counted[name])[: most - 1]
    return {name: words == name for name in kept} | {OTHERS: ~np.isin(words.astype(str), kept)}


def _label_style(place: int) -> tuple[str, str]:
    turn = place // len(SERIES)  # from the eighth label on a colour comes back with another shape
    return SERIES[place % len(SERIES)], MARKERS[(place + turn) % len(MARKERS)]


def _counts_of_nodes(linkage: Array, is_of_group: Array) -> npt.NDArray[np.intp]:
    """Images of each group below each node of the tree: `(2 n - 1, groups)`, single images first."""
    n = len(is_of_group)
    counts = np.zeros((2 * n - 1, is_of_group.shape[1]), dtype=np.intp)
    counts[:n] = is_of_group
    for merge, (left, right) in enumerate(linkage[:, :2].astype(np.intp)):
        counts[n + merge] = counts[left] + counts[right]
    return counts


def _color_of(counts: Array, colors: Sequence[str]) -> str:
    of = np.flatnonzero(counts)
    return colors[of[0]] if len(of) == 1 else INK


def _draw_tree(ax: Axes, laid: Mapping[str, Any], tree: Any) -> None:
    branches = [list(zip(x, y, strict=True)) for x, y in zip(laid["icoord"], laid["dcoord"], strict=True)]
    ax.add_collection(LineCollection(branches, colors=laid["color_list"], linewidths=1.1))
    top = float(np.max(laid["dcoord"], initial=0))
    ax.set(xlim=(0, 10 * len(laid["leaves"])), ylim=(0, 1.05 * top or 1), ylabel="Distance of the merged clusters")
    ax.axhline(tree.cut_height, color=SERIES[1], linewidth=1.1, linestyle=AT_CUT)
    words = f"Cut at {tree.cut_height:.4g}: {_count(tree.n_clusters, 'cluster')}"
    ax.set_title(words, fontsize=9, loc="right", color=SERIES[1])
    ax.grid(axis="x", visible=False)
    ax.tick_params(axis="x", length=0, labelbottom=False)
    ax.spines["bottom"].set_visible(False)


def _draw_leaves(ax: Axes, counts: Array, groups: Mapping[str, Array], colors: Sequence[str]) -> None:
    shares = counts / counts.sum(axis=1, keepdims=True)
    for row, color in enumerate(colors):
        ticks = [Rectangle((10 * leaf + 1, row - 0.36), 8, 0.72) for leaf in np.flatnonzero(shares[:, row]).tolist()]
        strength = shares[shares[:, row] > 0, row]
        ax.add_collection(PatchCollection(ticks, facecolors=color, alpha=strength, linewidths=0))
    ax.set(ylim=(len(groups) - 0.5, -0.5))
    ax.set_yticks(range(len(groups)), [f"{_short(name)} ({of.sum():,})" for name, of in groups.items()])
    bare(ax)
    ax.tick_params(labelbottom=False)
    if counts.sum() == len(counts):
        ax.set_xlabel("A tick is one image")
    else:
        sizes = counts.sum(axis=1)
        ax.set_xlabel(f"A leaf is {sizes.min():,} to {sizes.max():,} images; a tick is as strong as the label's share")


def _agreement(ax: Axes, row: int, agreement: Any) -> None:
    _, color, marker = KINDS[agreement.kind]
    if not math.isfinite(agreement.ari):
        ax.text(0.5, row, "not given", ha="center", va="center", fontsize=8, color=MUTED, style="italic")
        return
    ax.plot([agreement.ari_low, agreement.ari_high], [row, row], color=color, linewidth=2.2, solid_capstyle="butt")
    ax.plot([agreement.ari], [row], color=color, marker=marker, markersize=5.5, markeredgecolor="none")


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in re.findall(r"\d+|\D+", name)]


def _short(name: str) -> str:
    return readable(name, limit=28)


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def _figures(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:g}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
