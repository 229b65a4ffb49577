"""Which layers of a network have a map over the image, and what these maps show for one image."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from plainfilm.errors import UsageError, nearest_name

Floats = npt.NDArray[np.float32]

LEAST_SIDE = 4  # a map of fewer cells across points nowhere in particular
MOST_PREFIX_TOKENS = 8  # class, distillation and register tokens before those of the patches

# These hand on, or only resample, the map of the layer before them.
_PASSIVE = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity, nn.Softmax,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MapLayer:
    """One layer whose output lies over the image like a map.

    Attributes:
        name: As `model.get_submodule` takes it.
        channels: Maps it has.
        height: Cells from top to bottom.
        width: Cells from left to right.
        layout: Where the output keeps channels: before the map, behind it (Swin), or behind a row of tokens (ViT).
        prefix: Tokens that stand for no place in the image.
        calls: How often one pass uses the layer; maps of a layer used twice cannot be told apart.
        reached: Whether the logits depend on the map: a ViT's last patch tokens often lead nowhere.
        suits: Whether the layer may be chosen where the user names none.
    """

    name: str
    channels: int
    height: int
    width: int
    layout: Literal["channels-first", "channels-last", "tokens"]
    prefix: int = 0
    calls: int = 1
    reached: bool = True
    suits: bool = True

    def as_map(self, output: Tensor) -> Tensor:
        """`(batch, channels, height, width)` of the layer's output; a copy, which no later layer can change."""
        if self.layout == "channels-first":
            return output.clone()
        if self.layout == "channels-last":
            return output.permute(0, 3, 1, 2).clone()
        tokens = output[:, self.prefix :].transpose(1, 2)
        return tokens.reshape(len(output), self.channels, self.height, self.width).clone()


@contextmanager
def held_still(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, its weights without gradients, no layer overwriting its input; then as before.

    A layer that works in place (most ReLUs) would overwrite the very map that is being looked at.
    """
    training = {module: module.training for module in model.modules()}
    in_place = [module for module in model.modules() if getattr(module, "inplace", False) is True]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    _set(in_place, "inplace", False)
    _set(learning, "requires_grad", False)
    try:
        yield
    finally:
        _set(learning, "requires_grad", True)
        _set(in_place, "inplace", True)
        for module, was_training in training.items():
            module.training = was_training


def _set(owners: list[Any], name: str, value: bool) -> None:
    for owner in owners:
        setattr(owner, name, value)


def survey_layers(model: nn.Module, batch: Tensor) -> dict[str, MapLayer]:
    """Every layer with a map over the image, in the order in which a pass finishes them.

    Args:
        model: Takes `batch`, gives logits.
        batch: `(n, 1, height, width)`, preprocessed; two images are looked at.
    """
    probe = batch[:2].repeat(2 if len(batch) == 1 else 1, 1, 1, 1).clone().requires_grad_()
    with held_still(model), torch.enable_grad():
        outputs, calls, logits = _outputs(model, probe)
        # Unequal weights: the gradients of the classes may cancel each other in a plain sum.
        total = (logits * torch.arange(1, logits.shape[1] + 1, device=logits.device)).sum()
        wanted = [output for output in outputs.values() if output.requires_grad]
        gradients = torch.autograd.grad(total, wanted, allow_unused=True) if wanted else ()
    gradient_of = {id(output): gradient for output, gradient in zip(wanted, gradients, strict=True)}
    num_classes = logits.shape[1]
    layers = {}
    for name, output in outputs.items():
        layer = _map_layer(model, name, output, (probe.shape[2], probe.shape[3]))
        if layer is not None:
            gradient = gradient_of.get(id(output))
            reached = gradient is not None and bool(layer.as_map(gradient).count_nonzero())
            suits = layer.suits and reached and calls[name] == 1 and layer.channels != num_classes
            layers[name] = MapLayer(**vars(layer) | {"calls": calls[name], "reached": reached, "suits": suits})
    return layers


def _outputs(model: nn.Module, batch: Tensor) -> tuple[dict[str, Tensor], Counter[str], Tensor]:
    """What each module gave, in order; how often each was called; and the logits."""
    outputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def noting(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            del module, inputs
            calls[name] += 1
            if isinstance(output, Tensor) and output.ndim in (3, 4) and len(output) == len(batch):
                outputs.pop(name, None)  # the last call decides the place in the order
                outputs[name] = output

        return note

    handles = [module.register_forward_hook(noting(name)) for name, module in model.named_modules() if name]
    try:
        logits: Tensor = model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, calls, logits


def _map_layer(model: nn.Module, name: str, output: Tensor, size: tuple[int, int]) -> MapLayer | None:
    """How the output of a layer lies over an image of this size; None where it does not."""
    module = model.get_submodule(name)
    suits = not isinstance(module, _PASSIVE)
    if output.ndim == 4:
        _, a, b, c = output.shape
        if _lies_over(b, c, size):
            return MapLayer(name=name, channels=a, height=b, width=c, layout="channels-first", suits=suits)
        if _lies_over(a, b, size):
            return MapLayer(name=name, channels=c, height=a, width=b, layout="channels-last", suits=suits)
        return None
    _, n_tokens, channels = output.shape
    said: Any = next((m.num_prefix_tokens for m in model.modules() if hasattr(m, "num_prefix_tokens")), 0)  # timm
    side = math.isqrt(n_tokens - int(said))
    prefix = n_tokens - side * side
    if side < 2 or prefix > MOST_PREFIX_TOKENS:
        return None
    # Only what a normalisation hands to attention: the network's own view of each patch, on one scale.
    is_norm = "norm" in type(module).__name__.lower()
    return MapLayer(
        name=name, channels=channels, height=side, width=side, layout="tokens", prefix=prefix, suits=is_norm
    )


def _lies_over(height: int, width: int, size: tuple[int, int]) -> bool:
    """Whether a grid of cells has the shape of the image, give or take a cell."""
    return (
        2 <= height <= size[0]
        and 2 <= width <= size[1]
        and abs(height * size[1] - width * size[0]) <= max(size[0], size[1])
    )


def choose_layer(model: nn.Module, batch: Tensor, wanted: str | None = None) -> MapLayer:
    """The layer to weigh: the one named, or the last whose map is at least `LEAST_SIDE` cells across.

    Of convolutions only a layer through which everything passes is chosen: a branch has seen, but not said, everything.
    A small network on small images may have no such layer; then it is the last among those with the most cells.

    Args:
        model: Takes `batch`, gives logits.
        batch: `(n, 1, height, width)`, preprocessed.
        wanted: A name instead.

    Raises:
        UsageError: `XAI_LAYER` for a name without a map, `XAI_NO_MAP` where no layer has one.
    """
    layers = survey_layers(model, batch)
    suitable = [layer for layer in layers.values() if layer.suits]
    if wanted is not None:
        layer = find_layer(layers, wanted)
        if not layer.reached:
            near = f" Try '{suitable[-1].name}'." if suitable else ""
            raise UsageError(f"The scores do not depend on the map of layer '{wanted}'.{near}", code="XAI_LAYER")
        return layer
    finest = max((min(layer.height, layer.width) for layer in suitable), default=0)
    for layer in reversed(suitable):
        is_fine = min(layer.height, layer.width) >= min(LEAST_SIDE, finest)
        if is_fine and (layer.layout == "tokens" or _carries_everything(model, batch, layer)):
            return layer
    raise UsageError(
        "No layer of this model has a map over the image that its scores depend on. Use a method that needs none, "
        "such as --methods gradient or --methods occlusion.",
        code="XAI_NO_MAP",
    )


def _carries_everything(model: nn.Module, batch: Tensor, layer: MapLayer) -> bool:
    """Whether the scores depend on the image through this layer alone."""
    cut = model.get_submodule(layer.name).register_forward_hook(lambda module, inputs, output: output.detach())
    try:
        with held_still(model), torch.enable_grad():
            logits: Tensor = model(batch[:1].clone().requires_grad_())
    finally:
        cut.remove()
    return not logits.requires_grad


def find_layer(layers: Mapping[str, MapLayer], wanted: str) -> MapLayer:
    """The layer of this name; the end of a name will do where it is the only one so near the top.

    Args:
        layers: As `survey_layers` found them.
        wanted: Such as `layer4` for `backbone.layer4`.

    Raises:
        UsageError: `XAI_LAYER`, with the nearest names; also for a layer that is used several times.
    """
    ending = [name for name in layers if f".{name}".endswith(f".{wanted}")]
    top = min((name.count(".") for name in ending), default=0)
    nearest = [name for name in ending if name.count(".") == top]
    if len(nearest) > 1:
        raise UsageError(
            f"Several layers are named '{wanted}': {', '.join(nearest[:4])}. Name one in full.", code="XAI_LAYER"
        )
    if not nearest:
        raise UsageError(
            f"No layer named '{wanted}' has a map over the image.{nearest_name(wanted, layers)} The last that have: "
            f"{', '.join(list(layers)[-6:])}.",
            code="XAI_LAYER",
        )
    layer = layers[nearest[0]]
    if layer.calls > 1:
        raise UsageError(
            f"Layer '{wanted}' is used {layer.calls} times in one pass. Name the block around it.", code="XAI_LAYER"
        )
    return layer


def feature_maps(model: nn.Module, image: Tensor, layer: str) -> Floats:
    """What one layer makes of one image.

    Args:
        model: Takes `(n, 1, height, width)`.
        image: `(1, height, width)` or `(1, 1, height, width)`, preprocessed.
        layer: Its name; see `survey_layers`.

    Returns:
        `(channels, h, w)`, in the layer's own units: before a ReLU if it is a convolution, after it if it is the ReLU.

    Raises:
        UsageError: `XAI_LAYER`.
    """
    batch = image if image.ndim == 4 else image.unsqueeze(0)
    found = find_layer(survey_layers(model, batch), layer)
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        del module, inputs
        kept.append(found.as_map(output))

    handle = model.get_submodule(found.name).register_forward_hook(keep)
    try:
        with held_still(model), torch.no_grad():
            model(batch)
    finally:
        handle.remove()
    maps: Floats = kept[0][0].float().cpu().numpy()
    return maps
