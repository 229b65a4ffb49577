"""Near-duplicates piled up in one class (A5): copies, told from the neighbouring slices of a stack.

Neighbouring slices can be as much alike as a copy that was saved again. But a copy is far closer to its picture than
anything else of that patient is, and slices lie along a line: each has a next one that is about as far again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from plainfilm.auditing.duplicates import SIDE_DECIDING, Pairs
from plainfilm.auditing.findings import Finding
from plainfilm.auditing.leakage_options import LeakageOptions
from plainfilm.auditing.neighbours import turned
from plainfilm.auditing.subject import Ints, Subject
from plainfilm.auditing.thumbnails import thumbnails, unit_vectors
from plainfilm.data.pixels import PixelStore
from plainfilm.measures import plural
from plainfilm.metrics import Bools, Floats


def check_class_copies(
    subject: Subject, pairs: Pairs | None, patients: Ints | None, options: LeakageOptions, *, in_chains: bool = False
) -> Finding:
    """A5: one class was made larger on disk by flipped, turned or saved-again copies.

    Args:
        subject: What is audited.
        pairs: Its look-alikes; None where there are no images.
        patients: `(n,)` patient of each image, documented or recovered, whose copies count once; None where unknown.
        options: The limits.
        in_chains: Whether images come in chains of look-alikes whose patients nobody knows: copies cannot be told then.
    """
    facts: dict[str, Any] = {
        "check": "A5",
        "title": "Copies piled up in one class",
        "rule": f"FAIL where a class loses {options.class_loss:.0%}* of its images more than the others do when one of "
        f"each group of near-duplicates is kept, and Fisher's p, times the classes, is below {options.class_alpha:g} "
        "(rows: patients, or pictures where patients are not known, with and without copies). Within a patient of "
        f"several images, a copy is one that all others are {options.copy_contrast:g}* times as far from.",
        "source": "Fisher's exact test; classes augmented on disk before any split: Kapoor and Narayanan 2023.",
        "limits": "Copies that were rotated freely, cropped or made brighter are not seen; nor are copies of slices "
        "that are hardly less alike than a copy that was saved again.",
    }
    if pairs is None or subject.pixels is None:
        return Finding(**facts, verdict="NOT ASSESSABLE", sentence="Not assessable: there are no images.")
    y = subject.y
    if len(subject.classes) < 2:
        return Finding(**facts, verdict="NOT ASSESSABLE", sentence="Not assessable: there are fewer than two classes.")
    near = pairs.near(options)
    pairs = near if patients is None else near.where(are_copies(subject.pixels, near, patients, options))
    same = (y[pairs.one] == y[pairs.other]) & (y[pairs.one] >= 0)
    found = [_loss(subject, pairs.where(same), patients, code) for code in range(len(subject.classes))]
    worst = max(range(len(found)), key=lambda code: (found[code]["p"] < options.class_alpha, found[code]["excess"]))
    loss, name = found[worst], subject.classes[worst]
    fails = loss["p"] < options.class_alpha and loss["excess"] > options.class_loss
    if fails and patients is None and in_chains:
        return Finding(
            **facts,
            verdict="NOT ASSESSABLE",
            sentence="Not assessable: images come in chains of look-alikes, and patients are not known, so that copies "
            "cannot be told from neighbouring slices.",
            advice="Give patient ids.",
        )
    return Finding(
        **facts,
        verdict="FAIL" if fails else "PASS",
        sentence=f"Keeping one of each group of near-duplicates, class '{name}' would lose {loss['lost']:.1%} of "
        f"{plural(loss['n_images'], 'image')}, the others {loss['lost_elsewhere']:.1%} (Fisher's p = {loss['p']:.2g}, "
        f"corrected for {len(found)} classes).",
        advice="Keep one of each group of copies, and augment while training instead." if fails else "",
        value=loss["excess"],
        p=loss["p"],
        n_images=int((y >= 0).sum()),
        n_patients=None if patients is None else len(np.unique(patients[y >= 0])),
        details={
            "by_class": dict(zip(subject.classes, found, strict=True)),
            "near_duplicates": len(near),
            "copies": len(pairs),
        },
    )


def are_copies(pixels: PixelStore, near: Pairs, patients: Ints, options: LeakageOptions) -> Bools:
    """`(n_pairs,)` which near-duplicates are copies, and not neighbours in a stack of slices.

    A pair of two patients is. Within a patient, images are copies of each other where they are near-duplicates one and
    all, and every other image of that patient is `copy_contrast` times as far from them as they are from each other.

    Args:
        pixels: All images.
        near: The near-duplicates among them.
        patients: `(n,)` patient of each image; below 0 where unknown, and then a patient of its own.
        options: The limits.
    """
    inside = (patients[near.one] == patients[near.other]) & (patients[near.one] >= 0)
    copies: Bools = np.asarray(~inside)
    for patient in np.unique(patients[near.one[inside]]).tolist():
        own = np.flatnonzero(inside & (patients[near.one] == patient))
        rows = np.flatnonzero(patients == patient)
        turns = np.unique(np.append(near.turn[own], 0)).tolist()
        group = _copy_groups(_distances(thumbnails(pixels.take(rows), SIDE_DECIDING), turns), options)
        one, other = (group[np.searchsorted(rows, side[own])] for side in (near.one, near.other))
        copies[own] = one == other
    return copies


def _distances(images: npt.NDArray[np.float32], turns: list[int]) -> Floats:
    """`(n, n)` 1 less the correlation of the pixels, at the best of some flips and turns."""
    vectors = unit_vectors(images)
    best = np.max([unit_vectors(turned(images, turn)) @ vectors.T for turn in turns], axis=0)
    distance: Floats = np.maximum(1 - np.maximum(best, best.T), 0).astype(np.float64)
    np.fill_diagonal(distance, 0)
    return distance


def _copy_groups(distance: Floats, options: LeakageOptions) -> Ints:
    """`(n,)` group of each image of one patient; images in one group are copies of each other."""
    from scipy.cluster.hierarchy import linkage, to_tree
    from scipy.spatial.distance import squareform

    group = np.arange(len(distance))
    waiting: list[Any] = [to_tree(linkage(squareform(distance, checks=False), "complete"))]
    while waiting:  # from the whole patient down; the height of a node is how far its farthest two images are apart
        node = waiting.pop()
        if node.is_leaf():
            continue
        rows = np.array(node.pre_order())
        away = np.delete(distance[rows], rows, axis=1)
        apart = not away.size or away.min() >= options.copy_contrast * node.dist
        if node.dist <= 1 - options.near_correlation and apart:
            group[rows] = rows.min()
        else:
            waiting += [node.left, node.right]
    return group


def _loss(subject: Subject, pairs: Pairs, patients: Ints | None, code: int) -> dict[str, Any]:
    """What one class would lose, what the others would, and whether that is chance."""
    from scipy.stats import fisher_exact

    y = subject.y
    picture = pairs.groups(len(y))
    has_copy = np.bincount(picture)[picture] > 1
    unit = picture if patients is None else patients
    own, elsewhere = y == code, (y >= 0) & (y != code)
    table = [_with_and_without(unit[side], has_copy[side]) for side in (own, elsewhere)]
    lost = [1 - len(np.unique(picture[side])) / side.sum() for side in (own, elsewhere)]
    p = float(fisher_exact(np.array(table), alternative="greater").pvalue) * len(subject.classes)
    return {
        "lost": float(lost[0]),
        "lost_elsewhere": float(lost[1]),
        "excess": float(lost[0] - lost[1]),
        "p": min(1.0, p),
        "n_images": int(own.sum()),
        "units_with_copies": table[0][0],
        "units": sum(table[0]),
    }


def _with_and_without(unit: Ints, has_copy: Bools) -> list[int]:
    """How many units have an image with a copy, and how many have none."""
    n_all = len(np.unique(unit))
    n_with = len(np.unique(unit[has_copy]))
    return [n_with, n_all - n_with]
