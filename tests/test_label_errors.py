"""G: labels a person should look at again. Nothing is ever edited."""

import numpy as np
import pytest
from tests.audit_subjects import array_subject, predictions_of, subject_of

from plainfilm.auditing.labels import check_labels, conflicting_duplicates
from plainfilm.data.phantoms import Faults, PhantomOptions, write_phantoms


def two_kinds(n=120, wrong=(), *, separation=4.0, seed=0):
    """Bright and dark images of a patient each, some under the other label."""
    rng = np.random.default_rng(seed)
    bright = np.arange(n) % 2
    level = 100 + 8 * separation * bright + rng.normal(0, 8, n)
    images = np.clip(level[:, None, None] + rng.normal(0, 10, (n, 16, 16)), 0, 255).astype(np.uint8)
    given = bright.copy()
    given[list(wrong)] = 1 - given[list(wrong)]
    return array_subject(images, np.array(["dark", "bright"])[given], np.arange(n))


def test_wrong_labels_stand_on_top_of_the_list():
    wrong = [3, 40, 41, 77, 90, 111]

    finding = check_labels(two_kinds(wrong=wrong))

    listed = finding.tables["G-review"]
    assert finding.verdict == "WARN"
    assert {f"image_{index:04d}.png" for index in wrong} == set(listed["path"].head(6))
    assert (listed["label"] != listed["suggested"]).all()


def test_clean_labels_pass_and_nothing_is_edited():
    subject = two_kinds()
    before = subject.rows.copy()

    assert check_labels(subject).verdict == "PASS"
    assert subject.rows.equals(before)


def test_overlapping_classes_are_not_called_wrongly_labelled():
    verdicts = [check_labels(two_kinds(separation=1.5, seed=seed)).verdict for seed in range(12)]

    assert verdicts.count("WARN") <= 1


def test_where_nothing_tells_the_classes_apart_there_is_no_list():
    finding = check_labels(two_kinds(separation=0.0))

    assert finding.verdict == "NOT ASSESSABLE"
    assert "G-review" not in finding.tables


def test_copies_under_two_labels_are_counted():
    subject = two_kinds()
    digests = [f"{index:064x}" for index in range(len(subject))]
    digests[1] = digests[0]
    subject.rows["pixel_sha256"] = digests

    assert conflicting_duplicates(subject)["images_against_the_majority"].tolist() == [1]
    finding = check_labels(subject)
    assert finding.verdict == "WARN"
    assert "at least 1 label must be wrong" in finding.sentence


def test_what_wrong_labels_would_do_is_worked_out():
    noise = check_labels(two_kinds()).tables["G-noise"].set_index("wrong_labels")["balanced_accuracy"]

    assert noise[0.0] - noise[0.1] == pytest.approx(0.1 * (2 * noise[0.0] - 1), abs=0.02)
    assert noise[0.0] > noise[0.02] > noise[0.05] > noise[0.1]


def test_with_a_model_noise_is_worked_out_for_the_model():
    subject = two_kinds()
    scores = np.tile([0.9, 0.1], (len(subject), 1))

    assert check_labels(predictions_of(subject, scores)).tables["G-noise"]["of"].iloc[0] == "the model"


def test_the_phantoms_of_wrongly_labelled_patients_are_found(tmp_path):
    phantoms = write_phantoms(
        tmp_path / "p",
        PhantomOptions(patients=80, images_per_patient=2, size=64, effect=2.0),
        Faults(label_noise=0.1),
    )
    subject = subject_of(phantoms.folder / "manifest.csv")
    planted = set(phantoms.paths("label_noise"))

    listed = check_labels(subject).tables["G-review"]["path"]

    assert np.mean([path in planted for path in listed.head(8)]) >= 0.75
