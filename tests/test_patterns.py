"""Models taken apart once for each make, and torchvision without torch's compiler."""

import subprocess
import sys

import pytest
import torch

from plainfilm.models import create_model, zoo
from plainfilm.models.patterns import Patterns


@pytest.mark.parametrize(
    ("name", "head", "size"),
    [
        ("torchvision:squeezenet1_0", "linear", 64),
        ("torchvision:squeezenet1_0", "conv", 160),
        ("timm:vit_tiny_patch16_224", "linear", 64),
        ("resnet1d", "linear", 32),
    ],
)
def test_the_second_model_of_a_make_is_as_the_first(monkeypatch, name, head, size):
    monkeypatch.setattr(zoo, "_patterns", Patterns(1))
    images = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))

    first, second = (_made(name, head, size, images) for _ in range(2))

    assert len(zoo._patterns._kept) == 1
    assert first[0] == second[0]
    for one, other in zip(first[1:], second[1:], strict=True):
        assert list(one) == list(other)
        assert all(torch.equal(one[key], other[key]) for key in one)


def _made(name, head, size, images):
    """Layers, weights, gradients and scores of a model that begins at a seed."""
    torch.manual_seed(3)
    model = create_model(name, num_classes=3, head=head, image_size=size)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    model.eval()
    logits = model(images)
    logits.sum().backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None}
    assert gradients
    return repr(model), weights, gradients, {"logits": logits.detach()}


def test_models_of_a_make_share_no_numbers():
    one, other = (create_model("resnet1d", num_classes=2, head="linear", image_size=32) for _ in range(2))
    before = {key: value.clone() for key, value in other.state_dict().items()}

    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(1.0)

    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


def test_only_so_many_makes_are_kept(monkeypatch):
    monkeypatch.setattr(zoo, "_patterns", Patterns(2))

    for num_classes in (2, 3, 4):
        create_model("resnet1d", num_classes=num_classes, head="linear", image_size=32)

    assert [make[0][1] for make in zoo._patterns._kept] == [3, 4]


def test_torchvision_comes_without_the_compiler_and_still_has_it():
    program = (
        "import sys, torch\n"
        "from plainfilm.models.imports import import_torchvision\n"
        "torchvision = import_torchvision()\n"
        "assert not [name for name in sys.modules if name.startswith('torch._dynamo')]\n"
        "boxes = [torch.tensor([[0.0, 0, 8, 8]])]\n"
        "assert torchvision.ops.roi_align(torch.rand(1, 3, 16, 16), boxes, 4).shape == (1, 3, 4, 4)\n"
        "assert sys.modules['torchvision.ops.roi_align'].is_compile_supported('cpu') in (True, False)\n"
        "import torch._dynamo\n"
        "assert torch._dynamo.utils.__file__\n"
        "assert import_torchvision() is torchvision\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr


def test_what_else_is_asked_of_the_compiler_is_the_real_one():
    program = (
        "import sys, torch\n"
        "from plainfilm.models.imports import compiler_postponed\n"
        "with compiler_postponed():\n"
        "    from torch._dynamo.utils import counters, is_compile_supported\n"
        "import torch._dynamo.utils as real\n"
        "assert counters is real.counters and is_compile_supported('cpu') == real.is_compile_supported('cpu')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr
