"""What a training step makes smaller, and the errors logged beside it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from plainfilm.training.loop import make_optimizer, make_schedule
from plainfilm.training.losses import Tally, make_loss
from plainfilm.training.options import TrainingOptions
from small_runs import Discs, fit_shapes

logit_lists = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=8)


def some(logits) -> tuple[torch.Tensor, torch.Tensor]:
    tensor = torch.tensor(logits)
    return tensor, torch.arange(len(tensor)) % 2


@given(logit_lists)
def test_two_classes_are_the_binary_cross_entropy_of_a_sigmoid(logits):
    two, target = some(logits)

    loss = make_loss(TrainingOptions(), None)(two, target)

    expected = binary_cross_entropy_with_logits(two[:, 1] - two[:, 0], target.float())
    assert loss == pytest.approx(float(expected), abs=1e-5)


@given(logit_lists)
def test_focal_loss_without_focus_is_cross_entropy(logits):
    two, target = some(logits)
    weights = torch.tensor([1.0, 3.0])

    loss = make_loss(TrainingOptions(loss="focal", focal_gamma=0), weights)(two, target)

    assert loss == pytest.approx(float(cross_entropy(two, target, weight=weights)), abs=1e-5)


@given(logit_lists, st.floats(0.5, 5))
def test_focal_loss_is_never_more_and_cares_less_for_what_is_right(logits, gamma):
    two, target = some(logits)
    focal = make_loss(TrainingOptions(loss="focal", focal_gamma=gamma), None)

    assert focal(two, target) <= cross_entropy(two, target) + 1e-6
    right, wrong = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    zero = torch.tensor([0])
    assert focal(right, zero) / cross_entropy(right, zero) < focal(wrong, zero) / cross_entropy(wrong, zero)


@given(logit_lists)
def test_mean_errors_are_those_of_a_sigmoid(logits):
    two, target = some(logits)
    tally = Tally()
    for start in range(0, len(two), 3):
        tally.add(0.0, two[start : start + 3], target[start : start + 3])

    score = torch.sigmoid((two[:, 1] - two[:, 0]).double()).numpy()
    error = np.abs(score - target.numpy())
    means = tally.means("train")
    assert means["train_mae"] == pytest.approx(error.mean(), abs=1e-6)
    assert means["train_rmse"] == pytest.approx(np.sqrt((error**2).mean()), abs=1e-6)


def test_the_history_has_both_errors_beside_the_loss(tmp_path):
    row = fit_shapes(tmp_path, epochs=1).history[0]

    for split in ("train", "validation"):
        assert 0 <= row[f"{split}_mae"] <= row[f"{split}_rmse"] <= 1


def test_early_layers_move_less_where_they_are_told_to():
    model = Discs()
    options = TrainingOptions(layer_decay=0.5, learning_rate=0.1, optimizer="adam", weight_decay=0.0)

    optimizer = make_optimizer(model, options)

    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert set(rate_of) == {id(p) for p in model.parameters()}
    assert rate_of[id(model.head.weight)] == 0.1
    assert rate_of[id(model.features[0].weight)] < 0.1


@pytest.mark.parametrize("schedule", ["one-cycle", "step", "constant"])
def test_the_schedule_keeps_the_rates_of_layers_apart(schedule):
    options = TrainingOptions(layer_decay=0.5, learning_rate=0.1, schedule=schedule, epochs=4)
    optimizer = make_optimizer(Discs(), options)
    schedule = make_schedule(optimizer, options, steps_per_epoch=5)
    for _ in range(8):
        rates = schedule.get_last_lr()
        assert min(rates) == pytest.approx(0.5 * max(rates)) or min(rates) < 0.5 * max(rates)
        optimizer.step()
        schedule.step()


def test_adam_learns_to_tell_discs_from_squares(tmp_path):
    result = fit_shapes(tmp_path, optimizer="adam", learning_rate=0.01, schedule="constant", epochs=15)

    assert result.history[-1]["train_accuracy"] > 0.9
