"""The network of a run, as its options have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plainfilm.config import RunOptions
from plainfilm.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from plainfilm.models.heads import Headed


def build_model(options: RunOptions, *, num_classes: int, image_size: int) -> tuple[nn.Module, Any]:
    """The model, and the head it got: a frozen backbone needs one that can be told from it."""
    from plainfilm.models import create_model
    from plainfilm.models.heads import Headed

    def built(head: Any) -> nn.Module:
        return create_model(
            options.model.model,
            num_classes=num_classes,
            adapter=options.model.adapter,
            weights=options.model.first_weights,
            image_size=image_size,
            head=head,
        )

    tuning, head = options.training.tuning, options.model.head
    if tuning == "logistic":
        if head == "conv":
            raise UsageError(
                "Logistic regression is a linear head: leave --head out, or use --tuning head.", code="OPT_HEAD"
            )
        return built("linear"), "linear"
    model = built(head)
    if tuning == "head" and not isinstance(model, Headed):
        return built("linear"), "linear"
    return model, head


def headed(model: nn.Module) -> Headed:
    """The model as one of which the backbone can be told from the head: `build_model` has seen to that."""
    from plainfilm.models.heads import Headed

    assert isinstance(model, Headed)
    return model


def without_weights(options: dict[str, Any]) -> RunOptions:
    """A run's options, but that no file or hub is asked for weights: they come from the leader."""
    return RunOptions.from_flat({**options, "weights": None, "pretrained": False})
