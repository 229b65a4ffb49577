"""What clusters follow, and which columns of the table give the label away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from plainfilm.exploration.clustering import Clustering
from plainfilm.exploration.columns import MISSING, Column, codes_of, columns_of, patients_of
from plainfilm.exploration.results import Agreement, Floats, Ints
from plainfilm.measures import plural
from plainfilm.metrics import bootstrap_weights, percentile_interval, wilson_interval

if TYPE_CHECKING:
    from scipy.sparse import csr_array

DRAWS = 500
COLUMN_WORDS = {
    "format": "The file format",
    "mode": "How pixels are stored",
    "bits": "The bit depth",
    "size": "The size in pixels",
    "file_bytes": "The size of the file",
    "name_begins": "The beginning of the file's name",
    "split": "The split",
}
WARNINGS = {
    "source": "if it stands for where images come from, a model may learn that instead of what they show",
    "file": "a model may learn how images were stored instead of what they show",
}


# --- agreement ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pairs:
    """Pairs of images that share a cell, under any weights of the patients.

    A patient drawn twice is two patients: images make pairs within each copy, and never an image with itself.

    Attributes:
        counts: `(cells, patients)` images.
        squares: `(patients,)` squared counts, summed over the cells.
        images: `(patients,)`.
    """

    counts: csr_array
    squares: Floats
    images: Floats

    @classmethod
    def of(cls, cells: Ints, patients: Ints) -> Self:
        """Both from 0, one for each image."""
        from scipy.sparse import csr_array

        shape = (int(cells.max()) + 1, int(patients.max()) + 1)
        counts = csr_array((np.ones(len(cells)), (cells, patients)), shape=shape)
        return cls(counts, counts.power(2).sum(axis=0), counts.sum(axis=0))

    def total(self, weights: Floats) -> Floats:
        """`(draws,)` pairs, for weights `(draws, patients)`."""
        in_cells = self.counts @ weights.T
        return np.asarray(
            ((in_cells**2).sum(axis=0) - weights**2 @ self.squares + weights @ (self.squares - self.images)) / 2
        )


@dataclass(frozen=True)
class _Agreeing:
    """Pairs of images that two partitions put together: both, the first, the second; and all pairs there are."""

    both: _Pairs
    one: _Pairs
    other: _Pairs
    everything: _Pairs

    @classmethod
    def of(cls, one: Ints, other: Ints, patients: Ints) -> Self:
        cells = (_joint(one, other), one, other, np.zeros_like(one))
        return cls(*(_Pairs.of(cell, patients) for cell in cells))

    def rand_index(self, weights: Floats) -> Floats:
        """Adjusted for chance (Hubert and Arabie 1985); nan where it is not defined."""
        both, one, other, everything = (
            pairs.total(weights) for pairs in (self.both, self.one, self.other, self.everything)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            by_chance = one * other / everything
            index: Floats = (both - by_chance) / ((one + other) / 2 - by_chance)
        return index

    def share(self, weights: Floats) -> Floats:
        """Of the pairs that the second puts together, the share that the first does too."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share: Floats = self.both.total(weights) / self.other.total(weights)
        return share


def agreements_of(
    rows: pd.DataFrame, clusterings: Sequence[Clustering], *, seed: int, draws: int = DRAWS
) -> tuple[Agreement, ...]:
    """How far each clustering follows each column, with intervals from resampled patients.

    Patients (images, where a patient is not known) are drawn with replacement, clusters stay as they are; the ends
    are the 2.5 and 97.5 percentiles.

    Args:
        rows: The table of images.
        clusterings: Of all or of some of its rows.
        seed: Of the draws.
        draws: How many.
    """
    columns, patients = columns_of(rows), patients_of(rows)
    found = []
    for clustering in clusterings:
        for column in columns:
            known = column.codes[clustering.rows] != MISSING
            own, labels = clustering.rows[known], clustering.labels[known]
            codes = column.codes[own]
            if len(np.unique(codes)) > 1 and len(np.unique(labels)) > 1:
                numbers = _agreement(labels, codes, _renumbered(patients[own]), seed=seed, draws=draws)
                found.append(Agreement(clustering=clustering.name, column=column.name, kind=column.kind, **numbers))
    return tuple(found)


def _agreement(clusters: Ints, groups: Ints, patients: Ints, *, seed: int, draws: int) -> dict[str, Any]:
    from sklearn.metrics import normalized_mutual_info_score

    agreeing = _Agreeing.of(clusters, groups, patients)
    n_patients = int(patients.max()) + 1
    low, high = _interval([agreeing.rand_index(weights) for weights in _draw(n_patients, draws, seed)])
    return {
        "ari": float(agreeing.rand_index(np.ones((1, n_patients)))[0]),
        "ari_low": low,
        "ari_high": high,
        "nmi": float(normalized_mutual_info_score(groups, clusters)),
        "n_images": len(patients),
        "n_groups": len(np.unique(groups)),
        "n_clusters": len(np.unique(clusters)),
    }


def _draw(n_patients: int, draws: int, seed: int) -> Iterator[Floats]:
    """`(some_draws, n_patients)` weights; nothing for a single patient, who cannot vary."""
    if n_patients > 1:
        yield from bootstrap_weights(np.arange(n_patients), np.zeros(n_patients, dtype=np.intp), draws=draws, seed=seed)


def _interval(drawn: list[Floats]) -> tuple[float, float]:
    """2.5 and 97.5 percentile; nan where no draw is defined."""
    together = np.concatenate([*drawn, np.zeros(0)])
    if not np.isfinite(together).any():
        return float("nan"), float("nan")
    low, high = percentile_interval(together)
    return float(low), float(high)


def _joint(one: Ints, other: Ints) -> Ints:
    """Which cell of both partitions each image is in, from 0."""
    return _renumbered(one * (other.max() + 1) + other)


def _renumbered(codes: Ints) -> Ints:
    return np.asarray(np.unique(codes, return_inverse=True)[1], dtype=np.intp)


# --- in words -----------------------------------------------------------------------------------------------


def agreement_notes(rows: pd.DataFrame, clusterings: Sequence[Clustering], *, seed: int) -> tuple[str, ...]:
    """What a reader should not miss: patients that look alike, and files that give the label away."""
    grouped = [clustering for clustering in clusterings if len(np.unique(clustering.labels)) > 1]
    said = [] if not grouped else [_patients_alike(rows, grouped[-1], seed)]
    said += [_gives_label_away(rows, column) for column in columns_of(rows) if column.kind in ("source", "file")]
    return tuple(sentence for sentence in said if sentence)


def _patients_alike(rows: pd.DataFrame, clustering: Clustering, seed: int) -> str:
    """Whether images of one patient share a cluster more often than images of two patients with one label."""
    patient_codes, label_codes = codes_of(rows["patient_id"]), codes_of(rows["label"])
    known = (patient_codes != MISSING) & (label_codes != MISSING)
    own = clustering.rows[known[clustering.rows]]
    clusters = clustering.labels[known[clustering.rows]]
    if len(own) == 0 or len(np.unique(patient_codes[own])) == len(own) or len(np.unique(patient_codes[own])) == 1:
        return ""
    patients, labels = _renumbered(patient_codes[own]), _renumbered(label_codes[own])
    same_patient = _Agreeing.of(clusters, _joint(patients, labels), patients)
    same_label = _Agreeing.of(clusters, labels, patients)

    def shares(weights: Floats) -> tuple[Floats, Floats]:
        own_both, own_all = same_patient.both.total(weights), same_patient.other.total(weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            among_others = (same_label.both.total(weights) - own_both) / (same_label.other.total(weights) - own_all)
        return same_patient.share(weights), among_others

    n_patients = int(patients.max()) + 1
    alike, others = (float(share[0]) for share in shares(np.ones((1, n_patients))))
    differences = [one - other for one, other in map(shares, _draw(n_patients, DRAWS, seed))]
    low, high = (round(end, 2) + 0 for end in _interval(differences))  # + 0: never "-0.00"
    if not low > 0:  # that clusters do not follow patients does not show that no two of their images are alike
        return ""
    return (
        f"Two images of one patient share a {clustering.name} cluster in {alike:.0%} of pairs, images of two patients "
        f"with the same label in {others:.0%} (difference {alike - others:.2f}, 95% CI {low:.2f} to {high:.2f}, "
        f"{plural(len(own), 'image')} of {plural(n_patients, 'patient')}): a split by image leaks."
    )


def _gives_label_away(rows: pd.DataFrame, column: Column) -> str:
    """Whether a column names the label of patients left out better than the commonest label does."""
    labels = codes_of(rows["label"])
    known = (labels != MISSING) & (column.codes != MISSING)
    groups, labels = _renumbered(column.codes[known]), _renumbered(labels[known])
    if len(labels) == 0 or labels.max() == 0 or groups.max() == 0:
        return ""
    patients = _renumbered(patients_of(rows)[known])
    right = float((_most_frequent_elsewhere(groups, labels, patients) == labels).mean())
    commonest = float(np.bincount(labels).max() / len(labels))
    n_patients = int(patients.max()) + 1
    low, high = (float(end) for end in wilson_interval(right, n_patients))
    if low <= commonest:
        return ""
    subject = COLUMN_WORDS.get(column.name, f"The column '{column.name}'")
    return (
        f"{subject} alone names the label of {right:.0%} of images "
        f"(95% CI {low:.0%} to {high:.0%}, {plural(len(labels), 'image')}; the commonest label: {commonest:.0%}): "
        f"{WARNINGS[column.kind]}."
    )


def _most_frequent_elsewhere(groups: Ints, labels: Ints, patients: Ints) -> Ints:
    """For each image the commonest label of its group among all other patients; -1 where there are none."""
    n_labels = labels.max() + 1
    in_group = np.bincount(groups * n_labels + labels, minlength=(groups.max() + 1) * n_labels).reshape(-1, n_labels)
    place = _joint(patients, groups)
    own = np.bincount(place * n_labels + labels, minlength=(place.max() + 1) * n_labels).reshape(-1, n_labels)
    elsewhere = in_group[groups] - own[place]
    return np.where(elsewhere.any(axis=1), elsewhere.argmax(axis=1), -1)
