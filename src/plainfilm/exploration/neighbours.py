"""Whose image is nearest: the plainest sign that a split by image leaks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.exploration.columns import MISSING, codes_of
from plainfilm.exploration.projection import sample_rows
from plainfilm.exploration.results import Floats, Ints, Neighbours, Share
from plainfilm.measures import plural
from plainfilm.metrics import bootstrap_weights, percentile_interval, wilson_interval

MOST_ASKED = 2_000
MOST_NEIGHBOURS = 256  # searched for one of another patient
DRAWS = 2_000


def nearest_images(plain: Floats, rows: pd.DataFrame, *, seed: int) -> Neighbours | None:
    """For a sample of images, whose the nearest other image is; None where no patient is known to have two.

    Args:
        plain: `(n_images, n_components)` scores, not whitened.
        rows: The table of images; those without a patient are left out.
        seed: Of the sample and the intervals.
    """
    patients, labels = codes_of(rows["patient_id"]), codes_of(rows["label"])
    pool = np.flatnonzero(patients != MISSING)
    patients, labels = np.unique(patients[pool], return_inverse=True)[1], labels[pool]
    per_patient = np.bincount(patients) if len(pool) else np.zeros(0, dtype=np.intp)
    if len(per_patient) < 2 or per_patient.max() == 1:
        return None
    asked = sample_rows(len(pool), MOST_ASKED, seed)
    near = _others_by_distance(plain[pool], asked, min(len(pool) - 1, int(per_patient.max()), MOST_NEIGHBOURS))
    own = patients[asked]
    another = patients[near] != own[:, None]
    label = label_elsewhere = None
    if (labels != MISSING).all() and labels.max() > 0:
        right = labels[near] == labels[asked][:, None]
        found = another.any(axis=1)  # not where the patient has very many images
        label = share_of(right[:, 0], own, seed=seed)
        elsewhere = right[found, another[found].argmax(axis=1)]
        label_elsewhere = share_of(elsewhere, own[found], seed=seed) if found.any() else None
    return Neighbours(
        same_patient=share_of(~another[:, 0], own, seed=seed),
        by_chance=float((per_patient[own] - 1).mean() / (len(pool) - 1)),
        label=label,
        label_elsewhere=label_elsewhere,
        n_images=len(asked),
        n_patients=len(np.unique(own)),
    )


def _others_by_distance(points: Floats, asked: Ints, k: int) -> Ints:
    """`(len(asked), k)` nearest other points, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(points)
    found = search.kneighbors(points[asked], return_distance=False)
    other = found != asked[:, None]
    other[other.all(axis=1), -1] = False  # among many copies a point may not find itself
    return np.asarray(found[other].reshape(len(asked), k), dtype=np.intp)


def share_of(hits: npt.NDArray[np.bool_], patients: Ints, *, seed: int) -> Share:
    """A share of images: Wilson's interval where every image is another patient's, else patients are resampled.

    Where draws would show no spread (all, or none), Wilson's of as many images as there are patients.

    Args:
        hits: One for each image.
        patients: Number of each one's patient.
        seed: Of the draws.
    """
    patients = np.unique(patients, return_inverse=True)[1].astype(np.intp)
    n_patients = int(patients.max()) + 1
    low, high = wilson_interval(hits.mean(), n_patients)
    if 1 < n_patients < len(hits) and 0 < hits.sum() < len(hits):
        strata = np.zeros(n_patients, dtype=np.intp)
        drawn = bootstrap_weights(patients, strata, draws=DRAWS, seed=seed)
        low, high = percentile_interval(np.concatenate([weights @ hits / weights.sum(axis=1) for weights in drawn]))
    return Share(value=float(hits.mean()), low=float(low), high=float(high))


def neighbour_notes(neighbours: Neighbours | None) -> tuple[str, ...]:
    """What they mean, in words."""
    if neighbours is None or neighbours.same_patient.low <= neighbours.by_chance:
        return ()
    whose = (
        f"The nearest other image is of the same patient for {_shown(neighbours.same_patient)} of images (by chance "
        f"{neighbours.by_chance:.1%}; {plural(neighbours.n_images, 'image')} of "
        f"{plural(neighbours.n_patients, 'patient')}): a split by image leaks."
    )
    if neighbours.label is None or neighbours.label_elsewhere is None:
        return (whose,)
    return (
        f"{whose} It has the right label for {_shown(neighbours.label)}; the nearest image of another patient for "
        f"{_shown(neighbours.label_elsewhere)}.",
    )


def _shown(share: Share) -> str:
    return f"{share.value:.1%} (95% CI {share.low:.1%} to {share.high:.1%})"
