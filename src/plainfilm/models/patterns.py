"""How a model is taken apart, kept: the next model of the same make is taken apart without looking again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from plainfilm.models.parts import output_shape


@dataclass(frozen=True, eq=False)
class Pattern:
    """The features of a model without its numbers.

    Attributes:
        features: The module that makes them, over tensors that have shapes only.
        names: What the model calls each of these tensors, by their `id`.
        shape: Of what it makes of one image.
    """

    features: nn.Module
    names: Mapping[int, str]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, features: nn.Module, model: nn.Module, *, in_channels: int, image_size: int) -> Self:
        """The pattern of `features`, which share their tensors with `model`."""
        known = {id(tensor): name for name, tensor in _tensors(model).items()}
        stand_ins = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in _tensors(features).values()}
        return cls(
            copy.deepcopy(features, dict(stand_ins)),
            {id(stand_in): known[own] for own, stand_in in stand_ins.items()},
            output_shape(features, in_channels=in_channels, image_size=image_size),
        )

    def on(self, model: nn.Module) -> nn.Module:
        """The features of another model of the same make; they share their tensors with it."""
        own = _tensors(model)
        return copy.deepcopy(self.features, {place: own[name] for place, name in self.names.items()})


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


class Patterns:
    """The patterns of the makes of model that were last taken apart.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[object, Pattern] = {}

    def take_apart(
        self,
        model: nn.Module,
        make: object,
        find: Callable[..., nn.Module],
        *,
        in_channels: int,
        image_size: int,
    ) -> tuple[nn.Module, tuple[int, ...]]:
        """The features of a model, and the shape of what they make of one image.

        Args:
            model: Stays whole; its features share their tensors with it.
            make: Of the model; equal for those that differ in their numbers alone.
            find: Finds the features of a model of an unknown make.
            in_channels: Of the images.
            image_size: Their height and width.
        """
        key = (make, find, in_channels, image_size)
        pattern = self._kept.get(key)
        if pattern is not None:
            return pattern.on(model), pattern.shape
        features = find(model, image_size=image_size)
        pattern = Pattern.of(features, model, in_channels=in_channels, image_size=image_size)
        if not any(tensor.is_meta for tensor in _tensors(model).values()):  # else what it computes from is nothing
            while len(self._kept) >= self._most:
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[key] = pattern
        return features, pattern.shape
