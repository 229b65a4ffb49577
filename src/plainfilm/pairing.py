"""Two models on the same patients: is one better, or could it be chance? Pure functions on arrays.

Every test looks at the pairs. Two scores of one patient rise and fall together, so that the difference is surer than
either number alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from plainfilm.metrics import BLOCK, Bools, Floats, Ints


def swap_weights(group: Ints, *, draws: int, seed: int) -> Iterator[Floats]:
    """Exchange the two models for whole patients at random: what is left of a difference is chance.

    Args:
        group: `(n,)` patient of each row, 0 to the number of patients - 1.
        draws: Number of exchanges.
        seed: The same seed gives the same exchanges.

    Yields:
        `(some_draws, 2 n)` weights of the rows of the first model, then those of the second: 1 where the row is taken
        for the first model. One minus it are the rows taken for the second.
    """
    generator = np.random.default_rng(seed)
    n_patients = int(group.max()) + 1
    step = max(1, 4 * BLOCK // len(group))
    for start in range(0, draws, step):
        swapped = generator.integers(0, 2, size=(min(step, draws - start), n_patients))[:, group].astype(np.float64)
        yield np.concatenate([1 - swapped, swapped], axis=1)


def permutation_p(observed: float, chance: Floats) -> float:
    """Two-sided p: how often chance gives as much, the observed value counted as one draw.

    References:
        Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 2010;9:39.
    """
    beyond = np.abs(chance[~np.isnan(chance)]) >= abs(observed) - 1e-12
    return float((1 + beyond.sum()) / (1 + len(beyond)))


def delong_p(y_true: Bools, one: Floats, other: Floats) -> float | None:
    """Two-sided p of the difference of two ROC AUCs on the same independent rows.

    Args:
        y_true: `(n,)`, True for a positive.
        one: `(n,)` scores of one model, higher for a likelier positive.
        other: `(n,)` scores of the other.

    Returns:
        None where the pairs show no spread, or a side has fewer than two rows.

    References:
        DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837-845.
    """
    if min(int(y_true.sum()), int((~y_true).sum())) < 2:
        return None
    (found, spared), (other_found, other_spared) = (_placements(y_true, score) for score in (one, other))
    difference = float(other_found.mean() - found.mean())
    variance = sum(float(np.var(b - a, ddof=1)) / len(a) for a, b in ((found, other_found), (spared, other_spared)))
    if variance <= 0:
        return None
    return float(2 * NormalDist().cdf(-abs(difference) / variance**0.5))


def mcnemar_p(right: Bools, other_right: Bools) -> float:
    """Exact two-sided p of the difference of two accuracies on the same independent rows.

    Only the rows that exactly one model got right count (McNemar 1947).
    """
    from scipy.stats import binomtest

    only_one, only_other = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    return float(binomtest(only_one, only_one + only_other).pvalue) if only_one + only_other else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P values for a family of tests, such that all of them together are wrong as rarely as one alone (Holm 1979)."""
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return [float(value) for value in adjusted]


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """How many patients a difference that was named beforehand would need.

    Attributes:
        difference: The difference, in the unit of the measure.
        patients: Needed to find it; None where the pairs show no spread to plan with.
        low: Lower end of the interval of `patients`: the spread is only an estimate.
        high: Upper end.
        detectable: The smallest difference that the patients at hand would find as often.
    """

    difference: float
    patients: int | None
    low: int | None
    high: int | None
    detectable: float | None


def sample_size(
    standard_error: float, n_patients: int, *, difference: float, power: float, confidence: float
) -> SampleSize:
    """Plan with the spread of the pairs that was observed, for a difference that was not.

    Never computed for the observed difference: power "after the fact" only says the p value again (Hoenig and Heisey,
    The American Statistician 2001;55:19-24).

    Args:
        standard_error: Of the difference between the models, with `n_patients`.
        n_patients: Compared.
        difference: To be found, above 0.
        power: How often it should be found.
        confidence: Of the interval that must then leave 0 out.
    """
    from scipy.stats import chi2

    if not standard_error > 0:
        return SampleSize(difference=difference, patients=None, low=None, high=None, detectable=None)
    normal = NormalDist()
    reach = normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(power)
    needed = n_patients * (reach * standard_error / difference) ** 2
    freedom = max(1, n_patients - 1)
    low, high = (freedom / float(chi2.ppf(tail, freedom)) for tail in ((1 + confidence) / 2, (1 - confidence) / 2))
    patients, fewest, most = (int(np.ceil(needed * factor)) for factor in (1.0, low, high))
    return SampleSize(
        difference=difference, patients=patients, low=fewest, high=most, detectable=reach * standard_error
    )


def _placements(y_true: Bools, score: Floats) -> tuple[Floats, Floats]:
    """For each positive the share of negatives below it, for each negative that of positives above; ties half."""
    from scipy.stats import rankdata

    rank = rankdata(score)
    n_positive, n_negative = int(y_true.sum()), int((~y_true).sum())
    above = (rank[y_true] - rankdata(score[y_true])) / n_negative
    below = 1 - (rank[~y_true] - rankdata(score[~y_true])) / n_positive
    return np.asarray(above), np.asarray(below)
