"""Which images are most alike: every pair compared for a few thousand images, an index for very many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plainfilm.auditing.thumbnails import unit_vectors
from plainfilm.errors import UsageError
from plainfilm.progress import Progress, Silent

Floats32 = npt.NDArray[np.float32]
Small = npt.NDArray[np.floating]  # thumbnails, or unit vectors in half precision; see `to_compare`
Ints = npt.NDArray[np.intp]
Rows = npt.NDArray[np.integer]

N_TURNS = 8  # the flips and quarter turns of a square, the unchanged image among them
BLOCK = 256  # rows of the table of similarities looked at together
COLUMNS = 20_000  # images that a sample is compared with at once
AXES = 128  # principal components by which an index nominates
FITTED = 8_192  # images that give them
COPY = 1e-3  # closer than this, images differ by less than coding does: how much less says nothing


def turned(images: Small, turn: int) -> Small:
    """`(n, side, side)` images by one of the 8 flips and quarter turns; 0 leaves them as they are.

    From 4 on, mirrored left to right after `turn - 4` quarter turns counter-clockwise.
    """
    rotated: Small = np.rot90(images, turn % 4, axes=(1, 2))
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

    index: Rows
    distance: Floats32
    exact: bool
    turns: bool


def nearest_neighbours(
    images: Small,
    *,
    k: int,
    turns: bool = False,
    most_exact: int = 20_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Neighbours:
    """Find the `k` images that correlate best with each image.

    Up to `most_exact` images every pair is compared, a block at a time; beyond, an approximate index (nearest-neighbour
    descent) nominates by 128 principal components, which misses a few per cent, and all pixels of the nominated decide.

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


def need_turns(images: Small, *, contrast: float, share: float, sample: int, seed: int) -> bool:
    """Whether images of one kind lie in several orientations, judged by a sample of them.

    That is so where more than `share` of the sample are at least `contrast` times closer to a flipped or turned
    image than to any image as it is. Looking at 8 orientations takes 8 times as long, so it is asked first.
    """
    chosen = np.random.default_rng(seed).permutation(len(images))[:sample]
    asked = [unit_vectors(turned(images[chosen], turn)) for turn in range(N_TURNS)]
    highest_yet = np.full((N_TURNS, len(chosen)), -1, dtype=np.float32)
    for start in range(0, len(images), COLUMNS):
        some = unit_vectors(images[start : start + COLUMNS]).T
        here = np.flatnonzero((chosen >= start) & (chosen < start + COLUMNS))
        for turn, units in enumerate(asked):
            similarity = units @ some
            similarity[here, chosen[here] - start] = -1  # an image is not its own neighbour
            np.maximum(highest_yet[turn], similarity.max(axis=1), out=highest_yet[turn])
    nearest = np.maximum(1 - highest_yet, COPY)
    return bool((nearest[0] >= contrast * np.min(nearest[1:], axis=0)).mean() > share)


def _every_pair(
    images: Small, k: int, views: range, seed: int, progress: Progress
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
    images: Small, k: int, views: range, seed: int, progress: Progress
) -> tuple[Rows, npt.NDArray[np.float32]]:
    """The same of those that an index nominates; beside `images` it holds some 2 KiB an image."""
    try:
        from pynndescent import NNDescent
    except ImportError:
        raise UsageError(
            f"{len(images)} images are too many to compare every pair. Install the index: pip install "
            "'plainfilm[audit]'",
            code="MISSING_EXTRA",
        ) from None

    if images.dtype != np.float16:
        images = unit_vectors(images).reshape(images.shape)
    axes = _principal_axes(images, seed)
    index, distance = np.empty((len(images), k), dtype=np.int32), np.empty((len(images), k), dtype=np.float32)
    with progress.task("index images", len(views)) as advance:
        built = NNDescent(
            _projected(images, 0, axes), metric="euclidean", n_neighbors=k + 1, random_state=seed, compressed=False
        )
        nominated = built.neighbor_graph[0]
        for turn in views:
            if turn:
                nominated = built.query(_projected(images, turn, axes), k + 1)[0]
            for start in range(0, len(images), BLOCK):
                rows = slice(start, min(start + BLOCK, len(images)))
                found = _nearest_of(images, turned(images[rows], turn), nominated[rows], start, k)
                index[rows], distance[rows] = _best_of((index[rows], distance[rows]), found, k) if turn else found
            advance(1)
    return index, 1 - distance


def _principal_axes(images: Small, seed: int) -> Floats32:
    """`(values, AXES)` directions in which a sample of the images differs most."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:FITTED]
    units = images[chosen].reshape(len(chosen), -1).astype(np.float32)
    units -= units.mean(axis=0)
    return np.ascontiguousarray(np.linalg.eigh(units.T @ units)[1][:, -AXES:], dtype=np.float32)


def _projected(images: Small, turn: int, axes: Floats32) -> Floats32:
    """`(n, AXES)` of the turned images; nearer than all pixels are, never farther."""
    small = np.empty((len(images), axes.shape[1]), dtype=np.float32)
    for start in range(0, len(images), COLUMNS):
        part = images[start : start + COLUMNS]
        small[start : start + COLUMNS] = turned(part, turn).reshape(len(part), -1).astype(np.float32) @ axes
    return small


def _nearest_of(images: Small, asked: Small, nominated: Rows, start: int, k: int) -> tuple[Rows, Floats32]:
    """The `k` nearest of the nominated, by all pixels; where fewer are nominated, the image itself at distance 2."""
    own = np.arange(start, start + len(asked))[:, None]
    others = images[nominated].reshape(*nominated.shape, -1).astype(np.float32)
    similarity = (others @ asked.reshape(len(asked), -1, 1).astype(np.float32))[:, :, 0]
    nobody = (nominated < 0) | (nominated == own)
    distance = np.where(nobody, np.float32(2), 1 - similarity)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    index: Rows = np.where(nobody, own, nominated).astype(np.int32)
    return np.take_along_axis(index, order, 1), np.take_along_axis(distance, order, 1)


def _best_of(one: tuple[Rows, Floats32], other: tuple[Rows, Floats32], k: int) -> tuple[Rows, Floats32]:
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
