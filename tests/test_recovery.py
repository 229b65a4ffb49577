"""Patients recovered from pixels: right where they can be, and none where there are none."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from plainfilm.auditing.neighbours import nearest_neighbours, turned
from plainfilm.auditing.patients import RecoveryOptions, recover_patients
from plainfilm.data.phantoms import PhantomOptions
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.errors import UsageError
from stacks import drawn, each_turned, noise, stored

SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared")

STACKS = {
    "stacks of 16": PhantomOptions(patients=20, images_per_patient=16, size=64, seed=1),
    "1 to 40 slices": PhantomOptions(patients=24, images_per_patient=(1, 40), size=64, seed=2),
    "5 slices": PhantomOptions(patients=30, images_per_patient=5, size=64, seed=3),
    "up to 400 slices": PhantomOptions(patients=6, images_per_patient=(40, 400), size=32, seed=4),
}


@pytest.fixture(scope="module")
def alzheimer():
    """The real slices, in the order of their files, with the patient and label of each."""
    table, pixels = scan_listing(list_images(SHARED / "data" / "alzheimer-mri.csv"), size=(128, 128), workers=0)
    return pixels, table.rows["patient_id"].to_numpy(), table.rows["label"].to_numpy()


# --- stacks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STACKS)
def test_stacks_of_neighbouring_slices_are_told_apart(kind):
    images, patient, label = drawn(STACKS[kind])

    found = recover_patients(stored(images), labels=list(label))

    assert found.found, found.reason
    assert adjusted_rand_score(patient, found.group) > 0.98
    assert found.labels.passed
    assert found.labels.same > found.labels.by_chance


def test_the_order_of_the_images_says_nothing():
    images, patient, _ = drawn(STACKS["stacks of 16"])
    order = np.random.default_rng(0).permutation(len(images))

    found = recover_patients(stored(images[order]))

    assert adjusted_rand_score(patient[order], found.group) == 1
    assert list(found.group[:1]) == [0]  # counted by first appearance


def test_slices_that_were_flipped_and_turned_are_still_their_patients():
    images, patient, _ = drawn(STACKS["stacks of 16"])

    found = recover_patients(stored(each_turned(images)))

    assert found.turned
    assert adjusted_rand_score(patient, found.group) > 0.98


def test_where_half_of_the_slices_are_missing_the_answer_is_right_or_there_is_none():
    for kind, options in STACKS.items():
        images, patient, _ = drawn(options)
        kept = np.random.default_rng(0).random(len(images)) < 0.5

        found = recover_patients(stored(images[kept]))

        assert found.outcome != "none", kind
        assert found.outcome == "unclear" or adjusted_rand_score(patient[kept], found.group) >= 0.95, kind


def test_the_floor_lies_in_the_range_over_which_the_groups_stay_the_same():
    images, _, _ = drawn(STACKS["5 slices"])

    found = recover_patients(stored(images))

    assert found.stable_from < found.floor < found.stable_to
    assert (1 - found.stable_from) / (1 - found.stable_to) >= RecoveryOptions().contrast
    assert f"{found.n_groups} groups" in found.reason


def test_every_image_of_a_group_has_its_id():
    images, _, _ = drawn(STACKS["5 slices"])

    found = recover_patients(stored(images))

    assert len(set(found.ids())) == found.n_groups
    assert found.ids()[0] == "recovered-0001"


# --- no stacks ----------------------------------------------------------------------------------------------


def independent(seed: int):
    """A small set of independent images: noise, single slices, or films of different patients."""
    rng = np.random.default_rng(seed)
    n, kind = int(rng.integers(20, 120)), ("noise", "brain", "chest")[seed % 3]
    if kind == "noise":
        return noise(n, seed=seed)
    return drawn(PhantomOptions(kind=kind, patients=n, images_per_patient=1, size=32, seed=seed))[0]


def test_independent_images_get_no_groups():
    outcomes = [recover_patients(stored(independent(seed))).outcome for seed in range(30)]

    assert outcomes.count("none") == len(outcomes)


def test_films_that_look_alike_by_chance_only_are_not_grouped():
    images, _, _ = drawn(PhantomOptions(kind="chest", patients=40, images_per_patient=3, size=64))

    found = recover_patients(stored(images))

    assert not found.found
    assert (found.group == -1).all()
    assert set(found.ids()) == {None}
    assert found.reason


def test_very_few_images_are_no_pattern():
    assert recover_patients(stored(noise(5))).outcome == "none"


def test_images_all_the_same_are_not_one_patient():
    assert not recover_patients(stored(np.full((40, 32, 32), 7, dtype=np.uint8))).found


# --- labels -------------------------------------------------------------------------------------------------


def test_labels_check_the_groups_and_never_change_them():
    images, _, label = drawn(STACKS["5 slices"])
    unknown = [None if index % 3 else name for index, name in enumerate(label)]

    without = recover_patients(stored(images))
    with_some = recover_patients(stored(images), labels=unknown)

    assert (without.group == with_some.group).all()
    assert without.labels is None


def test_groups_that_the_labels_speak_against_are_not_found():
    images, _, label = drawn(STACKS["5 slices"])

    found = recover_patients(stored(images), labels=list(np.random.default_rng(0).permutation(label)))

    assert found.outcome == "unclear"
    assert not found.labels.passed
    assert "where chance gives 50.0%" in found.reason


def test_a_single_class_checks_nothing():
    images, _, _ = drawn(STACKS["5 slices"])

    found = recover_patients(stored(images), labels=["healthy"] * len(images))

    assert found.found
    assert found.labels is None


# --- neighbours ---------------------------------------------------------------------------------------------


@given(st.integers(0, 7), st.integers(2, 40), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_a_turned_copy_is_the_nearest_image(turn, n, seed):
    images = noise(n, seed=seed).astype(np.float32)
    images = np.concatenate([images, turned(images[:1], turn)])

    near = nearest_neighbours(images, k=1, turns=True)

    assert near.index[0, 0] == n
    assert near.index[n, 0] == 0


def test_every_turn_is_another_one():
    image = noise(1).astype(np.float32)

    assert len({turned(image, turn).tobytes() for turn in range(8)}) == 8


@pytest.mark.long  # a minute to compile the index
def test_the_index_finds_what_comparing_every_pair_finds():
    pytest.importorskip("pynndescent")
    images, patient, _ = drawn(STACKS["1 to 40 slices"])

    found = recover_patients(stored(images), options=RecoveryOptions(most_exact=100))

    assert not found.exact
    assert adjusted_rand_score(patient, found.group) > 0.98


def test_a_missing_index_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynndescent", None)

    with pytest.raises(UsageError, match=r"plainfilm\[audit\]") as refused:
        recover_patients(stored(noise(30)), options=RecoveryOptions(most_exact=10))

    assert refused.value.code == "MISSING_EXTRA"


# --- real slices --------------------------------------------------------------------------------------------


@needs_shared
def test_the_alzheimer_slices_are_200_patients_of_32(alzheimer):
    pixels, patient, label = alzheimer

    found = recover_patients(pixels, labels=list(label))

    assert found.n_groups == 200
    assert (np.bincount(found.group) == 32).all()
    assert adjusted_rand_score(patient, found.group) == 1
    assert found.labels.same == 1
    assert found.labels.n_links == 6_200


@needs_shared
def test_half_of_the_alzheimer_slices_give_the_right_answer_or_none(alzheimer):
    pixels, patient, _ = alzheimer
    kept = np.random.default_rng(0).permutation(len(pixels))[:3_200]

    found = recover_patients(pixels.take(kept))

    assert found.outcome == "unclear" or adjusted_rand_score(patient[kept], found.group) >= 0.95
    assert found.reason
