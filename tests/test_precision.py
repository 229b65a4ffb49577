"""Findings on how sure a number is, whether its scores can be believed, and whether all patients are served alike."""

import numpy as np
import pandas as pd
import pytest

import test_reliability
import test_subgroups
from plainfilm.abstention import Abstention, AbstentionOptions, fit_abstention
from plainfilm.auditing.precision import PrecisionOptions, check_precision, patients_for
from plainfilm.evaluation import evaluate_predictions
from plainfilm.measures import EvaluationOptions
from plainfilm.prediction import Predictions


def finding(check, evaluation, **others):
    (found,) = [one for one in check_precision(evaluation, **others) if one.check == check]
    return found


def test_five_points_at_eighty_percent_take_246_patients():
    assert patients_for(0.05) == 246


def test_a_wide_interval_warns_and_a_narrow_one_passes():
    evaluation = test_reliability.evaluated(patients=40, images_each=3)
    wide = finding("D1", evaluation)

    assert wide.verdict == "WARN"
    assert "design effect" in wide.sentence
    assert wide.details["patients_for_half_width"] == 246
    assert finding("D1", evaluation, options=PrecisionOptions(half_width=0.4)).verdict == "PASS"


def test_a_class_of_two_patients_cannot_be_assessed():
    evaluation = test_reliability.evaluated(patients=200)
    few = evaluated_without(evaluation_patients=2)

    assert finding("D2", evaluation).verdict == "PASS"
    assert few.verdict == "NOT ASSESSABLE"
    assert few.sentence.startswith("1 class of 3 with fewer than 5 test patients")


def evaluated_without(*, evaluation_patients):
    y_true = np.array([0] * 40 + [1] * 40 + [2] * evaluation_patients)
    scores = 0.2 + 0.4 * np.eye(3)[y_true]
    table = pd.DataFrame(
        {
            "path": [f"{index}.png" for index in range(len(y_true))],
            "label": ["abc"[c] for c in y_true],
            "patient_id": [f"p{index}" for index in range(len(y_true))],
            "split": "test",
        },
        dtype=object,
    )
    return finding(
        "D2",
        evaluate_predictions(
            Predictions(("a", "b", "c"), table, scores / scores.sum(axis=1, keepdims=True)),
            patients="documented",
            split_unit="patient",
            options=EvaluationOptions(draws=100),
        ),
    )


@pytest.mark.parametrize(("boldness", "verdict"), [(1, "PASS"), (4, "FAIL")])
def test_scores_that_claim_too_much_fail(boldness, verdict):
    found = finding("E1", test_reliability.evaluated(patients=400, boldness=boldness, seed=2))

    assert found.verdict == verdict
    assert ("too bold" in found.sentence) is (verdict == "FAIL")
    assert found.pictures[0].png.startswith(b"\x89PNG")


@pytest.mark.long
@pytest.mark.parametrize("patients", [30, 80])
def test_honest_scores_of_few_patients_raise_no_alarm(patients):
    found = [finding("E1", test_reliability.evaluated(patients=patients, seed=seed, draws=200)) for seed in range(30)]

    verdicts = [one.verdict for one in found]
    assert verdicts.count("FAIL") <= 1
    assert verdicts.count("WARN") <= 1
    unsure = [one.sentence for one in found if one.verdict == "NOT ASSESSABLE"]
    assert unsure
    assert all("honest scores of so few patients can look like this" in sentence for sentence in unsure)


def test_bold_scores_of_few_patients_are_still_noticed():
    found = finding("E1", test_reliability.evaluated(patients=60, boldness=4, seed=2))

    assert found.verdict in ("WARN", "FAIL")


def test_a_rule_that_was_refused_is_not_assessable_and_says_why():
    evaluation = test_reliability.evaluated()
    refused = finding("E2", evaluation, abstention=Abstention(reason="'rare' has 8"))

    assert refused.verdict == "NOT ASSESSABLE"
    assert "'rare' has 8" in refused.sentence
    assert finding("E2", evaluation).verdict == "NOT ASSESSABLE"


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "PASS"), (0.45, "FAIL")])
def test_a_promise_is_held_against_the_test_patients(shift, verdict):
    rng = np.random.default_rng(0)
    y_true = np.arange(600) % 2
    p = np.clip(0.5 + 0.25 * (2 * y_true - 1) + 0.15 * rng.normal(size=600), 0.01, 0.99)
    scores = np.column_stack([1 - p, p])
    rule = fit_abstention(
        y_true[:300], scores[:300], np.arange(300), ("a", "b"), AbstentionOptions(caution_calibration=50)
    )
    worse = np.clip(p[300:] - shift, 0.01, 0.99)
    table = pd.DataFrame(
        {"path": [f"{i}.png" for i in range(300)], "label": ["ab"[c] for c in y_true[300:]], "patient_id": None}
    )
    predictions = Predictions(("a", "b"), table, np.column_stack([1 - worse, worse]))

    found = finding("E2", test_reliability.evaluated(), abstention=rule, predictions=predictions)
    assert found.verdict == verdict


def scored_in_folds(sets, abstains):
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(40)], "label": ["a", "b"] * 20, "patient_id": None})
    return Predictions(("a", "b"), table.assign(set=sets, abstains=abstains), np.full((40, 2), 0.5))


def test_in_a_cross_validation_every_set_is_that_of_the_model_that_scored_the_image():
    rule = fit_abstention(np.arange(40) % 2, np.full((40, 2), 0.5), np.arange(40), ("a", "b"))  # holds every class
    wrong = scored_in_folds(["b", "a"] * 18 + [None, "", "a", "b"], ["no"] * 36 + ["yes", "yes", "no", "no"])

    found = finding("E2", test_reliability.evaluated(), abstention=rule, predictions=wrong)

    assert (found.verdict, found.value) == ("FAIL", 0.05)  # of each class one of twenty, empty sets not among them
    some = scored_in_folds(["a | b"] * 30 + [None] * 10, ["yes"] * 30 + [None] * 10)
    found = finding("E2", test_reliability.evaluated(), abstention=rule, predictions=some)
    assert found.verdict == "NOT ASSESSABLE"
    assert "10 images were scored by a model of another fold that has no rule" in found.sentence


@pytest.mark.parametrize(("harm", "verdicts"), [(0, {"PASS"}), (4, {"FAIL"})])
def test_a_harmed_group_fails(harm, verdicts):
    found = finding("F1", test_subgroups.evaluated(harm=harm, patients=300, draws=1000))

    assert found.verdict in verdicts
    assert len(found.tables["F1-groups"]) == 4


def test_a_group_too_small_is_not_assessable_but_says_what_would_show():
    found = finding("F1", test_subgroups.evaluated(women=0.05))

    assert found.verdict == "NOT ASSESSABLE"
    assert "points or more would show" in found.sentence
