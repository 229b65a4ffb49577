"""Groups of images that are alike: trees cut at their largest gap, and k-means for rising k."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from plainfilm.exploration.projection import Seen, Values, sample_rows
from plainfilm.exploration.results import Dendrogram, Floats, Ints, KMeansScan, Linkage
from plainfilm.progress import Progress, Silent

MOST_DIRECT = 1 << 26  # values whose distances are taken directly; beyond, those of the components
MANY_STARTS = 1_000  # images for which k-means begins ten times anew; beyond, three times
MOST_FULL_KMEANS = 10_000  # images; beyond, in small batches
MOST_SILHOUETTE = 2_000


@dataclass(frozen=True)
class Clustering:
    """One way to group images.

    Attributes:
        name: `ward`, `complete`, `single` or `k-means`.
        rows: The images grouped.
        labels: Cluster of each of `rows`, from 0.
    """

    name: str
    rows: Ints
    labels: Ints


def clusterings_of(dendrograms: Sequence[Dendrogram], kmeans: KMeansScan) -> list[Clustering]:
    """The clusters of every method."""
    trees = [Clustering(tree.method, tree.rows, tree.labels) for tree in dendrograms]
    return [*trees, Clustering("k-means", np.arange(kmeans.n_images), kmeans.labels)]


def grow_trees(seen: Seen, plain: Floats, *, most: int, seed: int) -> tuple[Dendrogram, ...]:
    """Ward, complete and single linkage of Euclidean distances.

    Args:
        seen: What is looked at; distances are taken of it directly unless it has too many values.
        plain: Scores, not whitened: their distances stand in then.
        most: Images in a tree, at most.
        seed: Of the sample.

    References:
        Ward, Journal of the American Statistical Association 1963;58:236-244. The X-ray paper:
        `linkage(images, method="ward")`.
    """
    rows = sample_rows(len(plain), most, seed)
    distances = _distances(seen.values(rows) if len(rows) * seen.n_values <= MOST_DIRECT else plain[rows])
    return tuple(grow_tree(distances, rows, method) for method in get_args(Linkage))


def grow_tree(distances: Floats, rows: Ints, method: Linkage) -> Dendrogram:
    """Merge the two nearest clusters until one is left, and cut at the largest gap between two merges.

    Gaps so low that more clusters than half the images would be left are passed over: copies merge at height 0, and
    the gap above them is often the largest.

    Args:
        distances: Of every pair of `rows`, condensed as scipy has it.
        rows: At least 3 images.
        method: How the distance of two clusters is taken.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(distances, method)
    heights = tree[:, 2]
    first = len(rows) - 1 - max(2, len(rows) // 2)  # the merge that leaves half the images, or two, as clusters
    gaps = np.diff(heights)
    widest = first + int(gaps[first:].argmax())
    cut = float(heights[widest] + gaps[widest] / 2)
    labels = fcluster(tree, cut, criterion="distance").astype(np.intp) - 1
    return Dendrogram(method=method, linkage=tree, rows=rows, cut_height=cut, gap=float(gaps[widest]), labels=labels)


def _distances(values: Values | Floats) -> Floats:
    """Euclidean distance of every pair of rows, condensed."""
    from scipy.spatial.distance import squareform
    from sklearn.metrics import euclidean_distances

    square = euclidean_distances(values).astype(np.float64)
    return np.asarray(squareform(square, checks=False))


def scan_clusters(plain: Floats, *, most: int, seed: int, progress: Progress | None = None) -> KMeansScan:
    """k-means for 1 to `most` clusters.

    The elbow is the k whose inertia lies farthest below the straight line from the first to the last k, both axes
    scaled to [0, 1]. A largest distance always exists: an elbow is no proof that there are clusters. Above
    `MOST_FULL_KMEANS` images the centres are found from small batches; inertia and clusters are of all images.

    Args:
        plain: `(n, n_components)` scores, not whitened.
        most: Largest k; at most the number of images.
        seed: Of the first centres and of the sample for the silhouette.
        progress: Told after every k.

    References:
        Silhouette: Rousseeuw, Journal of Computational and Applied Mathematics 1987;20:53-65.
    """
    from sklearn.metrics import euclidean_distances

    k = np.arange(1, min(most, len(plain)) + 1)
    some = sample_rows(len(plain), MOST_SILHOUETTE, seed)
    distances = euclidean_distances(plain[some])
    fits = []
    with (progress or Silent()).task("k-means", len(k)) as advance:
        for number in k:
            fits.append(_fit_kmeans(plain, int(number), seed))
            advance(1)
    inertia = np.array([fit.inertia for fit in fits])
    silhouette = np.array([_silhouette(distances, fit.labels[some]) for fit in fits])
    elbow = find_elbow(inertia)
    return KMeansScan(
        k=k,
        inertia=inertia,
        mean_distance=np.array([fit.mean_distance for fit in fits]),
        silhouette=silhouette,
        n_images=len(plain),
        n_silhouette=len(some),
        elbow=int(k[elbow]),
        best_silhouette=int(k[np.nanargmax(silhouette)]) if np.isfinite(silhouette).any() else 1,
        labels=fits[elbow].labels,
    )


@dataclass(frozen=True)
class _KMeansFit:
    labels: Ints
    inertia: float
    mean_distance: float


def _fit_kmeans(plain: Floats, k: int, seed: int) -> _KMeansFit:
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    if len(plain) <= MOST_FULL_KMEANS:
        kmeans = KMeans(k, n_init=10 if len(plain) <= MANY_STARTS else 3, random_state=seed)
    else:
        kmeans = MiniBatchKMeans(k, n_init=3, batch_size=4096, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different images than clusters
        labels = np.asarray(kmeans.fit_predict(plain), dtype=np.intp)
    distance = np.linalg.norm(plain - kmeans.cluster_centers_[labels], axis=1)
    return _KMeansFit(labels, float(kmeans.inertia_), float(distance.mean()))


def _silhouette(distances: Floats, labels: Ints) -> float:
    """Mean silhouette; nan where it is not defined."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(labels)) < len(labels):
        return float("nan")
    return float(silhouette_score(distances, labels, metric="precomputed"))


def find_elbow(inertia: Floats) -> int:
    """Index of the point farthest below the chord of a falling curve; 0 where it does not bend."""
    if len(inertia) < 3 or inertia[0] <= inertia[-1]:
        return 0
    across = np.linspace(0, 1, len(inertia))
    down = (inertia - inertia[-1]) / (inertia[0] - inertia[-1])
    return int(np.argmax(1 - across - down))
