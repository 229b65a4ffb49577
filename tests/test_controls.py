"""Negative controls: what must be at chance, and what a model must do better than."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.audit_subjects import array_subject, predictions_of, subject_of

from plainfilm.auditing.baselines import Part, folds_of, nearest_images
from plainfilm.auditing.cases import Cases, cases_of
from plainfilm.auditing.controls import check_controls
from plainfilm.auditing.probing import ProbeOptions
from plainfilm.auditing.random_labels import guess, random_labels
from plainfilm.auditing.seeds import Training, check_seeds
from plainfilm.auditing.thumbnails import thumbnails, unit_vectors
from plainfilm.prediction import Predictions

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared/data")


def stacks(n_patients=40, each=4, *, by="patient", seed=0, signal=0.0, side=16):
    """Patients whose images look alike; split by patient or by image; the label shows if there is a signal."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_patients), each)
    face = rng.integers(60, 190, (n_patients, side, side))
    images = face[group] + rng.integers(-8, 8, (len(group), side, side))
    images[:, : side // 2] += (signal * (group % 2))[:, None, None].astype(int)
    place = group if by == "patient" else np.tile(np.arange(each), n_patients)
    split = np.where(place % 4 == 0, "test", "train")
    if by == "patient":
        split = np.where(group // 2 % 3 == 0, "test", "train")
    labels = np.where(group % 2, "ill", "well")
    return array_subject(np.clip(images, 0, 255).astype(np.uint8), labels, group, split=split)


def scored(subject, skill, *, seed=1):
    """Predictions for all images, as good as asked for."""
    rng = np.random.default_rng(seed)
    true = (subject.rows["label"] == "well").to_numpy(dtype=float)
    well = 1 / (1 + np.exp(-(skill * (2 * true - 1) + rng.normal(size=len(true)))))
    return predictions_of(subject, np.column_stack([1 - well, well]))


def under_seeds(*scores):
    return [
        Training(name=f"run {seed}", seed=seed, digest=f"{seed}", score=score, low=0.7, high=0.9)
        for seed, score in enumerate(scores)
    ]


def by_check(findings):
    return {finding.check: finding for finding in findings}


def test_without_a_model_only_random_labels_are_asked():
    verdicts = {finding.check: finding.verdict for finding in check_controls(stacks())}

    assert verdicts == {"C1": "PASS", **dict.fromkeys(["C2", "C3", "C4", "C5"], "NOT ASSESSABLE")}


# --- C1 ---


def test_random_labels_are_learnt_where_patients_straddle():
    finding = by_check(check_controls(stacks(by="image")))["C1"]

    assert finding.verdict == "FAIL"
    assert finding.low > 0.9
    assert "split by patient" in finding.advice


def test_random_labels_are_at_chance_under_a_split_by_patient():
    finding = by_check(check_controls(stacks()))["C1"]

    assert finding.verdict == "PASS"
    assert finding.low < 0.5 < finding.high
    assert finding.details["nearest_image_by_image"][0] > 0.9


def test_random_labels_need_patients():
    subject = stacks()
    nameless = array_subject(subject.pixels.values(np.arange(len(subject))), subject.rows["label"])

    assert by_check(check_controls(nameless))["C1"].verdict == "NOT ASSESSABLE"


@pytest.mark.parametrize(("learns", "verdict"), [(True, "FAIL"), (False, "PASS")])
def test_a_training_that_learns_random_labels_fails(learns, verdict):
    subject = stacks()

    def retrain(labels, seed):
        true = (labels == "well").astype(float) if learns else np.random.default_rng(seed).random(len(labels))
        table = subject.rows[["path", "patient_id"]].assign(label=labels, split=subject.split)
        return Predictions(("ill", "well"), table, np.column_stack([1 - true, true]))

    finding = by_check(check_controls(subject, retrain=retrain))["C1"]

    assert finding.verdict == verdict
    assert "3 trainings" in finding.sentence


# --- C2, C3 ---


def test_a_good_model_beats_chance_and_every_simple_rule():
    findings = by_check(check_controls(scored(stacks(), 6.0)))

    assert findings["C2"].verdict == findings["C3"].verdict == "PASS"
    assert findings["C2"].p < 0.01
    assert findings["C3"].low > 0


def test_a_model_that_guesses_is_said_to_guess():
    findings = by_check(check_controls(scored(stacks(), 0.0)))

    assert findings["C2"].verdict == findings["C3"].verdict == "WARN"
    assert findings["C2"].p > 0.05


def test_a_model_no_better_than_thumbnails_warns():
    findings = by_check(check_controls(scored(stacks(signal=60.0), 6.0)))

    assert findings["C2"].verdict == "PASS"
    assert findings["C3"].verdict == "WARN"
    assert findings["C3"].details["rivals"]["a linear rule on thumbnails"]["balanced_accuracy"] == 1


def test_a_rival_learns_from_folds_where_every_image_was_tested():
    subject = replace(stacks(signal=60.0), split=None)
    whole = scored(subject, 0.5)

    assert by_check(check_controls(whole))["C3"].details["rivals"]["a linear rule on thumbnails"][
        "balanced_accuracy"
    ] == pytest.approx(1)


def test_the_permutation_p_of_a_guess_is_uniform():
    p = [
        by_check(check_controls(scored(stacks(24, 2, seed=seed, side=8), 0.0, seed=seed + 100)))["C2"].p
        for seed in range(40)
    ]

    assert 0.25 < np.mean(np.array(p) < 0.5) < 0.75


def test_the_same_seed_gives_the_same_controls():
    one, other = (check_controls(scored(stacks(), 1.0)) for _ in range(2))

    assert [finding.sentence for finding in one] == [finding.sentence for finding in other]


# --- C5 ---


def test_scores_of_several_seeds_come_with_their_spread():
    finding = check_seeds(under_seeds(0.80, 0.82, 0.81))

    assert finding.verdict == "PASS"
    assert finding.value == pytest.approx(0.01)
    assert finding.low < 0.01 < finding.high
    assert check_seeds(under_seeds(0.6, 0.8, 0.7)).verdict == "WARN"
    assert "over patients 0.700-0.900" in finding.sentence
    assert check_seeds(under_seeds(0.8, 0.8)).verdict == "NOT ASSESSABLE"
    assert check_seeds(under_seeds(0.8, None, 0.8)).verdict == "NOT ASSESSABLE"


def test_one_seed_with_two_results_fails():
    first, other = under_seeds(0.8, 0.8)

    assert check_seeds([first, replace(other, seed=first.seed)]).verdict == "FAIL"


def test_one_seed_again_is_not_a_further_seed():
    trainings = under_seeds(0.80, 0.82)

    finding = check_seeds([*trainings, trainings[0]])

    assert finding.verdict == "NOT ASSESSABLE"
    assert "the same to the bit" in finding.sentence


# --- real images ---


@needs_shared
@pytest.mark.shared
def test_random_labels_of_alzheimer_patients_are_known_by_slice_and_not_by_patient():
    subject = subject_of(SHARED / "alzheimer-mri.csv", side=32)
    cases = cases_of(replace(subject, split=None), min_patients=2)
    units = unit_vectors(thumbnails(subject.pixels, 32)[cases.rows])

    def value(group, cases):
        fold = folds_of(group, cases.y, folds=5, seed=0)
        parts = [Part(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(5)]
        return guess(nearest_images(units, parts), random_labels(cases, draws=200, seed=0), cases).value

    two = Cases(
        rows=cases.rows, y=cases.group % 2, group=cases.group, classes=("a", "b"), left_out=(), patients="documented"
    )
    assert value(np.arange(len(two)), two) > 0.95
    assert 0.47 < value(two.group, two) < 0.53


def test_the_number_of_draws_is_an_option():
    finding = check_controls(scored(stacks(), 0.0), probing=ProbeOptions(probe_draws=199))[1]

    assert finding.details["draws"] == 199
