"""Heat maps, the check that they can be believed, feature maps, and marks painted out and in."""

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy import ndimage
from torch import nn

from plainfilm.config import SECTION_OF
from plainfilm.data.phantoms import Faults, PhantomOptions, write_phantoms
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.data.table import Listing, make_rows
from plainfilm.errors import UsageError
from plainfilm.explanation import marks, sanity
from plainfilm.explanation.feature_maps import choose_layer, feature_maps, find_layer, survey_layers
from plainfilm.explanation.options import ExplainOptions
from plainfilm.explanation.page import ExplainedImage, Explanation, LayerMaps, write_page
from plainfilm.explanation.saliency import METHODS, explain_images, layer_for
from plainfilm.models import create_model
from plainfilm.plots import explanation as drawing
from plainfilm.verbs.explaining import choose_images

SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared")

SIDE = 40
CLASSES = ("normal", "abnormal")


class Planted:
    """Chests that differ between the classes by a burnt-in letter alone, and a network that has found it."""

    def __init__(self, folder: Path) -> None:
        options = PhantomOptions(
            kind="chest", patients=40, images_per_patient=2, size=SIDE, effect=0.0, noise=0.01, seed=3
        )
        write_phantoms(folder / "marked", options, Faults(markers=1.0))
        write_phantoms(folder / "clean", options)
        self.rows, self.values = self._read(folder / "marked")
        self.mark = np.abs(self.values - self._read(folder / "clean")[1]) > 0.05
        self.labels = np.array([CLASSES.index(label) for label in self.rows["label"]])
        self.ill = np.flatnonzero(self.labels == 1)[:12]
        self.model = self._trained()

    @staticmethod
    def _read(folder):
        table, pixels = scan_listing(list_images(folder / "manifest.csv"), size=(SIDE, SIDE), workers=0)
        return table.rows, pixels.values(np.arange(len(pixels)))

    @staticmethod
    def batch(values):
        return torch.from_numpy((np.asarray(values) - 0.5) / 0.25).float().unsqueeze(1)

    def score(self, values):
        with torch.no_grad():
            return self.model(self.batch(values)).softmax(dim=1).double().numpy()

    def _trained(self):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(inplace=True),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 2),
        )  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-3)
        images, labels = self.batch(self.values), torch.from_numpy(self.labels)
        for _ in range(25):
            for part in torch.randperm(len(labels)).split(20):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images[part]), labels[part]).backward()
                optimizer.step()
        return model.eval()


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return Planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def small():
    """An untrained network of the paper's kind, and four images for it."""
    torch.manual_seed(1)
    model = create_model("resnet1d", num_classes=3, image_size=64)
    return model, torch.randn(4, 1, 64, 64)


# --- layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer", "side"),
    [
        ("resnet1d", "stages.2", 4),  # the last stage has 2x2 cells
        ("torchvision:squeezenet1_0", "backbone.features.10", 7),
        ("timm:convnext_atto", "backbone.stages.3.downsample.0", 4),  # before any branch of the last stage
        ("timm:vit_tiny_patch16_224", "backbone.blocks.11.norm1", 4),  # behind it only the class token counts
    ],
)
def test_the_last_layer_with_a_map_worth_drawing_is_found(name, layer, side):
    torch.manual_seed(0)  # SqueezeNet ends in a ReLU: other random weights can leave it with no score at all
    model = create_model(name, num_classes=2, image_size=64)

    found = choose_layer(model, torch.randn(2, 1, 64, 64))

    assert (found.name, found.height, found.width) == (layer, side, side)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("stages.9", r"Did you mean 'stages\.\d'"),
        ("head", "The last that have: .*stages"),
        ("conv1", r"Several layers are named 'conv1': stages\.0\.0\.conv1"),
        ("stages.0.0.relu", "is used 2 times"),
    ],
)
def test_a_layer_that_cannot_be_weighed_is_refused_with_a_better_one(small, wanted, said):
    with pytest.raises(UsageError, match=said) as caught:
        explain_images(*small, [0] * 4, "gradcam", wanted)

    assert caught.value.code == "XAI_LAYER"


def test_a_network_without_maps_is_told_which_methods_need_none():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    images = torch.randn(2, 1, 8, 8)

    with pytest.raises(UsageError, match="--methods gradient") as caught:
        explain_images(model, images, [0, 1], "gradcam")

    assert caught.value.code == "XAI_NO_MAP"
    assert explain_images(model, images, [0, 1], "gradient").shape == (2, 8, 8)


def test_a_layer_may_be_named_as_inside_its_backbone():
    model = create_model("torchvision:squeezenet1_0", num_classes=2, image_size=64)
    layers = survey_layers(model, torch.randn(1, 1, 64, 64))

    assert find_layer(layers, "features.1") == find_layer(layers, "backbone.features.1")


def test_a_feature_map_is_what_its_layer_gave_and_not_what_a_later_layer_made_of_it(small):
    model, images = small
    stem = model.eval().stem
    with torch.no_grad():
        expected = stem.bn(stem.conv(images[:1]))[0].numpy()

    maps = feature_maps(model, images[0], "stem.bn")

    assert maps.shape == (16, 32, 32)
    assert (maps < 0).any()  # the ReLU behind it works in place
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    assert stem.relu.inplace


@needs_shared
def test_the_first_layer_of_a_pretrained_network_sees_edges_and_bright_parts_of_an_abdomen():
    model = create_model(
        "torchvision:squeezenet1_0",
        num_classes=2,
        adapter="replicate",
        weights=SHARED / "weights" / "squeezenet1_0.imagenet1k.safetensors",
        image_size=224,
    )
    folder = SHARED / "data" / "openi-chest-abdomen" / "TEST"
    _, pixels = scan_listing(list_images(folder / "abd2.png"), size=(224, 224), workers=0)
    values = pixels.values([0])[0]
    maps = feature_maps(model, torch.from_numpy((values - 0.449) / 0.226).unsqueeze(0), "features.1")
    shrunk = ndimage.zoom(values, 109 / 224, order=1)
    edges = ndimage.gaussian_gradient_magnitude(shrunk, 1)

    assert maps.shape == (96, 109, 109)
    alike = {
        name: [np.corrcoef(one.ravel(), what.ravel())[0, 1] for one in maps if np.ptp(one)]
        for name, what in (("bright", shrunk), ("edges", edges))
    }
    assert max(alike["bright"]) > 0.8
    assert min(alike["bright"]) < -0.5  # another sees the dark
    assert max(alike["edges"]) > 0.3


# --- heat maps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_draws_each_image_over_its_own_range_and_leaves_the_model_as_it_was(small, method, capfd):
    model, images = small
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()

    heat = explain_images(model, images[:2], [0, 2], method, window=0.25, stride=0.25)

    assert heat.shape == (2, 64, 64)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert all(np.isclose(one.max(), 1, atol=1e-5) or not one.any() for one in heat)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert capfd.readouterr() == ("", "")


def test_grad_cam_before_average_pooling_is_the_class_activation_map(small):
    model, images = small
    heat = explain_images(model, images[:1], [1], "gradcam", "stages")[0]
    with torch.no_grad():
        features = model.eval().forward_features(images[:1])[0]
        expected = torch.einsum("c,chw->hw", model.head.weight[1], features).relu().numpy()

    # Each cell is 32x32 pixels; at its middle, enlarging changes nothing but the scale.
    corners = heat[np.ix_([0, -1], [0, -1])]
    expected = (expected - expected.min()) / np.ptp(expected)

    np.testing.assert_allclose(corners, expected, atol=1e-4)


def test_a_signed_method_tells_for_from_against(small):
    heat = explain_images(*small, [0] * 4, "gradient-x-input", signed=True)

    assert heat.min() < 0 < heat.max()
    assert explain_images(*small, [0] * 4, "gradcam", signed=True).min() >= 0


def test_the_heat_of_a_vision_transformer_lies_over_the_image():
    torch.manual_seed(0)
    model = create_model("timm:vit_tiny_patch16_224", num_classes=2, image_size=64)

    heat = explain_images(model, torch.randn(2, 1, 64, 64), [0, 1], "gradcam")

    assert heat.shape == (2, 64, 64)
    assert (np.ptp(heat, axis=(1, 2)) > 0.99).all()


def test_guided_backpropagation_is_refused_where_there_is_no_relu_to_guide():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    with pytest.raises(UsageError, match="--methods gradient") as caught:
        explain_images(model, torch.randn(1, 1, 8, 8), [0], "guided-backprop")

    assert caught.value.code == "XAI_NO_RELU"


def test_an_unknown_method_is_named_with_its_nearest(small):
    with pytest.raises(UsageError, match="Did you mean 'gradcam'"):
        explain_images(*small, [0] * 4, "grad-cam")


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "gradient"])
def test_the_heat_points_at_a_planted_letter_that_follows_the_label(planted, method):
    heat = explain_images(planted.model, planted.batch(planted.values[planted.ill]), [1] * len(planted.ill), method)
    near = np.stack([ndimage.binary_dilation(planted.mark[row], iterations=4) for row in planted.ill])

    hottest = [spot.ravel()[one.argmax()] for spot, one in zip(near, heat, strict=True)]
    share = (heat * near).sum() / heat.sum()

    assert np.mean(hottest) > 0.8
    assert share > 4 * near.mean()


# --- the randomisation check --------------------------------------------------------------------------------


def checked(model, images, classes, *methods, **options):
    found = sanity.check_methods(
        model, images, classes, methods, layer=layer_for(methods, model, images, None), **{"draws": 1, **options}
    )
    return {check.method: check for check in found}


def test_heat_maps_of_what_was_learned_pass_and_those_that_ignore_the_class_fail(planted):
    images = planted.batch(planted.values[planted.ill])
    found = checked(planted.model, images, [1] * len(images), "gradcam", "eigencam")

    assert found["gradcam"].passed
    assert found["eigencam"].verdict == "failed"
    head = found["eigencam"].stages[0]
    assert (head.n_random, head.lowest) == (1, "9")
    assert head.rank_similarity.value == pytest.approx(1)  # the head plays no part in it
    assert head.ssim.value == pytest.approx(1, abs=1e-4)


def test_a_network_that_has_learned_nothing_draws_what_any_random_network_draws():
    """Shuffled weights change nothing that matters where the weights never meant anything."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2),
    )  # fmt: skip
    images = torch.zeros(6, 1, 24, 24)
    images[:, :, 8:16, 8:16] = 3 * torch.rand(6, 1, 8, 8)

    found = checked(model, images, [0] * 6, "layercam", "gradient-x-input")

    assert all(check.verdict == "failed" for check in found.values())


def test_the_check_gives_every_number_with_interval_and_counts(planted):
    images = planted.batch(planted.values[planted.ill])
    patients = list(planted.rows["patient_id"].iloc[planted.ill])
    check = checked(planted.model, images, [1] * len(images), "gradcam", groups=patients, steps=4, draws=2)["gradcam"]

    assert [stage.n_random for stage in check.stages] == [1, 3, 4]
    for stage in check.stages:
        measure = stage.rank_similarity
        assert measure.low <= measure.value <= measure.high
        assert (measure.n_images, measure.n_patients, stage.n_draws) == (12, len(set(patients)), 2)
    assert f"12 images of {len(set(patients))} patients" in check.in_words()


def test_the_same_seed_gives_the_same_check(planted):
    images = planted.batch(planted.values[planted.ill])
    first, second, other = (
        checked(planted.model, images, [1] * len(images), "gradcam", seed=seed)["gradcam"] for seed in (5, 5, 6)
    )

    assert first == second
    assert first != other


def test_fewer_than_five_images_are_not_judged(small):
    model, images = small
    check = checked(model, images, [0] * 4, "gradcam")["gradcam"]

    assert check.verdict == "unchecked"
    assert not check.passed
    assert "4 images, 5 are needed" in check.in_words()


def judged(trained, random, **options):
    """The verdict on heat maps `(n, 4, 4)` of a network and of one random network."""
    similarities = sanity._similarity(trained, random, "gradcam")[None, None]
    return sanity._judged("gradcam", similarities, trained, ["head"], [1], options.get("groups"), 0)


def test_empty_heat_maps_do_not_pass():
    """Nothing is like nothing else: similarity 0, the best there is, to every random network."""
    rng = np.random.default_rng(0)
    blank, some = np.zeros((12, 4, 4), dtype=np.float32), rng.random((12, 4, 4), dtype=np.float32)

    empty = judged(blank, some)
    assert (empty.verdict, empty.n_blank) == ("failed", 12)
    assert empty.in_words() == "failed: 12 of 12 heat maps are empty"
    assert judged(np.concatenate([blank[:7], some[7:]]), some[::-1]).verdict == "failed"
    assert judged(some, blank).verdict == "passed"  # without its weights it draws nothing: the picture is theirs


def test_an_empty_heat_map_among_others_is_not_compared():
    some = np.random.default_rng(0).random((12, 4, 4), dtype=np.float32)
    some[0] = 0

    same = judged(some, some, groups=list("aabbccddeeff"))

    assert (same.verdict, same.n_blank) == ("failed", 1)
    assert (same.stages[0].rank_similarity.value, same.stages[0].rank_similarity.n_images) == (1.0, 11)
    assert same.stages[0].rank_similarity.n_patients == 6


def test_layers_are_made_random_from_the_head_down_and_the_model_itself_is_not(small):
    model, images = small
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = sanity.layers_from_the_head(model, images)
    *_, wholly = sanity._forgetting(model, layers, [1, len(layers)], seed=0)

    assert layers[0] == "head"
    assert layers[-1] == "stem.conv"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for name, value in wholly.state_dict().items():
        assert torch.equal(value.flatten().sort().values, before[name].flatten().sort().values), name
    assert not torch.equal(wholly.stem.conv.weight, model.stem.conv.weight)


def test_tokens_of_the_whole_network_are_made_random_last():
    model = create_model("timm:vit_tiny_patch16_224", num_classes=2, image_size=32)
    layers = sanity.layers_from_the_head(model, torch.randn(1, 1, 32, 32))

    assert layers[0] == "backbone.head"
    assert layers.index("backbone.blocks.11.attn.qkv") < layers.index("backbone.blocks.0.attn.qkv")
    assert layers.index("backbone.blocks.0.norm1") < layers.index("backbone")  # class token, positions


@settings(max_examples=40, deadline=None)
@given(
    heat=arrays(np.float32, (5, 6), elements=st.floats(0, 100, width=32)),
    other=arrays(np.float32, (5, 6), elements=st.floats(0, 100, width=32)),
)
def test_rank_similarity_knows_only_the_order(heat, other):
    similarity = sanity.rank_similarity(heat, other)

    assert -1 - 1e-9 <= similarity <= 1 + 1e-9
    assert similarity == pytest.approx(sanity.rank_similarity(other, heat))
    assert sanity.rank_similarity(heat, 2 * heat) == pytest.approx(1)
    assert sanity.rank_similarity(heat, -heat) == pytest.approx(1)  # signs are left out


def test_an_empty_heat_map_is_like_an_empty_one_alone():
    empty, full = np.zeros((4, 4), np.float32), np.arange(16, dtype=np.float32).reshape(4, 4)

    assert sanity.rank_similarity(empty, empty) == 1
    assert sanity.rank_similarity(empty, full) == 0


def test_a_mean_over_one_patient_has_no_interval():
    measure = sanity.mean_measure("x", np.array([0.1, 0.9]), ["P1", "P1"])

    assert (measure.value, measure.low, measure.n_images, measure.n_patients) == (0.5, None, 2, 1)
    assert "one patient" in measure.reason


# --- marks --------------------------------------------------------------------------------------------------


def test_painting_out_the_letter_takes_the_score_away_and_painting_elsewhere_does_not(planted):
    values = planted.values[planted.ill]
    letters = [ndimage.binary_dilation(mark, iterations=2) for mark in planted.mark[planted.ill]]
    edit = marks.painted_out("letters painted out", values, letters, seed=0)
    effect = marks.measure_edit(
        edit, planted.score, planted.score(values), classes=CLASSES, paths=list(planted.rows["path"].iloc[planted.ill])
    )

    assert effect.change.value < -0.4
    assert effect.change.high < 0
    assert effect.flipped.value > 0.3
    assert abs(effect.control.value) < 0.1
    assert effect.by_class[0].value == pytest.approx(-effect.by_class[1].value)
    assert len(effect.rows) == effect.n_touched == len(planted.ill)


@pytest.mark.parametrize("mark", ["L", "R", "arrow"])
def test_a_pasted_mark_is_found_again_and_painted_out(mark):
    y, x = np.mgrid[:128, :128] / 128
    film = (0.3 + 0.2 * np.sin(3 * x) * np.cos(2 * y)).astype(np.float32)
    film[100:] = 0.9  # bone is bright too, but not small
    pasted = marks.paste_mark(film, mark)
    changed = np.abs(pasted - film) > 0.1

    found = marks.find_marks(pasted)
    mended = marks.paint_out(pasted, found)

    assert changed.any()
    assert (found & changed).sum() > 0.7 * changed.sum()
    assert not marks.find_marks(film).any()
    assert np.abs(mended - film)[changed].mean() < 0.3 * np.abs(pasted - film)[changed].mean()
    rows, columns = np.nonzero(changed)
    assert rows.max() < 40 if mark != "arrow" else rows.mean() == pytest.approx(0.45 * 128, abs=3)
    assert (columns.mean() > 100) == (mark == "L")


@needs_shared
def test_letters_and_arrows_of_real_films_are_found():
    film = SHARED / "data" / "openi-chest-abdomen" / "TRAIN" / "openI_CXR" / "24_IM-0949-1001_invert.png"
    _, pixels = scan_listing(list_images(film), size=(224, 224), workers=0)

    rows, columns = np.nonzero(marks.find_marks(pixels.values([0])[0]))

    assert len(rows)
    assert (rows < 60).all()  # an L in the upper right corner, and nothing else
    assert (columns > 170).all()


def test_a_box_is_painted_with_what_is_around_it():
    image = np.full((20, 20), 0.3, np.float32)
    image[2:6, 10:14] = 1.0
    mask = marks.box_mask((20, 20), [(0.5, 0.1, 0.7, 0.3)])

    assert np.argwhere(mask).min(axis=0).tolist() == [2, 10]
    assert np.argwhere(mask).max(axis=0).tolist() == [5, 13]
    np.testing.assert_array_equal(marks.paint_out(image, mask), np.full((20, 20), 0.3, np.float32))


def test_where_there_is_no_mark_nothing_is_claimed(planted):
    values = planted.values[planted.ill]
    edit = marks.painted_out("marks", values, [np.zeros((SIDE, SIDE), bool)] * len(values), seed=0)
    effect = marks.measure_edit(edit, planted.score, planted.score(values), classes=CLASSES, paths=["x"] * len(values))

    assert (effect.n_touched, effect.n_images) == (0, 12)
    assert effect.change is effect.flipped is effect.control is None


# --- options, choice of images, pictures, page --------------------------------------------------------------


@pytest.mark.parametrize("box", ["0.1,0.2,0.3", "0.5,0,0.2,1", "0,0,2,1", "a,b,c,d", ""])
def test_a_box_that_cannot_be_is_refused(box):
    with pytest.raises(ValidationError, match="a box is"):
        ExplainOptions(mask_box=(box,))


def test_no_option_has_the_name_of_an_option_of_a_run():
    assert not set(ExplainOptions.model_fields) & set(SECTION_OF)


def listing(labels, patients):
    rows = [
        {"path": f"{n}.png", "label": label, "patient_id": patient}
        for n, (label, patient) in enumerate(zip(labels, patients, strict=True))
    ]
    return Listing(make_rows(rows), (None,) * len(rows))


def test_images_are_chosen_evenly_over_classes_and_patients():
    labels = ["a"] * 40 + ["b"] * 8
    patients = [f"P{n // 4}" for n in range(48)]
    chosen = choose_images(listing(labels, patients), 12)

    assert sum(index < 40 for index in chosen) == 6
    assert len({patients[index] for index in chosen}) == 6 + 2  # class b has two patients
    assert {index % 4 for index in chosen if index < 40} <= {1, 2}  # the middle of each stack


def test_images_without_patient_or_label_are_spread_over_the_listing():
    chosen = choose_images(listing([None] * 100, [None] * 100), 4)

    assert len(chosen) == 4
    assert np.diff(chosen).min() >= 10


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=30), st.integers(1, 40))
def test_no_image_is_chosen_twice(labels, most):
    chosen = choose_images(listing(labels, [None] * len(labels)), most)

    assert len(set(chosen)) == len(chosen) == min(most, len(labels))


def test_an_overlay_is_the_image_alone_where_there_is_no_heat():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    heat = np.zeros((8, 8))
    heat[0, 0], heat[7, 7] = 1, -1
    drawn = drawing.overlay(image, heat, signed=True)

    assert (drawn[1:7, 1:7] == image[1:7, 1:7, None]).all()
    assert drawn[0, 0, 0] > drawn[0, 0, 2]  # orange speaks for the class
    assert drawn[7, 7, 2] > drawn[7, 7, 0]  # blue against it


def test_the_caption_of_feature_maps_says_where_their_weights_come_from():
    drawn = drawing.feature_map_grid(
        np.random.default_rng(0).random((70, 5, 5)), layer="c", subject="x", weights="random"
    )

    assert "first 64 of 70 maps" in drawn.alt
    assert "weights: random" in drawn.svg()


def found_on(planted, **changes):
    """An explanation as the page gets it."""
    rows = planted.ill[:6]
    images = planted.batch(planted.values[rows])
    scores = planted.score(planted.values[rows])
    paths = [f"{n} <b>&\u202e.png" for n in range(6)]
    checks = sanity.check_methods(
        planted.model, images, [1] * 6, ["gradcam"], layer=layer_for(["gradcam"], planted.model, images, None), draws=1
    )
    heat = explain_images(planted.model, images, [1] * 6, "gradcam")
    edits = [marks.pasted_in("L", planted.values[rows])]
    facts = {
        "model": "small",
        "source": "<script>alert(1)</script>",
        "classes": CLASSES,
        "layer": "6",
        "images": tuple(
            ExplainedImage(
                path=path, truth="abnormal", predicted="abnormal", explained="abnormal", scores=tuple(score),
                pixels=(255 * value).astype(np.uint8), heat={"gradcam": one},
            )
            for path, score, value, one in zip(paths, scores.tolist(), planted.values[rows], heat, strict=True)
        ),
        "checks": checks,
        "border": (sanity.mean_measure("border_share", np.full(6, 0.5), of="gradcam"),),
        "effects": tuple(marks.measure_edit(e, planted.score, scores, classes=CLASSES, paths=paths) for e in edits),
        "maps": LayerMaps(layer="0", path=paths[0], weights="trained", maps=heat),
        "notes": ("6 of 40 images",),
        "options": ExplainOptions().model_dump(mode="json"),
    }  # fmt: skip
    return Explanation(**facts | changes)


@pytest.fixture(scope="module")
def page(planted):
    return write_page(found_on(planted))


def test_the_page_runs_its_own_script_only_and_loads_nothing(page):
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    assert f"script-src 'sha256-{digest}'" in page
    assert page.count("<script>") == 1
    assert set(re.findall(r'src="([^,"]*),', page)) == {"data:image/png;base64"}
    assert not re.findall(r"https?://", re.sub(r'xmlns="[^"]*"', "", page))


def test_names_of_the_data_are_text_on_the_page(page):
    assert "<b>&\u202e" not in page
    assert "&lt;b&gt;&amp;\\u202e" in page
    assert "<script>alert" not in page


def test_the_page_names_each_method_with_its_verdict_and_numbers(page, planted):
    check = found_on(planted).checks[0]

    assert f"{check.stages[-1].rank_similarity.value:.3f}" in page
    assert "Adebayo et al. 2018" in page
    assert "Research software, not a medical device." in page


def test_a_page_without_any_method_that_passed_says_so(planted):
    explained = found_on(planted)
    bare = tuple(ExplainedImage(**vars(image) | {"heat": {}}) for image in explained.images)
    html = write_page(found_on(planted, images=bare, border=(), effects=(), maps=None))

    assert "no heat map is shown" in html
    assert "Its pictures are left out" in html


def test_the_numbers_are_strict_json(planted):
    facts = json.loads(json.dumps(found_on(planted).to_json(), allow_nan=False))

    assert facts["checks"][0]["stages"][-1]["rank_similarity"]["n_images"] == 6
    assert facts["effects"][0]["images"][0].keys() == {"path", "before", "after", "predicted", "predicted_after"}
