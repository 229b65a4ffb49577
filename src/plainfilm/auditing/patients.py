"""Who is who, from pixels alone: images of one stack are linked to their neighbours, and each chain is a patient.

Neighbouring slices of one patient are far more alike than any two patients. So images are linked when their
correlation exceeds a floor, and what hangs together is a group. Nobody has to choose the floor: right groups stay the
same while it moves over a wide range, wrong ones fall apart or run together at once. Where no such range exists,
nothing is recovered, and the reason is given. File names are never looked at, and labels only afterwards, to check.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.auditing.findings import p_in_words
from plainfilm.auditing.neighbours import BLOCK, Neighbours, nearest_neighbours, need_turns
from plainfilm.auditing.thumbnails import to_compare
from plainfilm.data.pixels import PixelStore
from plainfilm.measures import plural
from plainfilm.progress import Progress

Ints = npt.NDArray[np.intp]
Outcome = Literal["found", "unclear", "none"]

FEWEST_IMAGES = 10  # with fewer there is nothing to tell a pattern from chance by
STEP = 1.1  # ratio of one distance to the next at which the groups are looked at
LIMITS = (
    "Recovery fits stacks of neighbouring slices and repeated takes that look alike; it does not group different "
    "X-rays of one patient, nor two stacks of one patient that cut the body in different directions."
)


class RecoveryOptions(BaseModel):
    """When images are taken for one patient's. A star marks a convention of plainfilm's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(32, ge=8, le=256, description="Side of the thumbnails that are compared, in pixels.*")
    neighbours: int = Field(32, ge=3, description="Nearest images of each that can be linked to it.*")
    contrast: float = Field(
        2.0,
        gt=1,
        description="Groups count as found only if they stay the same while the distance (1 minus correlation) up to "
        "which images are linked grows by this factor.*",
    )
    agreement: float = Field(0.95, gt=0, le=1, description="Adjusted Rand index that counts as the same groups.*")
    min_share: float = Field(0.8, gt=0, le=1, description="Share of images that must be in a group of two or more.*")
    min_median: int = Field(3, ge=2, description="Median size of those groups, at least.*")
    max_share: float = Field(0.5, gt=0, lt=1, description="Share of images that one group may hold at most.*")
    label_p: float = Field(0.001, gt=0, lt=1, description="Linked images must share their label with p below this.*")
    turned_share: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Flips and quarter turns are compared where more than this share of a sample needs them.*",
    )
    turned_sample: int = Field(500, ge=1, description="Images in that sample.")
    most_exact: int = Field(20_000, ge=2, description="Beyond this many images an approximate index is used.*")
    seed: int = Field(0, ge=0, description="Seed of the sample and of the index.")


@dataclass(frozen=True, kw_only=True)
class LabelCheck:
    """Whether linked images share their label more often than chance. It plays no part in the linking.

    Attributes:
        same: Share of links between two labelled images whose labels are the same.
        by_chance: Sum of the squared shares of the classes: what any two images would give.
        p: Binomial, one-sided.
        n_links: Links between labelled images: in a group, one fewer than its images.
        passed: Whether `p` is below the limit of the options.
    """

    same: float
    by_chance: float
    p: float
    n_links: int
    passed: bool


@dataclass(frozen=True, kw_only=True)
class RecoveredPatients:
    """Groups of images that are likely one patient each, or why there are none.

    Attributes:
        outcome: `found`; `unclear` (images are linked, but no floor tells groups apart); `none` (nothing speaks for
            groups: each image may well be another patient).
        group: `(n,)` code of each image's group, 0 to `n_groups - 1` by first appearance; an image alone has its own.
            All -1 unless `found`.
        reason: Why, in one or two sentences with numbers.
        floor: Correlation from which two images were linked; None unless `found`.
        stable_from: Lowest floor of the range in which the groups stay the same; None without such a range.
        stable_to: Highest floor of that range.
        share: Share of images in a group of two or more.
        median_size: Median size of these groups.
        largest: Images in the largest group.
        labels: What the labels say of the links; None where they are not known, or all the same.
        turned: Whether flipped and turned images were compared.
        exact: Whether every pair of images was compared, not an index asked.
    """

    outcome: Outcome
    group: Ints
    reason: str
    floor: float | None = None
    stable_from: float | None = None
    stable_to: float | None = None
    share: float = 0.0
    median_size: float = 0.0
    largest: int = 0
    labels: LabelCheck | None = None
    turned: bool = False
    exact: bool = True

    @property
    def found(self) -> bool:
        """Whether there are groups to go by."""
        return self.outcome == "found"

    @property
    def n_groups(self) -> int:
        """Recovered patients, images alone included; 0 unless `found`."""
        return int(self.group.max(initial=-1)) + 1

    def ids(self) -> npt.NDArray[np.object_]:
        """A patient id for every image, such as `recovered-0007`; None throughout unless `found`."""
        width = max(4, len(str(self.n_groups)))
        names = [f"recovered-{code + 1:0{width}d}" if code >= 0 else None for code in self.group.tolist()]
        return np.array([*names, None], dtype=object)[:-1]


def recover_patients(
    pixels: PixelStore,
    *,
    labels: Sequence[str | None] | None = None,
    options: RecoveryOptions | None = None,
    progress: Progress | None = None,
) -> RecoveredPatients:
    """Group images that are likely of one patient, by their pixels alone.

    Every image is linked to its nearest others; single linkage gives the groups at every floor. The floor is chosen in
    the middle of the widest gap of the widest range over which the groups stay the same.

    Args:
        pixels: The images, all of one size.
        labels: Class of each image, None where unknown: a check of the result that never changes the groups.
        options: What counts as a group.
        progress: Told of the comparison.

    Raises:
        UsageError: `MISSING_EXTRA` if there are so many images that an index is needed, and no library for it.
    """
    options = options or RecoveryOptions()
    nothing = np.full(len(pixels), -1, dtype=np.intp)
    if len(pixels) < FEWEST_IMAGES:
        reason = f"{plural(len(pixels), 'image')} are too few to tell a pattern from chance."
        return RecoveredPatients(outcome="none", group=nothing, reason=reason)
    near = _near(pixels, options, progress)
    tree = _Tree.of(near)
    found = replace(_recovered(tree, _contrast(near), options), turned=near.turns, exact=near.exact)
    if labels is None or found.floor is None:
        return found
    return _checked(found, tree.links(1 - found.floor), labels, options)


def _near(pixels: PixelStore, options: RecoveryOptions, progress: Progress | None) -> Neighbours:
    small = to_compare(pixels, options.side, most_exact=options.most_exact)
    turns = need_turns(
        small,
        contrast=options.contrast,
        share=options.turned_share,
        sample=options.turned_sample,
        seed=options.seed,
    )
    return nearest_neighbours(
        small,
        k=options.neighbours,
        turns=turns,
        most_exact=options.most_exact,
        seed=options.seed,
        progress=progress,
    )


# --- groups at every floor ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tree:
    """The links of single linkage, from the closest to the loosest: a minimum spanning tree of the neighbours."""

    n: int
    one: Ints
    other: Ints
    distance: npt.NDArray[np.float64]

    @staticmethod
    def of(near: Neighbours) -> _Tree:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import minimum_spanning_tree

        n = len(near.index)
        one, other, distance = _pairs(near)
        tree = minimum_spanning_tree(coo_array((distance, (one, other)), shape=(n, n)).tocsr()).tocoo()
        order = np.argsort(tree.data, kind="stable")
        return _Tree(n, tree.row[order].astype(np.intp), tree.col[order].astype(np.intp), tree.data[order])

    def links(self, distance: float) -> Ints:
        """`(n_links, 2)` pairs of images up to this distance."""
        held = int(np.searchsorted(self.distance, distance, side="right"))
        return np.column_stack([self.one[:held], self.other[:held]])

    def groups(self, distance: float) -> Ints:
        """`(n,)` group of every image when all links up to `distance` hold."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        links = self.links(distance)
        graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(self.n, self.n))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)

    def widest_gap(self, low: float, high: float) -> float:
        """The middle, on a scale of ratios, of the widest stretch between `low` and `high` without a link."""
        inside = self.distance[(self.distance > low) & (self.distance < high)]
        edges = np.log([low, *inside, high])
        widest = int(np.diff(edges).argmax())
        return float(np.exp((edges[widest] + edges[widest + 1]) / 2))


def _pairs(near: Neighbours) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], npt.NDArray[np.floating]]:
    """Every pair of neighbours once, the smaller row number first, with the distance that this one's row gives."""
    parts = []
    for start in range(0, len(near.index), BLOCK):
        other = near.index[start : start + BLOCK]
        own = np.arange(start, start + len(other))[:, None]
        again = (other < own) & (near.index[other] == own[:, :, None]).any(axis=2)  # an entry given twice is added up
        row, column = np.nonzero((other != own) & ~again)
        ends = np.sort(np.column_stack([own[row, 0], other[row, column]]), axis=1).astype(np.int32)
        parts.append((ends[:, 0], ends[:, 1], near.distance[start : start + BLOCK][row, column]))
    one, other, distance = (np.concatenate([part[side] for part in parts]) for side in range(3))
    return one, other, distance.astype(np.float64)


@dataclass(frozen=True)
class _Shape:
    """How many images are in groups, and in how large ones."""

    share: float
    median: float
    largest: int
    n_groups: int

    @staticmethod
    def of(groups: Ints) -> _Shape:
        size = np.bincount(groups)
        several = size[size > 1]
        return _Shape(
            share=float(several.sum() / len(groups)),
            median=float(np.median(several)) if len(several) else 0.0,
            largest=int(size.max()),
            n_groups=len(size),
        )

    def could_be_patients(self, n: int, options: RecoveryOptions) -> bool:
        """Whether most images are in groups of several, and no group is most of the images."""
        return (
            self.share >= options.min_share
            and self.median >= options.min_median
            and self.largest <= options.max_share * n
        )


def _recovered(tree: _Tree, contrast: float, options: RecoveryOptions) -> RecoveredPatients:
    low, high = _stable_range(tree, options)
    if high < options.contrast * low or not low:
        return _not_found(tree.n, low, high, contrast, options)
    distance = tree.widest_gap(low, high)
    groups = _by_first_appearance(tree.groups(distance))
    shape = _Shape.of(groups)
    reason = (
        f"{shape.n_groups} groups, {shape.share:.0%} of images in one of two or more, median size {shape.median:g}; "
        f"they stay the same while the floor moves from {1 - high:.3f} to {1 - low:.3f}, and {1 - distance:.3f} was "
        "chosen, in the widest gap."
    )
    return RecoveredPatients(
        outcome="found",
        group=groups,
        reason=reason,
        floor=1 - distance,
        stable_from=1 - high,
        stable_to=1 - low,
        share=shape.share,
        median_size=shape.median,
        largest=shape.largest,
    )


def _stable_range(tree: _Tree, options: RecoveryOptions) -> tuple[float, float]:
    """The widest range of distances over which groups that could be patients stay the same; (0, 0) if there is none."""
    from sklearn.metrics import adjusted_rand_score

    best = (0.0, 0.0)
    runs: list[tuple[float, npt.NDArray[np.int32]]] = []  # ranges still growing: where each began, its groups
    for distance, groups in _usable(tree, options):
        runs = [(d, g) for d, g in runs if adjusted_rand_score(g, groups) >= options.agreement]
        runs.append((distance, groups.astype(np.int32)))
        start = runs[0][0]
        if not best[0] or distance / start > best[1] / best[0] * (1 + 1e-9):
            best = (start, distance)
    return best


def _usable(tree: _Tree, options: RecoveryOptions) -> Iterator[tuple[float, Ints]]:
    """Distances, rising by the same ratio, at which the groups could be patients; and the groups."""
    first, last = np.log(tree.distance[[0, -1]])
    for power in np.arange(first, last + np.log(STEP), np.log(STEP)):
        groups = tree.groups(float(np.exp(power)))
        if _Shape.of(groups).could_be_patients(tree.n, options):
            yield float(np.exp(power)), groups


def _contrast(near: Neighbours) -> float:
    """How many times farther than the nearest image the third nearest is, in the median.

    The two neighbours of a slice are much alike it; the third is not. Among independent images, the three nearest are
    about equally far.
    """
    third = min(2, near.distance.shape[1] - 1)
    return float(np.median(near.distance[:, third] / near.distance[:, 0]))


def _not_found(n: int, low: float, high: float, contrast: float, options: RecoveryOptions) -> RecoveredPatients:
    nothing = np.full(n, -1, dtype=np.intp)
    if contrast < options.contrast:
        reason = (
            f"No groups found: the third nearest image is {contrast:.2f} times as far as the nearest, in the median; "
            f"in a stack of slices it would be {options.contrast:g} times or more."
        )
        return RecoveredPatients(outcome="none", group=nothing, reason=reason)
    widest = f"by a factor of {high / low:.2f} only" if low else "nowhere"
    reason = (
        f"Images come in chains of look-alikes (the third nearest is {contrast:.2f} times as far as the nearest), but "
        f"no floor tells patients apart: groups stay the same {widest} while {options.contrast:g} is asked for. Slices "
        "may be missing, or patients may be too much alike."
    )
    return RecoveredPatients(
        outcome="unclear",
        group=nothing,
        reason=reason,
        stable_from=1 - high if low else None,
        stable_to=1 - low if low else None,
    )


def _by_first_appearance(groups: Ints) -> Ints:
    first = np.unique(groups, return_index=True)[1]
    rank = np.empty(len(first), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[groups]


# --- the check by labels ------------------------------------------------------------------------------------


def _checked(
    found: RecoveredPatients, links: Ints, labels: Sequence[str | None], options: RecoveryOptions
) -> RecoveredPatients:
    """The result with what the labels say of it; no longer `found` where they speak against it."""
    check = _label_check(links, labels, options)
    if check is None:
        return found
    if check.passed:
        return replace(found, labels=check)
    reason = (
        f"{found.n_groups} groups were seen, but linked images share their label in {check.same:.1%} of "
        f"{check.n_links} links, where chance gives {check.by_chance:.1%} ({p_in_words(check.p)}): that does not "
        "confirm them."
    )
    nothing = np.full(len(found.group), -1, dtype=np.intp)
    return replace(found, outcome="unclear", group=nothing, reason=reason, labels=check, floor=None)


def _label_check(links: Ints, labels: Sequence[str | None], options: RecoveryOptions) -> LabelCheck | None:
    from scipy.stats import binomtest

    names = np.array([*labels, None], dtype=object)[:-1]
    known = np.array([name is not None for name in names], dtype=bool)
    pairs = links[known[links].all(axis=1)]
    counts = np.unique(names[known].astype(str), return_counts=True)[1]
    by_chance = float(((counts / counts.sum()) ** 2).sum()) if len(counts) else 1.0
    if by_chance >= 1 or not len(pairs):
        return None
    same = int((names[pairs[:, 0]] == names[pairs[:, 1]]).sum())
    p = float(binomtest(same, len(pairs), by_chance, alternative="greater").pvalue)
    return LabelCheck(same=same / len(pairs), by_chance=by_chance, p=p, n_links=len(pairs), passed=p < options.label_p)
