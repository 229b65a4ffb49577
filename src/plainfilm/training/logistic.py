"""A head by logistic regression: features standardised on training rows, its penalty chosen on validation rows."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plainfilm import metrics
from plainfilm.errors import TrainingError
from plainfilm.training.batches import LabelledFeatures
from plainfilm.training.options import TrainingOptions

Floats = npt.NDArray[np.float64]

# Inverse strengths of the penalty that are tried, on standardised features; a weaker one first among equals.
PENALTIES = tuple(float(10.0**power) for power in (-4, -3, -2, -1, 0, 1))


@dataclass(frozen=True)
class LogisticHead:
    """A linear head: `features @ weight.T + bias` are logits.

    Attributes:
        weight: `(num_classes, d)`; the standardisation is multiplied in.
        bias: `(num_classes,)`.
        inverse_penalty: The C that was chosen.
        history: One row, as of an epoch.
    """

    weight: Floats
    bias: Floats
    inverse_penalty: float
    history: list[dict[str, Any]]


def fit_logistic(
    train: LabelledFeatures, validation: LabelledFeatures, *, num_classes: int, options: TrainingOptions
) -> LogisticHead:
    """Fit one head for each of `PENALTIES` on the training rows; keep that with the lowest validation loss.

    Args:
        train: `(views, n, d)`; every view is a row.
        validation: `(1, n, d)`.
        num_classes: Classes of the task; one that has no training row gets no score.
        options: `imbalance` and `seed` are used.

    Raises:
        TrainingError: `TRN_NOT_FINITE` if a feature is no number.
    """
    from sklearn.linear_model import LogisticRegression

    started = time.monotonic()
    X = train.values.reshape(-1, train.values.shape[-1]).astype(np.float64)
    y = np.tile(train.labels, len(train.values))
    if not (np.isfinite(X).all() and np.isfinite(validation.values).all()):
        raise TrainingError(
            "A feature of the frozen backbone is not a number. Check the weights.", code="TRN_NOT_FINITE"
        )
    center, spread = X.mean(axis=0), X.std(axis=0)
    spread = np.where(spread > 1e-12, spread, 1.0)
    standard = (X - center) / spread
    fitted = []
    for inverse_penalty in PENALTIES:
        regression = LogisticRegression(
            C=inverse_penalty,
            max_iter=1000,
            class_weight="balanced" if options.imbalance != "none" else None,
            random_state=options.seed,
        )
        with warnings.catch_warnings():
            # Separable classes and a weak penalty may not settle in 1,000 steps; validation says whether that matters.
            warnings.filterwarnings("ignore", message="lbfgs failed to converge")
            regression.fit(standard, y)
        weight, bias = _of_all_classes(regression, num_classes)
        weight, bias = weight / spread, bias - (weight / spread) @ center
        losses = _rates(validation.values[0].astype(np.float64) @ weight.T + bias, validation.labels)
        fitted.append((losses["loss"], inverse_penalty, weight, bias))
    _, inverse_penalty, weight, bias = min(fitted, key=lambda found: (found[0], found[1]))
    on_train = _rates(X @ weight.T + bias, y)
    on_validation = _rates(validation.values[0].astype(np.float64) @ weight.T + bias, validation.labels)
    row = {"epoch": 1, **{f"train_{name}": value for name, value in on_train.items() if name != "balanced_accuracy"}}
    row |= {"learning_rate": float("nan")}
    row |= {f"validation_{name}": value for name, value in on_validation.items()}
    return LogisticHead(weight, bias, inverse_penalty, [row | {"seconds": round(time.monotonic() - started, 3)}])


def _of_all_classes(regression: Any, num_classes: int) -> tuple[Floats, Floats]:
    """One row of coefficients for each class; scikit-learn gives two classes one row, absent classes none."""
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(coefficients) == 1:
        coefficients, intercepts = np.vstack([-coefficients, coefficients]) / 2, np.r_[-intercepts, intercepts] / 2
    weight = np.zeros((num_classes, coefficients.shape[1]))
    bias = np.full(num_classes, -1e4)  # a class never seen in training gets no score
    weight[regression.classes_], bias[regression.classes_] = coefficients, intercepts
    return weight, bias


def _rates(logits: Floats, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """The columns of a history, of one split."""
    from scipy.special import log_softmax

    log_scores = log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    error = 1 - np.exp(log_scores)
    matrix = metrics.confusion_matrix(labels, logits.argmax(axis=1), logits.shape[1])
    return {
        "loss": float(-log_scores.mean()),
        "accuracy": float(metrics.accuracy(matrix)),
        "mae": float(error.mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "balanced_accuracy": float(metrics.recall(matrix)[matrix.sum(axis=1) > 0].mean()),
    }
