"""What turns features into logits: the X-ray paper's top, a linear layer, and a backbone with either on it."""

from __future__ import annotations

from collections import OrderedDict
from math import isqrt
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from plainfilm.errors import UsageError

Head = Literal["own", "linear", "conv"]

SMALLEST_MAP = 7  # a 3x3 and a 5x5 convolution without padding leave one position


class ConvTop(nn.Module):
    """The small convolutional network that Keel puts on Inception v3's last maps, trained from scratch.

    Conv 16 3x3, Conv 16 5x5 (both without padding, ReLU), global max pooling, two `dense_layer`s of 256, output.
    372,769 parameters on 2048 channels for two classes.

    Args:
        in_channels: Channels of the maps.
        num_classes: Logits to return; for two there is one output unit, see `OneLogit`.

    References:
        Keel, Deep Learning for Medical Image Classification, section 4.1 and appendix.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3)
        self.conv2 = nn.Conv2d(16, 16, 5)
        self.dense1 = dense_layer(16, 256)
        self.dense2 = dense_layer(256, 256)
        self.output = output_layer(256, num_classes)
        start_as_keras(self)

    def forward(self, maps: Tensor) -> Tensor:
        """Map `(batch, in_channels, height, width)`, 7x7 or more, to logits, `(batch, num_classes)`.

        Raises:
            UsageError: `HEAD_SIZE`, if the maps are smaller.
        """
        height, width = maps.shape[-2:]
        if min(height, width) < SMALLEST_MAP:
            raise UsageError(
                f"The convolutional head needs feature maps of {SMALLEST_MAP}x{SMALLEST_MAP} or more, got "
                f"{height}x{width}. Take larger images, a backbone with larger maps, or head 'linear'.",
                code="HEAD_SIZE",
            )
        maps = functional.relu(self.conv2(functional.relu(self.conv1(maps))))
        logits: Tensor = self.output(self.dense2(self.dense1(maps.amax(dim=(2, 3)))))
        return logits


class OneLogit(nn.Module):
    """One output unit z, given as the logits `[0, z]`.

    Their softmax is `[1 - sigmoid(z), sigmoid(z)]`, and their cross-entropy the binary one: the single sigmoid unit
    of a two-class network, in the form that every other part expects.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.unit = nn.Linear(in_features, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map `(batch, in_features)` to `(batch, 2)`."""
        return functional.pad(self.unit(features), (1, 0))


class LinearHead(nn.Module):
    """One linear layer on pooled features.

    Args:
        in_channels: Channels of the features.
        num_classes: Logits to return.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = GlobalAverage()
        self.linear = nn.Linear(in_channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map `(batch, in_channels, height, width)` or `(batch, in_channels)` to logits."""
        logits: Tensor = self.linear(self.pool(features))
        return logits


class Headed(nn.Module):
    """A backbone, and a head on its features.

    Attributes:
        frozen: The parameters that `freeze_backbone` took out of training. While there are any, the backbone stays
            in evaluation mode whatever `train` says, as Keras' frozen layers do: its normalisations use, and keep,
            the statistics of the pretraining.

    Args:
        backbone: Makes features.
        head: Makes logits of them.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.frozen: tuple[nn.Parameter, ...] = ()

    def train(self, mode: bool = True) -> Headed:
        """Set the mode of the head, and of a backbone that is not frozen."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map images to logits, `(batch, num_classes)`."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


# --- Layers --------------------------------------------------------------------------------------------------


def dense_layer(in_features: int, out_features: int) -> nn.Sequential:
    """The hidden layer of Keel's networks: linear, ReLU, a quarter dropped, then normalised."""
    return nn.Sequential(
        OrderedDict(
            linear=nn.Linear(in_features, out_features),
            relu=nn.ReLU(),
            dropout=nn.Dropout(0.25),
            # Keras' momentum of 0.99 is how much is kept; torch's is how much is new.
            bn=nn.BatchNorm1d(out_features, eps=1e-3, momentum=0.01),
        )
    )


def output_layer(in_features: int, num_classes: int) -> nn.Module:
    """One unit for two classes, else one for each."""
    return OneLogit(in_features) if num_classes == 2 else nn.Linear(in_features, num_classes)


def start_as_keras(network: nn.Module) -> None:
    """Glorot and Bengio's (2010) uniform weights and biases of zero: what Keras starts its layers with."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


# --- Features of other shapes --------------------------------------------------------------------------------


class GlobalAverage(nn.Module):
    """The mean of each feature map."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map `(batch, channels, height, width)` to `(batch, channels)`; leave `(batch, channels)` as it is."""
        return maps.mean(dim=(2, 3)) if maps.ndim == 4 else maps


class ChannelsFirst(nn.Module):
    """Maps of a network that keeps channels last, as Swin's."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map `(batch, height, width, channels)` to `(batch, channels, height, width)`."""
        return maps.permute(0, 3, 1, 2)


class TokensAsMap(nn.Module):
    """Patch tokens of square images, laid out as the patches were.

    Args:
        prefix: Tokens before them that stand for no patch: class token, registers.
    """

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `(batch, prefix + side * side, channels)` to `(batch, channels, side, side)`."""
        patches = tokens[:, self.prefix :]
        side = isqrt(patches.shape[1])
        return patches.transpose(1, 2).reshape(len(patches), -1, side, side)


class ClassToken(nn.Module):
    """The first token, which gathers what a transformer knows of the image."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `(batch, tokens, channels)` to `(batch, channels)`."""
        return tokens[:, 0]
