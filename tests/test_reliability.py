"""An evaluation says whether its scores can be believed, each figure with interval and count."""

import json

import numpy as np
import pandas as pd
import pytest

from plainfilm.calibration import Bins, tempered
from plainfilm.evaluation import evaluate_predictions
from plainfilm.measures import Evaluation, EvaluationOptions
from plainfilm.prediction import Predictions

CLASSES = ("a", "b", "c")


def evaluated(*, patients=200, images_each=1, boldness=1.0, seed=0, draws=300, **options):
    """An evaluation of scores that are bolder than honest ones by a factor."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(patients, 3))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y_true = np.array([rng.choice(3, p=row) for row in honest])
    every = np.repeat(np.arange(patients), images_each)
    table = pd.DataFrame(
        {
            "path": [f"{index}.png" for index in range(len(every))],
            "label": [CLASSES[c] for c in y_true[every]],
            "patient_id": [f"p{index}" for index in every],
            "split": "test",
        },
        dtype=object,
    )
    predictions = Predictions(CLASSES, table, tempered(honest, 1 / boldness)[every])
    return evaluate_predictions(
        predictions,
        patients="documented",
        split_unit="patient",
        options=EvaluationOptions(draws=draws, **options),
    )


def test_honest_scores_are_called_so():
    found = evaluated()
    slope = found.measure("calibration_slope", unit="patient")
    error = found.measure("calibration_error", unit="patient")

    assert slope.low < 1 < slope.high
    assert error.value < 0.06
    assert error.low == 0
    assert slope.n_patients == error.n_patients == 200


def test_bold_scores_are_found_out():
    found = evaluated(boldness=3)

    assert found.measure("calibration_slope", unit="patient").high < 0.8
    assert found.measure("calibration_error", unit="patient").low > 0.1


@pytest.mark.long
def test_the_intervals_hold_the_truth():
    slope = [evaluated(patients=100, boldness=1.5, seed=seed, draws=200) for seed in range(40)]
    inside = [
        found.low <= 1 / 1.5 <= found.high
        for found in (one.measure("calibration_slope", unit="patient") for one in slope)
    ]

    assert np.mean(inside) >= 0.85


def test_more_images_of_a_patient_do_not_make_it_surer():
    once, tenfold = (evaluated(images_each=images).measure("calibration_error", unit="image") for images in (1, 10))

    assert tenfold.value == pytest.approx(once.value, abs=0.01)
    assert tenfold.high - tenfold.low == pytest.approx(once.high - once.low, abs=0.02)


def test_points_of_the_plot_go_to_the_file_and_back():
    found = evaluated(positive=("b",))
    again = Evaluation.from_json(json.loads(json.dumps(found.to_json())))

    assert [(points.unit, points.of) for points in found.reliability] == [
        ("image", None),
        ("patient", None),
        ("image", "b"),
        ("patient", "b"),
    ]
    assert again == found
    assert sum(found.reliability[1].n_patients) == 200
    assert found.reliability[1].answered[-1] == pytest.approx(1)


def test_an_evaluation_written_before_there_was_reliability_is_read():
    data = evaluated().to_json()
    del data["reliability"]

    assert Evaluation.from_json(data).reliability == ()


def test_few_patients_get_no_figure():
    found = evaluated(patients=15)

    assert found.measure("calibration_slope", unit="patient").reason == "16 patients are needed"
    assert found.reliability == ()


def test_honest_scores_look_far_off_as_often_as_they_should():
    rng = np.random.default_rng(0)
    score = rng.uniform(0.05, 0.95, size=(300, 40))
    right = rng.random(score.shape) < score
    found = [
        Bins.equal_mass(one, was, np.arange(40)).chance(draws=200, seed=number)
        for number, (one, was) in enumerate(zip(score, right, strict=True))
    ]

    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.09
    assert 0.4 <= np.mean(np.array(found) < 0.5) <= 0.6


def test_bold_scores_seldom_look_so_by_chance_and_shared_patients_are_not_judged():
    rng = np.random.default_rng(0)
    right = rng.random(80) < 0.6
    bold = Bins.equal_mass(rng.uniform(0.9, 0.99, 80), right, np.arange(80))

    assert bold.chance() < 0.001
    assert Bins.equal_mass(bold.score, right, np.arange(80) // 2).chance() is None
