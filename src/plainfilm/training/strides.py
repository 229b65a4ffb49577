"""Layers of which bfloat16 on a processor leaves part of the gradient unset."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def layer_past_its_map(model: nn.Module, batch: Tensor) -> str | None:
    """The first convolution that steps further than its map is wide, as small images make it; None without one.

    Where its stride is larger than the map, part of its kernel only ever meets padding. In bfloat16 on a processor
    torch (2.14, oneDNN) then writes nothing into that part of the gradient of its weights: what is there is whatever
    the memory held. The scores do not change, but the weights do from run to run, up to values that are no numbers. In
    32 bits the part is 0, as it should be.

    Args:
        model: Left as it was.
        batch: `(n, ...)` as the model takes it, on the same device.
    """
    found: list[str] = []

    def look(name: str, layer: nn.Conv2d) -> torch.utils.hooks.RemovableHandle:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            sides = zip(layer.stride, layer.kernel_size, inputs[0].shape[-2:], strict=True)
            if any(stride > side and kernel > 1 for stride, kernel, side in sides):
                found.append(name)

        return layer.register_forward_pre_hook(note)

    handles = [look(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    if not handles:
        return None
    training = model.training
    try:
        with torch.inference_mode():
            model.eval()(batch)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return found[0] if found else None
