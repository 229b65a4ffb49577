"""Models for one-channel images, by name. What needs torch is loaded when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plainfilm.models.adapters import Adapter, adapt_to_one_channel
    from plainfilm.models.resnet1d import ResNet1d
    from plainfilm.models.zoo import PRETRAINED, ModelInfo, create_model, describe_model, list_models

_HOME = {
    "PRETRAINED": "zoo",
    "Adapter": "adapters",
    "ModelInfo": "zoo",
    "ResNet1d": "resnet1d",
    "adapt_to_one_channel": "adapters",
    "create_model": "zoo",
    "describe_model": "zoo",
    "list_models": "zoo",
}

__all__ = [
    "PRETRAINED",
    "Adapter",
    "ModelInfo",
    "ResNet1d",
    "adapt_to_one_channel",
    "create_model",
    "describe_model",
    "list_models",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'plainfilm.models' has no attribute '{name}'")
    return getattr(import_module(f"plainfilm.models.{_HOME[name]}"), name)
