"""The networks that the two papers start from: the perceptron, the multi-layer perceptron and LeNet-5."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from plainfilm.errors import UsageError
from plainfilm.models.heads import dense_layer, output_layer, start_as_keras

# Softmax of (0, 20) gives the losing class 2e-9: a decision, yet a wrong one costs 20 and not infinity.
_CERTAIN = 20.0


class Perceptron(nn.Module):
    """Threshold units on the pixels: for two classes one, which fires or does not; for more, the strongest wins.

    The logits are a decision, not a degree: 0, and 20 for the chosen class. Trained with cross-entropy, it learns by
    Rosenblatt's rule: add the image to the weights of a class that was missed, take it from those of a class that
    was wrongly chosen, and change nothing after a right answer. Weights start at zero, so that the learning rate
    of plain SGD only sets their scale.

    Args:
        num_classes: Logits to return.
        image_size: Height and width of the images.

    References:
        Rosenblatt (1958), The perceptron. Psychological Review 65(6), 386-408. For several classes: Duda and Hart
        (1973), Pattern Classification and Scene Analysis, section 5.12 (Kesler's construction).
    """

    def __init__(self, num_classes: int, *, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.units = output_layer(image_size**2, num_classes)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Map `(batch, 1, image_size, image_size)` to logits, each 0 or 20, `(batch, num_classes)`."""
        activation: Tensor = self.units(images.flatten(1))
        winner = functional.one_hot(activation.argmax(1), activation.shape[1]).to(activation.dtype)
        # A step has no slope to follow. Straight through (Bengio et al. 2013, arXiv 1308.3432): the value is the
        # step's, the gradient is passed to the activation as it is. That of the cross-entropy is p - t, softmax
        # minus target. Here p is 0 or 1, so p - t is -1 for a class that was missed, +1 for one wrongly chosen and
        # else 0; times the image, it is the perceptron rule.
        return _CERTAIN * winner + (activation - activation.detach())


class MultiLayerPerceptron(nn.Module):
    """Two hidden layers of 256 on the pixels, made as the dense layers of Keel's network.

    Args:
        num_classes: Logits to return.
        image_size: Height and width of the images.

    References:
        Rumelhart, Hinton and Williams (1986). Keel, Deep Learning for Medical Image Classification, section 4.1.5.
    """

    def __init__(self, num_classes: int, *, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.dense1 = dense_layer(image_size**2, 256)
        self.dense2 = dense_layer(256, 256)
        self.output = output_layer(256, num_classes)
        start_as_keras(self)

    def forward_features(self, images: Tensor) -> Tensor:
        """Map `(batch, 1, image_size, image_size)` to the last hidden layer, `(batch, 256)`."""
        hidden: Tensor = self.dense2(self.dense1(images.flatten(1)))
        return hidden

    def forward(self, images: Tensor) -> Tensor:
        """Map `(batch, 1, image_size, image_size)` to logits, `(batch, num_classes)`."""
        logits: Tensor = self.output(self.forward_features(images))
        return logits


class LeNet5(nn.Module):
    """LeNet-5 as it is taught today; 61,706 parameters for ten classes at 32x32.

    Layers, kernels and widths are LeCun et al.'s. Unlike theirs, C3 reads all maps of S2 instead of chosen ones, the
    averages have no weights of their own, tanh is not stretched, and the output is linear instead of distances to
    drawn characters.

    Args:
        num_classes: Logits to return.
        image_size: Height and width of the images, 16 or more; the paper's are 32x32.

    References:
        LeCun et al. (1998), Gradient-based learning applied to document recognition, section II.B. Proceedings of
        the IEEE 86(11), 2278-2324.
    """

    def __init__(self, num_classes: int, *, image_size: int = 32) -> None:
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        if side < 1:
            raise UsageError(
                f"LeNet-5 needs images of 16x16 or more, got {image_size}x{image_size}.", code="IMAGE_SIZE"
            )
        self.image_size = image_size
        self.c1 = nn.Conv2d(1, 6, 5)
        self.c3 = nn.Conv2d(6, 16, 5)
        # C5 is a convolution over all of S4: at one position only, and so a linear layer.
        self.classifier = nn.Sequential(
            OrderedDict(
                c5=nn.Linear(16 * side**2, 120),
                tanh5=nn.Tanh(),
                f6=nn.Linear(120, 84),
                tanh6=nn.Tanh(),
                output=nn.Linear(84, num_classes),
            )
        )
        start_as_keras(self)

    def forward_features(self, images: Tensor) -> Tensor:
        """Map `(batch, 1, image_size, image_size)` to the maps S4, `(batch, 16, side, side)`; 5x5 of 32x32."""
        s2 = functional.avg_pool2d(self.c1(images).tanh(), 2)
        return functional.avg_pool2d(self.c3(s2).tanh(), 2)

    def forward(self, images: Tensor) -> Tensor:
        """Map `(batch, 1, image_size, image_size)` to logits, `(batch, num_classes)`."""
        logits: Tensor = self.classifier(self.forward_features(images).flatten(1))
        return logits
