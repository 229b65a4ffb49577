"""Would more patients help? Scores of a quick model on more and more patients, and where the curve goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from plainfilm import metrics
from plainfilm.calibration import patient_weights
from plainfilm.errors import DataError
from plainfilm.metrics import Floats, Ints, percentile_interval
from plainfilm.progress import Progress, Silent

FEWEST = 30  # patients in all
RATES = np.linspace(0.1, 2.0, 39)  # exponents that are tried
BEYOND = 2  # times the patients at hand, and no farther


class LearningCurveOptions(BaseModel):
    """On how many patients the quick model is tried, and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    curve_sizes: int = Field(6, ge=5, le=20, description="Numbers of training patients that are tried.")
    curve_seeds: int = Field(3, ge=3, le=50, description="Divisions into training and held-out patients.")
    curve_held_out: float = Field(0.3, gt=0.05, lt=0.8, description="Share of the patients held out.")
    curve_draws: int = Field(500, ge=100, description="Curves drawn for the interval.")
    curve_seed: int = Field(0, ge=0, description="Seed of divisions and draws.")


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Balanced accuracy by patient against the number of training patients.

    Attributes:
        patients: `(points,)` training patients.
        scores: `(points,)` balanced accuracy of held-out patients.
        drawn_at: `(m,)` numbers of patients of the fitted curve, to twice what there is.
        fitted: `(m,)` the curve: ceiling - drop * patients ** -rate.
        low: `(m,)` lower end of its 95 % interval.
        high: `(m,)` upper end.
        n_patients: Patients in all.
        gain: Expected gain of doubling the training patients.
        gain_low: Lower end of its interval.
        gain_high: Upper end.
    """

    patients: Ints
    scores: Floats
    drawn_at: Floats
    fitted: Floats
    low: Floats
    high: Floats
    n_patients: int
    gain: float
    gain_low: float
    gain_high: float


def learning_curve(
    features: npt.NDArray[np.float32],
    y_true: Ints,
    group: Ints,
    options: LearningCurveOptions | None = None,
    *,
    progress: Progress | None = None,
) -> LearningCurve:
    """Train a logistic regression on the features of more and more patients, and follow the curve to twice as many.

    The quick model stands for a slow one only as far as both learn from the same features: the curve says whether
    patients are scarce, not how good a network will be.

    Args:
        features: `(n, d)` of a frozen network, or thumbnails.
        y_true: `(n,)` class index.
        group: `(n,)` patient.
        options: Sizes and seeds.
        progress: Told after every training.

    Raises:
        DataError: `EVL_TOO_FEW` if there are fewer than 30 patients, or fewer than 6 in a class.

    References:
        Figueroa et al., BMC Medical Informatics and Decision Making 2012;12:8 (weighted inverse power law).
    """
    options = options or LearningCurveOptions()
    patients, first, code = np.unique(group, return_index=True, return_inverse=True)
    label = y_true[first]
    if len(patients) < FEWEST or np.bincount(label)[np.unique(label)].min() < 6:
        raise DataError(
            f"A learning curve needs {FEWEST} patients, 6 in each class; there are {len(patients)}.", code="EVL_TOO_FEW"
        )
    shares = np.geomspace(0.15, 1, options.curve_sizes)
    sizes, scores = [], []
    with (progress or Silent()).task("learning curve", options.curve_seeds * len(shares)) as advance:
        for seed in range(options.curve_seeds):
            drawn = np.random.default_rng([options.curve_seed, seed])
            order = _interleaved(label, drawn)
            n_held_out = round(options.curve_held_out * len(order))
            held_out, training = order[:n_held_out], order[n_held_out:]
            for share in shares:
                chosen = training[: max(2 * len(np.unique(label)), round(share * len(training)))]
                score = _score(features, y_true, code, chosen, held_out)
                if score is not None:
                    sizes.append(len(chosen))
                    scores.append(score)
                advance(1)
    n, found = np.array(sizes, dtype=np.intp), np.array(scores)
    at = np.unique(np.linspace(n.min(), BEYOND * n.max(), 60))
    draws = _drawn_curves(n, found, at, draws=options.curve_draws, seed=options.curve_seed)
    fitted = _fitted(n, found[None], at)[0]
    low, high = percentile_interval(draws)
    now = int(np.searchsorted(at, n.max()))
    gains = draws[:, -1] - draws[:, now]
    gain_low, gain_high = percentile_interval(gains)
    return LearningCurve(
        patients=n,
        scores=found,
        drawn_at=at,
        fitted=fitted,
        low=low,
        high=high,
        n_patients=len(patients),
        gain=float(fitted[-1] - fitted[now]),
        gain_low=float(gain_low),
        gain_high=float(gain_high),
    )


def _interleaved(label: Ints, drawn: np.random.Generator) -> Ints:
    """Patients in an order in which every beginning has all classes in about their shares."""
    place = np.empty(len(label))
    for c in np.unique(label):
        own = np.flatnonzero(label == c)
        place[drawn.permutation(own)] = (np.arange(len(own)) + drawn.random()) / len(own)
    return np.argsort(place, kind="stable")


def _score(features: npt.NDArray[np.float32], y_true: Ints, code: Ints, train: Ints, held_out: Ints) -> float | None:
    """Balanced accuracy by patient, from the mean score of a patient's images; None where a class is not there."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen, new = np.isin(code, train), np.isin(code, held_out)
    if len(np.unique(y_true[seen])) < len(np.unique(y_true)):
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    model.fit(features[seen], y_true[seen], logisticregression__sample_weight=patient_weights(code[seen]) * seen.sum())
    summed = np.zeros((int(code.max()) + 1, len(model.classes_)))
    np.add.at(summed, code[new], model.predict_proba(features[new]))
    truth = np.zeros(len(summed), dtype=np.intp)
    truth[code] = np.searchsorted(model.classes_, y_true)
    cm = metrics.confusion_matrix(truth[held_out], summed[held_out].argmax(axis=1), len(model.classes_))
    value = float(metrics.balanced_accuracy(cm))
    return None if np.isnan(value) else value


def _fitted(n: Ints, scores: Floats, at: Floats) -> Floats:
    """`(curves, len(at))`: for each row of scores the power law of least squares, larger sizes weighing more.

    For a given rate the law is a line in `n ** -rate`; the rate that fits best is taken. A curve that would fall is
    level.
    """
    weights = n / n.sum()
    best_error = np.full(len(scores), np.inf)
    best = np.zeros((len(scores), len(at)))
    for rate in RATES:
        x = n**-rate
        centered = x - weights @ x
        middle = scores @ weights
        slope = np.minimum((scores * weights) @ centered / (weights @ centered**2), 0)
        error = ((scores - middle[:, None] - slope[:, None] * centered) ** 2) @ weights
        curve = middle[:, None] + slope[:, None] * (at**-rate - weights @ x)
        better = error < best_error
        best_error[better], best[better] = error[better], curve[better]
    return np.clip(best, 0, 1)


def _drawn_curves(n: Ints, scores: Floats, at: Floats, *, draws: int, seed: int) -> Floats:
    """Curves through scores with their distances from the fitted curve dealt anew."""
    generator = np.random.default_rng([seed, 1])
    here = np.array([np.interp(n, at, _fitted(n, scores[None], at)[0])])[0]
    # Three numbers are fitted to the points: what is left looks smaller than the noise by so much.
    left = (scores - here) * np.sqrt(len(n) / max(1, len(n) - 3))
    return _fitted(n, here + left[generator.integers(0, len(n), size=(draws, len(n)))], at)
