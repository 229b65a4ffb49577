"""A claimed certainty is checked, mended on patients of its own, and never mended with none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from plainfilm import metrics
from plainfilm.calibration import (
    Bins,
    Calibration,
    calibration_intercept,
    calibration_slope,
    fit_temperature,
    patient_weights,
    tempered,
)


def drawn(*, n=4000, n_classes=3, boldness=1.0, seed=0, images_each=1):
    """Truth drawn from honest probabilities, and scores that are bolder than those by a factor."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, n_classes))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y_true = np.array([rng.choice(n_classes, p=row) for row in honest])
    every = np.repeat(np.arange(n), images_each)
    return y_true[every], tempered(honest, 1 / boldness)[every], every


# --- the temperature ---


@pytest.mark.parametrize("boldness", [0.5, 1, 3])
def test_the_temperature_undoes_boldness(boldness):
    y_true, scores, group = drawn(boldness=boldness)
    found = fit_temperature(y_true, scores, group)

    assert found.temperature == pytest.approx(boldness, rel=0.1)
    assert found.reason == ""
    assert (found.n_images, found.n_patients) == (4000, 4000)
    assert metrics.log_loss(y_true, tempered(scores, found.temperature)) <= metrics.log_loss(y_true, scores)


def test_a_patient_of_many_images_counts_once():
    y_true, scores, group = drawn(n=300, boldness=2)
    again = np.concatenate([np.arange(300), np.repeat(np.arange(30), 50)])

    once = fit_temperature(y_true, scores, group).temperature
    assert fit_temperature(y_true[again], scores[again], group[again]).temperature == pytest.approx(once, rel=1e-4)


@given(st.floats(0.2, 5), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_temperature_changes_no_answer_and_keeps_probabilities(temperature, seed):
    _, scores, _ = drawn(n=50, seed=seed)
    changed = tempered(scores, temperature)

    assert np.array_equal(changed.argmax(axis=1), scores.argmax(axis=1))
    assert np.allclose(changed.sum(axis=1), 1)


def test_no_temperature_is_no_change_at_all():
    _, scores, _ = drawn(n=50)

    assert tempered(scores, Calibration().temperature) is scores
    assert "too few" in Calibration().reason


def test_weights_of_patients_are_equal_and_sum_to_one():
    weights = patient_weights(np.array([7, 7, 7, 3]))

    assert weights == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


# --- slope and intercept ---


@pytest.mark.parametrize("boldness", [0.5, 1, 2])
def test_the_slope_says_how_bold_scores_are(boldness):
    y_true, scores, _ = drawn(boldness=boldness)

    assert calibration_slope(y_true, scores) == pytest.approx(1 / boldness, rel=0.1)


def test_the_slope_of_two_classes_is_that_of_a_logistic_regression_through_the_origin():
    y_true, scores, _ = drawn(n=500, n_classes=2, boldness=1.7)
    logit = np.log(scores[:, 1] / scores[:, 0])[:, None]
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logit, y_true)

    assert calibration_slope(y_true, scores) == pytest.approx(fitted.coef_[0, 0], rel=1e-3)


def test_the_intercept_says_what_the_scores_lack():
    rng = np.random.default_rng(0)
    logit = rng.normal(size=20_000)
    y_true = rng.random(20_000) < 1 / (1 + np.exp(-(logit + 0.7)))

    assert calibration_intercept(y_true, 1 / (1 + np.exp(-logit))) == pytest.approx(0.7, abs=0.05)


def test_scores_without_an_error_have_no_slope():
    assert np.isnan(calibration_slope(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])))


def test_weights_are_repeated_rows():
    y_true, scores, _ = drawn(n=40)
    times = np.random.default_rng(0).integers(0, 4, size=(3, 40)).astype(float)
    each = [np.repeat(np.arange(40), row.astype(int)) for row in times]

    assert calibration_slope(y_true, scores, times) == pytest.approx(
        [float(calibration_slope(y_true[row], scores[row])) for row in each]
    )
    assert calibration_intercept(y_true == 1, scores[:, 1], times) == pytest.approx(
        [float(calibration_intercept(y_true[row] == 1, scores[row, 1])) for row in each]
    )


# --- the error of a claimed certainty ---


def error_of(**options):
    y_true, scores, group = drawn(**options)
    return float(Bins.equal_mass(scores.max(axis=1), scores.argmax(axis=1) == y_true, group).error())


def test_honest_scores_have_no_error_left_once_chance_is_taken_off():
    errors = [error_of(n=150, seed=seed) for seed in range(40)]
    y_true, scores, group = drawn(n=150)
    bins = Bins.equal_mass(scores.max(axis=1), scores.argmax(axis=1) == y_true, group)
    claimed, observed, *_ = bins.points(confidence=0.95)
    plain = float(np.abs(claimed - observed) @ np.bincount(bins.of_row) / len(group))

    assert np.mean(errors) < 0.03
    assert plain > float(bins.error())


def test_the_error_of_bold_scores_is_found_in_few_patients_too():
    truth = error_of(n=60_000, boldness=3)
    few = [error_of(n=150, boldness=3, seed=seed) for seed in range(30)]

    assert np.mean(few) == pytest.approx(truth, abs=0.03)


def test_more_images_of_the_same_patients_are_no_more_evidence():
    assert error_of(n=80, images_each=10) == pytest.approx(error_of(n=80), abs=0.02)


def test_points_of_a_reliability_plot_count_patients():
    y_true, scores, group = drawn(n=200, images_each=3)
    bins = Bins.equal_mass(scores.max(axis=1), scores.argmax(axis=1) == y_true, group)
    claimed, observed, low, high, n_patients = bins.points(confidence=0.95)

    assert n_patients.sum() == 200
    assert (np.diff(claimed) > 0).all()
    assert ((low <= observed) & (observed <= high)).all()
