"""Shortcut probes: what the label can be predicted from, though it should not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_subjects import array_subject, phantom_subject, subject_of
from plainfilm.auditing.cases import cases_of
from plainfilm.auditing.probing import ProbeOptions, make_design, run_probe
from plainfilm.auditing.shortcuts import check_shortcuts
from plainfilm.data.phantoms import Faults
from plainfilm.pairing import holm

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared/data")
FEW = ProbeOptions(probe_draws=999)


def noise_subject(n_patients=40, each=2, *, seed=0, side=32, **columns):
    """Noise: the label is in nothing."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_patients), each)
    images = rng.integers(0, 200, (len(group), side, side), dtype=np.uint8)
    labels = np.where(group % 2, "ill", "well")
    facts = {"file_bytes": rng.integers(5_000, 6_000, len(group)), "width": side, "height": side, "format": "PNG"}
    return array_subject(images, labels, group, **{**facts, **columns})


def by_check(findings):
    return {finding.check: finding for finding in findings}


# --- the recipe ---


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_and_keeps_the_order(p):
    corrected = holm(p)

    assert all(after >= before for before, after in zip(p, corrected, strict=True))
    assert all(after <= 1 for after in corrected)
    assert [p[i] for i in np.argsort(corrected, kind="stable")] == sorted(p) or len(set(corrected)) < len(p)
    assert min(corrected) == pytest.approx(min(1, min(p) * len(p)))


def test_no_patient_is_in_two_folds_and_every_fold_has_every_class():
    cases = cases_of(noise_subject(), min_patients=5)
    design = make_design(cases, FEW)

    assert (pd.Series(design.fold).groupby(cases.group).nunique() == 1).all()
    assert (pd.Series(cases.y).groupby(design.fold).nunique() == 2).all()


def test_exchanged_labels_are_one_for_each_patient_and_keep_their_number():
    cases = cases_of(noise_subject(), min_patients=5)
    design = make_design(cases, FEW)
    labels = design.labels[:, design.cell]

    assert (labels[0] == cases.y).all()
    assert (labels.sum(axis=1) == cases.y.sum()).all()
    assert all((pd.Series(row).groupby(cases.group).nunique() == 1).all() for row in labels[1:20])
    assert len(np.unique(labels, axis=0)) > 900


def test_a_patient_with_two_labels_keeps_both_under_every_exchange():
    subject = noise_subject()
    subject.rows.loc[0, "label"] = "ill"  # patient 0 is now under both
    cases = cases_of(subject, min_patients=5)
    design = make_design(cases, FEW)

    assert design.n_mixed == 1
    assert (design.labels[:, design.cell][:, cases.group == 0].sum(axis=1) == 1).all()


def test_a_probe_finds_what_is_there_whatever_its_unit():
    cases = cases_of(noise_subject(), min_patients=5)
    design = make_design(cases, FEW)
    feature = np.column_stack([1e6 + 1e3 * cases.y, np.full(len(cases), 7.0)])

    found = run_probe(feature, cases, design, FEW)

    assert found.value == 1
    assert found.p == pytest.approx(0.001)
    assert found.low < 0.96, "40 patients without an error do not make 100 % certain"


def test_rare_classes_are_not_passed_over():
    rng = np.random.default_rng(0)
    group = np.arange(100)
    labels = np.where(group < 10, "rare", "common")
    subject = array_subject(np.zeros((100, 8, 8), dtype=np.uint8), labels, group)
    cases = cases_of(subject, min_patients=5)
    feature = (labels == "rare")[:, None] + rng.normal(0, 0.2, (100, 1))

    assert run_probe(feature, cases, make_design(cases, FEW), FEW).value > 0.9


def test_the_same_seed_gives_the_same_answer():
    one, other = (check_shortcuts(noise_subject(), probing=FEW) for _ in range(2))

    assert [(f.value, f.low, f.p, f.sentence) for f in one] == [(f.value, f.low, f.p, f.sentence) for f in other]


def test_p_is_uniform_where_the_label_is_in_nothing():
    options = ProbeOptions(probe_draws=199)
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(24), rng.integers(1, 5, 24))  # patients have unequal numbers of images
        own = rng.normal(size=(24, 6))[group]  # and what is measured belongs to the patient
        subject = array_subject(np.zeros((len(group), 8, 8), dtype=np.uint8), np.where(group % 3, "a", "b"), group)
        cases = cases_of(subject, min_patients=5)
        design = make_design(cases, options.model_copy(update={"probe_seed": seed}))
        p.append(run_probe(own + rng.normal(size=own.shape), cases, design, options).p)

    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.10  # 200 draws: 5 % give or take three standard errors
    assert 0.4 <= np.mean(np.array(p) <= 0.5) <= 0.6


# --- the checks ---


def test_a_set_without_shortcuts_passes():
    findings = by_check(check_shortcuts(noise_subject(scanner=["A", "B", "B", "A"] * 20)))

    assert {check: finding.verdict for check, finding in findings.items()} == dict.fromkeys(
        ["B1", "B2", "B3", "B4", "B5", "B7", "B8"], "PASS"
    )


def test_a_label_that_file_size_tells_fails():
    rng = np.random.default_rng(0)
    size = np.where(np.repeat(np.arange(40), 2) % 2, 9_000, 5_000) + rng.integers(0, 900, 80)

    finding = by_check(check_shortcuts(noise_subject(file_bytes=size)))["B1"]

    assert finding.verdict == "FAIL"
    assert "file_bytes" in finding.sentence
    assert finding.advice
    assert finding.p < 0.01


def test_the_verdict_on_the_file_is_measured_against_the_model():
    rng = np.random.default_rng(0)
    size = 5_000 + 400 * (np.repeat(np.arange(60), 2) % 2) + rng.normal(0, 400, 120)
    subject = noise_subject(60, file_bytes=size)

    alone = by_check(check_shortcuts(subject))["B1"]
    against = by_check(check_shortcuts(subject, model_balanced_accuracy=0.75))["B1"]

    assert (alone.verdict, against.verdict) == ("WARN", "FAIL")
    assert alone.value == against.value


def test_a_class_saved_at_another_size_fails(tmp_path):
    subject = phantom_subject(tmp_path / "p", Faults(size_fault_class="abnormal"), images_per_patient=2)

    assert by_check(check_shortcuts(subject))["B1"].verdict == "FAIL"


def test_burnt_in_letters_fail_and_are_shown(tmp_path):
    subject = phantom_subject(tmp_path / "p", Faults(markers=0.9), side=96, images_per_patient=2)

    finding = by_check(check_shortcuts(subject))["B7"]

    assert finding.verdict == "FAIL"
    assert finding.pictures[0].png.startswith(b"\x89PNG")


def test_borders_warn_but_never_fail():
    subject = noise_subject()
    for index, label in enumerate(subject.rows["label"]):
        image = np.asarray(subject.pixels.values([index])[0] * 255, dtype=np.uint8)
        image[:2] = 250 if label == "ill" else 10
        subject.pixels.put(index, image)

    findings = by_check(check_shortcuts(subject, model_balanced_accuracy=0.9))

    assert findings["B2"].verdict == "WARN"
    assert findings["B2"].value == 1
    assert findings["B3"].verdict == "PASS"


def test_a_scanner_that_follows_the_class_and_shows_in_the_pixels_fails():
    scanner = np.where(np.repeat(np.arange(40), 2) % 2, "A", "B")
    unseen = noise_subject(scanner=scanner)
    seen = noise_subject(scanner=scanner)
    for index, name in enumerate(scanner):
        image = np.asarray(seen.pixels.values([index])[0] * 255, dtype=np.uint8)
        seen.pixels.put(index, image // 2 if name == "A" else image)

    assert by_check(check_shortcuts(seen))["B8"].verdict == "FAIL"
    assert by_check(check_shortcuts(unseen))["B8"].verdict != "FAIL"


def test_without_images_only_the_file_is_asked():
    subject = noise_subject()
    without = type(subject)(rows=subject.rows, pixels=None, patients=subject.patients, group=subject.group)

    verdicts = {check: finding.verdict for check, finding in by_check(check_shortcuts(without)).items()}

    assert verdicts.pop("B1") == "PASS"
    assert set(verdicts.values()) == {"NOT ASSESSABLE"}


@pytest.mark.parametrize("n_patients", [2, 8, 10])
def test_too_few_patients_are_not_judged(n_patients):
    findings = check_shortcuts(noise_subject(n_patients))

    assert {finding.verdict for finding in findings} == {"NOT ASSESSABLE"}


def test_a_class_of_two_patients_is_left_out_and_named():
    subject = noise_subject()
    subject.rows.loc[subject.group < 2, "label"] = "rare"

    findings = check_shortcuts(subject)

    assert all("rare" in finding.sentence for finding in findings)
    assert findings[0].n_patients == 38


def test_images_without_a_patient_count_as_independent_and_that_is_said():
    subject = noise_subject()
    nameless = array_subject(subject.pixels.values(np.arange(80)), subject.rows["label"])

    assert all("Patients are not known" in finding.sentence for finding in check_shortcuts(nameless))


@needs_shared
@pytest.mark.shared
def test_chests_and_abdomens_are_told_apart_by_their_files():
    findings = by_check(check_shortcuts(subject_of(SHARED / "openi-chest-abdomen")))

    assert findings["B1"].verdict == "FAIL"
    assert findings["B2"].verdict == "WARN"
    assert findings["B1"].n_images == 75
