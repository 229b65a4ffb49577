"""Everything an exploration finds, from a table and what is looked at; and its numbers as JSON and CSV."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.data.fitting import fit_image
from plainfilm.data.pixels import PixelStore
from plainfilm.errors import DataError
from plainfilm.exploration.agreement import agreement_notes, agreements_of
from plainfilm.exploration.clustering import clusterings_of, grow_trees, scan_clusters
from plainfilm.exploration.neighbours import nearest_images, neighbour_notes
from plainfilm.exploration.network import BY_IMAGE, labelled_rows, train_networks
from plainfilm.exploration.options import ExploreOptions
from plainfilm.exploration.projection import Projection, Seen, embed_tsne, embed_umap, project, sample_rows
from plainfilm.exploration.results import Embedding, Exploration, Ints, NetworkScore
from plainfilm.measures import plural
from plainfilm.progress import Progress, Silent

SCHEMA = 1
THUMBNAIL_SIDE = 48
MOST_WRITTEN = 50  # components in the CSV


def explore_table(
    rows: pd.DataFrame,
    seen: Seen,
    pictures: Sequence[PixelStore],
    *,
    source: str,
    looked_at: str,
    options: ExploreOptions | None = None,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Exploration:
    """Components, embeddings, clusters, and what they agree with.

    Args:
        rows: One row per image, as `Table.rows` has them.
        seen: What is looked at: `Planes` or `Features`, in the same order.
        pictures: The planes that thumbnails are made of, in the same order.
        source: What the user called the data.
        looked_at: What `seen` is, in words.
        options: What to compute.
        notes: Sentences that come before those found here.
        progress: Told of every step.

    Raises:
        DataError: `EXP_TOO_FEW` below 3 images, `EXP_ALIKE`, `EXP_NOT_FINITE`.
        UsageError: `EXP_PERPLEXITY`, `MISSING_EXTRA`.
    """
    options, progress = options or ExploreOptions(), progress or Silent()
    seed = options.explore_seed
    if len(rows) < 3:
        raise DataError(f"Only {plural(len(rows), 'image')}; exploring needs at least 3.", code="EXP_TOO_FEW")
    started = time.monotonic()
    with progress.task("principal components", 1) as advance:
        projection = project(
            seen,
            variance=options.variance,
            whiten=options.whiten,
            most_components=options.most_components,
            most_fitted=options.most_fitted,
            seed=seed,
        )
        advance(1)
    plane = _plane_of(projection, seconds=time.monotonic() - started)
    embeddings, embedding_notes = _embed(projection, options, progress)
    with progress.task("dendrograms", 1) as advance:
        dendrograms = grow_trees(seen, projection.plain, most=options.most_linked, seed=seed)
        advance(1)
    kmeans = scan_clusters(projection.plain, most=options.most_clusters, seed=seed, progress=progress)
    clusterings = clusterings_of(dendrograms, kmeans)
    with progress.task("agreement with the table", 1) as advance:
        agreements = agreements_of(rows, clusterings, seed=seed)
        neighbours = nearest_images(projection.plain, rows, seed=seed)
        found = (*neighbour_notes(neighbours), *agreement_notes(rows, clusterings, seed=seed))
        advance(1)
    networks, network_notes = _networks(rows, seen, options, progress)
    thumbnail_rows = sample_rows(len(rows), options.thumbnails, seed)
    sampled = [
        _sampled("Dendrograms are", len(dendrograms[0].rows), len(rows)),
        _sampled("Thumbnails are", len(thumbnail_rows), len(rows)),
    ]
    return Exploration(
        source=source,
        seen=looked_at,
        rows=rows,
        thumbnails=make_thumbnails(pictures, thumbnail_rows),
        thumbnail_rows=thumbnail_rows,
        components=projection.components,
        embeddings=(plane, *embeddings),
        dendrograms=dendrograms,
        kmeans=kmeans,
        agreements=agreements,
        networks=networks,
        notes=tuple(
            note for note in (*notes, *found, *projection.notes, *embedding_notes, *sampled, *network_notes) if note
        ),
        options=options.model_dump(mode="json"),
        neighbours=neighbours,
    )


def _sampled(what: str, n: int, of: int) -> str:
    return f"{what} of {n:,} of {of:,} images, drawn at random." if n < of else ""


def _plane_of(projection: Projection, *, seconds: float) -> Embedding:
    """The first two components as points."""
    shares = float(projection.components.all_ratios[:2].sum())
    return Embedding(
        name="PCA",
        coordinates=projection.plane,
        settings=f"first two components, {shares:.1%} of the variance",
        seconds=seconds,
    )


def _embed(
    projection: Projection, options: ExploreOptions, progress: Progress
) -> tuple[tuple[Embedding, ...], list[str]]:
    """t-SNE and, where it can be had, UMAP."""
    n, seed = len(projection.plain), options.explore_seed
    with progress.task("t-SNE", 1) as advance:
        found = [
            embed_tsne(
                projection.plain,
                perplexity=options.perplexity,
                rate=options.tsne_rate,
                most=options.most_tsne,
                seed=seed,
            )
        ]
        advance(1)
    notes = [_sampled("t-SNE is", min(n, options.most_tsne), n)]
    installed = find_spec("umap") is not None
    if options.umap or (options.umap is None and installed):
        progress.say("UMAP: its first call compiles, for half a minute or so.")
        with progress.task("UMAP", 1) as advance:
            found.append(embed_umap(projection.plain, neighbours=options.neighbours, most=options.most_umap, seed=seed))
            advance(1)
        notes.append(_sampled("UMAP is", min(n, options.most_umap), n))
    elif options.umap is None:
        notes.append("UMAP is left out: it needs umap-learn (pip install 'plainfilm[explore]').")
    return tuple(found), notes


def _networks(
    rows: pd.DataFrame, seen: Seen, options: ExploreOptions, progress: Progress
) -> tuple[tuple[NetworkScore, ...], list[str]]:
    """The PCA networks, where they were asked for, and what to know of them."""
    if not options.network:
        return (), []
    images = labelled_rows(
        seen, rows, most=options.most_trained, single_images=options.single_images, seed=options.explore_seed
    )
    if images is None:
        return (), ["The PCA network was not trained: it needs labels of at least two classes."]
    networks = train_networks(
        images,
        variance=options.variance,
        most_components=options.most_components,
        folds=options.network_folds,
        seed=options.explore_seed,
        progress=progress,
    )
    n_labelled = int(rows["label"].notna().sum())
    notes = [_sampled("The PCA network is", len(images.rows), n_labelled)]
    if len(networks) == 2:
        notes.append("The PCA network was not cross-validated: a class has a single patient.")
    elif networks[-1].struck == BY_IMAGE:
        notes.append(
            "Patients are not known, so the PCA network's cross-validation divides images. If each patient has one "
            "image, declare it with --single-images."
        )
    elif options.single_images and rows["patient_id"].isna().all():
        notes.append("One image per patient was declared; nothing checks it here.")
    return networks, notes


def make_thumbnails(pictures: Sequence[PixelStore], rows: Ints) -> npt.NDArray[np.uint8]:
    """`(len(rows), THUMBNAIL_SIDE, THUMBNAIL_SIDE)` small images for the eye; colours as their mean."""
    from plainfilm.plots import to_eight_bits

    small = np.zeros((len(rows), THUMBNAIL_SIDE, THUMBNAIL_SIDE), dtype=np.uint8)
    for place, row in enumerate(rows):
        planes = [to_eight_bits(store.stored(np.array([row]))[0][0]) for store in pictures]
        whole = planes[0] if len(planes) == 1 else np.mean(planes, axis=0).round().astype(np.uint8)
        small[place] = fit_image(whole, height=THUMBNAIL_SIDE, width=THUMBNAIL_SIDE, fit="pad")
    return small


# --- as files -----------------------------------------------------------------------------------------------


def embedding_frame(exploration: Exploration) -> pd.DataFrame:
    """One row per image: the table, its first components, its place in each embedding, its cluster in each method."""
    scores = exploration.components.scores[:, :MOST_WRITTEN].astype(np.float32)  # half the digits
    columns: dict[str, Any] = {f"component_{i}": column for i, column in enumerate(scores.T, start=1)}
    for embedding in exploration.embeddings:
        name = _column_name(embedding.name)
        columns[f"{name}_x"], columns[f"{name}_y"] = embedding.coordinates.astype(np.float32).T
    n = len(exploration.rows)
    for clustering in clusterings_of(exploration.dendrograms, exploration.kmeans):
        cluster = pd.array([pd.NA] * n, dtype="Int64") if len(clustering.rows) < n else np.empty(n, dtype=np.intp)
        cluster[clustering.rows] = clustering.labels
        columns[f"cluster_{_column_name(clustering.name)}"] = cluster
    found = pd.DataFrame(columns)
    own = exploration.rows[[name for name in exploration.rows.columns if name not in found.columns]]
    return pd.concat([own.reset_index(drop=True), found], axis=1)


def _column_name(name: str) -> str:
    return name.lower().replace("-", "_")


def exploration_facts(exploration: Exploration) -> dict[str, Any]:
    """Every number with its counts and options; what is not defined is None. One value per image is left to the CSV."""
    components, kmeans = exploration.components, exploration.kmeans
    facts = {
        "schema": SCHEMA,
        "source": exploration.source,
        "seen": exploration.seen,
        "n_images": len(exploration.rows),
        "n_patients": int(exploration.rows["patient_id"].nunique()) or None,
        "options": exploration.options,
        "components": {
            "n_components": len(components.ratios),
            "ratios": components.ratios,
            "all_ratios": components.all_ratios,
            "variance_asked": components.variance_kept,
            "variance_held": components.ratios.sum(),
            "whitened": components.whitened,
            "n_images": components.n_images,
            "n_values": components.n_values,
        },
        "embeddings": [
            {
                "name": embedding.name,
                "settings": embedding.settings,
                "n_images": np.isfinite(embedding.coordinates).all(axis=1).sum(),
                "seconds": embedding.seconds,
            }
            for embedding in exploration.embeddings
        ],
        "dendrograms": [
            {
                "method": tree.method,
                "n_clusters": tree.n_clusters,
                "sizes": np.bincount(tree.labels),
                "cut_height": tree.cut_height,
                "gap": tree.gap,
                "heights": tree.linkage[:, 2],
                "n_images": len(tree.rows),
            }
            for tree in exploration.dendrograms
        ],
        "kmeans": {name: value for name, value in vars(kmeans).items() if name != "labels"}
        | {"sizes": np.bincount(kmeans.labels)},
        "neighbours": None if exploration.neighbours is None else asdict(exploration.neighbours),
        "agreements": [asdict(agreement) for agreement in exploration.agreements],
        "networks": [
            {**vars(network), "history": network.history.to_dict("records")} for network in exploration.networks
        ],
        "notes": exploration.notes,
    }
    return {name: _plain(value) for name, value in facts.items()}


def _plain(value: Any) -> Any:
    """Numbers, texts, lists and dictionaries alone; None for a number that is none."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
