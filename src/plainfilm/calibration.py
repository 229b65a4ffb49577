"""Can a score be believed: temperature, slope, intercept, and the error of a claimed certainty.

Pure functions on arrays; `weights` are as in `metrics`, so that a bootstrap draw is the same call as the figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.metrics import BLOCK, Bools, Floats, Ints, wilson_interval

TINY = 2.0**-52  # a score of 0 counts as this
SLOPES = np.geomspace(1 / 50, 50, 121)  # beyond, scores say nothing, or everything
SHIFTS = np.linspace(-8, 8, 129)  # log odds
DISTANCES = np.linspace(0, 1, 101)


class Calibration(BaseModel):
    """What is done to a model's scores before anybody sees them; part of a bundle.

    Attributes:
        temperature: Logits are divided by it; 1 leaves them as they are.
        n_images: Images it was fitted on.
        n_patients: Their patients: neither trained on, nor asked which epoch to choose, nor tested.
        reason: Why nothing was fitted; empty otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    n_images: int = 0
    n_patients: int = 0
    reason: str = "no patients were kept for it: there were too few, or the split is by image"


def fit_temperature(y_true: Ints, scores: Floats, group: Ints) -> Calibration:
    """The temperature under which the true classes are likeliest, every patient counting the same.

    Args:
        y_true: `(n,)` class index.
        scores: `(n, K)` probabilities.
        group: `(n,)` patient of each row.

    References:
        Guo et al., International Conference on Machine Learning 2017 (arXiv 1706.04599).
    """
    from scipy.optimize import minimize_scalar

    weights = patient_weights(group)
    log_scores = np.log(np.clip(scores, TINY, 1))

    def loss(log_temperature: float) -> float:
        tempered = log_scores / np.exp(log_temperature)
        return float(weights @ (_logsumexp(tempered) - tempered[np.arange(len(y_true)), y_true]))

    found = minimize_scalar(loss, bounds=(np.log(SLOPES[0]), np.log(SLOPES[-1])), method="bounded")
    return Calibration(
        temperature=float(np.exp(found.x)), n_images=len(y_true), n_patients=len(np.unique(group)), reason=""
    )


def tempered(scores: Floats, temperature: float) -> Floats:
    """`(n, K)` probabilities as the same model gives them at a temperature; at 1 the very same."""
    if temperature == 1:
        return scores
    logits = np.log(np.clip(scores, TINY, 1)) / temperature
    return np.exp(logits - _logsumexp(logits)[:, None])


def patient_weights(group: Ints) -> Floats:
    """`(n,)` weights with which every patient counts the same; they sum to 1."""
    _, code, size = np.unique(group, return_inverse=True, return_counts=True)
    return 1 / (size[code] * len(size))


def calibration_slope(y_true: Ints, scores: Floats, weights: Floats | None = None) -> Floats:
    """By how much the logits would have to be multiplied; below 1 the scores are too bold, above 1 too timid.

    The slope that makes the true classes likeliest, over all classes at once. Beyond 1/50 and 50 it is nan: then the
    scores do not rank the classes at all, or without an error.

    Args:
        y_true: `(n,)` class index.
        scores: `(n, K)` probabilities.
        weights: `(..., n)`, 0 or more; ones if None.

    Returns:
        `(...)`.
    """
    weights = np.ones(len(y_true)) if weights is None else weights
    logits = np.log(np.clip(scores, TINY, 1))
    true_logit = logits[np.arange(len(y_true)), y_true]
    # The derivative of the likelihood of each row at each slope; it falls, so the slope is where their sum is 0.
    rising = np.stack([true_logit - (_softmax(slope * logits) * logits).sum(axis=1) for slope in SLOPES])
    return np.exp(_crossing(weights @ rising.T, np.log(SLOPES)))


def calibration_intercept(y_true: Bools, score: Floats, weights: Floats | None = None) -> Floats:
    """Log odds that all scores of a class lack on average; above 0 the class is more frequent than the scores say.

    Args:
        y_true: `(n,)`, True for the class.
        score: `(n,)` probability of the class.
        weights: `(..., n)`, 0 or more; ones if None.

    References:
        Van Calster et al., BMC Medicine 2019;17:230 ("calibration-in-the-large").
    """
    weights = np.ones(len(y_true)) if weights is None else weights
    clipped = np.clip(score, TINY, 1 - TINY)
    logit = np.log(clipped) - np.log1p(-clipped)
    missing = np.stack([y_true - _sigmoid(logit + shift) for shift in SHIFTS])
    return _crossing(weights @ missing.T, SHIFTS)


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Rows by rising score in bins of equally many patients' worth; the same bins for every draw.

    Attributes:
        of_row: `(n,)` bin of each row.
        score: `(n,)` claimed certainty.
        right: `(n,)` whether it was right.
        group: `(n,)` patient.
    """

    of_row: Ints
    score: Floats
    right: Bools
    group: Ints

    @classmethod
    def equal_mass(cls, score: Floats, right: Bools, group: Ints, *, most: int = 15) -> Bins:
        """At most `most` bins, fewer where a bin would have fewer than 8 patients; equal scores stay together."""
        n_patients = len(np.unique(group))
        n_bins = int(np.clip(n_patients // 8, 2, most))
        edges = np.unique(np.quantile(score, np.linspace(0, 1, n_bins + 1)[1:-1], method="inverted_cdf"))
        of_row = np.searchsorted(edges, score, side="left")
        return cls(of_row=np.unique(of_row, return_inverse=True)[1], score=score, right=right, group=group)

    @property
    def n(self) -> int:
        """How many bins hold something."""
        return int(self.of_row.max()) + 1

    def chance(self, *, draws: int = 2000, seed: int = 0) -> float | None:
        """How often honest scores of as many patients look at least as far off, 0 to 1 (a p value).

        What was right is drawn anew from the scores themselves, as if each meant what it says. None where a patient has
        several rows: whether these would be right together, scores do not say.

        References:
            Bröcker and Smith, Weather and Forecasting 2007;22:651-661 (consistency resampling).
        """
        if len(np.unique(self.group)) < len(self.group):
            return None
        inside = np.equal.outer(self.of_row, np.arange(self.n)).astype(np.float64)
        drawn = np.random.default_rng(seed).random((draws, len(self.score))) < np.clip(self.score, 0, 1)
        far = np.abs((self.score - drawn) @ inside).sum(axis=1)
        observed = np.abs((self.score - self.right) @ inside).sum()
        return float((1 + (far >= observed - 1e-9).sum()) / (1 + draws))

    def error(self, weights: Floats | None = None) -> Floats:
        """Mean distance of the claimed from the observed share that is right, less what chance alone would give.

        Even honest scores miss the observed share of a small bin. How far by chance, the spread between patients says.
        The error given is the distance that, the same in every bin and with that chance added, is expected to look
        like what was observed; 0 where chance alone would look worse. For large bins it is the plain expected
        calibration error.

        Args:
            weights: `(..., n)`, the same for all rows of a patient; ones if None.

        Returns:
            `(...)`, 0 to 1.

        References:
            The plain one: Naeini, Cooper and Hauskrecht, AAAI 2015. Its bias: Kumar, Liang and Ma, NeurIPS 2019.
        """
        weights = np.ones(len(self.score)) if weights is None else weights
        flat = np.reshape(weights, (-1, len(self.score)))
        step = max(1, BLOCK // (self.n * len(DISTANCES)))
        parts = [self._errors(flat[start : start + step]) for start in range(0, len(flat), step)]
        return np.concatenate(parts).reshape(np.shape(weights)[:-1])

    def _errors(self, weights: Floats) -> Floats:
        """The error under each of a few sets of weights, `(sets,)`."""
        codes = np.unique(self.group, return_inverse=True)[1]
        n_patients = int(codes.max()) + 1
        any_row = np.zeros(n_patients, dtype=np.intp)
        any_row[codes] = np.arange(len(codes))
        share = weights[:, any_row]
        mass, gap, noise = (np.zeros((len(share), self.n)) for _ in range(3))
        for number in range(self.n):
            inside = self.of_row == number
            own, residual = codes[inside], self.score[inside] - self.right[inside]
            size, summed = np.bincount(own, minlength=n_patients) * 1.0, np.bincount(own, residual, n_patients)
            mass[:, number] = share @ size
            present = mass[:, number] > 0
            mean = np.divide(share @ summed, mass[:, number], out=np.zeros(len(share)), where=present)
            squares = share @ summed**2 - 2 * mean * (share @ (summed * size)) + mean**2 * (share @ size**2)
            among = int((size > 0).sum())
            variance = np.divide(squares, mass[:, number] ** 2, out=np.zeros(len(share)), where=present)
            gap[:, number], noise[:, number] = mean, np.sqrt(np.maximum(variance, 0) * among / max(1, among - 1))
        part = mass / mass.sum(axis=1, keepdims=True)
        observed = (part * np.abs(gap)).sum(axis=1)
        expected = (part[..., None] * _mean_size(DISTANCES, noise[..., None])).sum(axis=1)
        return np.nan_to_num(_crossing(observed[:, None] - expected, DISTANCES), nan=0.0)

    def points(self, *, confidence: float) -> tuple[Floats, Floats, Floats, Floats, Ints]:
        """Mean score, share right with its Wilson interval (patients counted) and patients of each bin, `(bins,)`."""
        size = np.bincount(self.of_row)
        claimed = np.bincount(self.of_row, weights=self.score) / size
        observed = np.bincount(self.of_row, weights=self.right.astype(np.float64)) / size
        n_patients = np.array([len(np.unique(self.group[self.of_row == number])) for number in range(self.n)])
        low, high = wilson_interval(observed, n_patients, confidence=confidence)
        return claimed, observed, low, high, n_patients


# --- inside -------------------------------------------------------------------------------------------------


def _mean_size(mean: Floats, sd: Floats) -> Floats:
    """Mean absolute value of a normal variable."""
    from scipy.special import ndtr

    mean, sd = np.broadcast_arrays(mean, np.maximum(sd, 1e-9))
    return np.asarray(sd * np.sqrt(2 / np.pi) * np.exp(-((mean / sd) ** 2) / 2) + mean * (1 - 2 * ndtr(-mean / sd)))


def _crossing(falling: Floats, at: Floats) -> Floats:
    """Where rows of falling values cross 0, by a line between the two places around it; nan where none does."""
    below = falling < -1e-9  # not rounding alone
    first = below.argmax(axis=-1)
    found = below.any(axis=-1) & (first > 0)
    right = np.maximum(first, 1)
    high = np.take_along_axis(falling, (right - 1)[..., None], axis=-1)[..., 0]
    low = np.take_along_axis(falling, right[..., None], axis=-1)[..., 0]
    part = np.divide(high, high - low, out=np.zeros_like(high), where=high > low)
    return np.where(found, at[right - 1] + part * (at[right] - at[right - 1]), np.nan)


def _softmax(logits: Floats) -> Floats:
    return np.exp(logits - _logsumexp(logits)[:, None])


def _logsumexp(logits: Floats) -> Floats:
    highest = logits.max(axis=1)
    return np.asarray(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)))


def _sigmoid(logit: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -logit)))
