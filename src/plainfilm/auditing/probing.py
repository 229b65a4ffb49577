"""The frozen recipe of all probes: can the label be predicted from this little, for patients not seen before?

A ridge discriminant on a few features, cross-validated by patient, measured by balanced accuracy; every patient
counts once, however many images they have. What chance gives is found by exchanging labels between whole patients
and doing all of it again. Exchanged labels are further right-hand sides of one system of equations, so a thousand of
them cost little more than one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from plainfilm import metrics
from plainfilm.auditing.cases import Cases, cases_of
from plainfilm.auditing.subject import Subject
from plainfilm.metrics import Floats, Ints
from plainfilm.sampling import strata_of

Features = npt.NDArray[np.float32]

CELLS_AT_ONCE = 2**21  # scores looked at together: 8 MiB
FARTHEST = 5.0  # standard deviations; a feature beyond is taken as if it were there


class ProbeOptions(BaseModel):
    """How probes are made; the same for all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probe_folds: int = Field(5, ge=2, le=20, description="Parts of the probes' cross-validation by patient.*")
    probe_draws: int = Field(1_000, ge=99, le=100_000, description="Exchanges of labels that say what chance gives.")
    probe_alpha: float = Field(0.01, gt=0, lt=0.5, description="p, after Holm's correction, that a warning needs.*")
    probe_ridge: float = Field(
        1.0, gt=0, description="Penalty of a probe, as a multiple of its number of features; features have variance 1.*"
    )
    probe_patients: int = Field(
        5, ge=2, description="Patients that a class needs; smaller classes are left out of the probes, and named.*"
    )
    probe_images: int = Field(
        100_000, ge=1_000, description="Images that probes look at, at most; of more, whole patients are drawn.*"
    )
    probe_seed: int = Field(0, ge=0, lt=2**32, description="Seed of the probes' folds, exchanges and intervals.")


@dataclass(frozen=True, kw_only=True)
class Design:
    """Folds, and which labels may be exchanged.

    The labels of patients with one label are exchanged, whole, with those of other patients of the same fold: so every
    fold keeps its share of each class, under true and exchanged labels alike. A patient with several labels keeps
    them, exchanged among their own images.

    Attributes:
        weight: `(n,)` one over the number of the patient's images.
        fold: `(n,)` fold of each image, 0 to `n_folds - 1`.
        cell: `(n,)` what is exchanged: the patient, or the image where its patient has several labels.
        pool: `(n_cells,)` within which labels are exchanged.
        labels: `(1 + draws, n_cells)` the true labels first, then exchanged ones.
        n_arrangements: How many ways to exchange there are, as a natural logarithm.
        n_mixed: Patients with several labels.
    """

    weight: Floats
    fold: Ints
    cell: Ints
    pool: Ints
    labels: npt.NDArray[np.int16]
    n_arrangements: float
    n_mixed: int

    @property
    def n_folds(self) -> int:
        """Parts of the cross-validation."""
        return int(self.fold.max()) + 1

    @property
    def smallest_p(self) -> float:
        """No p can come out below this, however clear the answer."""
        return max(1 / len(self.labels), math.exp(-self.n_arrangements))


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What a probe says.

    Attributes:
        value: Balanced accuracy over all folds, every patient counting once.
        low: Lower end of its interval from resampled patients.
        high: Upper end.
        null: The same with exchanged labels, on average.
        p: Chance that exchanged labels put the scores of the classes as far apart; nan where none were drawn.
        predicted: `(n,)` predicted class of each image, from the fold that did not see it.
    """

    value: float
    low: float
    high: float
    null: float
    p: float
    predicted: Ints

    @property
    def excess(self) -> float:
        """What it has over chance; 0.05 is five points."""
        return self.value - self.null


def probed_cases(subject: Subject, options: ProbeOptions) -> Cases:
    """The labelled images of classes with enough patients, or as many of them as probes look at."""
    cases = cases_of(subject, min_patients=options.probe_patients)
    return cases.drawn(options.probe_images, seed=options.probe_seed)


def make_design(cases: Cases, options: ProbeOptions) -> Design:
    """Deal patients to folds, and exchange labels."""
    rng = np.random.default_rng(options.probe_seed)
    group, y = cases.group, cases.y
    first, last = (_extreme(group, y, which) for which in (np.minimum, np.maximum))
    mixed = first != last
    fold_of_group = deal(cases.class_of_group, options.probe_folds, rng)
    # Cells 0..n_groups-1 are patients; images of patients with several labels have a cell each.
    key = np.where(mixed[group], len(mixed) + np.arange(len(group)), group)
    kept, where, cell = np.unique(key, return_index=True, return_inverse=True)
    pool = np.where(kept < len(mixed), fold_of_group[group[where]], options.probe_folds + group[where])
    y_cell = y[where]
    labels = np.empty((1 + options.probe_draws, len(y_cell)), dtype=np.int16)
    labels[0] = y_cell
    for row in labels[1:]:
        row[:] = exchanged(y_cell, pool, rng)
    return Design(
        weight=1 / np.bincount(group)[group],
        fold=fold_of_group[group],
        cell=cell,
        pool=pool,
        labels=labels,
        n_arrangements=_arrangements(y_cell, pool),
        n_mixed=int(mixed.sum()),
    )


def run_probe(features: npt.NDArray[np.floating], cases: Cases, design: Design, options: ProbeOptions) -> Probed:
    """Predict the label of every image from its features alone.

    Args:
        features: `(n, n_features)`, finite, any unit: they are standardised inside each training part.
        cases: Labels and patients of the same images.
        design: Made for the same cases.
        options: As the design was made with.
    """
    return run_best_probe({"": features}, cases, design, options)[1]


def run_best_probe(
    parts: Mapping[str, npt.NDArray[np.floating]], cases: Cases, design: Design, options: ProbeOptions
) -> tuple[str, Probed, dict[str, float]]:
    """The best of several probes, its p paying for the choice.

    A few telling features are lost among many idle ones, so each part is asked by itself too. How far apart it puts
    the classes is taken in units of its own spread under exchanged labels; the largest of these is compared with the
    largest under each exchange (Westfall and Young 1993).

    Args:
        parts: Features of the same images by name; one at least.
        cases: Labels and patients.
        design: Made for the same cases; with exchanges.
        options: As the design was made with.

    Returns:
        The name of the best part, what it says, and the balanced accuracy of every part.
    """
    asked = {name: _ask(features, cases, design, options) for name, features in parts.items()}
    excess = {name: _in_spreads(one.distance) for name, one in asked.items()}
    best = max(asked, key=lambda name: float(excess[name][0]))
    highest = np.max(list(excess.values()), axis=0)
    p = permutation_p(float(highest[0]), highest[1:])
    return best, _probed(asked[best], p, cases, options), {name: float(one.accuracy[0]) for name, one in asked.items()}


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What features say under the true labels, which come first, and every exchange of them.

    Attributes:
        accuracy: `(1 + draws,)` balanced accuracy over all folds, every patient counting once.
        distance: `(1 + draws,)` how much higher the patients of a class score for it than others do, in standard
            deviations, mean of all classes. It decides p: what only some patients of a class have moves few answers,
            but these far.
        predicted: `(n,)` class of each image under the true labels.
    """

    accuracy: Floats
    distance: Floats
    predicted: Ints


def _ask(features: npt.NDArray[np.floating], cases: Cases, design: Design, options: ProbeOptions) -> _Answer:
    n_classes = len(cases.classes)
    predicted = np.empty(len(cases), dtype=np.intp)
    found, apart, varied = (np.zeros((len(design.labels), n_classes)) for _ in range(3))
    total = np.bincount(cases.y, weights=design.weight, minlength=n_classes)  # the same after every exchange
    for number in range(design.n_folds):
        train, test = np.flatnonzero(design.fold != number), np.flatnonzero(design.fold == number)
        cells, cell = np.unique(design.cell[test], return_inverse=True)
        for start, scores in class_scores(features, cases, design, train, test, ridge=options.probe_ridge):
            some = slice(start, start + scores.shape[1])
            named = scores.argmax(axis=2)  # (images, draws)
            if start == 0:
                predicted[test] = named[:, 0]
            labels = design.labels[some, cells]
            right = np.where(named == labels[:, cell].T, design.weight[test, None], 0)
            for c in range(n_classes):
                found[some, c] += np.where(c == labels[:, cell].T, right, 0).sum(axis=0)
            fold_apart, fold_varied = _spread_out(scores, labels, cell, design.weight[test])
            apart[some] += fold_apart
            varied[some] += fold_varied
    return _Answer(
        accuracy=(found / total).mean(axis=1),
        distance=(apart / np.sqrt(np.maximum(varied, 1e-12) * design.n_folds)).mean(axis=1),
        predicted=predicted,
    )


def _spread_out(
    scores: npt.NDArray[np.float32], labels: npt.NDArray[np.int16], cell: Ints, weight: Floats
) -> tuple[Floats, Floats]:
    """How much higher each class scores for itself than the others do, and the variance of these scores.

    Args:
        scores: `(images, draws, K)`.
        labels: `(draws, cells)`.
        cell: `(images,)` cell of each.
        weight: `(images,)`.

    Returns:
        `(draws, K)` each.
    """
    from scipy.sparse import csr_array

    n_images, n_draws, n_classes = scores.shape
    adding = csr_array((weight.astype(np.float32), (cell, np.arange(n_images))), shape=(labels.shape[1], n_images))
    size = np.bincount(cell, weights=weight)
    mean = (adding @ scores.reshape(n_images, -1)).reshape(-1, n_draws, n_classes) / size[:, None, None]
    margin = np.where(np.isfinite(mean), mean, 0)
    margin -= margin.mean(axis=2, keepdims=True)
    share = size / size.sum()
    middle = np.einsum("i,idk->dk", share, margin)
    variance = np.einsum("i,idk->dk", share, margin**2) - middle**2
    apart = np.zeros((n_draws, n_classes))
    for c in range(n_classes):
        own = (c == labels.T) * share[:, None]
        held = own.sum(axis=0)
        inside = (own * margin[:, :, c]).sum(axis=0)
        usable = (held > 0) & (held < 1)
        gap = inside / np.where(usable, held, 1) - (middle[:, c] - inside) / np.where(usable, 1 - held, 1)
        apart[:, c] = np.where(usable, gap, 0)
    return apart, variance


def _in_spreads(values: Floats) -> Floats:
    """Above what exchanged labels give, in units of their spread; as it is where there are none."""
    chance = values[1:]
    return (values - chance.mean()) / max(float(chance.std()), 1e-9) if len(chance) else values


def _probed(answer: _Answer, p: float, cases: Cases, options: ProbeOptions) -> Probed:
    low, high = interval_of(answer.predicted, cases, seed=options.probe_seed)
    values = answer.accuracy
    null = float(values[1:].mean()) if len(values) > 1 else 1 / len(cases.classes)
    return Probed(value=float(values[0]), low=low, high=high, null=null, p=p, predicted=answer.predicted)


def permutation_p(value: float, null: Floats) -> float:
    """Share of the draws that reach `value`, the true labels counted among them; nan without draws."""
    return float((1 + (null >= value - 1e-9).sum()) / (1 + len(null))) if len(null) else math.nan


def patient_confusions(predicted: Ints, cases: Cases) -> Floats:
    """`(n_patients, K, K)` each patient's own confusion matrix, which adds up to 1: every patient counts once."""
    n_classes, n_patients = len(cases.classes), cases.n_patients
    place = (cases.group * n_classes + cases.y) * n_classes + predicted
    counts = np.bincount(place, minlength=n_patients * n_classes**2).reshape(n_patients, n_classes, n_classes)
    return np.asarray(counts / counts.sum(axis=(1, 2), keepdims=True))


def resampled(
    figure: Callable[[Floats], Floats], confusions: Floats, cases: Cases, *, seed: int, draws: int = 2_000
) -> Floats:
    """A figure of the confusion matrix, for every draw of patients within their classes.

    Args:
        figure: From `(some_draws, ...)` matrices to `(some_draws, ...)` values.
        confusions: `(n_patients, ...)` to be added up over the drawn patients.
        cases: Whose patients they are.
        seed: The same seed draws the same patients: figures of two predictions are then paired.
        draws: How many.
    """
    strata = strata_of(np.arange(cases.n_patients), cases.class_of_group, smallest=2)
    flat = confusions.reshape(cases.n_patients, -1)
    weights = metrics.bootstrap_weights(np.arange(cases.n_patients), strata, draws=draws, seed=seed)
    return np.concatenate([figure((some @ flat).reshape(-1, *confusions.shape[1:])) for some in weights])


def interval_of(predicted: Ints, cases: Cases, *, seed: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the balanced accuracy by patient; from Wilson's where no draw differs from another."""
    confusions = patient_confusions(predicted, cases)
    draws = resampled(metrics.balanced_accuracy, confusions, cases, seed=seed)
    if np.ptp(draws) > 1e-12:
        low, high = metrics.percentile_interval(draws, confidence=confidence)
        return float(low), float(high)
    recalls = metrics.recall(confusions.sum(axis=0))
    ends = metrics.wilson_interval(recalls, np.bincount(cases.class_of_group, minlength=len(recalls)))
    return metrics.mean_interval(recalls, *ends)


def class_scores(
    features: npt.NDArray[np.floating], cases: Cases, design: Design, train: Ints, test: Ints, *, ridge: float
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Class scores `(n_test, some_draws, K)` of one fold's images, for some draws at a time.

    Nearest class mean in the metric of the penalised covariance of all training images. With two classes this is ridge
    regression on the label with the threshold half-way between the classes, so rare classes are not passed over.
    """
    from scipy.linalg import cho_factor, cho_solve
    from scipy.sparse import csr_array

    weight = design.weight[train]
    own, seen = _standardised(features, train, test, weight)
    matrix = own.T @ (own * weight[:, None].astype(np.float32))
    factor = cho_factor(matrix + ridge * own.shape[1] * np.eye(own.shape[1], dtype=np.float32))
    cells, cell = np.unique(design.cell[train], return_inverse=True)
    adding = csr_array((weight.astype(np.float32), (cell, np.arange(len(train)))), shape=(len(cells), len(train)))
    sums, sizes = np.asarray(adding @ own), np.bincount(cell, weights=weight)
    n_classes = len(cases.classes)
    step = max(1, CELLS_AT_ONCE // (n_classes * max(len(cells), len(test))))
    for start in range(0, len(design.labels), step):
        labels = design.labels[start : start + step, cells]
        chosen = (labels[:, None] == np.arange(n_classes)[:, None]).astype(np.float32)  # (draws, K, cells)
        flat = chosen.reshape(-1, len(cells))
        total = flat @ sizes
        means = (flat @ sums).T / np.maximum(total, 1e-12)
        pull = cho_solve(factor, means).astype(np.float32)
        scores = seen @ pull - (means * pull).sum(axis=0, dtype=np.float32) / 2
        scores[:, total == 0] = -np.inf  # a class that is not among the training images
        yield start, scores.reshape(len(test), -1, n_classes).astype(np.float32, copy=False)


def _standardised(
    features: npt.NDArray[np.floating], train: Ints, test: Ints, weight: Floats
) -> tuple[Features, Features]:
    """Mean 0 and variance 1 over the training patients; what is constant there becomes 0."""
    own = features[train].astype(np.float64)
    share = weight / weight.sum()
    mean = share @ own
    spread = np.sqrt(share @ (own - mean) ** 2)
    usable = spread > 1e-6 * np.maximum(1, np.abs(mean))
    scale = np.where(usable, 1 / np.where(usable, spread, 1), 0)
    both = (np.clip((features[part] - mean) * scale, -FARTHEST, FARTHEST) for part in (train, test))
    train_part, test_part = (part.astype(np.float32) for part in both)
    return train_part, test_part


def deal(label: Ints, folds: int, rng: np.random.Generator) -> Ints:
    """Deal patients like cards, class after class, each class in random order.

    Not `StratifiedGroupKFold`: it looks at sizes, and after that labels of one fold may no longer be exchanged.
    """
    order = np.lexsort((rng.random(len(label)), label))
    fold = np.empty(len(label), dtype=np.intp)
    fold[order] = np.arange(len(label)) % folds
    return fold


def exchanged(y: Ints, pool: Ints, rng: np.random.Generator) -> Ints:
    """Labels in another order within each pool."""
    into, out_of = np.lexsort((np.arange(len(y)), pool)), np.lexsort((rng.random(len(y)), pool))
    other = np.empty_like(y)
    other[into] = y[out_of]
    return other


def _arrangements(y: Ints, pool: Ints) -> float:
    """Logarithm of the number of different ways to exchange labels within pools."""
    _, pool = np.unique(pool, return_inverse=True)
    counts = np.zeros((pool.max() + 1, y.max() + 1))
    np.add.at(counts, (pool, y), 1)
    return float(sum(math.lgamma(row.sum() + 1) - sum(math.lgamma(n + 1) for n in row) for row in counts))


def _extreme(group: Ints, y: Ints, which: np.ufunc) -> Ints:
    """The lowest or highest label of each patient."""
    extreme = np.full(group.max() + 1, -1 if which is np.maximum else y.max() + 1, dtype=np.intp)
    which.at(extreme, group, y)
    return extreme
