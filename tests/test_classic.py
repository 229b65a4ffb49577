from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from plainfilm.errors import UsageError
from plainfilm.models import LeNet5, MultiLayerPerceptron, Perceptron, create_model, describe_model
from plainfilm.models.families import OWN
from plainfilm.models.heads import OneLogit

# Those with many parameters are built without numbers: they would learn nothing here that the others do not.
LIGHT = {"resnet1d", "perceptron", "mlp", "lenet5", "conv-top", "resnet18"}

seeds = st.integers(0, 2**31)


# --- The perceptron --------------------------------------------------------------------------------------


def drawn_perceptron(num_classes: int, seed: int) -> tuple[Perceptron, torch.Tensor]:
    """A perceptron somewhere in its training, and one image."""
    torch.manual_seed(seed)
    model = Perceptron(num_classes, image_size=4)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model, torch.randn(1, 1, 4, 4)


@given(seed=seeds, label=st.integers(0, 1))
@settings(max_examples=40, deadline=None)
def test_the_gradient_is_rosenblatts_rule(seed: int, label: int):
    model, image = drawn_perceptron(2, seed)
    decision = model(image).argmax(1).item()
    nn.functional.cross_entropy(model(image), torch.tensor([label])).backward()
    unit = model.units.unit

    # Down the gradient: add the image where it should have fired, take it away where it should not have.
    assert torch.allclose(unit.weight.grad, (decision - label) * image.reshape(1, -1), atol=1e-6)
    assert unit.bias.grad.item() == pytest.approx(decision - label, abs=1e-6)


@given(seed=seeds, num_classes=st.integers(3, 5), data=st.data())
@settings(max_examples=40, deadline=None)
def test_of_several_classes_the_missed_one_gains_the_image_and_the_chosen_one_loses_it(
    seed: int, num_classes: int, data: st.DataObject
):
    model, image = drawn_perceptron(num_classes, seed)
    label = data.draw(st.integers(0, num_classes - 1))
    decision = int(model(image).argmax(1))
    nn.functional.cross_entropy(model(image), torch.tensor([label])).backward()
    sign = torch.zeros(num_classes)
    sign[decision] += 1
    sign[label] -= 1

    assert torch.allclose(model.units.weight.grad, sign[:, None] * image.reshape(1, -1), atol=1e-6)


@given(seed=seeds, num_classes=st.integers(2, 4))
@settings(max_examples=25, deadline=None)
def test_the_output_is_a_decision_and_a_wrong_one_costs_a_finite_loss(seed: int, num_classes: int):
    model, image = drawn_perceptron(num_classes, seed)
    logits = model(image)
    losses = [nn.functional.cross_entropy(logits, torch.tensor([label])).item() for label in range(num_classes)]

    assert sorted(logits[0].tolist()) == [0.0] * (num_classes - 1) + [20.0]
    assert sorted(losses) == [pytest.approx(0, abs=1e-6), *[pytest.approx(20)] * (num_classes - 1)]


def test_two_classes_have_one_threshold_unit_and_start_at_zero():
    model = Perceptron(2, image_size=8)

    assert isinstance(model.units, OneLogit)
    assert sum(p.numel() for p in model.parameters()) == 8 * 8 + 1
    assert not any(parameter.any() for parameter in model.parameters())


def test_the_rule_separates_what_a_plane_can_separate_whatever_the_learning_rate():
    torch.manual_seed(0)
    plane = torch.randn(16)
    images = torch.randn(12, 1, 4, 4)
    labels = (images.flatten(1) @ plane > 0).long()
    found = []
    for rate in (0.01, 10.0):
        model = Perceptron(2, image_size=4)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for _ in range(40):  # one image after the other, as in Novikoff's theorem
            for image, label in zip(images, labels, strict=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(image[None]), label[None]).backward()
                optimizer.step()
            if torch.equal(model(images).argmax(1), labels):
                break
        found.append(model)

    assert all(torch.equal(model(images).argmax(1), labels) for model in found)
    assert torch.allclose(found[0].units.unit.weight / 0.01, found[1].units.unit.weight / 10, atol=1e-4)


# --- The multi-layer perceptron and LeNet-5 --------------------------------------------------------------


def test_the_multi_layer_perceptron_has_the_papers_dense_layers():
    model = MultiLayerPerceptron(2, image_size=10)
    kinds = [type(module).__name__ for module in model.dense1]

    assert kinds == ["Linear", "ReLU", "Dropout", "BatchNorm1d"]
    assert sum(p.numel() for p in model.parameters()) == 101 * 256 + 512 + 257 * 256 + 512 + 257
    assert model.forward_features(torch.zeros(3, 1, 10, 10)).shape == (3, 256)


def test_lenet5_has_the_known_count_of_parameters_and_maps():
    model = LeNet5(10)

    assert sum(p.numel() for p in model.parameters()) == 61_706
    assert model.forward_features(torch.zeros(1, 1, 32, 32)).shape == (1, 16, 5, 5)


@pytest.mark.parametrize("size", [16, 28, 45])
def test_lenet5_takes_other_sizes(size: int):
    assert LeNet5(3, image_size=size)(torch.zeros(2, 1, size, size)).shape == (2, 3)


def test_an_image_that_lenet5_would_shrink_to_nothing_is_refused():
    with pytest.raises(UsageError, match="16x16 or more"):
        create_model("lenet5", num_classes=2, image_size=15)


# --- By name ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(LIGHT))
def test_every_model_of_plainfilms_own_takes_a_step_that_lowers_its_loss(name: str):
    torch.manual_seed(0)
    model = create_model(name, num_classes=2, image_size=32)
    images, labels = torch.randn(2, 1, 32, 32), torch.tensor([0, 1])
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    before = nn.functional.cross_entropy(model(images), labels)
    before.backward()
    slope = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad * 0.01 / max(slope, 0.01))
    after = nn.functional.cross_entropy(model(images), labels)

    assert slope > 0
    assert after.item() < before.item()


@pytest.mark.parametrize("name", sorted(OWN.keys() - LIGHT))
def test_the_heavy_models_are_built_and_give_a_gradient_to_every_parameter(name: str):
    with torch.device("meta"):
        model = create_model(name, num_classes=3)
        size = describe_model(name, measure=False).input_size
        logits = model(torch.empty(2, 1, size, size))
        logits.sum().backward()

    assert logits.shape == (2, 3)
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # for 1000 classes and three channels, as torchvision and the papers give them
        ("alexnet", 61_100_840),
        ("vgg16", 138_357_544),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("vit", 86_567_656),
    ],
)
def test_the_background_models_have_their_published_counts(name: str, parameters: int):
    with torch.device("meta"):
        model = create_model(name, num_classes=1000, adapter="replicate")

    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(("name", "size"), [("perceptron", 128), ("mlp", 128), ("lenet5", 32), ("conv-top", 299)])
def test_models_on_the_pixels_have_a_size_of_their_own_and_no_weights(name: str, size: int):
    info = describe_model(name, measure=False)

    assert info.input_size == size
    assert info.weights == "none"


def test_only_two_models_on_the_pixels_grow_with_the_image():
    grows = {
        name
        for name in ("perceptron", "mlp", "conv-top", "resnet1d")
        if describe_model(name, image_size=32).parameters != describe_model(name, image_size=64).parameters
    }

    assert grows == {"perceptron", "mlp"}
