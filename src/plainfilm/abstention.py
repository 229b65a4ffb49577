"""When a model should say nothing: sets of classes that hold the truth as often as promised, in every class.

A set of one class is an answer; any other set is none. The promise is kept for new patients like those the thresholds
were fitted on, not for another hospital.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.metrics import Bools, Floats, Ints


class AbstentionOptions(BaseModel):
    """When `predict` says nothing rather than something doubtful."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    miss_rate: float = Field(
        0.1,
        ge=0.01,
        le=0.5,
        description="Share of each class that may be missing from its set of answers. 0.10 needs 9 calibration "
        "patients in each class, 0.05 needs 19.",
    )
    caution_calibration: int = Field(
        100, ge=1, description="With fewer calibration patients in a class the promise gets a caution.*"
    )


class ClassThreshold(BaseModel):
    """From which score on a class belongs to the set.

    Attributes:
        threshold: Score, 0 to 1.
        n_patients: Calibration patients of the class.
        coverage_low: Lower end of what the realised coverage of the class may be (95 %).
        coverage_high: Upper end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(ge=0, le=1)
    n_patients: int
    coverage_low: float
    coverage_high: float


class Abstention(BaseModel):
    """The rule by which `predict` abstains; part of a bundle.

    Attributes:
        miss_rate: What was promised of each class.
        classes: Threshold of each class; empty where the rule was refused.
        reason: Why it was refused; empty otherwise.
        caution: What to know of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    miss_rate: float = 0.1
    classes: dict[str, ClassThreshold] = {}
    reason: str = "no patients were kept for calibration"
    caution: str = ""

    @property
    def applies(self) -> bool:
        """Whether there is a rule."""
        return bool(self.classes)

    def fits(self, classes: Sequence[str]) -> bool:
        """Whether the rule is about these classes."""
        return not self.classes or set(self.classes) == set(classes)

    def sets(self, scores: Floats, classes: Sequence[str]) -> Bools:
        """`(n, K)`: whether each class belongs to the set of each row."""
        thresholds = np.array([self.classes[name].threshold for name in classes])
        return np.asarray(scores >= thresholds)


def patients_needed(miss_rate: float) -> int:
    """Calibration patients of a class below which no threshold keeps the promise: 9 for 0.10, 19 for 0.05."""
    return int(np.ceil(1 / miss_rate - 1e-9)) - 1


def fit_abstention(
    y_true: Ints, scores: Floats, group: Ints, classes: Sequence[str], options: AbstentionOptions | None = None
) -> Abstention:
    """A threshold for each class, such that a new patient's image keeps its true class in the set.

    Each patient counts as one, however many images: their images' scores are one distribution with the weight of one
    patient, and a further patient whose scores may be anything is added. With one image per patient this is split
    conformal prediction within each class, and the realised coverage follows a Beta distribution.

    Args:
        y_true: `(n,)` class index of the calibration rows.
        scores: `(n, K)` probabilities.
        group: `(n,)` patient of each row.
        classes: Names in the order of the columns.
        options: What is promised.

    References:
        Vovk, Machine Learning 2013;92:349-376 (within classes; Beta). Lee, Barber and Willett, Journal of the Royal
        Statistical Society B 2025 (several rows of one patient).
    """
    options = options or AbstentionOptions()
    needed = patients_needed(options.miss_rate)
    counts = {name: len(np.unique(group[y_true == c])) for c, name in enumerate(classes)}
    few = {name: n for name, n in counts.items() if n < needed}
    if few:
        listed = ", ".join(f"'{name}' has {n}" for name, n in few.items())
        return Abstention(
            miss_rate=options.miss_rate,
            reason=f"{needed} calibration patients are needed in each class to miss at most {options.miss_rate:.0%}; "
            f"{listed}",
        )
    found = {
        name: _threshold(scores[y_true == c, c], group[y_true == c], options.miss_rate)
        for c, name in enumerate(classes)
    }
    least = min(counts.values())
    return Abstention(
        miss_rate=options.miss_rate,
        classes=found,
        reason="",
        caution=f"only {least} calibration patients in a class: see the range of the coverage"
        if least < options.caution_calibration
        else "",
    )


def coverage_range(n_patients: int, miss_rate: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Within what the realised coverage of a class lies, from so many calibration patients (one row each).

    References:
        Vovk, Machine Learning 2013;92:349-376: coverage is Beta(k, n + 1 - k), k = ceil((n + 1)(1 - miss rate)).
    """
    from scipy.stats import beta

    k = int(np.ceil((n_patients + 1) * (1 - miss_rate) - 1e-9))
    tail = (1 - confidence) / 2
    low, high = (float(beta.ppf(q, k, n_patients + 1 - k)) for q in (tail, 1 - tail))
    return low, high


def _threshold(true_score: Floats, group: Ints, miss_rate: float) -> ClassThreshold:
    """The score that the class's own rows reach often enough."""
    _, code, size = np.unique(group, return_inverse=True, return_counts=True)
    order = np.argsort(-true_score, kind="stable")
    reached = np.cumsum(1 / size[code[order]]) / (len(size) + 1)
    place = int(np.searchsorted(reached, 1 - miss_rate - 1e-9))
    low, high = coverage_range(len(size), miss_rate)
    return ClassThreshold(
        threshold=float(true_score[order[min(place, len(order) - 1)]]),
        n_patients=len(size),
        coverage_low=low,
        coverage_high=high,
    )


def risk_coverage(right: Bools, certainty: Floats, weights: Floats | None = None) -> tuple[Floats, Floats]:
    """Share answered, and share of those that is wrong, when only the surest are answered.

    Args:
        right: `(n,)` whether the answer would be right.
        certainty: `(n,)` such as the highest score; equal ones are answered together.
        weights: `(n,)`; ones if None.

    Returns:
        `(points,)` each, by rising share answered; the last is all.
    """
    weights = np.ones(len(right)) if weights is None else weights
    order = np.argsort(-certainty, kind="stable")
    last = np.append(np.diff(certainty[order]) != 0, True)
    answered = np.cumsum(weights[order])
    wrong = np.cumsum((weights * ~right)[order])
    return (answered / answered[-1])[last], (wrong / answered)[last]


def area_under_risk(right: Bools, certainty: Floats, weights: Floats | None = None) -> float:
    """Mean risk over all shares answered; 0 is best (area under the risk-coverage curve)."""
    answered, risk = risk_coverage(right, certainty, weights)
    return float(np.sum(risk * np.diff(answered, prepend=0.0)))
