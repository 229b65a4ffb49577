"""Near-duplicates: found however they lie, and only where they are more than a look of their kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plainfilm.auditing.duplicates import DuplicateOptions, Pairs, believe, near_duplicates
from plainfilm.auditing.neighbours import turned
from plainfilm.data.phantoms import PhantomOptions
from stacks import drawn, noise, saved_again, stored

FILMS = PhantomOptions(kind="chest", patients=40, images_per_patient=1, size=64)
OPTIONS = DuplicateOptions()


def found_pairs(images, **options):
    return near_duplicates(stored(images), DuplicateOptions(**options)).near(DuplicateOptions(**options))


def made_pairs(correlations) -> Pairs:
    n = len(correlations)
    return Pairs(
        one=np.arange(n),
        other=np.arange(n) + n,
        turn=np.zeros(n, dtype=np.intp),
        correlation=np.asarray(correlations, dtype=np.float32),
        complete=True,
    )


@given(st.integers(0, 7), st.integers(0, 39))
@settings(deadline=None, max_examples=16)
def test_a_flipped_or_turned_copy_is_found_with_its_turn(turn, which):
    images, _, _ = drawn(FILMS)
    copy = turned(images[[which]], turn)

    pairs = found_pairs(np.concatenate([images, copy]))

    assert [(pairs.one[0], pairs.other[0])] == [(which, 40)]
    assert len(pairs) == 1
    assert (turned(images[[which]], int(pairs.turn[0])) == copy).all()


def test_copies_saved_again_or_made_darker_are_found():
    images, _, _ = drawn(FILMS)
    copies = [saved_again(images[3]), (images[5] // 2 + 20).astype(np.uint8)]

    pairs = found_pairs(np.concatenate([images, copies]))

    assert set(zip(pairs.one.tolist(), pairs.other.tolist(), strict=True)) == {(3, 40), (5, 41)}


def test_different_patients_are_no_duplicates():
    images, _, _ = drawn(FILMS)

    assert not len(found_pairs(images))
    assert not len(found_pairs(noise(100)))


def test_constant_images_are_no_duplicates_of_anything():
    assert not len(found_pairs(np.full((20, 32, 32), 9, dtype=np.uint8)))


def test_one_image_has_no_pair():
    assert not len(found_pairs(noise(1)))


def test_a_pair_is_given_once_and_copies_of_copies_hang_together():
    images = np.repeat(noise(3), 4, axis=0)

    pairs = found_pairs(images)

    assert len(pairs) == 3 * 6
    assert (pairs.one < pairs.other).all()
    assert np.unique(pairs.groups(12), return_counts=True)[1].tolist() == [4, 4, 4]


def test_the_search_ends_where_all_images_are_alike():
    pairs = near_duplicates(stored(np.repeat(noise(1), 60, axis=0)), DuplicateOptions(near_most=100))

    assert len(pairs) == 100
    assert not pairs.complete
    assert not believe(pairs, np.zeros(60, dtype=np.intp), None, DuplicateOptions(near_most=100)).believed


# --- the threshold ------------------------------------------------------------------------------------------


def test_a_threshold_with_a_gap_beyond_it_is_believed():
    belief = believe(made_pairs([0.995] * 5 + [0.985]), np.full(12, -1), None, OPTIONS)

    assert belief.believed
    assert belief.n_twice_as_far == 6


def test_a_threshold_in_the_midst_of_look_alikes_is_not():
    patients = np.arange(200)

    belief = believe(made_pairs([0.995] * 20 + [0.985] * 80), np.full(200, -1), patients, OPTIONS)

    assert not belief.believed
    assert belief.between == pytest.approx(20 / (200 * 199 / 2))


@pytest.mark.parametrize(("same", "believed"), [(True, True), (False, False)])
def test_labels_speak_for_or_against_a_threshold(same, believed):
    label = np.tile([0, 1], 50)
    label = np.concatenate([label, label if same else np.random.default_rng(0).permutation(label)])

    belief = believe(made_pairs([0.995] * 30 + [0.985] * 70), label, None, OPTIONS)

    assert belief.believed is believed
    assert belief.by_chance == pytest.approx(0.5)
