"""In which precision and memory layout a training computes, and that it stays so."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from plainfilm.bundle import load_bundle
from plainfilm.errors import Interrupted, UsageError
from plainfilm.training import loop, manner
from plainfilm.training.manner import MARGIN, SHORTEST_STEP, SHORTEST_TRAINING, Manner, settle_manner
from plainfilm.training.options import TrainingOptions
from plainfilm.training.strides import layer_past_its_map
from small_runs import (
    Discs,
    Stopper,
    fit_shapes,
    same_weights,
    shapes,
    train_small,
    weights_hash,
    write_small_data,
)

BFLOAT, FULL = Manner("bf16-mixed", "channels-last"), Manner("32-true", "channels-last")
FULL_CONTIGUOUS = Manner("32-true", "contiguous")
LONG = -(-SHORTEST_TRAINING // 32)


@pytest.fixture(autouse=True)
def nothing_settled(monkeypatch):
    monkeypatch.setattr(manner, "_settled", {})


def settled(*, computes_in="bf16-mixed", model=None, **options):
    chosen = TrainingOptions(**{"epochs": LONG, **options})
    return settle_manner(model or Discs(), shapes(), device="cpu", precision=computes_in, options=chosen)


def clock(monkeypatch, seconds):
    """Steps that take what `seconds` says: one number, or one for each step of that kind."""
    taken = []

    def step(self, of):
        taken.append(of)
        said = seconds.get(of, 1.0)
        return said if isinstance(said, float) else said[min(taken.count(of), len(said)) - 1]

    monkeypatch.setattr(manner._Probe, "seconds", step)
    return taken


def chosen(facts) -> Manner:
    return Manner(facts["precision"], facts["memory_format"])


def test_what_the_device_says_stands_where_nothing_is_much_faster(monkeypatch):
    clock(monkeypatch, {BFLOAT: 1.0, FULL: 1.05 / MARGIN})

    assert chosen(settled()) == BFLOAT


def test_a_manner_that_is_faster_beyond_doubt_is_taken_and_noted(monkeypatch):
    clock(monkeypatch, {BFLOAT: 1.0, FULL: 0.95 / MARGIN, FULL_CONTIGUOUS: 1.0})

    facts = settled()

    assert chosen(facts) == FULL
    least = round(950 / MARGIN, 2)
    assert facts["probed"] == {
        "bf16-mixed, channels-last": 1000,
        "32-true, channels-last": least,
        "32-true, contiguous": 1000,
    }


def test_slow_rounds_are_not_enough_where_one_was_fast(monkeypatch):
    clock(monkeypatch, {BFLOAT: (9.0, 9.0, 9.0, 9.0, 9.0, 1.0), FULL: 1.0})

    assert chosen(settled()) == BFLOAT


def test_faster_steps_than_the_clock_can_tell_apart_are_left_as_they_are(monkeypatch):
    clock(monkeypatch, {BFLOAT: SHORTEST_STEP / 2, FULL: SHORTEST_STEP / 200})

    assert chosen(settled()) == BFLOAT


@pytest.mark.parametrize(
    ("options", "tried"),
    [
        ({"precision": "bf16-mixed", "memory_format": "contiguous"}, set()),
        ({"precision": "bf16-mixed"}, {BFLOAT, Manner("bf16-mixed", "contiguous")}),
        ({"memory_format": "channels-last"}, {BFLOAT, FULL}),
    ],
    ids=["both", "precision", "layout"],
)
def test_what_was_asked_for_by_name_is_not_questioned(monkeypatch, options, tried):
    taken = clock(monkeypatch, {FULL: 0.1, Manner("bf16-mixed", "contiguous"): 0.1})

    settled(**options)

    assert set(taken) == tried


def test_a_device_without_bfloat16_is_not_asked_for_it(monkeypatch):
    taken = clock(monkeypatch, {})

    settled(computes_in="32-true")

    assert set(taken) == {FULL, FULL_CONTIGUOUS}


def test_a_short_training_is_not_probed(monkeypatch):
    taken = clock(monkeypatch, {})

    facts = settled(epochs=LONG - 1)

    assert not taken
    assert facts == {"precision": "bf16-mixed", "memory_format": "channels-last"}


def test_folds_of_one_model_are_probed_once(monkeypatch):
    taken = clock(monkeypatch, {})

    first = settled()
    n_steps = len(taken)

    assert settled() == first
    assert len(taken) == n_steps
    settled(model=Discs(width=4))
    assert len(taken) > n_steps


def test_a_probe_leaves_model_and_random_state_as_they_were(monkeypatch):
    monkeypatch.setattr(manner, "SHORTEST_STEP", 0.0)
    model = nn.Sequential(Discs(), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()

    facts = settled(model=model)

    assert len(facts["probed"]) >= 2
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_resumed_training_computes_as_it_began(tmp_path, monkeypatch):
    found = {"precision": "bf16-mixed", "memory_format": "contiguous", "probed": {"bf16-mixed, contiguous": 1.5}}
    monkeypatch.setattr(loop, "settle_manner", lambda *given, **more: found)
    whole = fit_shapes(tmp_path / "whole", precision="auto")
    with pytest.raises(Interrupted):
        fit_shapes(tmp_path / "stopped", precision="auto", progress=Stopper(2))

    monkeypatch.setattr(loop, "settle_manner", lambda *given, **more: pytest.fail("settled twice"))
    resumed = fit_shapes(tmp_path / "stopped", precision="auto", resume=True)

    assert found.items() <= resumed.facts.items()
    assert same_weights(whole, resumed)


def test_both_layouts_learn_the_same(tmp_path):
    last, first = (
        fit_shapes(tmp_path / name, memory_format=name, optimizer="sgd", learning_rate=0.01)
        for name in ("channels-last", "contiguous")
    )

    assert last.facts["memory_format"] == "channels-last"
    assert first.facts["memory_format"] == "contiguous"
    for name, value in last.weights.items():
        torch.testing.assert_close(value, first.weights[name], rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_memory_is_kept_while_training_and_given_back_after():
    # In a process of its own: what other tests freed would be handed out again.
    program = """
import numpy as np
from plainfilm.training.allocation import memory_kept

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

big = 64 << 20
with memory_kept() as kept:
    before = resident()
    np.ones(big, dtype=np.uint8)
    held = resident() - before
np.ones(big, dtype=np.uint8)
print(kept, held > 0.9 * big, resident() - before < 0.5 * big)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert said.stdout.split() == ["True"] * 3


# --- layers that bfloat16 would leave unset -----------------------------------------------------------------


def past_its_map() -> nn.Module:
    """The last of these convolutions takes steps of two over a map of one."""
    halving = [nn.Conv2d(1 if number == 0 else 4, 4, 3, stride=2, padding=1) for number in range(5)]
    return nn.Sequential(*halving, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def test_a_layer_that_steps_further_than_its_map_is_trained_in_32_bits():
    model = past_its_map().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    assert layer_past_its_map(model, torch.zeros(1, 1, 16, 16)) == "4"
    assert layer_past_its_map(model, torch.zeros(1, 1, 32, 32)) is None
    assert settled(model=model, epochs=1)["precision"] == "32-true"
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bfloat16_by_name_is_then_refused():
    with pytest.raises(UsageError, match="'4' steps further than its map is wide") as refused:
        settled(model=past_its_map(), precision="bf16-mixed", epochs=1)

    assert refused.value.code == "DEV_PRECISION"


def test_small_images_give_the_same_sound_weights_every_time(tmp_path):
    data = write_small_data(tmp_path / "data")

    runs = [train_small(data, tmp_path / str(number), model="resnet1d", image_size=16) for number in range(2)]

    assert weights_hash(runs[0]) == weights_hash(runs[1])
    assert all(value.isfinite().all() for value in load_bundle(runs[0].folder / "bundle").model.state_dict().values())
