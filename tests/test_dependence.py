"""What a trained model still knows of edited images."""

import numpy as np
import pytest
from tests.audit_subjects import array_subject

from plainfilm.auditing.dependence import check_dependence, without_border, without_middle
from plainfilm.auditing.patches import check_shuffled_patches, shuffled_patches


def marked_subject(*, where="middle", n=80, side=32, seed=0):
    """A bright disc in the middle of one class, or a bright corner."""
    rng = np.random.default_rng(seed)
    ill = np.arange(n) % 2 == 1
    images = rng.integers(20, 90, (n, side, side)).astype(np.uint8)
    images[:, -1] = 250  # something bright in every image: letters are printed as bright as that
    place = (slice(12, 20), slice(12, 20)) if where == "middle" else (slice(0, 4), slice(0, 4))
    for index in np.flatnonzero(ill):
        images[index][place] = 220
    return array_subject(images, np.where(ill, "ill", "well"), np.arange(n))


def reads(rows, columns):
    """A model that looks at one place only."""

    def score(images):
        ill = (images[:, rows, columns].mean(axis=(1, 2)) > 0.5).astype(float)
        return np.column_stack([ill, 1 - ill])

    return score


MIDDLE, CORNER = reads(slice(12, 20), slice(12, 20)), reads(slice(0, 4), slice(0, 4))


def test_a_model_that_looks_at_the_middle_passes():
    finding = check_dependence(marked_subject(), MIDDLE)[0]

    assert finding.check == "B9"
    assert finding.verdict == "PASS"
    assert finding.value == pytest.approx(0)
    assert finding.tables["B9-edits"].set_index("name").loc["without the border", "kept"] == 1


def test_a_model_that_looks_at_a_corner_fails():
    finding = check_dependence(marked_subject(where="corner"), CORNER)[0]

    assert finding.verdict == "FAIL"
    assert finding.value == 1
    assert "hardly needs the middle" in finding.sentence
    assert finding.pictures[0].png.startswith(b"\x89PNG")


def test_a_model_that_reads_letters_fails():
    def brightest(images):  # the middle, unless an upper corner is brighter
        ill = (images[:, 12:20, 12:20].mean(axis=(1, 2)) > 0.5) | (images[:, :6].max(axis=(1, 2)) > 0.6)
        return np.column_stack([ill, ~ill]).astype(float)

    finding = check_dependence(marked_subject(), brightest)[0]

    assert finding.verdict == "FAIL"
    assert "letter" in finding.sentence


def test_a_model_that_guesses_is_not_judged():
    def guess(images):
        return np.random.default_rng(0).random((len(images), 2))

    assert check_dependence(marked_subject(), guess)[0].verdict == "NOT ASSESSABLE"


def test_scores_may_have_their_columns_in_another_order():
    def turned(images):
        return MIDDLE(images)[:, ::-1]

    finding = check_dependence(marked_subject(), turned, classes=("well", "ill"))[0]

    assert finding.details["balanced_accuracy"][0] == 1


def test_features_of_shuffled_patches_can_tell_the_label():
    def brightness(images):
        return np.column_stack([images.mean(axis=(1, 2)), images.max(axis=(1, 2))])

    told = check_shuffled_patches(marked_subject(), brightness)
    untold = check_shuffled_patches(marked_subject(), lambda images: images[:, :1, 0])

    assert (told.check, told.verdict) == ("B6", "WARN")
    assert untold.verdict == "PASS"


def test_without_a_backbone_it_is_said_how_to_name_one():
    finding = check_shuffled_patches(marked_subject(), None)

    assert finding.verdict == "NOT ASSESSABLE"
    assert "--backbone" in finding.sentence


def test_edits_change_what_they_say_and_nothing_else():
    images = np.random.default_rng(0).random((3, 33, 40)).astype(np.float32)

    middle, border = without_middle(images, 0.125), without_border(images, 0.125)
    shuffled = shuffled_patches(images, 4, seed=1)

    assert ((middle == images) != (border == images)).all()
    assert (middle[:, :4] == images[:, :4]).all()
    assert (np.sort(shuffled.ravel()) == np.sort(images.ravel())).all()
    assert not (shuffled == images).all()
