"""From one channel to a backbone that was made for three."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from statistics import fmean
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from plainfilm.errors import UsageError, unknown_name

Adapter = Literal["conv1x1", "depthwise", "sum", "replicate"]

_NO_SHIFT = 1e-6  # in standard deviations; below this, float32 cannot tell


class Replicate(nn.Module):
    """Three copies of one channel, each with its own fixed scale and shift; nothing is learned.

    Args:
        scale: Factor of each copy; three values.
        shift: Added after it; three values.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Sequence[float], shift: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale).reshape(1, 3, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).reshape(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map `(batch, 1, height, width)` to `(batch, 3, height, width)`."""
        return images * self.scale + self.shift


def adapt_to_one_channel(
    backbone: nn.Module,
    adapter: Adapter,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """Let a backbone for RGB images take `(batch, 1, height, width)`.

    Images are normalised with the *averages* of `mean` and `std` over the channels, as the data pipeline
    does. The adapter makes up the difference, so that a pretrained backbone sees `(x - mean_c) / std_c`
    in channel `c`, what it was trained on.

    - `replicate`: three fixed copies. Exact.
    - `conv1x1`: a learned 1x1 convolution from 1 to 3 channels, which starts as `replicate`. This is the
      ResNet50-1d of Ilyassov (2024), section 3.3, who calls the layer depthwise: with one input channel,
      a depthwise convolution (one group to a channel, three outputs) and a plain one are the same. How
      the layer was initialised is not said there.
    - `depthwise`: the other reading of that layer, after `replicate`: a 1x1 convolution with one group to a
      channel, that is three learned scales, which start at 1. `conv1x1` can also shift the channels apart.
    - `sum`: the weights of the first convolution are summed over its input channels; no layer is added,
      and the backbone is changed in place. Exact where `mean` and `std` are equal over the channels. Else
      the convolution gains a bias where it had none, and the result is approximate where the kernel
      reaches over the border, because zero padding then stands for another grey value. It is also
      approximate for convolutions that standardise their own weights.

    Args:
        backbone: Takes `(batch, 3, height, width)`.
        adapter: One of the four above.
        mean: Per channel, in the unit of the images before normalisation; None: no difference to make up.
        std: Likewise; above 0.

    Returns:
        For `sum` the backbone itself, else a module with the children `adapter` and `backbone`.

    Raises:
        UsageError: If the adapter is unknown, `mean` and `std` are not three values each, or `sum` finds
            no first convolution, or several.
    """
    if adapter not in get_args(Adapter):
        raise unknown_name("adapter", adapter, get_args(Adapter))
    scale, shift = _affine(mean, std)
    if adapter == "sum":
        _sum_input_channels(_first_convolution(backbone), scale, shift)
        return backbone
    layers = {"replicate": Replicate, "conv1x1": _conv1x1, "depthwise": _depthwise}
    return nn.Sequential(OrderedDict(adapter=layers[adapter](scale, shift), backbone=backbone))


def _affine(mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[list[float], list[float]]:
    """Scale and shift from the averaged normalisation to that of each channel, three values each."""
    if mean is None and std is None:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if mean is None or std is None or len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise UsageError("Give mean and std together, three values each, every std above 0; or neither.")
    # (x - mean_c) / std_c, with x = image * average_std + average_mean.
    scale = [fmean(std) / s for s in std]
    shift = [(fmean(mean) - m) / s for m, s in zip(mean, std, strict=True)]
    return scale, shift


def _conv1x1(scale: Sequence[float], shift: Sequence[float]) -> nn.Conv2d:
    convolution = nn.Conv2d(1, 3, kernel_size=1)
    convolution.weight = nn.Parameter(torch.tensor(scale).reshape(3, 1, 1, 1))
    convolution.bias = nn.Parameter(torch.tensor(shift))
    return convolution


def _depthwise(scale: Sequence[float], shift: Sequence[float]) -> nn.Sequential:
    scales = nn.Conv2d(3, 3, kernel_size=1, groups=3, bias=False)
    nn.init.ones_(scales.weight)
    return nn.Sequential(OrderedDict(copies=Replicate(scale, shift), scales=scales))


def _first_convolution(backbone: nn.Module) -> nn.Conv2d:
    """The one convolution that reads the image."""
    found = [m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3]
    if len(found) != 1 or found[0].groups != 1:
        raise UsageError(
            f"Adapter 'sum' needs one convolution over 3 channels; this backbone has {len(found)}. "
            "Use 'conv1x1' or 'replicate'.",
            code="ADAPTER_SUM",
        )
    return found[0]


@torch.no_grad()
def _sum_input_channels(convolution: nn.Conv2d, scale: Sequence[float], shift: Sequence[float]) -> None:
    """Turn a convolution over three channels into the one over a single channel that equals it."""
    weight = convolution.weight  # (out, 3, kernel height, kernel width)
    if max(abs(value) for value in shift) > _NO_SHIFT:
        offset = torch.einsum("oihw,i->o", weight, weight.new_tensor(shift))
        before = 0 if convolution.bias is None else convolution.bias
        convolution.bias = nn.Parameter(before + offset)
    # Changed in place rather than replaced: subclasses keep their own padding.
    scaled = weight * weight.new_tensor(scale).reshape(1, 3, 1, 1)
    convolution.weight = nn.Parameter(scaled.sum(dim=1, keepdim=True))
    convolution.in_channels = 1
