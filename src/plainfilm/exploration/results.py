"""What an exploration finds: small frozen classes, each number with its count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Linkage = Literal["ward", "complete", "single"]


@dataclass(frozen=True, kw_only=True)
class Components:
    """Principal components of some images.

    Attributes:
        scores: `(n_images, n_components)`, whitened where `whitened` says so.
        ratios: Share of the variance of each component, falling.
        all_ratios: The same for as many components as were computed, for the cumulative plot.
        variance_kept: What was asked for, 0 to 1.
        n_images: Images it was fitted on.
        n_values: Numbers of each image before.
        whitened: Whether each score has unit variance.
    """

    scores: Floats
    ratios: Floats
    all_ratios: Floats
    variance_kept: float
    n_images: int
    n_values: int
    whitened: bool


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Images as points of a plane.

    Attributes:
        name: `PCA`, `t-SNE` or `UMAP`.
        coordinates: `(n_images, 2)`; rows of images that were not embedded are nan.
        settings: How, in words: perplexity, learning rate, neighbours.
        seconds: How long it took.
    """

    name: str
    coordinates: Floats
    settings: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Dendrogram:
    """A tree of images (scipy's linkage matrix), cut at its largest gap.

    Attributes:
        method: How the distance of two clusters is taken.
        linkage: `(n - 1, 4)`, as scipy gives it.
        rows: The images it was made of; a sample where there are too many.
        cut_height: Middle of the largest gap between two merges that follow each other.
        gap: Height of that gap.
        labels: Cluster of each of `rows`, from 0.
    """

    method: Linkage
    linkage: Floats
    rows: Ints
    cut_height: float
    gap: float
    labels: Ints

    @property
    def n_clusters(self) -> int:
        """Clusters below the cut."""
        return len(np.unique(self.labels))


@dataclass(frozen=True, kw_only=True)
class KMeansScan:
    """k-means for rising numbers of clusters.

    Attributes:
        k: Numbers of clusters tried, from 1.
        inertia: Sum of squared distances to the nearest centre.
        mean_distance: Mean distance to the nearest centre.
        silhouette: Mean silhouette, -1 to 1, on at most `n_silhouette` images; nan for k = 1.
        n_images: Images clustered.
        n_silhouette: Images the silhouette was taken on.
        elbow: The k of the elbow of the inertia.
        best_silhouette: The k of the largest silhouette.
        labels: `(n_images,)`, the cluster of each image at `elbow`.
    """

    k: Ints
    inertia: Floats
    mean_distance: Floats
    silhouette: Floats
    n_images: int
    n_silhouette: int
    elbow: int
    best_silhouette: int
    labels: Ints


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far clusters follow a column of the table.

    Attributes:
        clustering: `ward`, `complete`, `single` or `k-means`.
        column: `label`, `patient_id`, `format`, `width`, or any other.
        kind: What the column is: the question, the patient, where the image comes from, or how it was stored.
        ari: Adjusted Rand index: 1 the same, 0 as chance.
        ari_low: Lower end of its 95 % interval, patients (or images, where patients are unknown) resampled.
        ari_high: Upper end.
        nmi: Normalised mutual information, 0 to 1; not corrected for chance.
        n_images: Images with a value in the column and a cluster.
        n_groups: Different values.
        n_clusters: Different clusters.
    """

    clustering: str
    column: str
    kind: Literal["label", "patient", "source", "file"]
    ari: float
    ari_low: float
    ari_high: float
    nmi: float
    n_images: int
    n_groups: int
    n_clusters: int


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of some images, with its interval.

    Attributes:
        value: 0 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Whose image is the nearest other one, and how well it names the label.

    Attributes:
        same_patient: Images whose nearest other image is of the same patient.
        by_chance: The same, were the nearest drawn at random.
        label: Images whose nearest other image has their label; None without labels.
        label_elsewhere: The same for the nearest image of another patient.
        n_images: Images asked.
        n_patients: Their patients.
    """

    same_patient: Share
    by_chance: float
    label: Share | None
    label_elsewhere: Share | None
    n_images: int
    n_patients: int


@dataclass(frozen=True, kw_only=True)
class NetworkScore:
    """How right the PCA network is, trained in one way.

    Attributes:
        name: `paper` (components and network fitted on all rows, scored on the same rows), `paper, labels shuffled` or
            `cross-validation` (components and network fitted on training rows only, scored on rows held out).
        accuracy: Share of images named rightly.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n_images: Images scored.
        loss: Mean binary cross-entropy (multi-class: cross-entropy) on the same images.
        mae: Mean absolute error of the score of the true class.
        struck: Why the number must not stand; None where it may.
        history: One row per epoch: `epoch`, `train_loss`, `train_accuracy`; empty where there were several trainings.
        seconds: How long it took.
    """

    name: str
    accuracy: float
    low: float
    high: float
    n_images: int
    loss: float
    mae: float
    struck: str | None
    history: pd.DataFrame
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """Everything one exploration found.

    Attributes:
        source: What the user called the data, never an absolute path.
        seen: What was looked at: `pixels` or the features of a model, in words.
        rows: One row per image: `path`, `label`, `patient_id`, `split`, further columns, facts of the file.
        thumbnails: `(m, side, side)` uint8 of the images in `thumbnail_rows`.
        thumbnail_rows: Row numbers; all where there are few enough.
        components: Principal components.
        embeddings: PCA first.
        dendrograms: Ward, complete, single.
        kmeans: The scan.
        agreements: One for each clustering and column.
        networks: Empty unless asked for.
        notes: Sentences for the reader.
        options: As asked for.
        neighbours: None where no patient is known to have two images.
    """

    source: str
    seen: str
    rows: pd.DataFrame
    thumbnails: npt.NDArray[np.uint8]
    thumbnail_rows: Ints
    components: Components
    embeddings: tuple[Embedding, ...]
    dendrograms: tuple[Dendrogram, ...]
    kmeans: KMeansScan
    agreements: tuple[Agreement, ...]
    networks: tuple[NetworkScore, ...]
    notes: tuple[str, ...]
    options: dict[str, Any]
    neighbours: Neighbours | None = None
