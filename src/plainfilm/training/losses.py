"""What a training step makes smaller, and the errors that are logged beside it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from plainfilm.team import Team
from plainfilm.training.options import TrainingOptions

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(options: TrainingOptions, class_weights: Tensor | None) -> Loss:
    """The loss asked for: `(batch, num_classes)` logits and `(batch,)` classes to one number.

    With two classes, this cross-entropy is the binary one of a sigmoid of the difference of the logits.

    Args:
        options: `loss`, `focal_gamma`, `label_smoothing`.
        class_weights: `(num_classes,)`; None weighs all alike. As in torch, the mean is over the weights.

    References:
        Focal loss: Lin et al. 2017, arXiv 1708.02002, equation 4.
    """

    def plain(logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits, target, weight=class_weights, label_smoothing=options.label_smoothing)

    def focal(logits: Tensor, target: Tensor) -> Tensor:
        each = cross_entropy(
            logits, target, weight=class_weights, label_smoothing=options.label_smoothing, reduction="none"
        )
        still_wrong = (1 - true_class_scores(logits, target)) ** options.focal_gamma
        total = len(target) if class_weights is None else class_weights[target].sum()
        return (still_wrong * each).sum() / total

    return focal if options.loss == "focal" else plain


def true_class_scores(logits: Tensor, target: Tensor) -> Tensor:
    """`(batch,)` score of the class that is true; with two classes, 1 minus it is the absolute error of a sigmoid."""
    return logits.softmax(dim=1).gather(1, target.unsqueeze(1)).squeeze(1)


class Tally:
    """Sums over the batches of an epoch, read as means at its end."""

    def __init__(self) -> None:
        self._seen = self._loss = self._right = self._absolute = self._squared = 0.0

    def add(self, loss: float, logits: Tensor, target: Tensor, *, n: float | None = None) -> None:
        """One batch; `loss` is its mean, and counts as that of `n` images, by default as many as there are."""
        error = 1 - true_class_scores(logits.detach().double(), target)
        sums = torch.stack([(logits.argmax(1) == target).double().sum(), error.sum(), error.square().sum()]).tolist()
        self._seen += len(target)
        self._loss += loss * (len(target) if n is None else n)
        self._right += sums[0]
        self._absolute += sums[1]
        self._squared += sums[2]

    def joined(self, team: Team) -> Tally:
        """The sums of all processes."""
        whole = Tally()
        sums = team.total([self._seen, self._loss, self._right, self._absolute, self._squared])
        whole._seen, whole._loss, whole._right, whole._absolute, whole._squared = sums
        return whole

    def means(self, split: str) -> dict[str, float]:
        """Loss, accuracy, mean absolute error and root mean squared error of the score of the true class."""
        return {
            f"{split}_loss": self._loss / self._seen,
            f"{split}_accuracy": self._right / self._seen,
            f"{split}_mae": self._absolute / self._seen,
            f"{split}_rmse": (self._squared / self._seen) ** 0.5,
        }
