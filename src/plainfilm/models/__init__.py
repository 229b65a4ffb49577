"""Models for one-channel images, by name. What needs torch is loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plainfilm.models.adapters import Adapter, adapt_to_one_channel
    from plainfilm.models.classic import LeNet5, MultiLayerPerceptron, Perceptron
    from plainfilm.models.heads import ConvTop, Head, Headed, LinearHead
    from plainfilm.models.options import PRETRAINED
    from plainfilm.models.parts import (
        feature_maps,
        freeze_backbone,
        layer_groups,
        pooled_features,
        unfreeze_backbone,
    )
    from plainfilm.models.resnet1d import ResNet1d
    from plainfilm.models.zoo import ModelInfo, create_model, describe_model, list_models, outline_model

_HOME = {
    "PRETRAINED": "options",
    "Adapter": "adapters",
    "ConvTop": "heads",
    "Head": "heads",
    "Headed": "heads",
    "LeNet5": "classic",
    "LinearHead": "heads",
    "ModelInfo": "zoo",
    "MultiLayerPerceptron": "classic",
    "Perceptron": "classic",
    "ResNet1d": "resnet1d",
    "adapt_to_one_channel": "adapters",
    "create_model": "zoo",
    "describe_model": "zoo",
    "feature_maps": "parts",
    "freeze_backbone": "parts",
    "layer_groups": "parts",
    "list_models": "zoo",
    "outline_model": "zoo",
    "pooled_features": "parts",
    "unfreeze_backbone": "parts",
}

__all__ = [
    "PRETRAINED",
    "Adapter",
    "ConvTop",
    "Head",
    "Headed",
    "LeNet5",
    "LinearHead",
    "ModelInfo",
    "MultiLayerPerceptron",
    "Perceptron",
    "ResNet1d",
    "adapt_to_one_channel",
    "create_model",
    "describe_model",
    "feature_maps",
    "freeze_backbone",
    "layer_groups",
    "list_models",
    "outline_model",
    "pooled_features",
    "unfreeze_backbone",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'plainfilm.models' has no attribute '{name}'")
    return getattr(import_module(f"plainfilm.models.{_HOME[name]}"), name)
