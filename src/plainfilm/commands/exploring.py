"""A collection at a glance, as a command."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table as Grid
from rich.text import Text

from plainfilm.commands.flags import PredictFlags, asked, section_of, show
from plainfilm.exploration.options import ExploreOptions
from plainfilm.exploration.results import Agreement, Exploration, NetworkScore
from plainfilm.terminal import Terminal


def explore(
    data: Path,
    /,
    *,
    run: Path | None = None,
    patients: Literal["column", "recovered"] = "column",
    output: Annotated[Path, Parameter(["--output", "-o"])] = Path("explore"),
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    options: Annotated[ExploreOptions | None, Parameter(name="*", group="Explore")] = None,
    flags: Annotated[PredictFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """PCA, t-SNE, UMAP, dendrograms and k-means, and whether clusters follow label, patient or file.

    Args:
        data: Class folders, a CSV, TSV or parquet table, a folder of parquet shards, or a MedMNIST .npz.
        run: Look at the features of this run's model instead of the pixels.
        patients: Where they are known from: the table's column of ids, or recovered from the pixels.
        output: Folder for the page, the numbers, the points and the plots.
        overwrite: Replace the exploration in --output.
        workers: Decoding processes; by default one per processor.
        device: Where features are computed.
        quiet: No progress.
    """
    from plainfilm.verbs.exploring import PAGE
    from plainfilm.verbs.exploring import explore as explore_images

    found = explore_images(
        data,
        options,
        run=run,
        source=section_of(asked(flags), "source"),
        patients=patients,
        output=output,
        overwrite=overwrite,
        workers=workers,
        device=device,
        progress=Terminal(quiet=quiet),
    )
    show(_headline(found))
    if found.agreements:
        show(_agreements(found))
    if found.networks:
        show(_networks(found.networks))
    for note in found.notes:
        print(f"note: {note}")
    print(f"page: {output / PAGE}")


def _headline(found: Exploration) -> str:
    """Components and clusters in a few lines."""
    components, kmeans = found.components, found.kmeans
    lines = [
        f"{len(found.rows):,} images, {found.seen}",
        f"components: {len(components.ratios):,} of {components.n_values:,} numbers hold "
        f"{components.ratios.sum():.1%} of the variance (the first: {components.ratios[0]:.1%}; fitted on "
        f"{components.n_images:,} images)",
    ]
    lines += [
        f"{tree.method}: {tree.n_clusters:,} clusters below the largest gap ({len(tree.rows):,} images)"
        for tree in found.dendrograms
    ]
    lines.append(f"k-means: elbow at {kmeans.elbow} ({kmeans.n_images:,} images); {_silhouette(found)}")
    return "\n".join(lines)


def _silhouette(found: Exploration) -> str:
    kmeans = found.kmeans
    if kmeans.best_silhouette == 1:
        return "no silhouette"
    best = kmeans.silhouette[kmeans.k == kmeans.best_silhouette][0]
    return f"best silhouette {best:.2f} at {kmeans.best_silhouette} ({kmeans.n_silhouette:,} images)"


def _agreements(found: Exploration, most: int = 12) -> Grid:
    """For each column the clustering that follows it best, best columns first; those of the question at the top."""
    best: dict[str, Agreement] = {}
    for agreement in found.agreements:
        before = best.setdefault(agreement.column, agreement)
        if agreement.ari > before.ari:
            best[agreement.column] = agreement
    first = ("label", "patient")
    ordered = sorted(best.values(), key=lambda a: (a.kind not in first, -a.ari))
    grid = _grid("clusters follow", "best by", "adjusted Rand index (95% CI)", "NMI", "images", "groups", "clusters")
    for agreement in ordered[:most]:
        grid.add_row(
            Text(agreement.column),
            agreement.clustering,
            f"{_rounded(agreement.ari)} ({_rounded(agreement.ari_low)} to {_rounded(agreement.ari_high)})",
            f"{agreement.nmi:.2f}",
            f"{agreement.n_images:,}",
            f"{agreement.n_groups:,}",
            f"{agreement.n_clusters:,}",
        )
    return grid


def _rounded(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{round(value, 2) + 0:.2f}"  # + 0: never "-0.00"


def _networks(networks: tuple[NetworkScore, ...]) -> Grid:
    """Every network's score; those that must not stand are struck through, and say why."""
    grid = _grid("PCA network", "accuracy (95% CI)", "loss", "MAE", "images", "")
    for network in networks:
        style = "strike" if network.struck else ""
        numbers = (
            f"{network.accuracy:.1%} ({network.low:.1%} to {network.high:.1%})",
            f"{network.loss:.3f}",
            f"{network.mae:.3f}",
            f"{network.n_images:,}",
        )
        why = f"NOT A RESULT: {network.struck}" if network.struck else ""
        grid.add_row(network.name, *(Text(number, style=style) for number in numbers), Text(why))
    return grid


def _grid(*headings: str) -> Grid:
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        grid.add_column(heading, overflow="fold")
    return grid
