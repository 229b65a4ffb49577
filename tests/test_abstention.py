"""A model may say nothing: each class keeps its promise, and without enough patients there is no promise."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from plainfilm import verbs
from plainfilm.abstention import (
    Abstention,
    AbstentionOptions,
    area_under_risk,
    coverage_range,
    fit_abstention,
    patients_needed,
    risk_coverage,
)
from plainfilm.bundle import load_bundle, read_config
from plainfilm.prediction import Predictions
from small_runs import train_small, write_small_data


def scored(patients, *, rare=0.3, images_each=1, skill=1.5, seed=0):
    """Two classes, the second rare and hard; images of a patient share their error."""
    rng = np.random.default_rng(seed)
    y = (rng.random(patients) < rare).astype(int)
    patient = np.repeat(np.arange(patients), images_each)
    logit = (2 * y[patient] - 1) * skill - 1 + rng.normal(size=patients)[patient] + 0.3 * rng.normal(size=len(patient))
    p = 1 / (1 + np.exp(-logit))
    return y[patient], np.column_stack([1 - p, p]), patient


def fitted(data, **options):
    return fit_abstention(*data, ("common", "rare"), AbstentionOptions(**options))


@pytest.mark.parametrize(("miss_rate", "needed"), [(0.1, 9), (0.05, 19), (0.2, 4), (0.5, 1)])
def test_the_patients_that_a_promise_needs(miss_rate, needed):
    assert patients_needed(miss_rate) == needed


@pytest.mark.parametrize(("n_rare", "refused"), [(8, True), (9, False)])
def test_too_few_patients_of_one_class_refuse_the_rule_and_are_counted(n_rare, refused):
    y_true, scores = np.array([0] * 30 + [1] * n_rare), np.full((30 + n_rare, 2), 0.5)
    rule = fitted((y_true, scores, np.arange(30 + n_rare)))

    assert rule.applies is not refused
    if refused:
        assert rule.reason == "9 calibration patients are needed in each class to miss at most 10%; 'rare' has 8"
    else:
        assert rule.caution.startswith("only 9 calibration patients")


@pytest.mark.parametrize("images_each", [1, 5])
def test_each_class_is_covered_as_promised_even_the_rare_one(images_each):
    covered = []
    for seed in range(60):
        rule = fitted(scored(150, images_each=images_each, seed=seed))
        y_true, scores, _ = scored(3000, seed=1000 + seed)
        held = rule.sets(scores, ("common", "rare"))[np.arange(len(y_true)), y_true]
        covered.append([held[y_true == c].mean() for c in (0, 1)])

    assert (np.mean(covered, axis=0) > 0.89).all()
    assert (np.mean(covered, axis=0) < 0.95).all()


def test_the_realised_coverage_lies_in_its_range():
    inside = []
    for seed in range(100):
        rule = fitted(scored(200, seed=seed))
        y_true, scores, _ = scored(4000, seed=5000 + seed)
        held = rule.sets(scores, ("common", "rare"))[:, 1][y_true == 1].mean()
        inside.append(rule.classes["rare"].coverage_low <= held <= rule.classes["rare"].coverage_high)

    assert np.mean(inside) > 0.88


def test_the_range_of_the_coverage_is_that_of_a_beta_distribution():
    low, high = coverage_range(100, 0.1)

    assert (low, high) == pytest.approx(tuple(beta.ppf([0.025, 0.975], 91, 10)))
    assert (high - low) / 4 == pytest.approx(0.03, abs=0.003)  # one standard deviation is 3 points


def test_answering_only_the_surest_lowers_the_risk():
    y_true, scores, _ = scored(2000)
    right = scores.argmax(axis=1) == y_true
    answered, risk = risk_coverage(right, scores.max(axis=1))

    assert answered[-1] == pytest.approx(1)
    assert risk[-1] == pytest.approx(1 - right.mean())
    assert risk[np.searchsorted(answered, 0.5)] < risk[-1]
    assert area_under_risk(right, np.zeros(2000)) == pytest.approx(1 - right.mean())
    assert area_under_risk(right, scores.max(axis=1)) < 1 - right.mean()


# --- in a bundle ---


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "phantoms", patients=150, images_per_patient=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    return train_small(
        data, tmp_path_factory.mktemp("runs") / "run", split="patient", validation_fraction=0.5, gallery=False
    )


def test_enough_patients_are_kept_and_the_bundle_says_so(run):
    config = read_config(run.folder / "bundle")
    facts = json.loads(run.facts.read_text())

    assert config.calibration.n_patients >= 18
    assert config.calibration.temperature != 1
    assert config.abstention.applies
    assert facts["folds"][0]["calibration"]["n_patients"] == config.calibration.n_patients
    counts = {(row["split"], row["label"]): row["n_patients"] for row in facts["counts"]}
    assert counts["calibration", "abnormal"] >= 9
    assert counts["validation", "abnormal"] >= 9


def test_a_prediction_has_a_set_an_answer_or_none(run, data, tmp_path):
    predictions, _ = verbs.predict(run.folder, data, output=tmp_path / "predictions.csv", workers=0)
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    abstention = load_bundle(run.folder / "bundle").config.abstention
    held = abstention.sets(predictions.scores, predictions.classes)

    assert (table["abstains"] == np.where(held.sum(axis=1) == 1, "no", "yes")).all()
    assert (table["answer"][table["abstains"] == "yes"] == "").all()
    assert set(table["set"]) <= {"", "abnormal", "normal", "abnormal | normal"}
    assert np.array_equal(Predictions.load(tmp_path / "predictions.csv").scores, predictions.scores)


def test_the_test_rows_have_the_calibrated_scores(run, data):
    kept = Predictions.load(run.predictions)
    again = verbs.predict(run.folder, data, workers=0)[0]
    expected = dict(zip(again.table["path"], again.scores.tolist(), strict=True))

    assert all(scores == expected[path] for path, scores in zip(kept.table["path"], kept.scores.tolist(), strict=True))


def test_with_few_patients_nothing_is_fitted_and_the_reason_is_said(tmp_path):
    few = train_small(write_small_data(tmp_path / "few"), tmp_path / "run", gallery=False)
    config = read_config(few.folder / "bundle")

    assert config.calibration.temperature == 1
    assert "too few" in config.calibration.reason
    assert config.abstention == Abstention()
    assert "abstains" not in pd.read_csv(few.predictions).columns
