"""Batch normalisation folded into convolutions: the same scores, and a model that stays as it was."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from plainfilm.models import create_model
from plainfilm.models.folding import folded

# One of every kind that the registry has, as small as it comes: plainfilm's own, timm's, torchvision's; on adapters.
FAMILIES = {
    "resnet1d": 32,
    "resnet1d-patch": 32,
    "resnet18": 32,
    "conv-top": 32,
    "perceptron": 32,
    "mlp": 32,
    "lenet5": 32,
    "timm:test_resnet": 64,
    "timm:test_efficientnet": 64,
    "timm:test_vit": 160,
    "timm:densenet121": 32,
    "torchvision:mobilenet_v3_small": 32,
    "torchvision:squeezenet1_0": 64,
}
WHOLLY_FOLDED = ("resnet1d", "resnet1d-patch", "resnet18", "timm:test_resnet", "timm:test_efficientnet")


def as_trained(model: nn.Module) -> nn.Module:
    """With statistics and scales of normalisations as a training leaves them, not 0 and 1."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


def normalisations(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@torch.inference_mode()
def scores(model: nn.Module, images: Tensor) -> np.ndarray:
    return model(images).double().softmax(dim=1).numpy()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_scores_the_same(name):
    torch.manual_seed(0)
    model = as_trained(create_model(name, num_classes=3, image_size=FAMILIES[name]))
    images = torch.randn(4, 1, FAMILIES[name], FAMILIES[name])

    quick = folded(model)

    assert np.abs(scores(quick, images) - scores(model, images)).max() < 1e-5
    if name in WHOLLY_FOLDED:
        assert normalisations(model)
        assert not normalisations(quick)


def test_the_model_stays_as_it_was_and_lends_what_is_not_folded():
    model = as_trained(create_model("resnet1d", num_classes=3, image_size=32))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    quick = folded(model)

    assert quick is not model
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert normalisations(model) == 20
    assert quick.head.weight is model.head.weight


def test_a_head_that_cannot_be_traced_leaves_its_backbone_foldable():
    model = as_trained(create_model("resnet1d", num_classes=3, image_size=224, head="conv"))
    images = torch.randn(2, 1, 224, 224)

    quick = folded(model)

    assert not normalisations(quick)
    assert np.abs(scores(quick, images) - scores(model, images)).max() < 1e-5


class Deciding(nn.Module):
    """Whether it normalises depends on the image: no path can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return (self.bn(maps) if images.mean() > 0 else maps).mean(dim=(2, 3))


class Twice(nn.Module):
    """What the convolution gives is also used without its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return (self.bn(maps) * maps).mean(dim=(2, 3))


class Shared(nn.Module):
    """One convolution, two normalisations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        return (self.bn1(self.conv(images)) + self.bn2(self.conv(images))).mean(dim=(2, 3))


class Renamed(nn.Module):
    """The convolution has two names, and is called by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.again = self.conv

    def forward(self, images: Tensor) -> Tensor:
        return self.bn(self.again(images)).mean(dim=(2, 3))


class OwnWeights(nn.Conv2d):
    """A convolution with weights of its own making."""

    def forward(self, images: Tensor) -> Tensor:
        return self._conv_forward(images, self.weight / self.weight.std(), self.bias)


@pytest.mark.parametrize(
    "model",
    [
        Deciding(),
        Twice(),
        Shared(),
        Renamed(),
        nn.Sequential(OwnWeights(1, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
    ],
    ids=["decides", "used twice", "shared", "renamed", "own weights", "no statistics"],
)
def test_what_cannot_be_folded_stays_the_model_itself(model):
    assert folded(model.eval()) is model


def test_a_normalisation_in_training_is_not_folded():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).train()

    assert folded(model) is model
