"""The leak gap of a model's own score: measured where it can be, and said where it cannot."""

import numpy as np
import pytest
from tests.audit_subjects import array_subject

from plainfilm.auditing.leakage_options import LeakageOptions
from plainfilm.auditing.own_gap import check_own_gap
from plainfilm.prediction import Predictions
from stacks import noise

OPTIONS = LeakageOptions(leak_draws=500)


def answered(subject, rows, right) -> Predictions:
    """Predictions of some rows, right where told."""
    table = subject.rows.iloc[rows][["path", "label", "patient_id"]].reset_index(drop=True).assign(split="test")
    said = np.where(right, subject.y[rows], 1 - subject.y[rows])
    return Predictions(subject.classes, table, np.eye(2)[said])


def divided(*, n_patients=40, each=5, by="image", known=True):
    """Patients of two classes, tested by image (each patient's last) or whole."""
    group = np.repeat(np.arange(n_patients), each)
    place = np.tile(np.arange(each), n_patients)
    split = np.where(place == each - 1 if by == "image" else group % 5 == 0, "test", "train")
    label = np.where(group // 5 % 2, "ill", "well")
    return array_subject(noise(len(group), side=4), label, group if known else None, split=split)


def with_model(subject, right):
    rows = np.flatnonzero(subject.split == "test")
    return type(subject)(
        **{**vars(subject), "predictions": answered(subject, rows, np.broadcast_to(right, rows.shape))}
    )


def test_a_split_by_patient_has_no_gap():
    finding = check_own_gap(with_model(divided(by="patient"), True), None, OPTIONS)

    assert finding.verdict == "PASS"
    assert "None of 40 test images" in finding.sentence


def test_where_every_tested_patient_was_trained_on_a_second_training_is_needed():
    finding = check_own_gap(with_model(divided(), True), None, OPTIONS)

    assert finding.verdict == "NOT ASSESSABLE"
    assert finding.details["images_with_a_mate"] == 40
    assert "--leak-gap" in finding.advice


def test_a_second_training_by_patient_gives_the_gap_with_its_interval():
    subject = with_model(divided(), True)
    held_out = np.flatnonzero(subject.group % 5 == 1)
    again = answered(subject, held_out, np.random.default_rng(0).random(len(held_out)) < 0.5)

    finding = check_own_gap(subject, again, OPTIONS)
    safe = finding.details["patient_safe"]

    assert finding.verdict == "FAIL"
    assert finding.details["as_given"]["value"] == 1
    assert finding.details["as_given"]["low"] < 1  # Wilson's, of as many images as there are patients
    assert finding.value == pytest.approx(1 - safe["value"])
    assert finding.low > 0.02
    assert finding.low < finding.value < finding.high


def test_clean_test_images_are_enough_where_there_are_some():
    subject = divided(by="patient", n_patients=80)
    split = subject.split.copy()
    split[(subject.group % 2 == 0) & (np.arange(len(subject)) % 5 == 0)] = "test"  # one image each of many
    subject = type(subject)(**{**vars(subject), "split": split})
    rows = np.flatnonzero(split == "test")
    clean = (subject.group % 5 == 0)[rows]
    right = ~clean | (np.random.default_rng(0).random(len(rows)) < 0.5)

    finding = check_own_gap(with_model(subject, right), None, OPTIONS)

    assert finding.verdict == "FAIL"
    assert finding.details["trained_again"] is False
    assert "whose patient was not trained on" in finding.sentence


def test_unknown_patients_leave_it_open():
    assert check_own_gap(with_model(divided(known=False), True), None, OPTIONS).verdict == "NOT ASSESSABLE"
