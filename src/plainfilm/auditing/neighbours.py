"""Which images are most alike: every pair compared for a few thousand images, an index for very many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plainfilm.auditing.thumbnails import unit_vectors
from plainfilm.errors import UsageError
from plainfilm.progress import Progress, Silent

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

N_TURNS = 8  # the flips and quarter turns of a square, the unchanged image among them
BLOCK = 256  # rows of the table of similarities looked at together
COPY = 1e-3  # closer than this, images differ by less than coding does: how much less says nothing


def turned(images: npt.NDArray[np.float32], turn: int) -> npt.NDArray[np.float32]:
    """`(n, side, side)` images by one of the 8 flips and quarter turns; 0 leaves them as they are.

    From 4 on, mirrored left to right after `turn - 4` quarter turns counter-clockwise.
    """
    rotated = np.rot90(images, turn % 4, axes=(1, 2))
    return np.ascontiguousarray(rotated[:, :, ::-1] if turn >= 4 else rotated)


@dataclass(frozen=True)
class Neighbours:
    """The nearest other images of each image.

    Attributes:
        index: `(n, k)` row numbers, nearest first.
        distance: `(n, k)` 1 minus the correlation, 0 to 2, rising along each row; never below `COPY`.
        exact: Whether every pair was compared.
        turns: Whether flipped and turned images were compared too.
    """

    index: Ints
    distance: Floats32
    exact: bool
    turns: bool


def nearest_neighbours(
    images: Floats32,
    *,
    k: int,
    turns: bool = False,
    most_exact: int = 20_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Neighbours:
    """Find the `k` images that correlate best with each image.

    Up to `most_exact` images every pair is compared, a block at a time; beyond, an approximate index is asked
    (nearest-neighbour descent), which misses a few per cent.

    Args:
        images: `(n, side, side)` small images, two or more.
        k: Neighbours of each; at most n - 1.
        turns: Compare the 8 flips and quarter turns of each image, and keep the best.
        most_exact: Largest number of images of which every pair is compared.
        seed: Of the index.
        progress: Told of every block.

    Raises:
        UsageError: `MISSING_EXTRA` if there are too many images for every pair, and no library for the index.

    References:
        Dong, Moses and Li, "Efficient k-nearest neighbor graph construction for generic similarity measures", WWW 2011.
    """
    k = min(k, len(images) - 1)
    views = range(N_TURNS if turns else 1)
    found = _every_pair if len(images) <= most_exact else _by_index
    index, similarity = found(images, k, views, seed, progress or Silent())
    distance = np.maximum(1 - similarity, np.float32(COPY))
    return Neighbours(index, distance, exact=len(images) <= most_exact, turns=turns)


def need_turns(images: Floats32, *, contrast: float, share: float, sample: int, seed: int) -> bool:
    """Whether images of one kind lie in several orientations, judged by a sample of them.

    That is so where more than `share` of the sample are at least `contrast` times closer to a flipped or turned
    image than to any image as it is. Looking at 8 orientations takes 8 times as long, so it is asked first.
    """
    chosen = np.random.default_rng(seed).permutation(len(images))[:sample]
    everything = unit_vectors(images).T
    nearest = []
    for turn in range(N_TURNS):
        similarity = unit_vectors(turned(images[chosen], turn)) @ everything
        similarity[np.arange(len(chosen)), chosen] = -1  # an image is not its own neighbour
        nearest.append(np.maximum(1 - similarity.max(axis=1), COPY))
    return bool((nearest[0] >= contrast * np.min(nearest[1:], axis=0)).mean() > share)


def _every_pair(
    images: Floats32, k: int, views: range, seed: int, progress: Progress
) -> tuple[Ints, npt.NDArray[np.float32]]:
    del seed
    n = len(images)
    everything = unit_vectors(images).T
    index, similarity = np.empty((n, k), dtype=np.intp), np.empty((n, k), dtype=np.float32)
    with progress.task("compare images", n) as advance:
        for start in range(0, n, BLOCK):
            rows = slice(start, min(start + BLOCK, n))
            best = unit_vectors(images[rows]) @ everything
            for turn in views[1:]:
                np.maximum(best, unit_vectors(turned(images[rows], turn)) @ everything, out=best)
            best[np.arange(len(best)), np.arange(rows.start, rows.stop)] = -2  # not its own neighbour
            index[rows], similarity[rows] = highest(best, k)
            advance(len(best))
    return index, similarity


def _by_index(
    images: Floats32, k: int, views: range, seed: int, progress: Progress
) -> tuple[Ints, npt.NDArray[np.float32]]:
    try:
        from pynndescent import NNDescent
    except ImportError:
        raise UsageError(
            f"{len(images)} images are too many to compare every pair. Install the index: pip install "
            "'plainfilm[audit]'",
            code="MISSING_EXTRA",
        ) from None

    vectors = unit_vectors(images)
    with progress.task("index images", len(views)) as advance:
        built = NNDescent(vectors, metric="dot", n_neighbors=k + 1, random_state=seed, compressed=False)
        graph_index, graph_distance = built.neighbor_graph
        index, distance = _without_self(graph_index, graph_distance, k)
        advance(1)
        for turn in views[1:]:
            near, away = built.query(unit_vectors(turned(images, turn)), k + 1)
            index, distance = _best_of((index, distance), _without_self(near, away, k), k)
            advance(1)
    return index, (1 - distance).astype(np.float32)


def _without_self(index: npt.NDArray[np.integer], distance: Floats32, k: int) -> tuple[Ints, Floats32]:
    """The first `k` of each row that are not the row itself."""
    foreign = index != np.arange(len(index))[:, None]
    order = np.argsort(~foreign, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(index, order, 1).astype(np.intp), np.take_along_axis(distance, order, 1)


def _best_of(one: tuple[Ints, Floats32], other: tuple[Ints, Floats32], k: int) -> tuple[Ints, Floats32]:
    """The `k` nearest of two lists of each row; an image named twice counts once, at its nearer distance."""
    index, distance = np.hstack([one[0], other[0]]), np.hstack([one[1], other[1]])
    order = np.argsort(distance, axis=1, kind="stable")
    index, distance = np.take_along_axis(index, order, 1), np.take_along_axis(distance, order, 1)
    by_name = np.argsort(index, axis=1, kind="stable")
    names = np.take_along_axis(index, by_name, 1)
    again = np.zeros(index.shape, dtype=bool)
    np.put_along_axis(again, by_name[:, 1:], names[:, 1:] == names[:, :-1], 1)
    first = np.argsort(again, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(index, first, 1), np.take_along_axis(distance, first, 1)


def highest(values: Floats32, k: int) -> tuple[Ints, Floats32]:
    """`(n, k)` places and values of the `k` largest of each row, the largest first."""
    place = np.argpartition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k :]
    order = np.argsort(-np.take_along_axis(values, place, 1), axis=1, kind="stable")
    place = np.take_along_axis(place, order, 1)
    return place, np.take_along_axis(values, place, 1)
