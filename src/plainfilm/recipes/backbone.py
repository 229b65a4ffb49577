"""Which network a recipe can start from: the paper's weights where they can be had, else what the user names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plainfilm.errors import ResourceError, UsageError
from plainfilm.recipes.recipe import Step


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """What stands in for the pretrained models of a recipe.

    Attributes:
        model: The user's own model; None for the paper's.
        weights: `pretrained`, a file, or None for random weights.
        note: What the table says of it; empty where it is as in the paper.
    """

    model: str | None = None
    weights: str | None = "pretrained"
    note: str = ""

    def applied(self, step: Step, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a step that starts from pretrained weights, with this backbone.

        Args:
            step: Which.
            options: Its options otherwise.
        """
        changed = dict(options)
        if self.model is not None:
            changed |= {"model": self.model, **step.with_backbone}
        if self.weights is None:
            changed |= step.without_weights
        else:
            changed["weights"] = self.weights
        return {name: value for name, value in changed.items() if value != ""}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def choose_backbone(model: str, *, backbone: str | None, weights: str | None) -> Backbone:
    """The paper's model with the weights of its hub; where they cannot be had, the user's; else random weights.

    A file for the paper's own model (`weights` without `backbone`) is taken as it is.

    Args:
        model: The paper's model.
        backbone: A model to take in its place where its weights cannot be had.
        weights: A file for that model, or `pretrained`.

    Raises:
        BundleError: If `weights` does not fit.
        UsageError: If there is no such model.
    """
    if weights not in (None, "pretrained") and backbone is None:
        _build(model, weights)
        return Backbone(weights=weights, note=f"{model} started from {Path(str(weights)).name}, given by the user.")
    try:
        _build(model, "pretrained")
    except ResourceError as error:
        if error.code != "RES_DOWNLOAD":
            raise
    else:
        unused = f"--backbone {backbone} was not needed: the weights of {model} could be had." if backbone else ""
        return Backbone(note=unused)
    if backbone is None:
        return Backbone(
            weights=None,
            note=f"The pretrained weights of {model} could not be had: it started from random weights, so nothing was "
            "transferred. Name others with --backbone and --weights.",
        )
    weights = weights or "pretrained"
    _build(backbone, weights)
    shown = "the weights of its hub" if weights == "pretrained" else Path(weights).name
    return Backbone(
        model=backbone,
        weights=weights,
        note=f"The pretrained weights of {model} could not be had: {backbone} with {shown} stands in for it, at its "
        "own image size. The paper's numbers are of another network.",
    )


def _build(model: str, weights: str | None) -> None:
    """Build the model once, so that a missing download is known before the first step."""
    from plainfilm.models import create_model

    create_model(model, num_classes=2, weights=weights)


def first_convolution(run: Path) -> tuple[str, int]:
    """The first convolution of a run's model that looks at more than one pixel, and how many maps it has.

    Where a ReLU comes right after it, that is the layer: Keras counts the two as one.

    Args:
        run: Folder of a finished run; of several folds, the first.
    """
    from torch import nn

    from plainfilm.bundle import find_bundles, load_bundle

    leaves = [
        (name, module)
        for name, module in load_bundle(find_bundles(run)[0]).model.named_modules()
        if not any(module.children())
    ]
    for index, (name, module) in enumerate(leaves):
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
            after = leaves[index + 1] if index + 1 < len(leaves) else (name, module)
            return (after[0] if isinstance(after[1], nn.ReLU) else name), module.out_channels
    raise UsageError(f"The model of '{run.name}' has no convolution.", code="RCP_NO_CONVOLUTION")
