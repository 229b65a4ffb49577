"""What needs no model: the nearest image, a linear rule on thumbnails, the properties of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plainfilm.auditing.cases import Cases
from plainfilm.auditing.probing import Design, ProbeOptions, class_scores, deal
from plainfilm.metrics import Bools, Floats, Ints

BLOCK = 512  # images compared with all others at once


@dataclass(frozen=True)
class Part:
    """One way to divide images: what may be learnt from, and what is asked."""

    train: Ints
    test: Ints


def parts_of(train: Bools, test: Bools, group: Ints, y: Ints, *, folds: int, seed: int) -> list[Part]:
    """The division as it was made; where nothing was trained on, folds of the tested patients.

    Args:
        train: `(n,)` images the model learnt from.
        test: `(n,)` images it was tested on.
        group: `(n,)` patients.
        y: `(n,)` labels.
        folds: How many folds.
        seed: Of the folds.
    """
    if train.any():
        return [Part(np.flatnonzero(train), np.flatnonzero(test))]
    tested = np.flatnonzero(test)
    fold = folds_of(group[tested], y[tested], folds=folds, seed=seed)
    return [Part(tested[fold != number], tested[fold == number]) for number in np.unique(fold)]


def folds_of(group: Ints, y: Ints, *, folds: int, seed: int) -> Ints:
    """`(n,)` fold of each image; whole patients, each class spread over all folds."""
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    return deal(y[first], folds, np.random.default_rng(seed))[number]


def nearest_images(units: npt.NDArray[np.float32], parts: list[Part]) -> Ints:
    """`(n,)` index of the most similar training image of each tested one; -1 where an image is not tested.

    Args:
        units: `(n, values)` of unit length.
        parts: Divisions; each image is tested at most once.
    """
    nearest = np.full(len(units), -1, dtype=np.intp)
    for part in parts:
        known = units[part.train]
        for asked in _blocks(part.test):
            nearest[asked] = part.train[(units[asked] @ known.T).argmax(axis=1)]
    return nearest


def linear_labels(features: npt.NDArray[np.floating], cases: Cases, parts: list[Part], recipe: ProbeOptions) -> Ints:
    """`(n,)` class that the ridge discriminant of the probes names; -1 where an image is not tested."""
    scores = linear_scores(features, cases, parts, recipe)
    return np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))


def linear_scores(features: npt.NDArray[np.floating], cases: Cases, parts: list[Part], recipe: ProbeOptions) -> Floats:
    """`(n, K)` its scores, a class of no training image at minus infinity; nan where an image is not tested."""
    found = np.full((len(cases), len(cases.classes)), np.nan)
    alone = np.zeros(len(cases), dtype=np.intp)
    design = Design(
        weight=1 / np.bincount(cases.group)[cases.group],
        fold=alone,
        cell=np.arange(len(cases)),
        pool=alone,
        labels=cases.y[None].astype(np.int16),
        n_arrangements=0.0,
        n_mixed=0,
    )
    for part in parts:
        for _, scores in class_scores(features, cases, design, part.train, part.test, ridge=recipe.probe_ridge):
            found[part.test] = scores[:, 0]
    return found


def _blocks(rows: Ints) -> Iterator[Ints]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]
