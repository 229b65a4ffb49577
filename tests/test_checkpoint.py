"""Checkpoints: whole or not there, and bit for bit what they were."""

import json
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from plainfilm.errors import BundleError, ResourceError
from plainfilm.storage import sha256_of, write_json, write_manifest
from plainfilm.training.checkpoint import (
    FILES,
    Checkpoint,
    drop_checkpoints,
    is_sound,
    load_checkpoint,
    save_checkpoint,
    sound_checkpoints,
)
from plainfilm.training.loop import make_optimizer, make_schedule
from plainfilm.training.options import TrainingOptions
from small_runs import Discs


def make_checkpoint(epoch: int = 1, **options) -> Checkpoint:
    """A real one: a network that has taken a step."""
    chosen = TrainingOptions(**options)
    model = Discs()
    optimizer = make_optimizer(model, chosen)
    schedule = make_schedule(optimizer, chosen, steps_per_epoch=3)
    model(torch.rand(4, 1, 16, 16)).square().sum().backward()
    optimizer.step()
    schedule.step()
    return Checkpoint(
        epoch=epoch,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        schedule=schedule.state_dict(),
        precision={},
        history=[{"epoch": number, "validation_loss": 1 / (3 * number)} for number in range(1, epoch + 1)],
        facts={"device": "cpu", "threads": 1},
    )


@pytest.fixture
def place(tmp_path):
    return save_checkpoint(tmp_path, make_checkpoint())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["one-cycle", "step", "constant"])
def test_a_checkpoint_comes_back_bit_for_bit(tmp_path, optimizer, schedule):
    saved = make_checkpoint(2, optimizer=optimizer, schedule=schedule)

    loaded = load_checkpoint(save_checkpoint(tmp_path, saved))

    assert loaded.epoch == 2
    assert loaded.history == saved.history
    assert loaded.facts == saved.facts
    assert all(torch.equal(loaded.model[name], value) for name, value in saved.model.items())
    for number, entries in saved.optimizer["state"].items():
        assert entries.keys() == loaded.optimizer["state"][number].keys()
        for name, value in entries.items():
            assert torch.equal(torch.as_tensor(loaded.optimizer["state"][number][name]), torch.as_tensor(value))
    json_twin = json.loads(json.dumps([saved.optimizer["param_groups"], saved.schedule]))
    assert [loaded.optimizer["param_groups"], loaded.schedule] == json_twin


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([*FILES, "manifest.json"]), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_noticed(tmp_path, name, where, bit):
    place = tmp_path / "epoch-0001"
    if not place.exists():
        save_checkpoint(tmp_path, make_checkpoint())
    path = place / name
    sound = path.read_bytes()
    flipped = bytearray(sound)
    flipped[int(where * len(sound))] ^= 1 << bit

    path.write_bytes(flipped)
    try:
        # In the manifest itself white space may change without harm; all that it says may not.
        harmless = name == "manifest.json" and _says_the_same(sound, bytes(flipped))
        assert is_sound(place) == harmless
    finally:
        path.write_bytes(sound)
    assert is_sound(place)


def _says_the_same(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(place, name):
    (place / name).unlink()

    with pytest.raises(BundleError, match=name) as caught:
        load_checkpoint(place)
    assert caught.value.code == "BUN_MISSING"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_file_is_refused(place, name, share):
    data = (place / name).read_bytes()
    (place / name).write_bytes(data[: int(share * len(data))])

    with pytest.raises(BundleError) as caught:
        load_checkpoint(place)
    assert caught.value.code == "BUN_DAMAGED"


def test_a_manifest_that_leaves_its_folder_is_refused(place):
    outside = place.parent.parent / "x"
    outside.write_text("secret")
    hashes = {name: sha256_of(place / name) for name in FILES}
    for name in ("../../x", str(outside)):
        write_json(place / "manifest.json", {"sha256": hashes | {name: sha256_of(outside)}})
        with pytest.raises(BundleError) as caught:
            load_checkpoint(place)
        assert caught.value.code == "BUN_OUTSIDE"


@pytest.mark.parametrize(
    "manifest", ["{}", "[]", "null", '{"sha256": []}', '{"sha256": {}}', "", "\x80", "[" * 100_000]
)
def test_a_manifest_that_vouches_for_nothing_is_refused(place, manifest):
    (place / "manifest.json").write_text(manifest, "latin-1")

    with pytest.raises(BundleError) as caught:
        load_checkpoint(place)
    assert caught.value.code == "BUN_DAMAGED"


def test_another_schema_is_refused(place):
    state = json.loads((place / "state.json").read_text())
    write_json(place / "state.json", state | {"schema": 99})
    write_manifest(place, FILES)

    with pytest.raises(BundleError, match="99") as caught:
        load_checkpoint(place)
    assert caught.value.code == "BUN_SCHEMA"


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",  # a pickle
        (100 << 20).to_bytes(8, "little") + b"{" + b" " * 100,
        b"",
    ],
    ids=["pickle", "header of 100 MB", "empty"],
)
def test_what_only_calls_itself_safetensors_is_refused(place, data):
    (place / "model.safetensors").write_bytes(data)
    write_manifest(place, FILES)  # even if somebody made the hashes fit

    with pytest.raises(BundleError) as caught:
        load_checkpoint(place)
    assert caught.value.code == "BUN_DAMAGED"


def test_a_damaged_checkpoint_does_not_count_and_the_one_before_does(tmp_path):
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path, make_checkpoint(epoch))
    assert [checkpoint.epoch for checkpoint in sound_checkpoints(tmp_path)] == [3, 2, 1]

    (tmp_path / "epoch-0003" / "manifest.json").unlink()  # as a process leaves it that died while writing

    assert [checkpoint.epoch for checkpoint in sound_checkpoints(tmp_path)] == [2, 1]


def test_a_damaged_checkpoint_is_written_over(place, tmp_path):
    (place / "manifest.json").unlink()
    (place / "left-over.tmp").write_text("half")

    save_checkpoint(tmp_path, make_checkpoint())

    assert is_sound(place)
    assert sorted(path.name for path in place.iterdir()) == sorted([*FILES, "manifest.json"])


def test_checkpoints_not_needed_are_dropped(tmp_path):
    for epoch in range(1, 6):
        save_checkpoint(tmp_path, make_checkpoint(epoch))

    drop_checkpoints(tmp_path, keep={2, 5})

    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0002", "epoch-0005"]


def test_tensors_that_cannot_be_written_are_said_in_our_words(tmp_path):
    (tmp_path / "a-file").write_text("")

    with pytest.raises(ResourceError) as caught:
        save_checkpoint(tmp_path / "a-file", make_checkpoint())
    assert caught.value.code == "RES_WRITE"
    assert caught.value.exit_code == 5


def test_a_checkpoint_copied_elsewhere_still_counts(place, tmp_path):
    copied = shutil.copytree(place, tmp_path / "elsewhere" / "epoch-0001")

    assert load_checkpoint(copied).epoch == 1


def test_a_tensor_too_many_is_a_changed_file(place):
    model = dict(make_checkpoint().model)
    save_file({**model, "extra": torch.zeros(1)}, place / "model.safetensors")

    assert not is_sound(place)
