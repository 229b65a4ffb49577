"""Leakage: each fault is found by its check, clean sets pass, and what leaks is measured."""

from pathlib import Path

import numpy as np
import pytest

from audit_subjects import array_subject, phantom_subject, subject_of
from plainfilm.auditing.class_copies import check_class_copies
from plainfilm.auditing.duplicates import near_duplicates
from plainfilm.auditing.file_order import lag_peaks
from plainfilm.auditing.leak_gap import leak_gap
from plainfilm.auditing.leakage import check_leakage
from plainfilm.auditing.leakage_options import LeakageOptions
from plainfilm.auditing.neighbours import turned
from plainfilm.auditing.thumbnails import thumbnails
from plainfilm.data.phantoms import Faults, PhantomOptions
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.prediction import Predictions
from stacks import drawn, noise, saved_again, stored

SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared")
NO_STACKS = {"images_per_patient": 1, "patients": 60}


def found(subject, check, **others):
    return {finding.check: finding for finding in check_leakage(subject, **others).findings}[check]


def stack_subject(*, patients=None, split=None, split_unit=None, images_per_patient=8, **options):
    """Stacks held in memory; patients are unknown unless told otherwise."""
    images, patient, label = drawn(
        PhantomOptions(patients=24, images_per_patient=images_per_patient, size=64, **options)
    )
    return array_subject(images, label, patient if patients else None, split=split, patients=patients)


def predicting(subject, right):
    """Predictions of the test rows of a subject: right where told, else the other class."""
    rows = np.flatnonzero(subject.split == "test")
    table = subject.rows.iloc[rows][["path", "label", "patient_id"]].reset_index(drop=True).assign(split="test")
    said = np.where(right[rows], subject.y[rows], 1 - subject.y[rows])
    return Predictions(subject.classes, table, np.eye(2)[said])


# --- clean --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["brain", "chest"])
def test_clean_phantoms_have_nothing_against_them(kind, tmp_path):
    findings = check_leakage(phantom_subject(tmp_path / "clean", kind=kind)).findings

    assert [finding.check for finding in findings] == ["A1", "A2", "A3", "A4", "A5", "A6", "A7"]
    assert [finding.verdict for finding in findings[:5]] == ["PASS"] * 5
    assert all(finding.sentence and finding.limits and finding.title for finding in findings)


def test_without_images_only_the_table_is_looked_at():
    subject = array_subject(noise(20), ["a", "b"] * 10, range(20), split=["train", "test"] * 10)
    leakage = check_leakage(type(subject)(**{**vars(subject), "pixels": None}))

    assert leakage.recovered is None
    assert [finding.verdict for finding in leakage.findings[:5]] == ["PASS", *["NOT ASSESSABLE"] * 4]


# --- A1, A2 -------------------------------------------------------------------------------------------------


def test_a_patient_in_two_splits_fails(tmp_path):
    finding = found(phantom_subject(tmp_path / "set", Faults(straddling_patients=0.1)), "A1")

    assert finding.verdict == "FAIL"
    assert finding.value == 4
    assert finding.n_patients == 40


@pytest.mark.parametrize(
    ("label", "split", "verdict"),
    [("a", "train", "WARN"), ("b", "train", "FAIL"), ("a", "test", "FAIL")],
)
def test_the_same_pixels_under_two_names_are_found(label, split, verdict):
    images = noise(12)
    digests = [f"{index:02d}" for index in range(11)] + ["00"]
    subject = array_subject(
        images, ["a"] * 5 + ["b"] * 6 + [label], range(12), split=["train"] * 11 + [split], pixel_sha256=digests
    )

    finding = found(subject, "A2")

    assert finding.verdict == verdict
    assert len(finding.tables["A2-copies"]) == 2


# --- A3, A5 -------------------------------------------------------------------------------------------------


def test_turned_copies_in_another_split_fail_and_are_shown(tmp_path):
    subject = phantom_subject(tmp_path / "set", Faults(duplicates=0.1), **NO_STACKS)

    finding = found(subject, "A3")

    assert finding.verdict == "FAIL"
    assert finding.details["pairs_in_two"]["splits"] == 6
    assert len(finding.tables["A3-pairs"]) == 6
    assert finding.pictures[0].png.startswith(b"\x89PNG")


def test_a_model_that_knows_the_copies_by_heart_loses_points_without_them():
    images, _, label = drawn(PhantomOptions(kind="chest", patients=60, images_per_patient=1, size=64))
    split = np.array(["train"] * 40 + ["test"] * 20 + ["test"] * 20)
    images, label = np.concatenate([images, images[:20]]), np.concatenate([label, label[:20]])
    subject = array_subject(images, label, range(80), split=split)
    is_copy = np.arange(80) >= 60
    right = is_copy | (np.random.default_rng(0).random(80) < 0.5)

    known = type(subject)(**{**vars(subject), "predictions": predicting(subject, right)})
    finding = found(known, "A3")
    difference = finding.details["difference"]

    assert finding.verdict == "FAIL"
    assert finding.details["test_images_affected"] == 20
    assert difference["low"] > 0
    assert difference["value"] == pytest.approx(difference["on_all"] - difference["on_clean"])
    assert difference["n_clean"] == 20


def test_copies_that_nothing_keeps_together_are_a_warning():
    images, _, label = drawn(PhantomOptions(kind="chest", patients=40, images_per_patient=1, size=64))

    finding = found(array_subject(np.concatenate([images, images[:4]]), [*label, *label[:4]]), "A3")

    assert finding.verdict == "WARN"


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_class_made_larger_by_copies_fails(share, tmp_path):
    faults = Faults(duplicates_in_class="abnormal", class_share=share)

    finding = found(phantom_subject(tmp_path / "set", faults, **NO_STACKS), "A5")

    assert finding.verdict == "FAIL"
    assert finding.p < 0.01
    assert "'abnormal'" in finding.sentence


def test_copies_in_every_class_alike_are_no_matter_of_a_class(tmp_path):
    finding = found(phantom_subject(tmp_path / "set", Faults(duplicates=0.3), **NO_STACKS), "A5")

    assert finding.verdict == "PASS"


@pytest.mark.parametrize("seed", [0, 1])
def test_neighbouring_slices_are_no_copies_however_much_alike(seed):
    """At 32x32 they correlate above 0.99, and more often in the healthy class, which has less to show."""
    images, patient, label = drawn(PhantomOptions(patients=30, images_per_patient=8, size=32, seed=seed))
    subject = array_subject(images, label, patient)

    finding = check_class_copies(subject, near_duplicates(subject.pixels), patient, LeakageOptions())

    assert finding.details["near_duplicates"] > 30
    assert finding.details["copies"] == 0
    assert finding.verdict == "PASS"


@pytest.mark.parametrize("change", ["turned", "saved again"])
def test_copies_of_slices_in_one_class_are_found_among_their_neighbours(change):
    images, patient, label = drawn(PhantomOptions(patients=30, images_per_patient=8, size=64))
    chosen = np.flatnonzero(label == label[0])
    copies = turned(images[chosen], 3) if change == "turned" else np.stack([saved_again(i, 75) for i in images[chosen]])
    patient = np.concatenate([patient, patient[chosen]])
    subject = array_subject(np.concatenate([images, copies]), [*label, *label[chosen]], patient)

    finding = check_class_copies(subject, near_duplicates(subject.pixels), patient, LeakageOptions())

    assert finding.verdict == "FAIL"
    assert finding.details["copies"] == len(chosen)


def test_where_patients_are_not_known_copies_cannot_be_told_from_slices():
    images, _, label = drawn(PhantomOptions(patients=30, images_per_patient=8, size=32))
    subject = array_subject(images, label)

    finding = check_class_copies(
        subject, near_duplicates(subject.pixels), None, LeakageOptions(class_alpha=0.4), in_chains=True
    )

    assert finding.verdict == "NOT ASSESSABLE"


# --- A4 -----------------------------------------------------------------------------------------------------


def test_stacks_without_ids_fail_and_are_worth_points():
    leakage = check_leakage(stack_subject(effect=0.0))
    finding = leakage.findings[3]

    assert leakage.recovered.n_groups == 24
    assert finding.verdict == "FAIL"
    assert finding.low > 0.02
    assert finding.details["nn_by_image"]["value"] > 0.95
    assert finding.details["nn_by_patient"]["n_patients"] == 24
    assert "recovered from pixels, not documented" in finding.sentence
    assert "--patients recovered" in finding.advice


def test_one_image_per_patient_declared_of_stacks_fails():
    assert found(stack_subject(patients="declared"), "A4").verdict == "FAIL"


def test_the_same_stacks_with_ids_pass_and_their_gap_is_still_told():
    finding = found(stack_subject(patients="documented"), "A4")

    assert finding.verdict == "PASS"
    assert finding.details["nn_gap"]["low"] > 0.02


@pytest.mark.parametrize(("by", "verdict"), [("image", "FAIL"), ("patient", "PASS")])
def test_what_the_split_in_use_does_decides(by, verdict):
    rng = np.random.default_rng(0)
    chosen = rng.random(24).repeat(8) if by == "patient" else rng.random(24 * 8)

    finding = found(stack_subject(effect=0.0, split=np.where(chosen < 0.3, "test", "train")), "A4")

    assert finding.verdict == verdict


def test_independent_images_have_no_hidden_patients():
    images, _, label = drawn(PhantomOptions(patients=80, images_per_patient=1, size=64))

    finding = found(array_subject(images, label), "A4")

    assert finding.verdict == "PASS"
    assert "No groups found" in finding.sentence


def test_stacks_with_half_of_the_slices_missing_cannot_be_assessed():
    images, _, label = drawn(PhantomOptions(patients=24, images_per_patient=16, size=64))
    kept = np.random.default_rng(0).random(len(images)) < 0.5

    assert found(array_subject(images[kept], label[kept]), "A4").verdict == "NOT ASSESSABLE"


def test_the_gap_has_an_interval_over_patients_and_is_the_same_every_time():
    images, patient, label = drawn(PhantomOptions(patients=24, images_per_patient=8, size=64))
    y = (label == "abnormal").astype(np.intp)
    small = thumbnails(stored(images), 32)

    one, other = (leak_gap(small, y, patient, draws=200) for _ in range(2))

    assert one == other
    assert one.nn.gap.low <= one.nn.gap.value <= one.nn.gap.high
    assert one.nn.gap.value == pytest.approx(one.nn.by_image.value - one.nn.by_patient.value)


def test_random_labels_of_patients_are_known_by_image_and_not_by_patient():
    images, patient, _ = drawn(PhantomOptions(patients=40, images_per_patient=16, size=64))
    small = thumbnails(stored(images), 32)
    by_image, by_patient = [], []
    for seed in range(5):
        y = np.random.default_rng(seed).permutation(np.arange(40) % 2)[patient]
        gap = leak_gap(small, y, patient, draws=100, seed=seed)
        by_image.append(gap.nn.by_image.value)
        by_patient.append(gap.nn.by_patient.value)

    assert np.mean(by_image) > 0.95
    assert 0.35 < np.mean(by_patient) < 0.65


@pytest.mark.parametrize(("names", "lag"), [("interleaved", 12), ("patient", 1)])
def test_the_order_of_files_tells_how_many_patients_there_are(names, lag, tmp_path):
    options = {"patients": 24, "images_per_patient": 8, "file_names": names}
    subject = phantom_subject(tmp_path / "set", **options)

    peaks = lag_peaks(subject.pixels, subject.rows["path"].to_numpy(), subject.rows["label"].to_numpy())

    assert [peak.lag for peak in peaks] == [lag, lag]
    assert all(peak.height > 10 for peak in peaks)


def test_shuffled_files_tell_nothing(tmp_path):
    subject = phantom_subject(tmp_path / "set", patients=24, images_per_patient=8, file_names="shuffled")

    peaks = lag_peaks(subject.pixels, subject.rows["path"].to_numpy(), subject.rows["label"].to_numpy())

    assert all(peak.height < 10 for peak in peaks)


# --- A6, A7 -------------------------------------------------------------------------------------------------


def test_what_was_fitted_is_known_of_own_runs_only():
    subject = array_subject(noise(12), ["a", "b"] * 6)

    assert found(subject, "A6", own_run=True).verdict == "PASS"
    assert found(subject, "A6").verdict == "NOT ASSESSABLE"


@pytest.mark.parametrize(("openings", "verdict"), [(None, "NOT ASSESSABLE"), (1, "PASS"), (2, "WARN")])
def test_every_look_at_the_test_set_counts(openings, verdict):
    assert found(array_subject(noise(12), ["a", "b"] * 6), "A7", openings=openings).verdict == verdict


# --- real slices --------------------------------------------------------------------------------------------


@pytest.mark.long
@needs_shared
def test_the_alzheimer_slices_fail_by_fifty_points():
    subject = subject_of(SHARED / "data" / "alzheimer-mri", side=128)

    leakage = check_leakage(subject)
    finding = leakage.findings[3]

    assert leakage.recovered.n_groups == 200
    assert finding.verdict == "FAIL"
    assert finding.details["nn_by_image"]["value"] > 0.99
    assert 0.44 < finding.details["nn_by_patient"]["value"] < 0.54
    assert {peak["lag"] for peak in finding.details["file_order"]} == {100, 70, 28, 2}


@needs_shared
def test_random_labels_of_the_alzheimer_patients_are_at_chance_by_patient():
    table, pixels = scan_listing(list_images(SHARED / "data" / "alzheimer-mri.csv"), size=(128, 128), workers=0)
    patient = np.unique(table.rows["patient_id"], return_inverse=True)[1]
    small = thumbnails(pixels, 32)
    gaps = [
        leak_gap(small, np.random.default_rng(seed).permutation(np.arange(200) % 2)[patient], patient, draws=100)
        for seed in range(2)
    ]

    assert min(gap.nn.by_image.value for gap in gaps) > 0.95
    assert 0.4 < np.mean([gap.nn.by_patient.value for gap in gaps]) < 0.6
