from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from plainfilm.errors import UsageError
from plainfilm.models import (
    Adapter,
    ConvTop,
    Head,
    Headed,
    LinearHead,
    create_model,
    describe_model,
    feature_maps,
    freeze_backbone,
    layer_groups,
    pooled_features,
    unfreeze_backbone,
)
from plainfilm.models.heads import OneLogit

SHARED = Path(__file__).resolve().parents[2] / "shared"
SQUEEZENET = SHARED / "weights" / "squeezenet1_0.imagenet1k.safetensors"
XRAYS = SHARED / "data" / "openi-chest-abdomen"
needs_squeezenet = pytest.mark.skipif(
    not (SQUEEZENET.is_file() and XRAYS.is_dir()), reason="needs the real weights and images in ../shared"
)

TINY = "timm:test_resnet"
# Small ones of each kind: maps, tokens, a convolutional classifier, our own.
SPLIT = [TINY, "timm:test_vit", "torchvision:squeezenet1_0", "resnet1d"]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def one_step(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()


# --- The paper's top -------------------------------------------------------------------------------------


def test_the_papers_model_has_the_papers_trainable_parameters_and_the_scales_that_keras_leaves_out():
    with torch.device("meta"):
        model = create_model("inceptionv3-top", num_classes=2, adapter="replicate")
    normalisations = [
        module for module in model.get_submodule("backbone").modules() if isinstance(module, nn.BatchNorm2d)
    ]
    scales = sum(module.weight.numel() for module in normalisations)

    assert scales == 17_216
    assert count(model) == 22_141_121 + scales
    assert {module.eps for module in normalisations} == {1e-3}  # Keras' too


def test_the_top_is_the_one_of_the_appendix():
    top = ConvTop(2048, 2)
    norms = [module for module in top.modules() if isinstance(module, nn.BatchNorm1d)]

    assert count(top) == 372_769
    assert [(norm.momentum, norm.eps) for norm in norms] == [(pytest.approx(1 - 0.99), 1e-3)] * 2
    assert [module.p for module in top.modules() if isinstance(module, nn.Dropout)] == [0.25, 0.25]
    assert top(torch.zeros(2, 2048, 8, 8)).shape == (2, 2)


def test_the_top_starts_as_keras_does():
    top = ConvTop(64, 3)

    for layer in (module for module in top.modules() if isinstance(module, nn.Conv2d | nn.Linear)):
        fan_in, fan_out = layer.weight[0].numel(), layer.weight.shape[0] * layer.weight[0, 0].numel()
        limit = (6 / (fan_in + fan_out)) ** 0.5
        assert layer.weight.abs().max().item() == pytest.approx(limit, rel=0.1)
        assert layer.weight.abs().max().item() <= limit * (1 + 1e-6)
        assert not layer.bias.any()


@given(seed=st.integers(0, 2**31), spread=st.floats(0.1, 30))
@settings(max_examples=25, deadline=None)
def test_one_logit_is_a_sigmoid(seed: int, spread: float):
    torch.manual_seed(seed)
    head, features, labels = OneLogit(5), spread * torch.randn(7, 5), torch.arange(7) % 2
    z = head.unit(features).squeeze(1)
    logits = head(features)

    assert torch.allclose(logits.softmax(1)[:, 1], z.sigmoid(), atol=1e-6)
    assert torch.allclose(
        nn.functional.cross_entropy(logits, labels),
        nn.functional.binary_cross_entropy_with_logits(z, labels.float()),
        rtol=1e-5,
    )


def test_one_logit_is_for_two_classes_only():
    assert ConvTop(4, 2).output.unit.out_features == 1
    assert [ConvTop(4, n).output.out_features for n in (1, 3)] == [1, 3]


@pytest.mark.parametrize("side", [1, 6])
def test_maps_that_the_top_cannot_read_are_refused_in_words(side: int):
    with pytest.raises(UsageError, match=f"7x7 or more, got {side}x{side}") as caught:
        ConvTop(4, 2)(torch.zeros(1, 4, side, side))

    assert caught.value.code == "HEAD_SIZE"


def test_images_whose_maps_are_too_small_are_refused_at_the_door_with_a_size_that_works():
    with pytest.raises(UsageError, match=r"resnet1d makes feature maps of 4x4 .*--image-size 224") as caught:
        create_model("resnet1d", num_classes=2, head="conv")

    assert caught.value.code == "HEAD_SIZE"
    assert create_model("resnet1d", num_classes=2, head="conv", image_size=224)(torch.randn(2, 1, 224, 224)).shape == (
        2,
        2,
    )


# --- Heads on any backbone -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("head", ["linear", "conv"])
def test_a_head_goes_on_any_backbone_and_none_of_the_old_classifier_stays(name: str, head: Head):
    with torch.device("meta"):
        plain = [create_model(name, num_classes=n, image_size=224).state_dict() for n in (3, 4)]
        headed = create_model(name, num_classes=3, head=head, image_size=224)
    classifier = {key.removeprefix("backbone.") for key in plain[0] if plain[0][key].shape != plain[1][key].shape}

    assert isinstance(headed, Headed)
    assert classifier
    assert not [key for key in headed.backbone.state_dict() if key.endswith(tuple(f".{key}" for key in classifier))]
    assert headed(torch.empty(2, 1, 224, 224, device="meta")).shape == (2, 3)


@pytest.mark.parametrize("name", SPLIT)
def test_what_is_left_of_a_split_network_is_all_used(name: str):
    model = create_model(name, num_classes=3, head="linear", image_size=64).train()
    model(torch.randn(2, 1, 64, 64)).sum().backward()

    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("name", SPLIT)
def test_splitting_leaves_the_model_whole_and_shares_its_weights(name: str):
    model = create_model(name, num_classes=3).eval()
    size = describe_model(name, measure=False).input_size
    images = torch.randn(1, 1, size, size)
    before, keys = model(images), list(model.state_dict())
    parts = feature_maps(model), pooled_features(model)

    assert torch.equal(model(images), before)
    assert list(model.state_dict()) == keys
    for part in parts:
        assert {id(p) for p in part.parameters()} <= {id(p) for p in model.parameters()}


def test_resnet1ds_pooled_features_are_what_its_own_classifier_reads():
    model = create_model("resnet1d", num_classes=3).eval()
    images = torch.randn(2, 1, 64, 64)

    assert torch.allclose(model.get_submodule("head")(pooled_features(model)(images)), model(images), atol=1e-6)


@pytest.mark.parametrize("name", ["timm:test_vit", "torchvision:shufflenet_v2_x0_5"])
def test_pooled_features_are_what_the_librarys_own_classifier_reads(name: str):
    model = create_model(name, num_classes=3).eval()
    classifier = "backbone.head" if name.startswith("timm") else "backbone.fc"
    size = describe_model(name, measure=False).input_size
    images = torch.randn(2, 1, size, size)

    features = pooled_features(model).eval()(images)
    assert torch.allclose(model.get_submodule(classifier)(features), model(images), atol=1e-5)


def test_channels_last_networks_give_maps_with_channels_first():
    import timm

    swin = timm.create_model("swin_tiny_patch4_window7_224", num_classes=2, depths=(1, 1, 1, 1), embed_dim=24)
    images = torch.randn(1, 3, 224, 224)
    maps = feature_maps(swin).eval()(images)

    assert maps.shape == (1, 192, 7, 7)
    assert torch.equal(maps.permute(0, 2, 3, 1), swin.eval().forward_features(images))


def test_patch_tokens_become_a_map_in_the_order_of_the_patches():
    import timm

    vit = timm.create_model("test_vit", num_classes=2).eval()
    images = torch.randn(1, 3, 160, 160)
    tokens, maps = vit.forward_features(images), feature_maps(vit).eval()(images)

    assert maps.shape == (1, 64, 10, 10)
    assert torch.equal(maps[0, :, 3, 7], tokens[0, 1 + 10 * 3 + 7])


def test_a_transformer_of_torchvisions_gives_its_tokens_too():
    from torchvision.models import VisionTransformer

    vit = VisionTransformer(image_size=64, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32).eval()
    images = torch.randn(2, 3, 64, 64)

    assert feature_maps(vit)(images).shape == (2, 16, 8, 8)
    assert torch.allclose(vit.heads(pooled_features(vit)(images)), vit(images), atol=1e-5)


def test_a_network_that_is_a_classifier_only_cannot_take_a_head():
    with pytest.raises(UsageError, match=r"perceptron: .*without features") as caught:
        create_model("perceptron", num_classes=2, head="linear")

    assert caught.value.code == "NO_FEATURES"


def test_a_network_without_maps_takes_the_linear_head_but_not_the_convolutional():
    assert create_model("mlp", num_classes=3, head="linear", image_size=16)(torch.randn(4, 1, 16, 16)).shape == (4, 3)
    with pytest.raises(UsageError, match="mlp: it has no feature maps") as caught:
        create_model("mlp", num_classes=3, head="conv")

    assert caught.value.code == "NO_FEATURE_MAPS"


def test_an_unknown_head_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'linear'"):
        create_model(TINY, num_classes=2, head="linera")  # type: ignore[arg-type]


def test_the_own_head_changes_nothing():
    torch.manual_seed(1)
    first = create_model(TINY, num_classes=2)
    torch.manual_seed(1)
    second = create_model(TINY, num_classes=2, head="own")

    assert not isinstance(second, Headed)
    assert all(torch.equal(second.state_dict()[key], tensor) for key, tensor in first.state_dict().items())


@pytest.mark.parametrize("adapter", ["conv1x1", "sum", "replicate"])
@pytest.mark.parametrize("head", ["linear", "conv"])
def test_saved_weights_of_a_headed_model_fit_the_one_built_afresh(adapter: Adapter, head: Head):
    def build() -> nn.Module:
        return create_model(TINY, num_classes=2, adapter=adapter, head=head, image_size=224)

    first, second = build().eval(), build().eval()
    second.load_state_dict(first.state_dict(), strict=True)
    images = torch.randn(1, 1, 224, 224)

    assert torch.equal(first(images), second(images))
    assert torch.equal(copy.deepcopy(first)(images), first(images))


def test_describing_counts_the_head_asked_for():
    for head in ("linear", "conv"):
        info = describe_model(TINY, head=head, image_size=224)
        assert info.parameters == count(create_model(TINY, num_classes=2, head=head, image_size=224))

    assert describe_model(TINY, head="conv", image_size=224).flops > describe_model(TINY, image_size=224).flops


def test_weights_go_into_the_backbone_and_nothing_is_said_of_the_classifier_that_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    import timm

    path = tmp_path / "tiny.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), path)
    with caplog.at_level(logging.INFO, logger="plainfilm"):
        model = create_model(TINY, num_classes=2, head="linear", weights=path)

    loaded = {key.split("body.")[-1]: tensor for key, tensor in model.state_dict().items() if "body." in key}
    saved = load_file(path)
    assert loaded.keys() == {key for key in saved if not key.startswith("fc.")}
    assert all(torch.equal(loaded[key], saved[key]) for key in loaded)
    assert "starts at random" not in caplog.text


# --- Training a part -------------------------------------------------------------------------------------


def test_a_frozen_backbone_keeps_its_weights_and_its_statistics_through_training():
    model = create_model(TINY, num_classes=2, head="linear", image_size=64)
    assert isinstance(model, Headed)
    freeze_backbone(model)
    model.train()
    before = copy.deepcopy(model.state_dict())
    one_step(model, torch.randn(4, 1, 64, 64), torch.arange(4) % 2)
    after = model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}

    assert not any(module.training for module in model.backbone.modules())
    assert model.head.training
    assert changed == {"head.linear.weight", "head.linear.bias"}


def test_an_unfrozen_backbone_learns_again_but_only_what_learned_before():
    model = create_model(TINY, num_classes=2, head="linear", image_size=64).train()
    assert isinstance(model, Headed)
    fixed = next(model.backbone.parameters()).requires_grad_(False)
    freeze_backbone(model)
    freeze_backbone(model)  # as at the start of every epoch
    unfreeze_backbone(model)
    before = copy.deepcopy(model.state_dict())
    one_step(model, torch.randn(4, 1, 64, 64), torch.arange(4) % 2)

    assert not fixed.requires_grad
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters() if p is not fixed)
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(before[key], tensor)}
    assert any(key.endswith("running_mean") for key in changed)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        *((name, head) for name in (*SPLIT, "lenet5", "mlp") for head in ("own", "linear")),
        ("alexnet", "own"),
        ("vit", "own"),
        ("inceptionv3-top", "own"),
    ],
)
def test_every_trainable_parameter_is_in_exactly_one_group(name: str, head: Head):
    with torch.device("meta"):
        model = create_model(name, num_classes=2, head=head)
    groups = layer_groups(model)
    grouped = [id(parameter) for group in groups for parameter in group]

    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters() if p.requires_grad}
    assert len(groups) >= 3
    assert all(groups)


def test_groups_go_from_the_head_to_the_stem():
    model = create_model("resnet18", num_classes=2)
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    first = [name_of[id(group[0])] for group in layer_groups(model)]

    assert first == [
        "backbone.fc.weight",
        *(f"backbone.layer{n}.0.conv1.weight" for n in (4, 3, 2, 1)),
        "backbone.conv1.weight",
        "adapter.weight",
    ]


networks = st.recursive(
    st.builds(lambda n: nn.Linear(n, n), st.integers(1, 3)) | st.builds(nn.BatchNorm1d, st.integers(1, 3)),
    lambda inner: st.lists(inner, max_size=4).map(lambda modules: nn.Sequential(*modules)),
    max_leaves=12,
)


@given(network=networks, frozen=st.integers(0, 5), tied=st.booleans())
@settings(max_examples=60, deadline=None)
def test_groups_split_any_network_whatever_is_frozen_or_tied(network: nn.Module, frozen: int, tied: bool):
    for parameter in list(network.parameters())[:frozen]:
        parameter.requires_grad_(False)
    model = nn.Sequential(network, network) if tied else network
    grouped = [id(parameter) for group in layer_groups(model) for parameter in group]

    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


# --- Real weights on a real X-ray ------------------------------------------------------------------------


def real_xrays(n: int) -> Tensor:
    """Real radiographs, `(n, 1, 224, 224)` in [0, 1]."""
    images = []
    for path in sorted(XRAYS.rglob("*.png"))[:n]:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("L").resize((224, 224)), dtype=np.float32) / 255)
    return torch.from_numpy(np.stack(images))[:, None]


@needs_squeezenet
def test_squeezenets_maps_are_those_before_its_convolutional_classifier():
    model = create_model("torchvision:squeezenet1_0", num_classes=1000, adapter="replicate", weights=SQUEEZENET).eval()
    info = describe_model("torchvision:squeezenet1_0", measure=False)
    images = (real_xrays(2) - info.mean) / info.std
    with torch.no_grad():
        maps, pooled = feature_maps(model)(images), pooled_features(model)(images)
        logits = model.get_submodule("backbone.classifier")(maps).flatten(1)

        assert maps.shape == (2, 512, 13, 13)
        assert torch.allclose(logits, model(images), atol=1e-4)
        assert torch.allclose(pooled, maps.mean((2, 3)))
        assert pooled.std() > 0.1  # it sees something


@needs_squeezenet
@pytest.mark.parametrize("head", ["linear", "conv"])
def test_a_head_learns_on_squeezenets_frozen_features(head: Head):
    torch.manual_seed(0)
    model = create_model("torchvision:squeezenet1_0", num_classes=2, head=head, weights=SQUEEZENET, image_size=224)
    assert isinstance(model, Headed)
    freeze_backbone(model)
    with torch.no_grad():
        features = model.backbone(real_xrays(8))
    labels = torch.arange(8) % 2
    optimizer = torch.optim.Adam(model.head.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model.head(features), labels)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()

    assert features.shape[:2] == (8, 512)
    assert isinstance(model.head, ConvTop if head == "conv" else LinearHead)
    assert losses[-1] < 0.6 * losses[0]
