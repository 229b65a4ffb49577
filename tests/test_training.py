"""The training loop on a network of a few hundred weights: what it learns, how it stops, how it goes on."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from plainfilm.data.augment import AugmentOptions, make_augmentation
from plainfilm.data.pixels import PixelStore
from plainfilm.errors import BundleError, Interrupted, ResourceError, TrainingError, UsageError
from plainfilm.progress import Silent
from plainfilm.storage import write_manifest
from plainfilm.training.batches import LabelledImages, load_batch, steps_per_epoch, training_order
from plainfilm.training.checkpoint import FILES
from plainfilm.training.device import choose_device, choose_precision
from plainfilm.training.loop import best_epoch, make_optimizer, make_schedule
from plainfilm.training.options import TrainingOptions
from small_runs import PLAIN, Discs, Stopper, fit_shapes, same_weights, shapes

ONE_CYCLE = {"optimizer": "adamw", "schedule": "one-cycle", "epochs": 6}
STEPS = {"optimizer": "sgd", "schedule": "step", "step_epochs": 2, "learning_rate": 0.02, "epochs": 6}
AUGMENT = AugmentOptions()


class Listener(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.epochs: list[int] = []

    def warn(self, sentence):
        self.warnings.append(sentence)

    def epoch(self, row):
        self.epochs.append(row["epoch"])


# --- what it learns -----------------------------------------------------------------------------------------


def test_training_overfits_eight_images(tmp_path):
    eight = shapes((4, 4))

    result = fit_shapes(tmp_path, train=eight, epochs=20, learning_rate=0.01, choose="last")

    assert result.history[-1]["train_accuracy"] == 1.0
    assert result.history[-1]["train_loss"] < 0.02


def test_discs_are_told_from_squares_never_seen(tmp_path):
    result = fit_shapes(tmp_path, train=shapes((64, 64)), validation=shapes((50, 50), seed=5), epochs=12)

    assert result.history[result.chosen_epoch - 1]["validation_accuracy"] > 0.9


def test_shuffled_labels_score_like_chance(tmp_path):
    unseen = shapes((200, 200), seed=9, shuffled=True)

    result = fit_shapes(tmp_path, train=shapes((64, 64), shuffled=True), validation=unseen, epochs=12, choose="last")

    # 400 throws of a coin: 0.5 with an SD of 0.025.
    assert abs(result.history[-1]["validation_accuracy"] - 0.5) < 0.1


def test_a_flat_loss_at_the_start_is_the_logarithm_of_the_classes(tmp_path):
    model = Discs()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)

    result = fit_shapes(tmp_path, model=model, epochs=1, learning_rate=1e-12)

    assert result.history[0]["train_loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_label_smoothing_keeps_the_loss_from_zero(tmp_path):
    common = {"train": shapes((4, 4)), "epochs": 20, "learning_rate": 0.01}

    plain, smooth = (
        fit_shapes(tmp_path / str(share), label_smoothing=share, **common).history[-1]["train_loss"]
        for share in (0.0, 0.2)
    )

    floor = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)  # the entropy of the smoothed target
    assert plain < 0.01
    assert floor <= smooth < floor + 0.01


@pytest.mark.parametrize("imbalance", ["weights", "sampler"])
def test_the_rare_class_is_found_when_classes_count_equally(tmp_path, imbalance):
    common = {"train": shapes((76, 4)), "validation": shapes((50, 50), seed=3), "epochs": 6, "learning_rate": 0.004}

    ignored = fit_shapes(tmp_path / "none", choose="last", **common)
    counted = fit_shapes(tmp_path / imbalance, choose="last", imbalance=imbalance, **common)

    assert ignored.history[-1]["validation_balanced_accuracy"] == 0.5  # it says "disc" to everything
    assert counted.history[-1]["validation_balanced_accuracy"] > 0.55


def test_augmentation_changes_what_is_learnt_but_not_the_images(tmp_path):
    train = shapes()
    before = train.pixels.values(range(len(train.labels)))

    plain = fit_shapes(tmp_path / "plain", train=train)
    augmented = fit_shapes(tmp_path / "augmented", train=replace(train, augmentation=make_augmentation(AUGMENT)))

    assert not same_weights(plain, augmented)
    assert np.array_equal(before, train.pixels.values(range(len(train.labels))))


# --- seeds --------------------------------------------------------------------------------------------------


def test_one_seed_gives_the_same_weights_and_another_gives_others(tmp_path):
    first, again, other = (
        fit_shapes(tmp_path / name, augment=AUGMENT, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )

    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_validation_images_do_not_change_the_weights(tmp_path):
    one, other = (
        fit_shapes(tmp_path / str(seed), validation=shapes((9, 30), seed=seed), choose="last") for seed in (1, 2)
    )

    assert same_weights(one, other)


# --- order, batches -----------------------------------------------------------------------------------------

labels_of_many = st.lists(st.integers(0, 3), min_size=1, max_size=60).map(np.array)


@given(labels_of_many, st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_shows_each_image_at_most_once_in_whole_batches(labels, batch_size, seed):
    batches = list(training_order(labels, batch_size=batch_size, balanced=False, seed=seed))

    shown = np.concatenate(batches)
    assert len(batches) == steps_per_epoch(len(labels), batch_size)
    assert len(set(shown)) == len(shown)
    assert all(len(batch) == min(batch_size, len(labels)) for batch in batches)
    assert len(labels) - len(shown) < batch_size


@given(labels_of_many, st.integers(1, 20), st.integers(0, 5))
def test_the_order_follows_from_the_seed(labels, batch_size, seed):
    def order(of):
        return np.concatenate(list(training_order(labels, batch_size=batch_size, balanced=False, seed=of))).tolist()

    assert order(seed) == order(seed)
    if len(labels) > 40 and batch_size == 1:
        assert order(seed) != order(seed + 1)


def test_the_sampler_draws_classes_equally_often():
    labels = np.repeat([0, 1, 3], [900, 90, 10])

    drawn = labels[np.concatenate(list(training_order(labels, batch_size=10, balanced=True, seed=0)))]

    counts = np.bincount(drawn, minlength=4)
    assert counts[2] == 0
    assert np.all(np.abs(counts[[0, 1, 3]] - 1000 / 3) < 60)


def test_a_batch_is_in_units_of_the_full_range_whatever_the_depth():
    store = PixelStore(3, 1, 2)
    store.put(0, np.array([[0, 255]], dtype=np.uint8))
    store.put(1, np.array([[0, 65535]], dtype=np.uint16))
    store.put(2, np.array([[-1.5, 3.0]], dtype=np.float32))

    alone = [load_batch(store, np.array([index]), torch.device("cpu")) for index in range(3)]
    together = load_batch(store, np.arange(3), torch.device("cpu"))

    assert [batch.flatten().tolist() for batch in alone] == [[0, 1], [0, 1], [-1.5, 3]]
    assert torch.equal(torch.cat(alone), together)
    assert together.shape == (3, 1, 1, 2)
    assert together.dtype == torch.float32


# --- learning rates, choosing, stopping ---------------------------------------------------------------------


def rates(result) -> list[float]:
    return [row["learning_rate"] for row in result.history]


def test_the_step_schedule_falls_when_asked(tmp_path):
    result = fit_shapes(
        tmp_path, optimizer="sgd", schedule="step", step_epochs=2, step_factor=0.1, learning_rate=0.01, epochs=5
    )

    assert rates(result) == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001])


def test_the_constant_schedule_stays(tmp_path):
    assert rates(fit_shapes(tmp_path, schedule="constant", learning_rate=0.01)) == [0.01] * 3


def test_one_cycle_goes_up_once_to_the_rate_asked_for_and_down_once(tmp_path):
    found = rates(fit_shapes(tmp_path, learning_rate=0.01, epochs=12, warm_up=0.25))

    peak = int(np.argmax(found))
    assert 0.0099 < found[peak] <= 0.01
    assert np.all(np.diff(found[: peak + 1]) > 0)
    assert np.all(np.diff(found[peak:]) < 0)
    assert 2 <= peak <= 4


@pytest.mark.parametrize("n_steps", range(1, 8))
@pytest.mark.parametrize("warm_up", [0.01, 0.25, 0.99])
def test_one_cycle_fits_into_any_number_of_steps(n_steps, warm_up):
    options = TrainingOptions(epochs=1, warm_up=warm_up)
    optimizer = make_optimizer(Discs(), options)
    schedule = make_schedule(optimizer, options, n_steps)

    for _ in range(n_steps):
        assert 0 < schedule.get_last_lr()[0] <= options.peak_learning_rate
        optimizer.step()
        schedule.step()


def test_training_stops_when_patience_ends(tmp_path):
    listener = Listener()

    result = fit_shapes(tmp_path, learning_rate=1e-12, schedule="constant", epochs=50, patience=2, progress=listener)

    assert len(result.history) - result.chosen_epoch == 2
    assert len(result.history) < 50
    assert listener.epochs == list(range(1, len(result.history) + 1))


@pytest.mark.parametrize(("choose", "expected"), [("loss", 2), ("balanced-accuracy", 3), ("last", 4)], ids=str)
def test_the_epoch_is_chosen_as_asked_and_the_first_of_equals_wins(choose, expected):
    history = [
        {"epoch": 1, "validation_loss": 0.5, "validation_balanced_accuracy": 0.6},
        {"epoch": 2, "validation_loss": 0.3, "validation_balanced_accuracy": 0.7},
        {"epoch": 3, "validation_loss": 0.3, "validation_balanced_accuracy": 0.9},
        {"epoch": 4, "validation_loss": 0.4, "validation_balanced_accuracy": 0.9},
    ]

    assert best_epoch(history, TrainingOptions(choose=choose)) == expected


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_weights_that_thaw_later_are_learnt_by_every_optimizer(name):
    model = Discs()
    optimizer = make_optimizer(model, TrainingOptions(tuning="head", unfreeze_epoch=1, optimizer=name))
    before = model.features[0].weight.detach().clone()
    for frozen in (True, False):
        model.features.requires_grad_(not frozen)
        optimizer.zero_grad()
        model(torch.rand(4, 1, 16, 16)).square().sum().backward()
        optimizer.step()
        assert torch.equal(model.features[0].weight, before) is frozen


def test_the_weights_are_those_of_the_chosen_epoch(tmp_path):
    whole = fit_shapes(tmp_path / "whole", schedule="constant", epochs=6, keep_checkpoints="all")
    short = fit_shapes(
        tmp_path / "short", schedule="constant", epochs=whole.chosen_epoch, choose="last", keep_checkpoints="all"
    )

    assert same_weights(whole, short)
    assert len(list((tmp_path / "whole").iterdir())) == 6


def test_only_needed_checkpoints_are_kept(tmp_path):
    fit_shapes(tmp_path, epochs=8, choose="last")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0007", "epoch-0008"]


# --- going on -----------------------------------------------------------------------------------------------


def stop_in(epoch: int, folder, **options) -> None:
    with pytest.raises(Interrupted, match="--resume"):
        fit_shapes(folder, augment=AUGMENT, progress=Stopper(epoch), **options)


@pytest.mark.parametrize("options", [ONE_CYCLE, STEPS], ids=["adamw one-cycle", "sgd step"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("stopped_in", [1, 5])
def test_a_stopped_training_ends_with_the_same_weights(tmp_path, options, precision, stopped_in):
    options = {**options, "precision": precision, "imbalance": "sampler"}
    whole = fit_shapes(tmp_path / "whole", augment=AUGMENT, **options)

    stop_in(stopped_in, tmp_path / "stopped", **options)
    resumed = fit_shapes(tmp_path / "stopped", augment=AUGMENT, resume=True, **options)

    assert same_weights(whole, resumed)
    assert resumed.chosen_epoch == whole.chosen_epoch
    losses = [[row["validation_loss"] for row in result.history] for result in (whole, resumed)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("damage", ["newest", "all", "best"])
def test_damaged_checkpoints_cost_epochs_but_change_nothing(tmp_path, damage):
    whole = fit_shapes(tmp_path / "whole", augment=AUGMENT, **ONE_CYCLE)
    stopped = tmp_path / "stopped"
    stop_in(5, stopped, **ONE_CYCLE)

    places = sorted(stopped.iterdir())
    chosen = {"newest": places[-1:], "all": places, "best": places[:1]}[damage]
    for place in chosen:
        (place / "state.json").write_text("{}")
    resumed = fit_shapes(stopped, augment=AUGMENT, resume=True, **ONE_CYCLE)

    assert same_weights(whole, resumed)


def test_resuming_a_finished_training_only_reads_it(tmp_path):
    listener = Listener()
    whole = fit_shapes(tmp_path)

    again = fit_shapes(tmp_path, resume=True, progress=listener)

    assert same_weights(whole, again)
    assert again.history == whole.history
    assert not listener.epochs


def test_a_patient_training_that_was_stopped_ends_at_the_same_epoch(tmp_path):
    options = {"learning_rate": 0.02, "epochs": 40, "patience": 3, "schedule": "constant"}
    whole = fit_shapes(tmp_path / "whole", augment=AUGMENT, **options)

    stop_in(2, tmp_path / "stopped", **options)
    resumed = fit_shapes(tmp_path / "stopped", augment=AUGMENT, resume=True, **options)

    assert len(resumed.history) == len(whole.history)
    assert same_weights(whole, resumed)


def test_the_time_spent_before_a_stop_counts(tmp_path):
    stop_in(3, tmp_path)

    resumed = fit_shapes(tmp_path, augment=AUGMENT, resume=True)

    seconds = [row["seconds"] for row in resumed.history]
    assert seconds == sorted(seconds)


def test_checkpoints_of_another_model_are_refused(tmp_path):
    fit_shapes(tmp_path, epochs=1)

    with pytest.raises(BundleError, match="another model") as caught:
        fit_shapes(tmp_path, model=Discs(width=4), epochs=2, resume=True)
    assert caught.value.code == "BUN_SHAPE"


# --- what goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_loss_that_is_no_number_stops_the_training_and_says_what_to_try(tmp_path, optimizer):
    with pytest.raises(TrainingError, match="--learning-rate") as caught:
        fit_shapes(tmp_path, optimizer=optimizer, learning_rate=1e30, schedule="constant", epochs=10)
    assert caught.value.code == "TRN_NOT_FINITE"
    assert caught.value.exit_code == 3


def test_pixels_that_are_no_numbers_stop_the_training(tmp_path):
    store = PixelStore(4, 16, 16)
    for index in range(4):
        store.put(index, np.full((16, 16), np.nan, dtype=np.float32))

    with pytest.raises(TrainingError) as caught:
        fit_shapes(tmp_path, train=LabelledImages(store, np.array([0, 1, 0, 1]), PLAIN))
    assert caught.value.code == "TRN_NOT_FINITE"


class Greedy(Discs):
    """Asks for a pebibyte."""

    def forward(self, images):
        return super().forward(images) + torch.empty(1 << 50).sum()


def test_a_lack_of_memory_names_batch_and_image_size(tmp_path):
    with pytest.raises(ResourceError, match=r"batches of 8 images of 16x16.*--batch-size 4") as caught:
        fit_shapes(tmp_path, model=Greedy())
    assert caught.value.code == "RES_MEMORY"
    assert caught.value.exit_code == 5


def test_a_fault_of_the_model_is_not_called_a_lack_of_memory(tmp_path):
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit_shapes(tmp_path, model=nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))


def test_a_device_that_is_not_there_is_refused_by_name():
    absent = next(name for name in ("mps", "cuda") if not getattr(torch, name).is_available())

    with pytest.raises(UsageError, match=absent) as caught:
        choose_device(absent)
    assert caught.value.code == "DEV_ABSENT"
    assert choose_device("auto") in {"cpu", "cuda", "mps"}


def test_a_cpu_does_not_train_in_float16():
    with pytest.raises(UsageError, match="bf16-mixed") as caught:
        choose_precision("16-mixed", "cpu")
    assert caught.value.code == "DEV_PRECISION"
    assert choose_precision("auto", "cpu") in {"bf16-mixed", "32-true"}
    assert choose_precision("32-true", "cpu") == "32-true"


def test_a_training_says_nothing_that_plainfilm_did_not_say(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path; "
        "from small_runs import fit_shapes; "
        f"fit_shapes(Path({str(tmp_path)!r}), epochs=1, precision='bf16-mixed')"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_run_begun_with_another_version_says_so(tmp_path):
    stop_in(2, tmp_path)
    state = tmp_path / "epoch-0001" / "state.json"
    state.write_text(state.read_text().replace(torch.__version__, "2.0.0"))
    write_manifest(state.parent, FILES)
    listener = Listener()

    fit_shapes(tmp_path, augment=AUGMENT, resume=True, progress=listener)

    assert any("another version of torch" in warning for warning in listener.warnings)
