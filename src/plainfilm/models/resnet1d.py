"""ResNet1d: a residual network made for one channel, trained from scratch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from plainfilm.errors import UsageError

Stem = Literal["conv7", "conv3", "patch4"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: `relu(F(x) + shortcut(x))`.

    The shortcut is the identity, or a 1x1 convolution where the shape changes (He et al. 2015, option B).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Of the first convolution and of the shortcut.
        zero_init: Start the last normalisation at zero, so that the block starts as its shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, zero_init: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        if zero_init:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, in_channels, h, w)` to `(batch, out_channels, ceil(h / stride), ceil(w / stride))`."""
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        out: Tensor = self.relu(residual + self.shortcut(x))
        return out


class ResNet1d(nn.Module):
    """The paper's residual network for one channel at 128x128; at most 3 million parameters as it stands.

    The paper says that the design of He et al. (2015), figure 5, was "re-implemented [...] adapted to
    processing smaller images with 1 channel with slight alterations to channels and kernel sizes as well
    as strides and paddings", and prints no table. Fixed by it: figure 5 (the 34-layer network of basic
    blocks), one channel, 128x128, smaller and faster than the original. Chosen here, where it is silent:

    - depth: two blocks in each of four stages (He et al.'s 18-layer network), since figure 5's 16 blocks
      are many for 5,000 images;
    - channels: 16, 32, 96, 192 instead of 64, 128, 256, 512 (1.5 million parameters): one channel and few classes
      need few early features, and the large early maps are where the time goes;
    - kernels, strides, paddings: as in the original (stem 7x7/2 and pooling 3x3/2; then 3x3, the first
      block of stages 2 to 4 with stride 2), so the last feature map of a 128x128 image is 4x4;
    - shortcuts: 1x1 convolutions where the shape changes (option B);
    - start: He et al.'s (2015b) normal initialisation over the outputs of each convolution; with
      `zero_init`, each block starts as its shortcut (Goyal et al. 2017);
    - head: global average, then one linear layer. No dropout.

    Any image of 32x32 or more works, square or not.

    Args:
        num_classes: Logits to return; at least 1.
        in_channels: Channels of the images.
        layers: Blocks in each stage.
        widths: Channels of each stage.
        stem: `conv7`: 7x7 convolution with stride 2, then 3x3 max pooling with stride 2 (He et al.'s for
            ImageNet); `conv3`: one 3x3 convolution with stride 1, no pooling (theirs for CIFAR; about
            16 times the work of `conv7`; for images of about 32x32); `patch4`: one 4x4 convolution with stride 4
            over separate patches (the cheapest).
        zero_init: Start the last normalisation of each block at zero.

    Raises:
        UsageError: If a count is below 1 or the stem is unknown.

    References:
        Ilyassov (2024), Leveraging Modern Image Classification Algorithms for Medical Image Analysis and
        Diagnostics, section 3.2. He et al. (2015), arXiv 1512.03385; (2015b), arXiv 1502.01852. Goyal et
        al. (2017), arXiv 1706.02677.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 1,
        layers: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] = (16, 32, 96, 192),
        stem: Stem = "conv7",
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        if min(num_classes, in_channels, *widths, *layers) < 1 or len(widths) != len(layers):
            raise UsageError(
                "ResNet1d needs as many widths as layers, and these, num_classes and in_channels to be 1 or more."
            )
        self.num_features = widths[-1]
        self.stem = _stem(stem, in_channels, widths[0])
        self.stages = nn.Sequential()
        for stage, depth in enumerate(layers):
            before = widths[max(stage - 1, 0)]
            blocks = [
                BasicBlock(
                    widths[stage] if block else before,
                    widths[stage],
                    stride=2 if stage and not block else 1,
                    zero_init=zero_init,
                )
                for block in range(depth)
            ]
            self.stages.append(nn.Sequential(*blocks))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(self.num_features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """Map `(batch, in_channels, height, width)` to the last map, `(batch, num_features, h, w)`."""
        features: Tensor = self.stages(self.stem(images))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Map `(batch, in_channels, height, width)` to logits, `(batch, num_classes)`."""
        logits: Tensor = self.head(self.pool(self.forward_features(images)).flatten(1))
        return logits


def _stem(stem: Stem, in_channels: int, width: int) -> nn.Sequential:
    """From the image to the first stage's channels."""
    convolutions = {
        "conv7": nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False),
        "conv3": nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
        "patch4": nn.Conv2d(in_channels, width, 4, stride=4, bias=False),
    }
    if stem not in convolutions:
        raise UsageError(f"No stem named '{stem}'. Known: {', '.join(convolutions)}.", code="UNKNOWN_STEM")
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=convolutions[stem], bn=nn.BatchNorm2d(width), relu=nn.ReLU(inplace=True)
    )
    if stem == "conv7":
        parts["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(parts)
