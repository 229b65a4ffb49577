"""Images that are there twice: flipped, turned, resized or coded anew, but the same picture.

Thumbnails nominate pairs and the pixels decide. How much alike "the same" is depends on the images, so a threshold is
believed only where its pairs are not those of chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.auditing.findings import p_in_words
from plainfilm.auditing.neighbours import BLOCK, N_TURNS, Small, nearest_neighbours, turned
from plainfilm.auditing.thumbnails import thumbnails, to_compare, unit_vectors
from plainfilm.data.pixels import PixelStore
from plainfilm.progress import Progress, Silent

Ints = npt.NDArray[np.intp]
Floats32 = npt.NDArray[np.float32]

SIDE_NOMINATING = 32  # of the thumbnails that nominate
SIDE_DECIDING = 64
WIDER = 2.0  # pairs this much farther apart are counted too, to see whether the threshold lies in a gap
CHUNK = 256  # pairs looked at closely together
INDEXED = 8  # nearest images asked of an index, where there are too many for every pair


class DuplicateOptions(BaseModel):
    """From when two images count as one. A star marks a convention of plainfilm's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    near_correlation: float = Field(
        0.99, gt=0, le=1, description="Correlation of pixels, at 64x64, from which two images are near-duplicates.*"
    )
    near_between: float = Field(
        1e-4,
        gt=0,
        lt=1,
        description="The threshold is believed where at most this share of pairs of different patients reach it.*",
    )
    near_label_p: float = Field(
        0.001, gt=0, lt=1, description="... or where its pairs share their label more often than chance, p below this.*"
    )
    near_most: int = Field(
        500_000, ge=1, description="With more pairs than this the images are all alike, and none is believed.*"
    )


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of images that show the same picture.

    Attributes:
        one: `(n_pairs,)` row number, the smaller of the two.
        other: `(n_pairs,)` row number.
        turn: `(n_pairs,)` which of the 8 flips and quarter turns of `one` is like `other`; 0 is none.
        correlation: `(n_pairs,)` of their pixels at that turn.
        complete: Whether every pair of images was compared, and none was left out.
    """

    one: Ints
    other: Ints
    turn: Ints
    correlation: Floats32
    complete: bool

    def __len__(self) -> int:
        return len(self.one)

    def where(self, mask: npt.NDArray[np.bool_]) -> Pairs:
        """Some of the pairs."""
        return Pairs(
            one=self.one[mask],
            other=self.other[mask],
            turn=self.turn[mask],
            correlation=self.correlation[mask],
            complete=self.complete,
        )

    def near(self, options: DuplicateOptions) -> Pairs:
        """The near-duplicates among them."""
        return self.where(self.correlation >= options.near_correlation)

    def groups(self, n: int) -> Ints:
        """`(n,)` what hangs together by these pairs; an image in no pair is alone."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        graph = coo_array((np.ones(len(self)), (self.one, self.other)), shape=(n, n))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)


def near_duplicates(
    pixels: PixelStore,
    options: DuplicateOptions | None = None,
    *,
    most_exact: int = 20_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Pairs:
    """Every pair of images that is a near-duplicate in one of 8 orientations, or at most twice as far apart.

    `Pairs.near` gives the near-duplicates; the others show whether their threshold can be believed. Constant images
    have no correlation and are in no pair. The search ends at `near_most` nominated pairs.

    Args:
        pixels: The images, all of one size.
        options: From when two images count as one.
        most_exact: Beyond this many images an approximate index nominates.
        seed: Of the index.
        progress: Told of every block.

    Raises:
        UsageError: `MISSING_EXTRA` if the index is needed and not installed.
    """
    options, progress = options or DuplicateOptions(), progress or Silent()
    if len(pixels) < 2:
        nothing = np.empty(0, dtype=np.intp)
        return Pairs(one=nothing, other=nothing, turn=nothing, correlation=nothing.astype(np.float32), complete=True)
    small = to_compare(pixels, SIDE_NOMINATING, most_exact=most_exact)
    floor = 1 - WIDER * (1 - options.near_correlation)
    if len(pixels) <= most_exact:
        one, other, complete = _every_pair(small, floor, options.near_most, progress)
    else:
        one, other = _by_index(small, floor, seed, progress)
        one, other, complete = one[: options.near_most], other[: options.near_most], False
    with progress.task("compare pixels of pairs", len(one)) as advance:
        turns, correlations = [], []
        for start in range(0, len(one), CHUNK):
            part = slice(start, start + CHUNK)
            turns.append(_best_turn(small[one[part]], small[other[part]]))
            correlations.append(_correlation(pixels, one[part], other[part], turns[-1]))
            advance(len(turns[-1]))
    pairs = Pairs(
        one=one,
        other=other,
        turn=np.concatenate([np.empty(0, dtype=np.intp), *turns]),
        correlation=np.concatenate([np.empty(0, dtype=np.float32), *correlations]),
        complete=complete,
    )
    return pairs.where(pairs.correlation >= floor)


def _every_pair(small: Small, floor: float, most: int, progress: Progress) -> tuple[Ints, Ints, bool]:
    """Pairs whose thumbnails reach the floor at any turn, the smaller row number first."""
    found: list[tuple[Ints, Ints]] = []
    n_found = 0
    with progress.task("look for near-duplicates", len(small)) as advance:
        for start, like in _blocks_above(small, floor):
            rows, columns = np.nonzero(like)
            found.append((rows + start, columns + start))
            n_found += len(rows)
            if n_found > most:
                break
            advance(len(like))
    one, other = (np.concatenate([np.empty(0, dtype=np.intp), *side]) for side in zip(*found, strict=True))
    return one[:most], other[:most], n_found <= most


def _blocks_above(small: Small, floor: float) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Blocks of rows against all later images: which pairs reach the floor at any turn.

    Turning one image of a pair is as good as turning back the other, so each pair is looked at once.
    """
    everything = unit_vectors(small)
    for start in range(0, len(small), BLOCK):
        rows = small[start : start + BLOCK]
        later = everything[start:].T
        best = np.full((len(rows), later.shape[1]), -1, dtype=np.float32)
        for turn in range(N_TURNS):
            np.maximum(best, unit_vectors(turned(rows, turn)) @ later, out=best)
        yield start, np.triu(best >= floor, 1)


def _by_index(small: Small, floor: float, seed: int, progress: Progress) -> tuple[Ints, Ints]:
    """The same from the nearest images of each that an index gives, the nearest first."""
    near = nearest_neighbours(small, k=INDEXED, turns=True, most_exact=0, seed=seed, progress=progress)
    row, column = np.nonzero(near.distance <= 1 - floor)
    pairs = np.sort(np.column_stack([row, near.index[row, column]]), axis=1)
    order = np.argsort(near.distance[row, column], kind="stable")
    first = np.sort(np.unique(pairs[order], axis=0, return_index=True)[1])
    one, other = pairs[order][first].T
    return one, other


def _best_turn(images: Small, others: Small) -> Ints:
    """`(n,)` the turn of each image that is most like the other one."""
    against = unit_vectors(others)
    correlation = [np.einsum("nd,nd->n", unit_vectors(turned(images, turn)), against) for turn in range(N_TURNS)]
    return np.asarray(np.argmax(correlation, axis=0), dtype=np.intp)


def _correlation(pixels: PixelStore, one: Ints, other: Ints, turn: Ints) -> Floats32:
    """`(n,)` of the pixels of each pair, the first image turned."""
    images = thumbnails(pixels.take(one), SIDE_DECIDING)
    for way in np.unique(turn).tolist():
        images[turn == way] = turned(images[turn == way], way)
    others = unit_vectors(thumbnails(pixels.take(other), SIDE_DECIDING))
    return np.asarray(np.einsum("nd,nd->n", unit_vectors(images), others), dtype=np.float32)


# --- is a threshold to be believed? -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Belief:
    """Whether pairs at this threshold are copies, or what this kind of image looks like.

    Attributes:
        believed: Whether they count.
        sentence: Why, with numbers.
        between: Share of all pairs of different patients that reach it; None where patients are not known.
        n_twice_as_far: Pairs up to twice as far apart (of different patients, where they are known).
        same_label: Share of its pairs with one label; None where labels say nothing.
        by_chance: What any two images would give.
        p: Binomial, one-sided.
    """

    believed: bool
    sentence: str
    between: float | None = None
    n_twice_as_far: int | None = None
    same_label: float | None = None
    by_chance: float | None = None
    p: float | None = None


def believe(pairs: Pairs, y: Ints, group: Ints | None, options: DuplicateOptions) -> Belief:
    """Judge the threshold by three tests; one that it passes is enough.

    Few pairs of different patients reach it; or there is a gap beyond it (among independent images in many dimensions,
    pairs up to twice as far apart are far more than twice as many); or its pairs share their label more than chance.

    Args:
        pairs: What reaches the threshold, and what is up to twice as far apart.
        y: `(n,)` label code, -1 where unknown.
        group: `(n,)` patient code, -1 where unknown; None where patients are not known.
        options: The limits.
    """
    near = pairs.near(options)
    if not len(near):
        return Belief(believed=True, sentence="")
    if len(pairs) >= options.near_most:
        return Belief(believed=False, sentence=f"{options.near_most} pairs or more are alike: all images are.")
    apart = np.ones(len(pairs), dtype=bool) if group is None else _differ(group, pairs)
    n_near, n_wide = int((apart & (pairs.correlation >= options.near_correlation)).sum()), int(apart.sum())
    whose = "pairs" if group is None else "pairs of different patients"
    between = None if group is None else _share_between(group, n_near)
    same = _same_label(near, y)
    tests = [
        (n_wide <= WIDER * n_near, f"{n_near} {whose} reach the threshold, {n_wide} are up to twice as far apart."),
        (between is not None and between <= options.near_between, f"{between or 0:.1e} of all {whose} reach it."),
    ]
    if same is not None:
        said = (
            f"{same[0]:.1%} of its pairs share their label, where chance gives {same[1]:.1%} ({p_in_words(same[2])}, "
            f"{len(near)} pairs)."
        )
        tests.append((same[2] < options.near_label_p, said))
    passed = [sentence for holds, sentence in tests if holds]
    return Belief(
        believed=bool(passed),
        sentence=passed[0] if passed else " ".join(sentence for _, sentence in tests),
        between=between,
        n_twice_as_far=n_wide,
        same_label=None if same is None else same[0],
        by_chance=None if same is None else same[1],
        p=None if same is None else same[2],
    )


def _share_between(group: Ints, n_pairs: int) -> float:
    """Some pairs of different patients as a share of all such pairs."""
    size = np.unique(group[group >= 0], return_counts=True)[1].astype(np.float64)
    possible = (size.sum() ** 2 - (size**2).sum()) / 2
    return float(n_pairs / possible) if possible else 0.0


def _same_label(pairs: Pairs, y: Ints) -> tuple[float, float, float] | None:
    """Share of pairs with one label, the share by chance, and p; None where labels say nothing."""
    from scipy.stats import binomtest

    known = (y[pairs.one] >= 0) & (y[pairs.other] >= 0)
    shares = np.bincount(y[y >= 0]) / max(1, int((y >= 0).sum()))
    by_chance = float((shares**2).sum())
    if not known.any() or by_chance >= 1:
        return None
    same, n = int((known & ~_differ(y, pairs)).sum()), int(known.sum())
    return same / n, by_chance, float(binomtest(same, n, by_chance, alternative="greater").pvalue)


def _differ(codes: Ints, pairs: Pairs) -> npt.NDArray[np.bool_]:
    """Pairs whose two codes are known and differ."""
    one, other = codes[pairs.one], codes[pairs.other]
    return np.asarray((one >= 0) & (other >= 0) & (one != other))
