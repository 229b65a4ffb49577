"""Rows dealt to two or more parts: units stay whole, classes keep their shares."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.data.table import Cells
from plainfilm.errors import TableError

Indices = npt.NDArray[np.intp]


def divide(labels: Cells, indices: Indices, units: Cells, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Part `indices` in two, the second about `fraction`; units stay whole, classes keep their shares."""
    free = np.setdiff1d(indices, _only_units(labels, indices, units))
    n_units = len(set(units[free]))
    if n_units < 2:
        raise TableError(
            f"{len(set(units[indices]))} patients are too few to set some aside: at least one class needs two. Add "
            "patients.",
            code="SPL_TOO_FEW_PATIENTS",
        )
    largest_class = Counter(labels[free]).most_common(1)[0][1]
    n_parts, n_leaving = _parts(fraction, min(n_units, largest_class))
    parts = [held_out for _, held_out in grouped_folds(labels, free, units, n_parts, seed)]
    parts.sort(key=lambda part: -len(set(labels[part])))  # a class of few patients is in few parts: take those
    leaving = np.sort(np.concatenate(parts[:n_leaving]))
    must_stay = _last_of_a_class(labels, indices, leaving, units)
    leaving = leaving[[unit not in must_stay for unit in units[leaving]]]
    return np.setdiff1d(indices, leaving), leaving


def grouped_folds(
    labels: Cells, indices: Indices, units: Cells, n_splits: int, seed: int
) -> Iterator[tuple[Indices, Indices]]:
    """Each of `n_splits` parts with the rest before it, about equally large and with about the same classes."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # a second to import

    codes, seen = pd.factorize(units[indices])
    # Where every unit is one row there is nothing to keep together, and the plain splitter is a thousand times faster.
    grouped = len(seen) < len(indices)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(n_splits, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Said in our own words by `splits`, per class.
        warnings.filterwarnings("ignore", message="The least populated class")
        try:
            names = labels[indices].astype(str)
            parts = list(splitter.split(np.zeros(len(indices)), names, codes if grouped else None))
        except ValueError:
            raise TableError(
                f"no class has {n_splits} rows, so they cannot be parted into {n_splits}.",
                code="SPL_TOO_FEW_PATIENTS",
            ) from None
    for rest, held_out in parts:
        yield indices[np.sort(rest)], indices[np.sort(held_out)]


def _parts(fraction: float, most: int) -> tuple[int, int]:
    """Into how many equal parts to divide, and how many of them make about `fraction`: 0.4 is 2 of 5."""
    candidates = [(n, min(n - 1, max(1, round(n * fraction)))) for n in range(2, max(2, min(most, 100)) + 1)]
    misses = [abs(taken / n - fraction) for n, taken in candidates]
    good_enough = max(min(misses), 0.05 * fraction)
    return next(parts for parts, miss in zip(candidates, misses, strict=True) if miss <= good_enough)


def _last_of_a_class(labels: Cells, indices: Indices, leaving: Indices, units: Cells) -> set[object]:
    """For each class of which nothing would stay, the smallest of its units: it must not leave."""
    staying = np.setdiff1d(indices, leaving)
    sizes = Counter(units[leaving])
    kept: set[object] = set()
    for label in sorted(set(labels[leaving]) - set(labels[staying])):
        own = dict.fromkeys(units[leaving[labels[leaving] == label]])  # in order of rows, each once
        if not own.keys() & kept:
            kept.add(min(own, key=lambda unit: sizes[unit]))
    return kept


def _only_units(labels: Cells, indices: Indices, units: Cells) -> Indices:
    """Rows of patients who are the only one of their class: they must stay where the class is learnt."""
    frame = pd.DataFrame({"label": labels[indices], "unit": units[indices]})
    counts = frame.groupby("label")["unit"].nunique()
    alone = frame.loc[frame["label"].isin(counts.index[counts == 1]), "unit"]
    return indices[frame["unit"].isin(alone).to_numpy()]
