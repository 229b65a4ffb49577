"""Features of a frozen backbone: computed once, found again by content, and what is trained on them."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from plainfilm.data.augment import AugmentOptions
from plainfilm.errors import ResourceError, TrainingError, UsageError
from plainfilm.features import BATCH, FeatureCache, extract_features, run_features
from plainfilm.storage import cache_folder
from plainfilm.training.batches import LabelledFeatures
from plainfilm.training.logistic import PENALTIES, fit_logistic
from plainfilm.training.options import TrainingOptions
from plainfilm.verbs import predict, scan
from small_runs import shapes, train_small, weights_hash, write_small_data

AUGMENT = AugmentOptions(rotation=20)


class Counting(nn.Module):
    """A backbone that says how many images it saw."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv2d(1, 4, 5, stride=3)
        self.seen = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        return self.layer(images).amax(dim=(2, 3))


def digests_of(images) -> list[str]:
    return [f"{index:064x}" for index in range(len(images.labels))]


@pytest.fixture
def images():
    return shapes(augment=AUGMENT)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAINFILM_CACHE", str(tmp_path / "cache"))
    return cache_folder()


# --- extraction -----------------------------------------------------------------------------------------------


def test_a_feature_is_what_the_backbone_makes_of_the_image(images):
    backbone = Counting()

    features = extract_features(backbone, images, digests_of(images))

    with torch.inference_mode():
        expected = backbone(images.load(np.arange(len(images.labels)), torch.device("cpu")))
    np.testing.assert_allclose(features[0], expected.numpy(), rtol=1e-5)
    assert features.shape == (1, len(images.labels), 4)


def test_features_kept_once_are_not_computed_again(images, cache):
    digests = digests_of(images)
    first, second = Counting(), Counting()
    computed = extract_features(first, images, digests, views=2, cache=cache)

    found = extract_features(second, images, digests, views=2, cache=cache)

    assert first.seen
    assert second.seen == 0
    np.testing.assert_array_equal(found, computed)


def test_a_feature_does_not_depend_on_its_neighbours(images):
    digests = digests_of(images)
    order = np.random.default_rng(0).permutation(len(digests))
    shuffled = type(images)(images.pixels.take(order), images.labels[order], images.preprocessing, images.augmentation)

    straight = extract_features(Counting(), images, digests, views=1)
    mixed = extract_features(Counting(), shuffled, [digests[index] for index in order], views=1)

    np.testing.assert_array_equal(mixed[0], straight[0][order])


def test_an_image_more_costs_one_batch(images, cache):
    digests = digests_of(images)
    extract_features(Counting(), images, digests, cache=cache)
    late = Counting()

    extract_features(late, images, [*digests[:-1], "f" * 64], cache=cache)

    assert late.seen == BATCH


@pytest.mark.parametrize(
    "change", ["weights", "preprocessing", "view", "seed", "augmentation"], ids=lambda change: f"another {change}"
)
def test_what_is_made_otherwise_is_not_found(images, cache, change):
    digests = digests_of(images)
    extract_features(Counting(), images, digests, views=1, augmented_as="a", cache=cache)
    other = Counting(seed=change == "weights")
    if change == "preprocessing":
        changed = images.preprocessing.model_copy(update={"mean": 0.4})
        images = type(images)(images.pixels, images.labels, changed, images.augmentation)

    extract_features(
        other,
        images,
        digests,
        views=0 if change == "view" else 1,
        augmented_as="b" if change == "augmentation" else "a",
        seed=int(change == "seed"),
        cache=cache,
    )

    assert other.seen == len(digests)


def test_views_differ_and_come_again_from_the_same_seed(images):
    digests = digests_of(images)
    once, again, otherwise = (extract_features(Counting(), images, digests, views=2, seed=seed) for seed in (0, 0, 1))

    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once[0], once[1])
    assert not np.array_equal(once, otherwise)


def test_a_damaged_cache_is_made_anew_and_said(images, cache, caplog):
    digests = digests_of(images)
    computed = extract_features(Counting(), images, digests, cache=cache)
    (file,) = cache.glob("features/*.sqlite")
    for left in cache.glob("features/*.sqlite-*"):
        left.unlink()
    file.write_bytes(b"not a database, " * 500)

    with caplog.at_level(logging.WARNING):
        found = extract_features(Counting(), images, digests, cache=cache)

    np.testing.assert_array_equal(found, computed)
    assert "made anew" in caplog.text


def test_where_nothing_can_be_kept_features_are_computed_all_the_same(images, tmp_path, caplog):
    (tmp_path / "taken").write_text("a file where the folder would be")

    with caplog.at_level(logging.WARNING):
        features = extract_features(Counting(), images, digests_of(images), cache=tmp_path / "taken")

    assert np.isfinite(features).all()
    assert "not kept" in caplog.text


def test_a_feature_cut_short_is_not_used(cache):
    with FeatureCache(cache, "f" * 64) as kept:
        kept.put([(b"key", np.ones((2, 3), dtype=np.float32))])
        assert kept.get(b"key").shape == (2, 3)
        kept._database.execute("UPDATE features SET value = ?", (b"\0" * 8,))

        assert kept.get(b"key") is None


# --- heads ----------------------------------------------------------------------------------------------------


def blobs(n: int = 60, num_classes: int = 3, *, seed: int = 0, spread: float = 0.1) -> LabelledFeatures:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % num_classes
    centers = np.random.default_rng(99).normal(0, 5, (num_classes, 6))
    values = centers[labels] * 30 + 100 + rng.normal(0, 30 * spread, (n, 6))
    return LabelledFeatures(values.astype(np.float32)[None], labels.astype(np.int64))


@pytest.mark.parametrize("num_classes", [2, 3])
def test_logistic_regression_tells_blobs_apart_in_their_own_units(num_classes):
    head = fit_logistic(
        blobs(num_classes=num_classes),
        blobs(num_classes=num_classes, seed=1),
        num_classes=num_classes,
        options=TrainingOptions(),
    )

    new = blobs(num_classes=num_classes, seed=2)
    logits = new.values[0] @ head.weight.T + head.bias
    assert (logits.argmax(axis=1) == new.labels).all()
    assert head.inverse_penalty in PENALTIES
    assert head.history[0]["validation_accuracy"] == 1.0


def test_noise_calls_for_a_strong_penalty():
    rng = np.random.default_rng(0)
    noise = [
        LabelledFeatures(rng.normal(size=(1, 40, 50)).astype(np.float32), rng.integers(0, 2, 40).astype(np.int64))
        for _ in range(2)
    ]

    head = fit_logistic(*noise, num_classes=2, options=TrainingOptions())

    assert head.inverse_penalty <= 0.01


def test_a_class_without_training_rows_gets_no_score():
    head = fit_logistic(blobs(num_classes=2), blobs(num_classes=2, seed=1), num_classes=3, options=TrainingOptions())

    logits = blobs(num_classes=2).values[0] @ head.weight.T + head.bias
    assert (logits[:, 2] < logits[:, :2].max(axis=1) - 1000).all()


def test_features_that_are_no_numbers_are_refused():
    broken = blobs()
    broken.values[0, 3, 2] = np.inf

    with pytest.raises(TrainingError) as caught:
        fit_logistic(broken, blobs(), num_classes=3, options=TrainingOptions())
    assert caught.value.code == "TRN_NOT_FINITE"


# --- through training -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "images")


@pytest.mark.parametrize("tuning", ["head", "logistic"])
def test_a_head_on_a_frozen_backbone_makes_an_ordinary_run(manifest, tmp_path, tuning):
    run = train_small(manifest, tmp_path / "run", tuning=tuning, model="timm:resnet10t", views=2)

    again, table = predict(run.folder, manifest, workers=0, device="cpu")
    saved = pd.read_csv(run.predictions, dtype=str).set_index("path")
    score = next(name for name in saved.columns if name.startswith("score_"))
    rows = again.to_frame().set_index("path").loc[saved.index]
    np.testing.assert_allclose(rows[score].astype(float), saved[score].astype(float), atol=1e-6)
    features = run_features(run.folder, table, _pixels(manifest))
    assert features.shape == (len(table), 512)


def _pixels(manifest):
    from plainfilm.data.scanning import scan_listing
    from plainfilm.data.sources import list_images

    return scan_listing(list_images(manifest), size=(32, 32), workers=0)[1]


@pytest.mark.long
def test_the_backbone_of_a_head_is_left_as_it_was(manifest, tmp_path):
    runs = [
        train_small(manifest, tmp_path / name, tuning="head", model="timm:resnet10t", epochs=epochs)
        for name, epochs in (("short", 1), ("long", 3))
    ]
    from safetensors.torch import load_file

    short, long = (load_file(run.folder / "bundle" / "model.safetensors") for run in runs)
    changed = {name.split(".")[0] for name in short if not torch.equal(short[name], long[name])}
    assert changed == {"head"}


@pytest.mark.long
def test_features_kept_or_not_give_the_same_weights(manifest, tmp_path, cache):
    runs = [
        train_small(manifest, tmp_path / name, tuning="logistic", model="timm:resnet10t", keep_features=kept)
        for name, kept in (("kept", True), ("found", True), ("computed", False))
    ]

    assert len({weights_hash(run) for run in runs}) == 1


def test_nothing_of_a_name_is_in_the_cache(manifest, tmp_path, cache):
    train_small(manifest, tmp_path / "run", tuning="logistic", model="timm:resnet10t")

    files = list(cache.rglob("*"))
    kept = b"".join(file.read_bytes() for file in files if file.is_file())
    assert kept
    for name in scan(manifest).rows["patient_id"]:
        assert name.encode() not in kept
    assert manifest.parent.name.encode() not in kept


@pytest.mark.long
def test_a_backbone_thaws_after_its_epoch(manifest, tmp_path):
    from safetensors.torch import load_file

    run = train_small(
        manifest,
        tmp_path / "run",
        tuning="head",
        unfreeze_epoch=1,
        model="timm:resnet10t",
        keep_checkpoints="all",
        epochs=2,
        choose="last",
    )

    frozen, thawed = (load_file(folder / "model.safetensors") for folder in sorted(run.folder.glob("checkpoints/*")))
    still = train_small(manifest, tmp_path / "still", tuning="head", model="timm:resnet10t", epochs=1)
    start = load_file(still.folder / "bundle" / "model.safetensors")
    body = [name for name in start if name.startswith("backbone") and start[name].is_floating_point()]
    assert all(torch.equal(frozen[name], start[name]) for name in body)
    assert any(not torch.equal(thawed[name], start[name]) for name in body)


def test_more_features_than_memory_are_refused_before_they_are_computed(manifest, tmp_path):
    with pytest.raises(ResourceError, match="--views") as caught:
        train_small(
            manifest, tmp_path / "run", tuning="head", head="conv", model="timm:resnet18", image_size=256, views=1000
        )
    assert caught.value.code == "RES_MEMORY"


def test_logistic_regression_takes_no_convolutions(manifest, tmp_path):
    with pytest.raises(UsageError) as caught:
        train_small(manifest, tmp_path / "run", tuning="logistic", head="conv", model="timm:resnet18")
    assert caught.value.code == "OPT_HEAD"


@pytest.mark.parametrize(
    "options", [{"unfreeze_epoch": 3}, {"views": 2}, {"tuning": "head", "views": 2, "unfreeze_epoch": 1}]
)
def test_options_of_a_frozen_backbone_need_one(manifest, tmp_path, options):
    with pytest.raises(UsageError, match="frozen"):
        train_small(manifest, tmp_path / "run", **options)
