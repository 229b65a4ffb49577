"""The network of an export: from grey values to logits, scores and distances, with nothing left to do around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log
from typing import cast

import torch
from torch import Tensor, nn

from plainfilm.bundle import Bundle
from plainfilm.calibration import TINY
from plainfilm.models.parts import pooled_features
from plainfilm.novelty import Reference

LOGITS, PROBABILITIES, DISTANCES = "logits", "probabilities", "distances"


class ScoringNetwork(nn.Module):
    """One model, or the models of all folds, with what happens before and after them.

    Args:
        bundles: Over the same classes and image size.
        reference: Features of training images, by which unlike images are known; for one bundle.
    """

    def __init__(self, bundles: Sequence[Bundle], reference: Reference | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleList([_Member(bundle) for bundle in bundles])
        self.novelty: nn.Module | None = None
        if reference is not None:
            (bundle,) = bundles
            features = pooled_features(bundle.model)
            self.novelty = _Distances(features, reference, neighbours=bundle.config.novelty.neighbours)

    @property
    def output_names(self) -> list[str]:
        """What `forward` returns, in order."""
        return [LOGITS, PROBABILITIES, *([DISTANCES] if self.novelty is not None else [])]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map `(batch, 1, height, width)`, integers divided by the full range of their depth, to logits and scores.

        Of several models the scores are the mean of theirs, and the logits its logarithm, so that their softmax is
        the scores in either case (of one model, once they are divided by its temperature).
        """
        members = cast("Iterable[_Member]", self.members)
        if len(self.members) == 1:
            (member,) = members
            inputs = member.prepared(image)
            logits = member.model(inputs)
            found: tuple[Tensor, ...] = (logits, member.log_scores(logits).exp())
            return found if self.novelty is None else (*found, self.novelty(inputs))
        log_scores = torch.stack([member.log_scores(member.model(member.prepared(image))) for member in members])
        mean = log_scores.logsumexp(dim=0) - log(len(self.members))
        return mean, mean.exp()


class _Member(nn.Module):
    """One model between its preprocessing and its temperature."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.model = bundle.model
        self.offset, self.gain = bundle.config.preprocessing.offset, bundle.config.preprocessing.gain
        self.temperature = bundle.config.calibration.temperature

    def prepared(self, image: Tensor) -> Tensor:
        return (image - self.offset) * self.gain

    def log_scores(self, logits: Tensor) -> Tensor:
        """As `calibration.tempered`: no score counts as less than `TINY`."""
        scores = logits.log_softmax(dim=1)
        if self.temperature == 1:
            return scores
        return (scores.clamp(min=log(TINY)) / self.temperature).log_softmax(dim=1)


class _Distances(nn.Module):
    """`Reference.distances`, from prepared images."""

    images: Tensor
    classes: Tensor
    whitening: Tensor
    center: Tensor
    scale: Tensor

    def __init__(self, features: nn.Module, reference: Reference, *, neighbours: int) -> None:
        super().__init__()
        self.features = features
        self.neighbours = min(neighbours, len(reference.images))
        for name, value in reference.tensors().items():
            self.register_buffer(name, torch.from_numpy(value.copy()))

    def forward(self, inputs: Tensor) -> Tensor:
        """`(batch, 2)`: mean distance to the nearest training images, and to the nearest class."""
        scaled = (self.features(inputs) - self.center) / self.scale
        products = scaled @ self.images.T
        squares = (scaled**2).sum(dim=1, keepdim=True) + (self.images**2).sum(dim=1) - 2 * products
        nearest = squares.clamp(min=0).topk(self.neighbours, dim=1, largest=False).values
        away = (scaled[:, None] - self.classes[None]) @ self.whitening
        return torch.stack([nearest.sqrt().mean(dim=1), (away**2).sum(dim=2).sqrt().amin(dim=1)], dim=1)
