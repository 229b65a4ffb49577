"""Metrics agree with scikit-learn, a weight of two is a row twice, and intervals never claim certainty."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics

from plainfilm import metrics

CLOSE = {"rtol": 0, "atol": 1e-9}
quick = settings(max_examples=40, deadline=None)


@st.composite
def classified(draw):
    """Truth, prediction, scores (coarse, so that many tie) and whole weights of some rows over 2 to 4 classes."""
    n_classes = draw(st.integers(2, 4))
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores = rng.integers(1, draw(st.sampled_from([3, 20, 10_000])), (n, n_classes)).astype(float)
    scores /= scores.sum(axis=1, keepdims=True)
    y_true = rng.integers(0, n_classes, n)
    return n_classes, y_true, scores.argmax(axis=1), scores, rng.integers(0, 4, n).astype(float)


@st.composite
def ranked(draw):
    """Truth, scores with ties, and whole weights; both sides carry weight."""
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    y_true = rng.random(n) < draw(st.floats(0.1, 0.9))
    y_score = rng.integers(0, draw(st.sampled_from([2, 10, 10_000])), n) / 7
    weights = rng.integers(0, 4, n).astype(float)
    assume(weights[y_true].sum() > 0 and weights[~y_true].sum() > 0)
    return y_true, y_score, weights


# --- counts of right and wrong ---


@quick
@given(classified())
def test_the_confusion_matrix_is_that_of_scikit_learn(data):
    n_classes, y_true, y_pred, _, weights = data
    cm = metrics.confusion_matrix(y_true, y_pred, n_classes, weights)

    assume(weights.sum() > 0)
    expected = sklearn_metrics.confusion_matrix(y_true, y_pred, labels=range(n_classes), sample_weight=weights)
    np.testing.assert_allclose(cm, expected, **CLOSE)


@quick
@given(classified())
def test_precision_recall_and_f1_are_those_of_scikit_learn_where_they_are_defined(data):
    n_classes, y_true, y_pred, _, weights = data
    assume(weights.sum() > 0)
    cm = metrics.confusion_matrix(y_true, y_pred, n_classes, weights)
    expected = sklearn_metrics.precision_recall_fscore_support(
        y_true, y_pred, labels=range(n_classes), sample_weight=weights, zero_division=np.nan
    )

    np.testing.assert_allclose(metrics.precision(cm), expected[0], **CLOSE)
    np.testing.assert_allclose(metrics.recall(cm), expected[1], **CLOSE)
    np.testing.assert_allclose(metrics.f1(cm), expected[2], **CLOSE)


@quick
@given(classified())
def test_accuracy_and_balanced_accuracy_are_those_of_scikit_learn(data):
    n_classes, y_true, y_pred, _, _ = data
    assume(len(np.unique(y_true)) == n_classes)
    cm = metrics.confusion_matrix(y_true, y_pred, n_classes)

    np.testing.assert_allclose(metrics.accuracy(cm), sklearn_metrics.accuracy_score(y_true, y_pred), **CLOSE)
    expected = sklearn_metrics.balanced_accuracy_score(y_true, y_pred)
    np.testing.assert_allclose(metrics.balanced_accuracy(cm), expected, **CLOSE)
    assert metrics.majority_rate(cm) == np.bincount(y_true).max() / len(y_true)


def test_truth_stands_on_the_rows():
    cm = metrics.confusion_matrix(np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1]), 2)

    assert cm.tolist() == [[1, 2], [0, 1]]
    assert metrics.recall(cm).tolist() == [1 / 3, 1]
    assert metrics.precision(cm).tolist() == [1, 1 / 3]
    np.testing.assert_allclose(metrics.row_share(cm), [[1 / 3, 2 / 3], [0, 1]])


def test_what_is_undefined_is_nan_and_not_zero():
    cm = metrics.confusion_matrix(np.array([0, 0]), np.array([0, 0]), 3)
    some = np.array([0.1, 0.2])

    assert np.isnan(metrics.recall(cm)).tolist() == [False, True, True]
    assert np.isnan(metrics.precision(cm)).tolist() == [False, True, True]
    assert np.isnan(metrics.f1(cm)).tolist() == [False, True, True]
    assert np.isnan(metrics.balanced_accuracy(cm))
    assert np.isnan(metrics.roc_auc(np.array([True, True]), some))
    assert np.isnan(metrics.average_precision(np.array([False, False]), some))
    assert np.isnan(metrics.accuracy(np.zeros((2, 2))))


def test_no_rows_give_nan_and_not_an_error():
    none = np.array([], dtype=int)

    assert metrics.confusion_matrix(none, none, 2).tolist() == [[0, 0], [0, 0]]
    assert np.isnan(metrics.roc_auc(none.astype(bool), none.astype(float)))
    assert np.isnan(metrics.average_precision(none.astype(bool), none.astype(float), np.ones((3, 0)))).all()


@quick
@given(ranked(), st.floats(0, 1.5))
def test_the_two_way_figures_are_read_at_the_threshold(data, threshold):
    y_true, y_score, _ = data
    cm = metrics.binary_confusion_matrix(y_true, y_score, threshold=threshold)
    called = y_score >= threshold

    assert metrics.sensitivity(cm) == called[y_true].mean()
    assert metrics.specificity(cm) == (~called)[~y_true].mean()
    assert np.isnan(metrics.ppv(cm)) if not called.any() else metrics.ppv(cm) == y_true[called].mean()
    assert np.isnan(metrics.npv(cm)) if called.all() else metrics.npv(cm) == (~y_true)[~called].mean()


# --- ranking ---


@quick
@given(ranked())
def test_roc_auc_is_that_of_scikit_learn_with_ties_and_weights(data):
    y_true, y_score, weights = data
    expected = sklearn_metrics.roc_auc_score(y_true, y_score, sample_weight=weights)

    np.testing.assert_allclose(metrics.roc_auc(y_true, y_score, weights), expected, **CLOSE)


@quick
@given(ranked())
def test_average_precision_is_that_of_scikit_learn_with_ties_and_weights(data):
    y_true, y_score, weights = data
    expected = sklearn_metrics.average_precision_score(y_true, y_score, sample_weight=weights)

    np.testing.assert_allclose(metrics.average_precision(y_true, y_score, weights), expected, **CLOSE)


@quick
@given(ranked())
def test_the_area_under_the_drawn_curves_is_the_metric(data):
    y_true, y_score, _ = data
    fpr, tpr = metrics.roc_curve(y_true, y_score)
    recall, precision = metrics.precision_recall_curve(y_true, y_score)

    np.testing.assert_allclose(np.trapezoid(tpr, fpr), metrics.roc_auc(y_true, y_score), **CLOSE)
    steps = (np.diff(recall, prepend=0) * precision).sum()
    np.testing.assert_allclose(steps, metrics.average_precision(y_true, y_score), **CLOSE)


@quick
@given(ranked())
def test_curve_points_are_those_of_scikit_learn(data):
    y_true, y_score, _ = data
    fpr, tpr, _ = sklearn_metrics.roc_curve(y_true, y_score, drop_intermediate=False)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(y_true, y_score)

    np.testing.assert_allclose(metrics.roc_curve(y_true, y_score), (fpr, tpr), **CLOSE)
    # scikit-learn runs from low to high scores, and ends with a point that was never observed.
    expected = recall[-2::-1], precision[-2::-1]
    np.testing.assert_allclose(metrics.precision_recall_curve(y_true, y_score), expected, **CLOSE)


@quick
@given(ranked())
def test_turning_the_scores_round_turns_the_auc_round(data):
    y_true, y_score, weights = data
    auc = metrics.roc_auc(y_true, y_score, weights)

    np.testing.assert_allclose(metrics.roc_auc(y_true, -y_score, weights), 1 - auc, **CLOSE)
    np.testing.assert_allclose(metrics.roc_auc(~y_true, y_score, weights), 1 - auc, **CLOSE)


def distance_to_curve(x, y, curve_x, curve_y):
    """Distance of one point from the nearest segment of a curve."""
    start = np.column_stack([curve_x, curve_y])[:-1]
    along = np.diff(np.column_stack([curve_x, curve_y]), axis=0)
    length = np.maximum((along**2).sum(axis=1), 1e-300)
    share = np.clip((([x, y] - start) * along).sum(axis=1) / length, 0, 1)
    return np.hypot(*([x, y] - (start + share[:, None] * along)).T).min()


@pytest.mark.parametrize("points", [metrics.roc_curve, metrics.precision_recall_curve])
def test_a_thinned_curve_keeps_its_ends_and_its_shape(points):
    rng = np.random.default_rng(0)
    y_true = rng.random(4000) < 0.3
    x, y = points(y_true, rng.normal(y_true * 1.0))
    thin_x, thin_y = metrics.thin_curve(x, y, max_points=200)

    assert len(thin_x) == 200
    assert (thin_x[0], thin_y[0], thin_x[-1], thin_y[-1]) == (x[0], y[0], x[-1], y[-1])
    assert max(distance_to_curve(a, b, thin_x, thin_y) for a, b in zip(x[::5], y[::5], strict=True)) < 0.01


def test_points_on_a_straight_line_are_not_kept():
    line = np.linspace(0, 1, 50)

    assert metrics.thin_curve(line, line)[0].tolist() == [0, 1]
    assert metrics.thin_curve(np.array([0.5]), np.array([0.5]))[0].tolist() == [0.5]


# --- scores as probabilities ---


@quick
@given(classified())
def test_log_loss_and_brier_score_are_those_of_scikit_learn(data):
    n_classes, y_true, _, scores, weights = data
    assume(weights.sum() > 0)
    options = {"labels": range(n_classes), "sample_weight": weights}

    expected = sklearn_metrics.log_loss(y_true, scores, **options)
    np.testing.assert_allclose(metrics.log_loss(y_true, scores, weights), expected, **CLOSE)
    if n_classes > 2:
        expected = sklearn_metrics.brier_score_loss(y_true, scores, **options)
    else:
        expected = 2 * sklearn_metrics.brier_score_loss(y_true, scores[:, 1], **options)
    np.testing.assert_allclose(metrics.brier_score(y_true, scores, weights), expected, **CLOSE)


def test_a_sure_mistake_costs_much_but_not_without_end():
    loss = metrics.log_loss(np.array([0]), np.array([[0.0, 1.0]]))

    assert 30 < loss < 40
    assert metrics.brier_score(np.array([0]), np.array([[0.0, 1.0]])) == 2


# --- weights ---


def every_metric(n_classes, y_true, y_pred, scores, weights=None):
    cm = metrics.confusion_matrix(y_true, y_pred, n_classes, weights)
    first = y_true == 0
    return {
        "accuracy": metrics.accuracy(cm),
        "balanced_accuracy": metrics.balanced_accuracy(cm),
        "precision": metrics.precision(cm),
        "recall": metrics.recall(cm),
        "f1": metrics.f1(cm),
        "row_share": metrics.row_share(cm),
        "log_loss": metrics.log_loss(y_true, scores, weights),
        "brier_score": metrics.brier_score(y_true, scores, weights),
        "roc_auc": metrics.roc_auc(first, scores[:, 0], weights),
        "average_precision": metrics.average_precision(first, scores[:, 0], weights),
    }


@quick
@given(classified())
def test_a_weight_is_a_row_repeated(data):
    n_classes, y_true, y_pred, scores, weights = data
    again = np.repeat(np.arange(len(y_true)), weights.astype(int))
    weighted = every_metric(n_classes, y_true, y_pred, scores, weights)
    repeated = every_metric(n_classes, y_true[again], y_pred[again], scores[again])

    for name, value in weighted.items():
        np.testing.assert_allclose(value, repeated[name], err_msg=name, **CLOSE)


@quick
@given(classified())
def test_many_sets_of_weights_at_once_are_the_same_as_one_at_a_time(data):
    n_classes, y_true, y_pred, scores, weights = data
    draws = np.random.default_rng(0).permuted(np.tile(weights, (2, 3, 1)), axis=-1)
    together = every_metric(n_classes, y_true, y_pred, scores, draws)

    for i, j in np.ndindex(2, 3):
        alone = every_metric(n_classes, y_true, y_pred, scores, draws[i, j])
        for name, value in together.items():
            np.testing.assert_allclose(value[i, j], alone[name], err_msg=name, **CLOSE)


def test_more_draws_than_fit_in_a_block_are_all_measured(monkeypatch):
    rng = np.random.default_rng(0)
    y_true, y_score, weights = rng.random(50) < 0.5, rng.random(50), rng.integers(0, 3, (40, 50)).astype(float)
    at_once = metrics.roc_auc(y_true, y_score, weights)
    monkeypatch.setattr(metrics, "BLOCK", 120)

    np.testing.assert_array_equal(metrics.roc_auc(y_true, y_score, weights), at_once)


# --- draws of patients ---


def draws_of(group, strata, *, draws=400, seed=0):
    return np.concatenate(list(metrics.bootstrap_weights(group, strata, draws=draws, seed=seed)))


def test_patients_are_drawn_whole_and_each_stratum_keeps_its_weight():
    group = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5, 5])
    strata = np.array([0, 1, 0, 1, 1, 0])
    weights = draws_of(group, strata)

    assert weights.shape == (400, 10)
    assert (weights[:, group == 2] == weights[:, [3]]).all()
    of_patient = weights[:, np.unique(group, return_index=True)[1]]
    for stratum in (0, 1):
        np.testing.assert_allclose(of_patient[:, strata == stratum].sum(axis=1), 3)
    np.testing.assert_allclose(of_patient.mean(axis=0), 1, atol=0.15)


def test_the_same_seed_draws_the_same_patients_whatever_their_rows(monkeypatch):
    strata = np.repeat([0, 1], 10)
    one_each = draws_of(np.arange(20), strata, seed=3)
    three_each = draws_of(np.repeat(np.arange(20), 3), strata, seed=3)
    monkeypatch.setattr(metrics, "BLOCK", 7)

    np.testing.assert_array_equal(three_each[:, ::3], one_each)
    np.testing.assert_array_equal(draws_of(np.arange(20), strata, seed=3), one_each)
    assert (draws_of(np.arange(20), strata, seed=4) != one_each).any()


def test_the_spread_of_a_mean_is_its_standard_error_even_for_five_patients():
    values = np.array([0.0, 1.0, 3.0, 4.0, 9.0])
    weights = draws_of(np.arange(5), np.zeros(5, dtype=int), draws=20_000)

    expected = values.var(ddof=1) / 5
    assert (weights @ values / 5).var() == pytest.approx(expected, rel=0.05)


def test_a_patient_alone_in_a_stratum_is_always_drawn():
    weights = draws_of(np.array([0, 1, 2, 2]), np.array([0, 0, 1]))

    assert (weights[:, 2:] == 1).all()


# --- intervals ---


@quick
@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_wilson_interval_is_that_of_scipy(n, share, confidence):
    k = round(share * n)
    expected = binomtest(k, n).proportion_ci(confidence, method="wilson")

    np.testing.assert_allclose(
        metrics.wilson_interval(k / n, n, confidence=confidence), (expected.low, expected.high), **CLOSE
    )


def test_all_of_75_right_is_not_a_certainty():
    low, high = metrics.wilson_interval(1, 75)

    assert low == pytest.approx(0.9513, abs=1e-4)
    assert high == 1


def test_an_interval_of_no_rows_is_nan():
    assert np.isnan(metrics.wilson_interval(np.nan, 0)).all()


@quick
@given(st.floats(0, 1), st.integers(5, 200), st.integers(5, 200))
def test_the_auc_interval_holds_the_auc_and_is_never_a_point(auc, n_positive, n_negative):
    low, high = metrics.auc_interval(auc, n_positive, n_negative)

    assert 0 <= low <= auc + 1e-9
    assert auc - 1e-9 <= high <= 1
    assert high - low > 1e-3


def test_an_auc_of_one_is_less_sure_with_fewer_patients():
    few, many = metrics.auc_interval(1.0, 10, 10)[0], metrics.auc_interval(1.0, 100, 100)[0]

    assert 0.8 < few < 0.9
    assert 0.97 < many < 1


def test_an_auc_interval_turns_round_with_the_auc():
    low, high = metrics.auc_interval(0.9, 20, 30)

    np.testing.assert_allclose(metrics.auc_interval(0.1, 20, 30), (1 - high, 1 - low), **CLOSE)


def test_the_mean_of_one_figure_has_its_interval():
    assert metrics.mean_interval(np.array([0.7]), np.array([0.6]), np.array([0.9])) == pytest.approx((0.6, 0.9))


def test_the_interval_of_a_mean_of_proportions_covers_it():
    rng = np.random.default_rng(0)
    p, n = np.array([0.95, 0.8]), np.array([20, 40])
    covered = 0
    for k in rng.binomial(n, p, (2000, 2)):
        low, high = metrics.mean_interval(k / n, *metrics.wilson_interval(k / n, n))
        covered += low <= p.mean() <= high

    assert 0.93 <= covered / 2000 <= 0.98


def test_percentiles_leave_undefined_draws_out():
    draws = np.append(np.linspace(0, 1, 1001), np.nan)

    np.testing.assert_allclose(metrics.percentile_interval(draws, confidence=0.9), (0.05, 0.95), atol=1e-9)


def test_the_interval_of_a_loss_reaches_farther_up_than_down():
    draws = np.random.default_rng(0).gamma(4, 0.1, 4000)

    low, high = metrics.log_interval(0.4, draws)

    assert low > 0
    assert low * high == pytest.approx(0.4**2)  # as many times up as down
    assert high / 0.4 == pytest.approx(np.exp(1.96 * draws.std() / 0.4), rel=1e-3)


def test_the_interval_of_two_patients_is_wide_and_no_error():
    confidence = metrics.expanded(0.95, 1)

    low, high = metrics.logit_interval(0.7, np.array([0.5, 0.9, 0.7]), confidence=confidence)

    assert 0 <= low < 0.1
    assert 0.9 < high <= 1
