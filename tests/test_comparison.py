"""Two models on the same patients: the difference, its interval, and what chance alone would do."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm

from plainfilm import pairing
from plainfilm.comparison import ComparisonOptions, Contender, compare_predictions
from plainfilm.errors import DataError, UsageError
from plainfilm.measures import EvaluationOptions
from plainfilm.prediction import Predictions


def contender(name, skill, *, patients=40, images_each=1, alike=0.7, own=0, seed=0, n_classes=2, struck=None):
    """Predictions of a model; the part `alike` of its error is the patient's, and the same for every model."""
    shared, rng = np.random.default_rng(seed), np.random.default_rng([seed, own])
    patient = np.repeat(np.arange(patients), images_each)
    y_true = patient % n_classes
    error = np.sqrt(alike) * shared.normal(size=(patients, n_classes))[patient]
    error = error + np.sqrt(1 - alike) * rng.normal(size=(len(patient), n_classes))
    logits = skill * np.eye(n_classes)[y_true] + error
    classes = tuple("abcd"[:n_classes])
    table = pd.DataFrame(
        {
            "path": [f"{index:04}.png" for index in range(len(patient))],
            "label": [classes[c] for c in y_true],
            "patient_id": [f"p{index:03}" for index in patient],
            "split": "test",
        },
        dtype=object,
    )
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Contender(name=name, predictions=Predictions(classes, table, scores), patients="documented", struck=struck)


def compared(*contenders, draws=500, **options):
    evaluation = {name: options.pop(name) for name in ("positive", "threshold") if name in options}
    return compare_predictions(
        contenders, evaluation=EvaluationOptions(draws=draws, **evaluation), options=ComparisonOptions(**options)
    )


def only(found):
    (difference,) = found.headline
    return difference


# --- the answer ---


def test_a_better_model_is_better_by_so_many_points():
    difference = only(compared(contender("A", 0.5, patients=200), contender("B", 3, patients=200)))

    assert 0 < difference.low < difference.value < difference.high
    assert difference.sentence.startswith(f"B is better than A by {100 * difference.value:.1f} points (")
    assert "200 patients" in difference.sentence
    assert difference.p < 0.01


def test_models_that_differ_by_chance_are_not_told_apart():
    difference = only(compared(contender("A", 1, own=1), contender("B", 1, own=2)))

    assert difference.low < 0 < difference.high
    assert difference.sentence.startswith("No difference between B and A can be seen: balanced accuracy by patient")


def test_a_model_does_not_differ_from_itself():
    one = contender("A", 1)
    found = compared(one, replace(one, name="B"), measure=("log_loss", "roc_auc"))

    assert all(difference.value == 0 and difference.p == 1 for difference in found.differences)
    # That every draw is alike is no certainty.
    assert found.headline[0].low < 0 < found.headline[0].high
    assert found.headline[0].interval == "mover"


def test_the_order_of_two_models_only_turns_the_sign():
    one, other = contender("A", 0.5), contender("B", 1.5, own=1)
    there, back = only(compared(one, other)), only(compared(other, one))

    assert there.value == -back.value
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p == back.p


def test_a_lower_loss_is_better():
    one, other = contender("A", 0.2, patients=100), contender("B", 4, patients=100)
    found = compared(one, other, measure=("log_loss",)).differences[1]

    assert found.value < 0
    assert found.sentence.startswith("B is better than A by ")
    assert "points" not in found.sentence


def test_the_same_seed_gives_the_same_comparison():
    pair = contender("A", 0.5, images_each=3), contender("B", 1.5, images_each=3, own=1)

    assert compared(*pair).to_json() == compared(*pair).to_json()


# --- pairs ---


def test_pairs_are_surer_than_two_numbers_beside_each_other():
    def width(alike):
        one, other = contender("A", 1, patients=150, alike=alike), contender("B", 1.5, patients=150, alike=alike, own=1)
        difference = only(compared(one, other))
        return difference.high - difference.low

    assert width(0.95) < 0.6 * width(0)


@pytest.mark.long
def test_chance_alone_gives_a_small_p_as_rarely_as_it_should():
    rng = np.random.default_rng(0)
    p = [
        only(
            compared(
                contender("A", 1, seed=seed, own=int(rng.integers(1e6)), images_each=2, alike=0.3),
                contender("B", 1, seed=seed, own=int(rng.integers(1e6)), images_each=2, alike=0.3),
                draws=200,
                positive=("b",),  # the ROC AUC: fewer ties than a share of 40 patients has
            )
        ).p
        for seed in range(100)
    ]

    assert np.mean(np.array(p) <= 0.05) <= 0.10
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.15)


def test_delong_is_the_paired_z_test_of_the_placements():
    rng = np.random.default_rng(1)
    y_true = rng.random(80) < 0.4
    one, other = y_true + rng.normal(size=80), 0.5 * y_true + rng.normal(size=80)

    # The same by its definition: every pair of a positive and a negative.
    def kernel(score):
        a, b = score[y_true][:, None], score[~y_true][None]
        return (a > b) + 0.5 * (a == b)

    difference = kernel(other) - kernel(one)
    m, n = difference.shape
    variance = np.var(difference.mean(axis=1), ddof=1) / m + np.var(difference.mean(axis=0), ddof=1) / n
    expected = 2 * norm.sf(abs(difference.mean()) / np.sqrt(variance))

    assert pairing.delong_p(y_true, one, other) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_looks_only_at_rows_that_one_model_got_right():
    right = np.array([True] * 9 + [False] * 2 + [True] * 50)
    other = np.array([False] * 9 + [True] * 2 + [True] * 50)

    assert pairing.mcnemar_p(right, other) == binomtest(9, 11).pvalue
    assert pairing.mcnemar_p(right, right) == 1


def test_delong_and_mcnemar_need_one_row_per_patient():
    pair = contender("A", 0.5, images_each=3), contender("B", 1.5, images_each=3, own=1)
    auc, accuracy = compared(*pair, measure=("accuracy", "roc_auc"), of="b", positive=("b",)).differences
    by_image = compared(*pair, measure=("accuracy",), unit="image").differences[1]

    assert accuracy.mcnemar is not None
    assert auc.measure == "roc_auc"
    assert auc.delong == pytest.approx(auc.p, abs=0.1)
    assert by_image.mcnemar is None


def test_holm_is_the_rule_of_the_smallest_first():
    assert pairing.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert pairing.holm([0.9, 0.8]) == pytest.approx([1, 1])


def test_many_models_raise_the_bar():
    many = [contender("A", 1), *(contender(f"B{k}", 1 + k, own=k) for k in range(1, 4))]
    with_first, all_pairs = compared(*many), compared(*many, all_pairs=True)

    assert [(found.reference, found.model) for found in with_first.headline] == [("A", "B1"), ("A", "B2"), ("A", "B3")]
    assert len(all_pairs.headline) == 6
    assert all(found.p_holm >= found.p for found in all_pairs.headline)
    assert "among 6 pairs" in all_pairs.headline[0].sentence


# --- how many patients ---


def test_half_the_difference_needs_four_times_the_patients():
    pair = contender("A", 0.5, patients=100), contender("B", 1.5, patients=100, own=1)
    large, small = (only(compared(*pair, difference=size)).planned for size in (0.1, 0.05))

    assert small.patients == pytest.approx(4 * large.patients, rel=0.01)
    assert large.low < large.patients < large.high
    assert large.detectable == small.detectable


def test_the_number_of_patients_does_what_it_says():
    wanted, spread, n = 0.1, 0.5, 50  # a mean of independent differences
    planned = pairing.sample_size(spread / np.sqrt(n), n, difference=wanted, power=0.8, confidence=0.95)
    rng = np.random.default_rng(0)
    means = rng.normal(wanted, spread / np.sqrt(planned.patients), size=20_000)

    found = np.mean(means - norm.ppf(0.975) * spread / np.sqrt(planned.patients) > 0)
    assert found == pytest.approx(0.8, abs=0.01)


# --- the same rows ---


def without(one, mask):
    return replace(one, predictions=one.predictions.where(mask))


def test_only_rows_that_all_were_tested_on_are_compared():
    one, other = contender("A", 1), contender("B", 2, own=1)
    found = compared(one, without(other, np.arange(40) < 30))

    assert only(found).n_patients == 30
    assert found.notes == (
        "10 test images of 'A' left out: not tested by every run. Compared: 30 images of 30 patients.",
    )


def test_the_order_of_rows_and_of_classes_does_not_matter():
    one, other = contender("A", 1, n_classes=3), contender("B", 2, own=1, n_classes=3)
    order = np.random.default_rng(0).permutation(40)
    turned = other.predictions
    table = turned.table.iloc[order].reset_index(drop=True)
    shuffled = replace(other, predictions=Predictions(("c", "a", "b"), table, turned.scores[order][:, [2, 0, 1]]))

    assert compared(one, shuffled).differences == compared(one, other).differences


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda one: without(one, np.zeros(40, dtype=bool)), "CMP_NO_COMMON"),
        (lambda one: replace(one, predictions=replace(one.predictions, classes=("a", "z"))), "CMP_CLASSES"),
        (lambda one: replace(one, digests=dict.fromkeys(one.predictions.table["path"], "other")), "CMP_IMAGES"),
        (lambda one: relabelled(one, "label", "b"), "CMP_LABELS"),
        (lambda one: relabelled(one, "patient_id", "p005"), "CMP_PATIENTS"),
    ],
)
def test_what_was_not_asked_the_same_is_refused(change, code):
    one = contender("A", 1)
    one = replace(one, digests=dict.fromkeys(one.predictions.table["path"], "same"))
    with pytest.raises(DataError) as refused:
        compared(one, change(replace(one, name="B")))
    assert refused.value.code == code


def relabelled(one, column, value):
    table = one.predictions.table.copy()
    table.loc[0, column] = value
    return replace(one, predictions=replace(one.predictions, table=table))


@pytest.mark.parametrize(
    ("names", "options", "code"),
    [
        (["A"], {}, "CMP_ONE_RUN"),
        (["A", "A"], {}, "CMP_SAME_NAME"),
        (["A", "B"], {"measure": ("acuracy",)}, "UNKNOWN_MEASURE"),
        (["A", "B"], {"measure": ("recall",), "of": "z"}, "UNKNOWN_MEASURE"),
    ],
)
def test_what_cannot_be_compared_is_said(names, options, code):
    with pytest.raises(UsageError) as refused:
        compared(*(contender(name, 1) for name in names), **options)
    assert refused.value.code == code


def test_what_is_struck_stays_struck():
    found = compared(contender("A", 0.5), contender("B", 3, struck="The split is by image."))

    assert only(found).struck
    assert only(found).sentence.endswith("Struck through: not a result.")
    assert found.notes == ("'B' is struck through: The split is by image.",)


def test_a_class_with_too_few_patients_is_left_out_and_named():
    one, other = contender("A", 1, n_classes=3), contender("B", 2, own=1, n_classes=3)
    keep = (np.arange(40) % 3 < 2) | (np.arange(40) < 9)  # three patients of class c
    found = compared(without(one, keep), without(other, keep))

    assert found.headline[0].of == "a + b"
    assert found.headline[0].value is not None
