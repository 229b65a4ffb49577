"""Images as a few numbers, and as points of a plane: principal components, t-SNE, UMAP."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from plainfilm.data.pixels import PixelStore
from plainfilm.errors import DataError, UsageError
from plainfilm.exploration.results import Components, Embedding, Floats, Ints

Values = npt.NDArray[np.float32]

MOST_VALUES = 1 << 27  # numbers fitted at once: 512 MiB in float32, and a copy while they are
BATCH_VALUES = 1 << 24
EXACT_COST = 2e10  # multiplications for all axes: a few seconds
MOST_NEIGHBOUR_COMPONENTS = 50  # distances for t-SNE and UMAP: scikit-learn's own advice


class Seen(Protocol):
    """What is looked at: a row of numbers for each image, read when it is asked for."""

    @property
    def n_values(self) -> int:
        """Numbers of each image."""

    def __len__(self) -> int: ...

    def values(self, rows: Ints) -> Values:
        """`(len(rows), n_values)`."""


@dataclass(frozen=True)
class Planes:
    """The pixels of images: one grey plane, or a red, a green and a blue one."""

    stores: tuple[PixelStore, ...]

    def __len__(self) -> int:
        return len(self.stores[0])

    @property
    def n_values(self) -> int:
        """Pixels times planes."""
        return len(self.stores) * int(np.prod(self.stores[0].shape[1:]))

    def values(self, rows: Ints) -> Values:
        """Pixels in units of their full range, plane after plane."""
        return np.concatenate([store.values(rows).reshape(len(rows), -1) for store in self.stores], axis=1)


@dataclass(frozen=True)
class Features:
    """`(n, d)` numbers that a model makes of each image."""

    array: Values

    def __len__(self) -> int:
        return len(self.array)

    @property
    def n_values(self) -> int:
        """Numbers of each image."""
        return int(self.array.shape[1])

    def values(self, rows: Ints) -> Values:
        """The features of some images."""
        return np.asarray(self.array[rows], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Principal axes: where images are projected to.

    Attributes:
        mean: `(n_values,)`, taken off first.
        directions: `(at least n_components, n_values)`, orthonormal; two, if there are, even where one is kept.
        deviations: Standard deviation along each.
        all_ratios: Share of the variance along every axis that was computed.
        n_components: How many are kept.
        n_images: Images they were fitted on.
    """

    mean: Values
    directions: Values
    deviations: Floats
    all_ratios: Floats
    n_components: int
    n_images: int

    def scores(self, values: Values) -> Floats:
        """`(n, axes)`, not whitened: their distances are those of the images, but for the variance left out."""
        return ((values - self.mean) @ self.directions.T).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Principal components of all images.

    Attributes:
        components: As they are reported, whitened where asked.
        plain: Scores before whitening, `(n_images, n_components)`: for distances.
        plane: The first two, even where one is kept.
        notes: Where not every image, or not every component, could be taken.
    """

    components: Components
    plain: Floats
    plane: Floats
    notes: tuple[str, ...]


def sample_rows(n: int, most: int, seed: int) -> Ints:
    """All of `n` rows, or `most` of them at random, in rising order."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size=most, replace=False))


def fit_axes(values: Values, *, variance: float, most_components: int, seed: int) -> Axes:
    """Principal axes that keep a share of the variance.

    All axes are computed unless that takes too long: then only the first `most_components`, by randomised
    decomposition.

    Args:
        values: `(n, n_values)`; at least 2 rows.
        variance: Share to keep, above 0 and below 1. As many axes are kept as are needed to exceed it.
        most_components: Axes kept, at most: the share may then not be reached.
        seed: Of the randomised decomposition.

    Raises:
        DataError: `EXP_ALIKE` if all rows are the same, `EXP_NOT_FINITE`.

    References:
        Halko, Martinsson and Tropp, SIAM Review 2011;53:217-288 (randomised decomposition).
    """
    if not np.isfinite(values).all():
        raise DataError("Some values to explore are not finite numbers.", code="EXP_NOT_FINITE")
    if (values == values[0]).all():
        raise DataError("All images are alike: there is nothing to explore.", code="EXP_ALIKE")
    n, d = values.shape
    if n * d * min(n, d) > EXACT_COST:
        found = _fit_pca(values, min(most_components, n, d), "randomized", seed)
    elif n < d:
        found = _fit_products(values)
    else:
        found = _fit_pca(values, None, "covariance_eigh", seed)
    ratios = found.ratios
    real = int((ratios > 1e-12).sum())  # images that are copies take variance away from the last axes
    kept = min(int(np.searchsorted(np.cumsum(ratios), variance, side="right")) + 1, real, most_components)
    shown = max(kept, min(2, len(ratios)))
    return Axes(
        mean=found.mean,
        directions=found.directions[:shown],
        deviations=np.sqrt(found.variances[:shown]),
        all_ratios=ratios,
        n_components=kept,
        n_images=n,
    )


@dataclass(frozen=True)
class _Decomposition:
    """Axes with falling variance, and their shares of the whole variance."""

    mean: Values
    directions: Values
    variances: Floats
    ratios: Floats


def _fit_pca(values: Values, n_components: int | None, solver: str, seed: int) -> _Decomposition:
    from sklearn.decomposition import PCA

    pca = PCA(n_components, svd_solver=solver, random_state=seed).fit(values)
    variances, ratios = (
        np.asarray(found, dtype=np.float64) for found in (pca.explained_variance_, pca.explained_variance_ratio_)
    )
    mean, directions = (np.asarray(found, dtype=np.float32) for found in (pca.mean_, pca.components_))
    return _Decomposition(mean, directions, variances, ratios)


def _fit_products(values: Values) -> _Decomposition:
    """The same axes from the products of the images: where they are few and large, ten times sooner."""
    mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = values - mean
    squares, sides = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    squares, sides = np.clip(squares[:0:-1], 0, None), sides[:, :0:-1]  # falling; the last has no variance
    lengths = np.sqrt(np.maximum(squares, 1e-12 * squares[0]))
    directions = (sides / lengths).T.astype(np.float32) @ centred
    return _Decomposition(mean, directions, squares / (len(values) - 1), squares / squares.sum())


def project(
    seen: Seen, *, variance: float, whiten: bool, most_components: int, most_fitted: int, seed: int
) -> Projection:
    """Principal components of every image; memory stays bounded, whatever their number.

    Args:
        seen: What is looked at.
        variance: Share of the variance to keep.
        whiten: Whether the scores reported get unit variance.
        most_components: See `fit_axes`.
        most_fitted: Images the axes are fitted on, at most; fewer where an image has very many values.
        seed: Of the sample.
    """
    rows = sample_rows(len(seen), max(3, min(most_fitted, MOST_VALUES // seen.n_values)), seed)
    axes = fit_axes(seen.values(rows), variance=variance, most_components=most_components, seed=seed)
    all_scores = np.empty((len(seen), len(axes.directions)))
    for part in _batches(len(seen), seen.n_values):
        all_scores[part] = axes.scores(seen.values(part))
    plain = all_scores[:, : axes.n_components]
    ratios = axes.all_ratios[: axes.n_components]
    components = Components(
        scores=plain / axes.deviations[: axes.n_components] if whiten else plain,
        ratios=ratios,
        all_ratios=axes.all_ratios,
        variance_kept=variance,
        n_images=axes.n_images,
        n_values=seen.n_values,
        whitened=whiten,
    )
    notes = []
    if len(rows) < len(seen):
        notes.append(f"Principal components were fitted on {len(rows):,} of {len(seen):,} images, drawn at random.")
    if ratios.sum() < variance:
        notes.append(
            f"The first {len(ratios):,} components, as many as may be kept, hold {ratios.sum():.1%} of the "
            f"variance; {variance:.1%} was asked for."
        )
    return Projection(components=components, plain=plain, plane=_plane(all_scores), notes=tuple(notes))


def _batches(n: int, n_values: int) -> Iterator[Ints]:
    step = max(1, BATCH_VALUES // n_values)
    for start in range(0, n, step):
        yield np.arange(start, min(start + step, n))


def _plane(scores: Floats) -> Floats:
    """Two columns; the second is 0 where there is but one."""
    return scores[:, :2] if scores.shape[1] > 1 else np.column_stack([scores[:, 0], np.zeros(len(scores))])


def embed_tsne(plain: Floats, *, perplexity: float | None, rate: float | None, most: int, seed: int) -> Embedding:
    """Embed by t-SNE, which keeps near images near; distances between far ones mean nothing.

    Args:
        plain: `(n, n_components)` scores, not whitened.
        perplexity: See `ExploreOptions`.
        rate: Learning rate; None: the larger of 50 and n / 48.
        most: Images embedded, at most.
        seed: Of the sample and the embedding.

    Raises:
        UsageError: `EXP_PERPLEXITY` if it is not below the number of images embedded.

    References:
        van der Maaten and Hinton, JMLR 2008;9:2579-2605. Learning rate: Belkina et al., Nature Communications
        2019;10:5415. The X-ray paper had perplexity 15 and learning rate 1.
    """
    from sklearn.manifold import TSNE

    started = time.monotonic()
    rows = sample_rows(len(plain), most, seed)
    if perplexity is not None and perplexity >= len(rows):
        raise UsageError(
            f"--perplexity {perplexity:g} must be below the number of images embedded, {len(rows):,}.",
            code="EXP_PERPLEXITY",
        )
    near = plain[rows, :MOST_NEIGHBOUR_COMPONENTS]
    used = perplexity if perplexity is not None else min(30.0, (len(rows) - 1) / 3)
    start: Literal["pca", "random"] = "pca" if near.shape[1] > 1 else "random"  # one component spans no plane
    tsne = TSNE(perplexity=used, learning_rate="auto" if rate is None else rate, init=start, random_state=seed)
    points = np.full((len(plain), 2), np.nan)
    points[rows] = tsne.fit_transform(near)
    settings = f"perplexity {used:g}, learning rate {'auto' if rate is None else f'{rate:g}'}"
    return Embedding(
        name="t-SNE",
        coordinates=points,
        settings=f"{settings}, {_made_of(near, len(plain))}, seed {seed}",
        seconds=time.monotonic() - started,
    )


def embed_umap(plain: Floats, *, neighbours: int, most: int, seed: int) -> Embedding:
    """Embed by UMAP; arguments as for `embed_tsne`.

    Raises:
        UsageError: `MISSING_EXTRA` if umap-learn is not installed.

    References:
        McInnes, Healy and Melville, arXiv:1802.03426.
    """
    started = time.monotonic()
    # Numba sets the threads of the whole process, and a network trained afterwards would sum in another order.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba, and on the single thread that a seed asks for
        try:
            from umap import UMAP
        except ImportError:
            raise UsageError(
                "UMAP needs umap-learn. Install it with: pip install 'plainfilm[explore]'", code="MISSING_EXTRA"
            ) from None
        rows = sample_rows(len(plain), most, seed)
        near = plain[rows, :MOST_NEIGHBOUR_COMPONENTS]
        used = min(neighbours, len(rows) - 1)
        start = "random" if len(rows) <= 10 else "spectral"  # too few for the eigenvectors it begins with
        points = np.full((len(plain), 2), np.nan)
        points[rows] = UMAP(n_neighbors=used, init=start, random_state=seed, n_jobs=1).fit_transform(near)
    return Embedding(
        name="UMAP",
        coordinates=points,
        settings=f"{used} neighbours, {_made_of(near, len(plain))}, seed {seed}",
        seconds=time.monotonic() - started,
    )


def _made_of(near: Floats, n_images: int) -> str:
    """The components and images an embedding was made of, in words."""
    n, k = near.shape
    sampled = f" of {n:,} of {n_images:,} images, drawn at random" if n < n_images else ""
    return f"{k} {'component' if k == 1 else 'components'}{sampled}"
