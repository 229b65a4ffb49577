from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from plainfilm.errors import BundleError, PlainfilmError, ResourceError, UsageError
from plainfilm.models import (
    Adapter,
    ResNet1d,
    adapt_to_one_channel,
    create_model,
    describe_model,
    list_models,
    zoo,
)
from plainfilm.models.resnet1d import BasicBlock, Stem

SHARED = Path(__file__).resolve().parents[2] / "shared"
SQUEEZENET = SHARED / "weights" / "squeezenet1_0.imagenet1k.safetensors"
XRAYS = SHARED / "data" / "openi-chest-abdomen"
needs_squeezenet = pytest.mark.skipif(
    not (SQUEEZENET.is_file() and XRAYS.is_dir()), reason="needs the real weights and images in ../shared"
)

ADAPTERS: tuple[Adapter, ...] = ("conv1x1", "depthwise", "sum", "replicate")
STEMS: tuple[Stem, ...] = ("conv7", "conv3", "patch4")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TINY = "timm:test_resnet"  # 0.5 million parameters
TINY_HUB_ID = "timm/test_resnet.r160_in1k"


# --- ResNet1d ------------------------------------------------------------------------------------------


def test_resnet1d_has_at_most_three_million_parameters():
    info = describe_model("resnet1d", num_classes=4)

    assert info.parameters is not None
    assert info.parameters <= 3_000_000
    assert info.parameters == sum(p.numel() for p in ResNet1d(4).parameters())


@pytest.mark.parametrize("stem", STEMS)
@settings(max_examples=8, deadline=None)
@given(height=st.integers(32, 80), width=st.integers(32, 80), num_classes=st.integers(1, 5))
def test_resnet1d_takes_any_image_from_32_pixels_up(stem: Stem, height: int, width: int, num_classes: int):
    model = ResNet1d(num_classes, widths=(4, 8, 16, 32), stem=stem).eval()

    assert model(torch.zeros(2, 1, height, width)).shape == (2, num_classes)


def test_resnet1d_reads_128_pixels_as_the_paper_does():
    model = ResNet1d(4).eval()

    assert model(torch.zeros(1, 1, 128, 128)).shape == (1, 4)
    assert model.forward_features(torch.zeros(1, 1, 128, 128)).shape[1] == model.num_features


def test_resnet1d_takes_other_channel_counts_depths_and_stages():
    model = ResNet1d(3, in_channels=2, layers=(1, 2, 1), widths=(8, 16, 32)).eval()

    assert model(torch.zeros(1, 2, 64, 64)).shape == (1, 3)
    assert [len(stage) for stage in model.stages] == [1, 2, 1]


def test_a_block_starts_as_its_shortcut_only_when_asked():
    images = torch.rand(2, 8, 6, 6)

    assert torch.equal(BasicBlock(8, 8, zero_init=True).eval()(images), images)
    assert not torch.allclose(BasicBlock(8, 8, zero_init=False).eval()(images), images)


def test_convolutions_start_with_the_spread_of_he_et_al():
    model = ResNet1d(2)

    for conv in (m for m in model.modules() if isinstance(m, nn.Conv2d)):
        fan_out = conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1]
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.15)


def test_the_same_seed_gives_the_same_resnet1d():
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(create_model("resnet1d", num_classes=2).state_dict())

    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_resnet1d_overfits_eight_images():
    torch.manual_seed(0)
    images, labels = torch.randn(8, 1, 32, 32), torch.arange(8) % 2
    model = ResNet1d(2, widths=(8, 16, 32, 64)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(25):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    assert loss.item() < 0.1
    assert torch.equal(model(images).argmax(1), labels)


@pytest.mark.parametrize(
    "options",
    [
        {"num_classes": 0},
        {"in_channels": 0},
        {"layers": (2, 0)},
        {"widths": (0, 8, 8, 8)},
        {"widths": (8,)},
        {"stem": "conv9"},
    ],
)
def test_impossible_options_of_resnet1d_are_refused(options: dict[str, object]):
    with pytest.raises(UsageError):
        ResNet1d(**{"num_classes": 2, **options})  # type: ignore[arg-type]


# --- Adapters --------------------------------------------------------------------------------------------

channels = st.tuples(*[st.floats(0.05, 0.95)] * 3)
spreads = st.tuples(*[st.floats(0.1, 1.0)] * 3)


def backbone(*, bias: bool, padding: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 5, 3, padding=padding, bias=bias))


def twins(make: Callable[[], nn.Module], **options: object) -> dict[Adapter, nn.Module]:
    """One backbone, adapted in each way."""
    rgb = make()
    found: dict[Adapter, nn.Module] = {}
    for adapter in ADAPTERS:
        copy = make()
        copy.load_state_dict(rgb.state_dict())
        found[adapter] = adapt_to_one_channel(copy, adapter, **options)  # type: ignore[arg-type]
    return found


@settings(max_examples=30, deadline=None)
@given(mean=st.floats(0.05, 0.95), std=st.floats(0.1, 1), bias=st.booleans(), seed=st.integers(0, 2**31))
def test_all_adapters_start_equal_where_channels_were_normalised_alike(mean: float, std: float, bias: bool, seed: int):
    torch.manual_seed(seed)
    images = torch.randn(2, 1, 9, 9)
    models = twins(lambda: backbone(bias=bias, padding=1), mean=(mean,) * 3, std=(std,) * 3)

    for adapter in ADAPTERS:
        assert torch.allclose(models[adapter](images), models["replicate"](images), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(mean=channels, std=spreads, bias=st.booleans(), seed=st.integers(0, 2**31))
def test_adapters_show_the_backbone_what_it_was_trained_on(
    mean: tuple[float, ...], std: tuple[float, ...], bias: bool, seed: int
):
    torch.manual_seed(seed)
    grey = torch.rand(2, 1, 9, 9)
    rgb = backbone(bias=bias, padding=0)
    wanted = rgb((grey - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(std).reshape(3, 1, 1))
    normalised = (grey - np.mean(mean)) / np.mean(std)

    # `sum` comes last, since it changes the backbone in place.
    for adapter in ("replicate", "conv1x1", "depthwise", "sum"):
        model = adapt_to_one_channel(rgb, adapter, mean=mean, std=std)
        assert torch.allclose(model(normalised), wanted, atol=1e-4)


def test_summed_weights_are_approximate_only_where_the_kernel_reaches_over_the_border():
    torch.manual_seed(0)
    images = torch.randn(1, 1, 9, 9)
    models = twins(lambda: backbone(bias=False, padding=1), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    difference = (models["sum"](images) - models["replicate"](images)).abs()

    assert difference[..., 1:-1, 1:-1].max() < 1e-5
    assert difference.max() > 1e-3


@pytest.mark.parametrize(("adapter", "learned"), [("conv1x1", 6), ("depthwise", 3), ("replicate", 0), ("sum", None)])
def test_adapters_add_little_to_learn(adapter: Adapter, learned: int | None):
    model = adapt_to_one_channel(backbone(bias=True, padding=1), adapter, mean=IMAGENET_MEAN, std=IMAGENET_STD)

    if learned is None:
        assert isinstance(model[0], nn.Conv2d)  # type: ignore[index]  # no layer was put before it
        assert model[0].in_channels == 1  # type: ignore[index]
    else:
        assert sum(p.numel() for p in model.get_submodule("adapter").parameters()) == learned


def test_summing_refuses_a_backbone_with_several_first_convolutions():
    with pytest.raises(UsageError, match="has 2"):
        create_model("timm:repvgg_a0", num_classes=2, adapter="sum")


@pytest.mark.parametrize(
    "options", [{"mean": IMAGENET_MEAN}, {"mean": (0.5,), "std": (0.5,)}, {"mean": (0, 0, 0), "std": (1, 0, 1)}]
)
def test_half_a_normalisation_is_refused(options: dict[str, tuple[float, ...]]):
    with pytest.raises(UsageError, match="three values"):
        adapt_to_one_channel(nn.Conv2d(3, 1, 1), "replicate", **options)


def test_an_unknown_adapter_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="'replicate'"):
        adapt_to_one_channel(nn.Conv2d(3, 1, 1), "replicat")  # type: ignore[arg-type]


# --- Names and costs -------------------------------------------------------------------------------------


def test_the_models_of_the_papers_are_listed_with_their_costs():
    infos = {info.name: info for info in list_models()}

    assert {"resnet1d", "resnet50-1d", "inceptionv3-top", "conv-top"} <= infos.keys()
    assert {
        "perceptron",
        "mlp",
        "lenet5",
        "alexnet",
        "vgg16",
        "resnet18",
        "resnet34",
        "resnet50",
        "vit",
    } <= infos.keys()
    assert all(info.parameters and info.flops and info.licence and info.source for info in infos.values())
    assert infos["resnet1d"].weights == "resnet1d.safetensors inside plainfilm"
    assert infos["conv-top"].weights == "none"
    assert infos["resnet50-1d"].weights == "timm/resnet50.tv_in1k/model.safetensors"


def test_parameters_and_flops_are_the_published_ones_of_resnet18():
    info = describe_model("timm:resnet18", num_classes=1000, adapter="replicate")

    assert info.parameters == 11_689_512
    assert info.flops == pytest.approx(2 * 1.82e9, rel=0.01)  # 1.8e9 multiply-adds: He et al. 2015, table 1


@pytest.mark.parametrize("name", ["resnet1d", "timm:vit_tiny_patch16_224", "torchvision:squeezenet1_0"])
def test_a_model_at_hand_is_measured_as_one_that_would_have_to_be_built(name: str):
    asked: dict[str, Any] = {"num_classes": 3, "head": "linear", "image_size": 224}
    by_name = describe_model(name, **asked)
    zoo._costs.clear()

    model = create_model(name, **asked)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    assert describe_model(name, **asked, built=model) == by_name
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_model_is_built_and_measured_without_waiting_for_the_compiler_of_torch():
    """Its import takes two seconds of every training."""
    program = """
import sys
from plainfilm.models import create_model, describe_model
asked = {"num_classes": 2, "head": "linear", "image_size": 224}
model = create_model("torchvision:squeezenet1_0", **asked)
describe_model("torchvision:squeezenet1_0", **asked, built=model)
print("torch._dynamo" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)

    assert ended.stdout.strip() == "False"


def test_the_mean_and_standard_deviation_are_averaged_to_one_channel():
    info = describe_model("resnet50-1d", measure=False)

    assert info.mean == pytest.approx(np.mean(IMAGENET_MEAN))
    assert info.std == pytest.approx(np.mean(IMAGENET_STD))


def test_a_smaller_image_costs_less():
    small, large = (describe_model("resnet1d", image_size=size) for size in (64, 128))

    assert small.input_size == 64
    assert small.flops is not None
    assert large.flops is not None
    assert small.flops < large.flops / 3
    assert small.parameters == large.parameters


def test_a_broad_pattern_lists_names_without_measuring_them():
    infos = list_models("t*:resnet18*", measure_up_to=0)

    assert {"timm:resnet18", "torchvision:resnet18"} <= {info.name for info in infos}
    assert all(info.parameters is None and info.flops is None for info in infos)
    assert not any("." in info.name for info in infos)


def test_a_pattern_with_a_dot_lists_the_tags_of_the_weights():
    assert "timm:resnet18.tv_in1k" in {info.name for info in list_models("timm:resnet18.*", measure_up_to=0)}


def test_non_commercial_weights_are_said_to_be_so_plainly():
    infos = list_models("timm:convnextv2_tiny*", measure_up_to=0)

    assert {info.licence for info in infos} == {"cc-by-nc-4.0 (non-commercial use only)"}


def test_a_file_of_weights_has_a_licence_that_only_its_owner_knows():
    info = describe_model(TINY, weights="mine/best.safetensors", measure=False)

    assert info.weights == "best.safetensors"
    assert "not known" in info.licence


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("resnet1", "resnet1d"),
        ("resnet101", "timm:resnet101"),
        ("timm:resnt18", "timm:resnet18"),
        ("timm:resnet18.tv_in2k", "timm:resnet18.tv_in1k"),
        ("torchvision:resnet1", "torchvision:resnet18"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, offered: str):
    with pytest.raises(UsageError, match=f"Did you mean '{offered}'") as caught:
        create_model(name, num_classes=2)

    assert caught.value.code == "UNKNOWN_MODEL"


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", [TINY, "timm:test_vit", "torchvision:squeezenet1_0", "resnet1d"])
def test_every_model_takes_one_channel_and_says_nothing(name: str, adapter: Adapter, caplog: pytest.LogCaptureFixture):
    model = create_model(name, num_classes=3, adapter=adapter).eval()
    size = describe_model(name, measure=False).input_size

    assert model(torch.zeros(2, 1, size, size)).shape == (2, 3)
    assert not caplog.records


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_saved_weights_fit_the_model_built_afresh(adapter: Adapter):
    first, second = (create_model(TINY, num_classes=3, adapter=adapter).eval() for _ in range(2))
    second.load_state_dict(first.state_dict(), strict=True)
    images = torch.randn(1, 1, 64, 64)

    assert torch.equal(first(images), second(images))


@pytest.mark.parametrize("name", ["resnet1d", "torchvision:regnet_x_400mf"])
def test_describing_a_model_leaves_the_random_state_alone(name: str):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    describe_model(name)

    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("name", "size"), [("torchvision:vit_b_16", 100), ("torchvision:squeezenet1_0", 16)])
def test_a_size_that_a_model_cannot_take_is_refused_at_the_door(name: str, size: int):
    with pytest.raises(UsageError, match=f"cannot take images of {size}x{size}"):
        create_model(name, num_classes=2, image_size=size)


def test_a_transformer_is_shaped_to_the_image_size():
    model = create_model("timm:test_vit", num_classes=2, image_size=96).eval()

    assert model(torch.zeros(1, 1, 96, 96)).shape == (1, 2)


def test_no_classes_is_refused():
    with pytest.raises(UsageError, match="num_classes"):
        create_model("resnet1d", num_classes=0)


# --- Weights from a file ---------------------------------------------------------------------------------


@pytest.fixture
def tiny_weights(tmp_path: Path) -> Path:
    """Weights of the tiny model with five classes."""
    import timm

    path = tmp_path / "tiny.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), path)
    return path


def test_a_head_for_as_many_classes_is_loaded(tiny_weights: Path):
    model = create_model(TINY, num_classes=5, weights=tiny_weights)

    assert all(
        torch.equal(tensor, model.get_submodule("backbone").state_dict()[name])
        for name, tensor in load_file(tiny_weights).items()
    )


def test_a_head_for_other_classes_starts_at_random_and_the_log_says_so(
    tiny_weights: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, logger="plainfilm"):
        model = create_model(TINY, num_classes=2, weights=str(tiny_weights))

    loaded = model.get_submodule("backbone").state_dict()
    same = {name for name, tensor in load_file(tiny_weights).items() if torch.equal(tensor, loaded[name])}
    assert loaded.keys() - same == {"fc.weight", "fc.bias"}
    assert "fc.bias, fc.weight" in caplog.text


def test_resnet1d_reads_its_own_weights(tmp_path: Path):
    path = tmp_path / "resnet1d.safetensors"
    before = ResNet1d(4).eval()
    save_file(before.state_dict(), path)
    after = create_model("resnet1d", num_classes=4, weights=path).eval()
    images = torch.randn(1, 1, 64, 64)

    assert torch.equal(before(images), after(images))


def test_position_embeddings_follow_the_image_size(tmp_path: Path):
    import timm

    path = tmp_path / "vit.safetensors"
    made_for_160 = timm.create_model("test_vit", num_classes=2)
    save_file(made_for_160.state_dict(), path)
    model = create_model("timm:test_vit", num_classes=2, weights=path, image_size=96)

    assert made_for_160.pos_embed.shape[1] == 1 + 10 * 10
    assert model.get_submodule("backbone").state_dict()["pos_embed"].shape[1] == 1 + 6 * 6


def test_a_model_with_its_own_normalisation_inside_gives_the_same_logits_without_it(tmp_path: Path):
    import torchvision

    path = tmp_path / "googlenet.safetensors"
    rgb = torchvision.models.googlenet(
        weights=None, num_classes=3, aux_logits=True, transform_input=True, init_weights=False
    ).eval()
    save_file(rgb.state_dict(), path)  # with the auxiliary heads, which are left out
    model = create_model("torchvision:googlenet", num_classes=3, adapter="replicate", weights=path).eval()
    info = describe_model("torchvision:googlenet", measure=False)

    grey = torch.rand(1, 1, 96, 96)
    for_torchvision = (grey - torch.tensor(IMAGENET_MEAN).reshape(3, 1, 1)) / torch.tensor(IMAGENET_STD).reshape(
        3, 1, 1
    )
    with torch.no_grad():
        assert torch.allclose(model((grey - info.mean) / info.std), rgb(for_torchvision), atol=1e-4)


def test_weights_of_another_model_are_refused_with_the_first_names(tiny_weights: Path):
    with pytest.raises(BundleError, match=r"78 missing \(cls_token, pos_embed, .*92 unknown \(") as caught:
        create_model("timm:test_vit", num_classes=2, weights=tiny_weights)

    assert caught.value.code == "BUN_MISMATCH"


def test_one_tensor_of_another_shape_is_named(tiny_weights: Path):
    state = load_file(tiny_weights)
    state["conv1.0.weight"] = torch.zeros(1, 3, 3, 3)
    save_file(state, tiny_weights)

    with pytest.raises(BundleError, match=r"1 of another shape \(conv1\.0\.weight\)"):
        create_model(TINY, num_classes=5, weights=tiny_weights)


def test_weights_that_are_not_numbers_are_refused(tiny_weights: Path):
    state = load_file(tiny_weights)
    state["layer1.0.conv1.weight"][0, 0] = torch.nan
    save_file(state, tiny_weights)

    with pytest.raises(BundleError, match=r"layer1\.0\.conv1\.weight") as caught:
        create_model(TINY, num_classes=5, weights=tiny_weights)

    assert caught.value.code == "BUN_NOT_FINITE"


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl", ""])
def test_files_that_could_execute_are_refused_by_name_and_never_opened(suffix: str, tmp_path: Path):
    path = tmp_path / f"weights{suffix}"
    os.mkfifo(path)  # opening it would wait for ever

    with pytest.raises(BundleError, match="Convert it") as caught:
        create_model(TINY, num_classes=2, weights=path)

    assert caught.value.code == "BUN_FORMAT"


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_renamed_to_safetensors_is_refused(new_format: bool, tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=new_format)

    with pytest.raises(BundleError, match="not a safetensors file"):
        create_model(TINY, num_classes=2, weights=path)


def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    with path.open("wb") as file:
        file.write((100 * 2**20).to_bytes(8, "little") + b"{")
        file.truncate(101 * 2**20)  # sparse: takes no room

    with pytest.raises(BundleError, match="header above"):
        create_model(TINY, num_classes=2, weights=path)


@pytest.mark.parametrize("kept", [0.001, 0.1, 0.5, 0.99])
def test_weights_cut_short_are_refused(kept: float, tiny_weights: Path):
    os.truncate(tiny_weights, int(tiny_weights.stat().st_size * kept))

    with pytest.raises(BundleError) as caught:
        create_model(TINY, num_classes=5, weights=tiny_weights)

    assert caught.value.code == "BUN_DAMAGED"


@settings(max_examples=25, deadline=None)
@given(content=st.binary(max_size=64))
def test_no_bytes_at_all_get_past_the_door_with_another_error(content: bytes, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("bytes") / "weights.safetensors"
    path.write_bytes(content)

    with pytest.raises(BundleError):
        create_model("resnet1d", num_classes=2, weights=path)


def test_an_absent_file_is_said_to_be_absent(tmp_path: Path):
    with pytest.raises(BundleError, match="no such file") as caught:
        create_model(TINY, num_classes=2, weights=tmp_path / "gone.safetensors")

    assert caught.value.code == "BUN_MISSING"


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("conv-top", "from scratch"),
        ("torchvision:resnet50", "'timm:resnet50.tv_in1k'"),
        ("torchvision:squeezenet1_0", ".safetensors file"),
    ],
)
def test_a_model_without_safe_weights_on_a_hub_says_what_to_do(name: str, mend: str):
    with pytest.raises(UsageError, match=mend) as caught:
        create_model(name, num_classes=2, weights="pretrained")

    assert caught.value.code == "NO_WEIGHTS"


# --- Weights from a hub ----------------------------------------------------------------------------------


@contextmanager
def hub_serving(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that answers for some files as the Hugging Face hub does."""
    requests: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            requests.append(f"{self.command} {self.path}")
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
            self.send_header("ETag", '"0123456789abcdef"')
            self.send_header("Content-Length", str(len(content or b"")))
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if body and content:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(name: str) -> tuple[str, str, float]:
    """Code, text and seconds of the error that asking for pretrained weights ends in."""
    start = time.monotonic()
    try:
        create_model(name, num_classes=2, weights="pretrained")
    except PlainfilmError as error:
        return error.code, str(error), time.monotonic() - start
    raise AssertionError(f"{name} was built")


def visit_a_hub(weights: Path, home: Path) -> dict[str, object]:
    """Download, then go without; runs in a process of its own, since the hub's address is read at import."""
    content = weights.read_bytes()
    with hub_serving({f"/{TINY_HUB_ID}/resolve/main/model.safetensors": content}) as (address, requests):
        os.environ.update(HF_ENDPOINT=address, HF_HOME=str(home), HF_HUB_DISABLE_TELEMETRY="1")
        for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "http_proxy", "HTTP_PROXY"):
            os.environ.pop(name, None)
        downloaded = create_model(TINY, num_classes=2, weights="pretrained").state_dict()
        after_download = list(requests)
        create_model(TINY, num_classes=2, weights="pretrained")
        after_again = list(requests)
        absent = refusal("timm:test_vit")
    cached = create_model(TINY, num_classes=2, weights="pretrained").state_dict()
    saved = {f"backbone.{name}": tensor for name, tensor in load_file(weights).items()}
    body = [name for name in saved if not name.startswith("backbone.fc.")]
    return {
        "downloaded": all(torch.equal(downloaded[name], saved[name]) for name in body),
        "cached": all(torch.equal(cached[name], saved[name]) for name in body),
        "requests": after_download,
        "requests again": after_again[len(after_download) :],
        "absent": absent,
        "unreachable": refusal("timm:test_efficientnet"),
    }


def test_pretrained_weights_come_from_the_hub_once_and_then_from_the_cache(tiny_weights: Path, tmp_path: Path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        seen = fresh.submit(visit_a_hub, tiny_weights, tmp_path / "home").result(timeout=120)

    assert seen["downloaded"]
    assert seen["cached"]
    assert f"GET /{TINY_HUB_ID}/resolve/main/model.safetensors" in seen["requests"]  # type: ignore[operator]
    assert all(".safetensors" in request for request in seen["requests"])  # type: ignore[attr-defined]
    assert seen["requests again"] == []
    for case, file in [("absent", "timm/test_vit.r160_in1k"), ("unreachable", "timm/test_efficientnet.r160_in1k")]:
        code, text, seconds = seen[case]  # type: ignore[misc]
        assert code == "RES_DOWNLOAD"
        assert f"Weights {file}/model.safetensors" in text
        assert f"hf download {file} model.safetensors" in text
        assert "--weights FILE" in text
        assert seconds < 20


def test_offline_a_missing_download_is_one_typed_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ResourceError, match="HF_HUB_OFFLINE is set"):
        create_model("timm:test_vit", num_classes=2, weights="pretrained")


# --- Real weights on a real X-ray ------------------------------------------------------------------------


def chest_xray() -> Tensor:
    """One real radiograph, `(1, 1, 224, 224)` in [0, 1]."""
    path = sorted(XRAYS.rglob("*.png"))[0]
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L").resize((224, 224)), dtype=np.float32) / 255
    return torch.from_numpy(pixels)[None, None]


@needs_squeezenet
def test_imagenet_weights_give_nearly_the_same_logits_through_every_adapter():
    name = "torchvision:squeezenet1_0"
    info = describe_model(name, measure=False)
    image = (chest_xray() - info.mean) / info.std
    with torch.no_grad():
        logits = {
            adapter: create_model(name, num_classes=1000, adapter=adapter, weights=SQUEEZENET).eval()(image)
            for adapter in ADAPTERS
        }

    assert logits["replicate"].std() > 1  # it sees something: random weights give 0.01
    assert torch.allclose(logits["conv1x1"], logits["replicate"], atol=1e-3)
    assert torch.allclose(logits["depthwise"], logits["replicate"], atol=1e-3)
    # SqueezeNet's first convolution has no padding, so that its sum is exact.
    assert torch.allclose(logits["sum"], logits["replicate"], atol=1e-3)
