"""An evaluation counts patients, says how sure it is, and withholds what it cannot know."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import norm
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from plainfilm.errors import DataError, UsageError
from plainfilm.evaluation import evaluate_predictions
from plainfilm.measures import Evaluation, EvaluationOptions, Measure
from plainfilm.prediction import Predictions

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared/data")


def predictions_of(labels, scores, patient_ids=None, *, classes=("a", "b", "c"), split="test"):
    """Predictions of some images; a patient each where no ids are given."""
    ids = [f"p{i:04}" for i in range(len(labels))] if patient_ids is None else patient_ids
    paths = [f"{i}.png" for i in range(len(labels))]
    table = pd.DataFrame({"path": paths, "label": labels, "patient_id": ids, "split": split}, dtype=object)
    return Predictions(classes, table, np.asarray(scores, dtype=np.float64))


def sampled(*, patients=60, images_each=1, n_classes=3, alike=0.0, skill=1.5, seed=0):
    """Predictions whose images of one patient share the part `alike` of their error."""
    rng = np.random.default_rng(seed)
    y_patient = np.arange(patients) % n_classes
    patient = np.repeat(np.arange(patients), images_each)
    y_true = y_patient[patient]
    shared, own = rng.normal(size=(patients, n_classes)), rng.normal(size=(len(patient), n_classes))
    error = np.sqrt(alike) * shared[patient] + np.sqrt(1 - alike) * own
    logits = skill * np.eye(n_classes)[y_true] + error
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = tuple("abcdef"[:n_classes])
    return predictions_of([classes[c] for c in y_true], scores, [f"p{i:04}" for i in patient], classes=classes)


def perfect(*, patients=75, images_each=1, classes=("a", "b")):
    y_true = np.repeat(np.arange(patients) % len(classes), images_each)
    scores = 0.1 / (len(classes) - 1) + (0.9 - 0.1 / (len(classes) - 1)) * np.eye(len(classes))[y_true]
    ids = [f"p{i:04}" for i in np.repeat(np.arange(patients), images_each)]
    return predictions_of([classes[c] for c in y_true], scores, ids, classes=classes)


def evaluated(predictions, *, patients="documented", split_unit="patient", **options):
    chosen = EvaluationOptions(**{"draws": 200, **options})
    return evaluate_predictions(predictions, patients=patients, split_unit=split_unit, options=chosen)


# --- truth and prediction are not swapped ---


def test_support_is_the_true_count_and_recall_is_the_diagonal_over_the_row():
    predictions = sampled(patients=45, images_each=4, skill=0.8)
    evaluation = evaluated(predictions)
    truth = predictions.table["label"].value_counts()

    matrix = evaluation.confusion(unit="image")
    assert matrix.support == tuple(truth[name] for name in "abc")
    assert matrix.counts != tuple(zip(*matrix.counts, strict=True))  # a swap would show
    for c, name in enumerate("abc"):
        found = evaluation.measure("recall", unit="image", of=name)
        assert found.value == matrix.counts[c][c] / truth[name] == matrix.share[c][c]
        assert found.n_images == truth[name]
        called = evaluation.measure("precision", unit="image", of=name)
        assert called.n_images == sum(row[c] for row in matrix.counts)


def test_every_number_is_that_of_scikit_learn():
    predictions = sampled(patients=60, skill=1.0)
    evaluation = evaluated(predictions)
    y_true = pd.Categorical(predictions.table["label"]).codes

    expected = confusion_matrix(y_true, predictions.y_pred)
    assert np.array_equal(evaluation.confusion(unit="image").counts, expected)
    for c, name in enumerate("abc"):
        auc = evaluation.measure("roc_auc", unit="image", of=name).value
        assert auc == pytest.approx(roc_auc_score(y_true == c, predictions.scores[:, c]), abs=1e-9)
        ap = evaluation.measure("average_precision", unit="image", of=name).value
        assert ap == pytest.approx(average_precision_score(y_true == c, predictions.scores[:, c]), abs=1e-9)
    macro = evaluation.measure("macro_roc_auc", unit="image").value
    assert macro == pytest.approx(roc_auc_score(y_true, predictions.scores, multi_class="ovr"), abs=1e-9)


# --- patients ---


def test_a_patient_scores_the_mean_of_their_images():
    labels, ids = ["a"] * 3 + ["b"] * 3, ["p1"] * 3 + ["p2"] * 3
    # Two of the three images of p1 are wrong, but the third is so sure that the mean is right.
    first = [[0.4, 0.6], [0.4, 0.6], [1.0, 0.0]]
    pairs = [(f"{label}{i}", score) for i in range(5) for label, score in zip("ab", ([1, 0], [0, 1]), strict=True)]
    labels += [name[0] for name, _ in pairs]
    ids += [name for name, _ in pairs]
    scores = first + [[0.2, 0.8]] * 3 + [score for _, score in pairs]
    evaluation = evaluated(predictions_of(labels, scores, ids, classes=("a", "b")))

    assert evaluation.confusion(unit="image").counts == ((6, 2), (0, 8))
    assert evaluation.confusion(unit="patient").counts == ((6, 0), (0, 6))
    assert (evaluation.n_images, evaluation.n_patients) == (16, 12)


def test_a_patient_under_two_labels_has_two_rows_and_is_drawn_as_one():
    predictions = sampled(patients=30, images_each=2)
    predictions.table.loc[[0, 2, 4], "label"] = ["b", "c", "a"]
    evaluation = evaluated(predictions)

    accuracy = evaluation.measure("accuracy", unit="patient")
    assert sum(evaluation.confusion(unit="patient").support) == 33
    assert (accuracy.n_images, accuracy.n_patients) == (60, 30)
    assert accuracy.interval == "bootstrap"  # 33 rows of 30 patients are not independent
    assert any(note.startswith("3 patients with images under two labels") for note in evaluation.notes)


@given(st.randoms(use_true_random=False))
@settings(max_examples=5, deadline=None)
def test_the_order_of_the_rows_does_not_matter(random):
    predictions = sampled(patients=20, images_each=3, n_classes=2)
    order = list(range(len(predictions)))
    random.shuffle(order)
    table = predictions.table.iloc[order].reset_index(drop=True)
    shuffled = Predictions(predictions.classes, table, predictions.scores[order])

    for one, other in zip(evaluated(predictions).measures, evaluated(shuffled).measures, strict=True):
        assert (one.name, one.of, one.interval) == (other.name, other.of, other.interval)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-9)


# --- intervals ---


def test_the_same_seed_gives_the_same_evaluation_and_another_seed_other_intervals():
    predictions = sampled(images_each=3, alike=0.5)
    one, other = evaluated(predictions, draw_seed=1), evaluated(predictions, draw_seed=2)

    assert one == evaluated(predictions, draw_seed=1)
    assert one.confusions[0].counts == other.confusions[0].counts
    assert one.measure("accuracy", unit="image").low != other.measure("accuracy", unit="image").low


def test_the_image_interval_widens_as_images_of_a_patient_agree():
    def width(alike):
        measure = evaluated(sampled(patients=60, images_each=8, alike=alike)).measure("accuracy", unit="image")
        return measure.high - measure.low

    assert width(0.9) > 1.5 * width(0.0)


def test_images_that_repeat_each_other_count_as_one():
    once = sampled(patients=60)
    again = np.repeat(np.arange(60), 10)
    tenfold = Predictions(once.classes, once.table.iloc[again].reset_index(drop=True), once.scores[again])
    evaluation = evaluated(tenfold, draws=2000)

    assert evaluation.design_effect == pytest.approx(10, rel=0.15)
    assert evaluation.effective_images == pytest.approx(60, rel=0.15)
    assert evaluated(once).design_effect is None


@pytest.mark.parametrize("images_each", [1, 4])
def test_all_right_is_never_a_certainty(images_each):
    evaluation = evaluated(perfect(images_each=images_each), positive=("b",))

    for measure in evaluation.measures:
        if measure.name in {"majority_rate", "log_loss", "brier_score"} or measure.name.startswith("calibration"):
            continue
        assert measure.value == 1
        if "average_precision" in measure.name:
            assert measure.interval == "none"
            assert "every draw gave the same value" in measure.reason
        else:
            assert 0.85 < measure.low < 0.98
            assert measure.high == 1
    assert evaluation.headline.interval == "newcombe"
    assert evaluation.measure("accuracy", unit="patient").low == pytest.approx(0.9513, abs=1e-4)
    assert evaluation.confusion(unit="image").high[0][1] > 0.05


def test_one_row_per_patient_has_a_wilson_interval_and_several_have_draws():
    evaluation = evaluated(sampled(images_each=3, alike=0.5, skill=1.0))

    assert evaluation.measure("accuracy", unit="patient").interval == "wilson"
    assert evaluation.measure("balanced_accuracy", unit="patient").interval == "wilson"
    assert evaluation.measure("accuracy", unit="image").interval == "bootstrap"
    assert evaluation.measure("macro_roc_auc", unit="patient").interval == "bootstrap"


def test_every_interval_holds_its_number():
    evaluation = evaluated(sampled(images_each=3, alike=0.5, skill=1.0), positive=("a", "b"))

    for measure in evaluation.measures:
        if measure.low is not None:
            assert measure.low <= measure.value <= measure.high
    for matrix in evaluation.confusions:
        assert (np.array(matrix.low) <= matrix.share).all()
        assert (np.array(matrix.share) <= matrix.high).all()


@pytest.mark.long
def test_intervals_cover_the_truth_in_40_patients_of_several_images():
    """100 test sets drawn anew: about 95 intervals hold the accuracy and the AUC that the model truly has."""
    skill, spread = 1.0, np.sqrt(2)  # error of an image: half shared by the patient, half its own
    true_accuracy, true_auc = norm.cdf(skill / 2 / spread), norm.cdf(skill / spread / np.sqrt(2))
    held = np.zeros(2)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y_patient = np.arange(40) % 2
        patient = np.repeat(np.arange(40), 6)
        evidence = skill * (y_patient - 0.5)[patient] + rng.normal(size=40)[patient] + rng.normal(size=240)
        score = 1 / (1 + np.exp(-evidence))
        labels, ids = np.array(["a", "b"])[y_patient[patient]], [f"p{i:02}" for i in patient]
        predictions = predictions_of(labels, np.column_stack([1 - score, score]), ids, classes=("a", "b"))
        evaluation = evaluated(predictions, draw_seed=seed)
        measures = evaluation.measure("accuracy", unit="image"), evaluation.measure("roc_auc", unit="image", of="b")
        held += [
            measure.low <= truth <= measure.high
            for measure, truth in zip(measures, (true_accuracy, true_auc), strict=True)
        ]

    assert (held >= 87).all()
    assert (held <= 99).all()


# --- what is withheld ---


def with_a_rare_class(rare, *, others=35):
    """Classes a and b with `others` patients each, c with `rare`."""
    labels = ["a"] * others + ["b"] * others + ["c"] * rare
    rng = np.random.default_rng(0)
    logits = 1.5 * np.eye(3)[["abc".index(name) for name in labels]] + rng.normal(size=(len(labels), 3))
    return predictions_of(labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def test_a_class_of_four_patients_gets_no_figures_and_is_left_out_of_averages_by_name():
    evaluation = evaluated(with_a_rare_class(4))

    for name in ("precision", "recall", "f1", "roc_auc", "average_precision"):
        withheld = evaluation.measure(name, unit="patient", of="c")
        assert (withheld.value, withheld.low, withheld.interval) == (None, None, "none")
        assert withheld.reason == "only 4 patients with the label 'c'; 5 are needed"
    for name in ("balanced_accuracy", "macro_precision", "macro_f1", "macro_roc_auc", "macro_average_precision"):
        assert evaluation.measure(name, unit="patient").value is None
        assert "only 4 patients with the label 'c'" in evaluation.measure(name, unit="patient").reason
        assert evaluation.measure(name, unit="patient", of="a + b").value is not None
    average = evaluation.measure("balanced_accuracy", unit="patient", of="a + b")
    recalls = [evaluation.measure("recall", unit="patient", of=name).value for name in "ab"]
    assert average.value == pytest.approx(np.mean(recalls))
    assert evaluation.headline == average
    assert evaluation.confusion(unit="patient").share[2] == (None, None, None)
    assert evaluation.confusion(unit="patient").support == (35, 35, 4)
    assert {curve.of for curve in evaluation.curves} == {"a", "b"}


def test_a_class_of_29_patients_gets_a_caution_and_one_of_30_none():
    few, enough = (evaluated(with_a_rare_class(n)).measure("recall", unit="patient", of="c") for n in (29, 30))

    assert few.reason == "caution: only 29 patients with the label 'c'"
    assert enough.reason == ""


def test_many_images_of_four_patients_are_still_four_patients():
    predictions = with_a_rare_class(40)
    predictions.table.loc[70:, "patient_id"] = [f"c{i % 4}" for i in range(40)]

    assert evaluated(predictions).measure("recall", unit="image", of="c").value is None


def test_a_ranking_needs_patients_outside_the_class_too():
    evaluation = evaluated(with_a_rare_class(0, others=35).where(np.arange(70) < 38))

    assert evaluation.measure("recall", unit="patient", of="a").value is not None
    assert evaluation.measure("roc_auc", unit="patient", of="a").reason == (
        "only 3 patients without the label 'a'; 5 are needed"
    )


def test_the_precision_of_a_class_never_predicted_is_undefined_and_not_zero():
    predictions = sampled(patients=60)
    predictions.scores[:, 2] = 0
    predictions.scores[:] /= predictions.scores.sum(axis=1, keepdims=True)
    evaluation = evaluated(predictions)

    assert evaluation.measure("precision", unit="patient", of="c").value is None
    assert evaluation.measure("precision", unit="patient", of="c").reason.startswith("undefined")
    assert evaluation.measure("recall", unit="patient", of="c").value == 0
    assert evaluation.measure("recall", unit="patient", of="c").high > 0.05
    assert evaluation.measure("macro_precision", unit="patient").value is None
    assert evaluation.measure("macro_precision", unit="patient", of="a + b").value is not None


def test_a_handful_of_patients_gets_no_number_at_all():
    evaluation = evaluated(sampled(patients=4, n_classes=2))

    assert evaluation.headline.value is None
    assert [m.name for m in evaluation.measures if m.value is not None] == []


# --- two-way reading ---


def test_the_two_way_reading_sums_the_scores_of_its_classes():
    predictions = sampled(patients=60, skill=1.0)
    evaluation = evaluated(predictions, positive=("c", "a"), threshold=0.6)
    truth = predictions.table["label"].isin(["a", "c"]).to_numpy()
    score = predictions.scores[:, [0, 2]].sum(axis=1)
    called = score >= 0.6

    def read(name):
        return evaluation.measure(name, unit="patient", of="a + c").value

    assert read("sensitivity") == called[truth].mean()
    assert read("specificity") == (~called)[~truth].mean()
    assert read("ppv") == truth[called].mean()
    assert read("npv") == (~truth)[~called].mean()
    assert read("roc_auc") == pytest.approx(roc_auc_score(truth, score), abs=1e-9)
    assert read("average_precision") == pytest.approx(average_precision_score(truth, score), abs=1e-9)
    assert evaluation.headline == evaluation.measure("roc_auc", unit="patient", of="a + c")
    matrix = evaluation.confusion(unit="patient", of="a + c")
    assert matrix.classes == ("b", "a + c")
    assert np.array_equal(matrix.counts, confusion_matrix(truth, called))


def test_a_patient_under_two_positive_labels_is_one_row_of_the_two_way_reading():
    predictions = sampled(patients=30, images_each=2)
    predictions.table.loc[0, "label"] = "b"  # the other image of this patient is an `a`
    evaluation = evaluated(predictions, positive=("a", "b"))

    assert sum(evaluation.confusion(unit="patient").support) == 31
    assert sum(evaluation.confusion(unit="patient", of="a + b").support) == 30


def test_a_reading_of_one_class_does_not_repeat_its_figures():
    evaluation = evaluated(sampled(), positive=("a",))
    keys = [(measure.name, measure.unit, measure.of) for measure in evaluation.measures]
    curves = [(curve.kind, curve.unit, curve.of) for curve in evaluation.curves]

    assert len(set(keys)) == len(keys)
    assert len(set(curves)) == len(curves)
    assert ("sensitivity", "patient", "a") in keys


@pytest.mark.parametrize(
    ("positive", "message"), [(("d",), "No class named 'd'"), (("a", "b", "c"), "leave at least one out")]
)
def test_a_reading_of_no_class_or_of_every_class_is_refused(positive, message):
    with pytest.raises(UsageError, match=message):
        evaluated(sampled(), positive=positive)


# --- what it is worth ---


@pytest.mark.parametrize(
    ("patients", "split_unit", "level"),
    [
        ("unknown", "patient", 0),
        ("unknown", "image", 0),
        ("documented", "image", 1),
        ("recovered", "image", 1),
        ("documented", "patient", 2),
        ("recovered", "patient", 2),
        ("declared", "patient", 2),
        ("declared", "image", 2),
    ],
)
def test_the_evidence_level_follows_the_unit_and_the_split(patients, split_unit, level):
    evaluation = evaluated(sampled(), patients=patients, split_unit=split_unit)

    assert evaluation.evidence_level == level
    assert (evaluation.struck is None) == (level == 2)


def test_without_patients_images_are_counted_and_every_number_says_so():
    predictions = sampled(images_each=2)
    predictions.table["patient_id"] = None
    evaluation = evaluated(predictions, patients="unknown", split_unit="image")

    assert evaluation.units == ("image",)
    assert all(measure.n_patients is None for measure in evaluation.measures)
    assert all("not known to be independent" in measure.reason for measure in evaluation.measures)
    assert evaluation.headline.unit == "image"
    assert evaluation.struck.startswith("The split is by image")
    with pytest.raises(UsageError, match="patients are not known"):
        evaluation.measure("accuracy", unit="patient")


def test_one_image_per_patient_may_be_declared_without_ids():
    predictions = sampled()
    predictions.table["patient_id"] = None
    evaluation = evaluated(predictions, patients="declared")

    assert evaluation.n_patients == evaluation.n_images == 60
    assert evaluation.headline.unit == "patient"
    assert any("declared" in note for note in evaluation.notes)


def test_a_declaration_that_the_ids_contradict_is_refused():
    with pytest.raises(DataError, match="p0000 has several images") as caught:
        evaluated(sampled(images_each=2), patients="declared")

    assert caught.value.code == "EVL_NOT_ONE_EACH"


def test_a_score_on_training_or_validation_images_is_struck():
    trained, chosen = sampled(), sampled()
    trained.table.loc[:9, "split"] = "train"
    chosen.table["split"] = "validation"

    assert evaluated(trained).struck.startswith("10 images of 60 trained the model")
    assert "on which the epoch was chosen" in evaluated(chosen).struck
    assert any("by which the model was chosen" in note for note in evaluated(chosen).notes)


# --- the door ---


def test_images_without_a_label_are_left_out_and_counted():
    predictions = sampled(patients=60)
    predictions.table.loc[:2, "label"] = None
    evaluation = evaluated(predictions)

    assert evaluation.n_images == 57
    assert "3 images without a label left out." in evaluation.notes


def broken(**cells):
    predictions = sampled(patients=60)
    for column, value in cells.items():
        predictions.table.loc[:1, column] = value
    return predictions


def with_scores(change):
    predictions = sampled(patients=60)
    change(predictions.scores)
    return predictions


@pytest.mark.parametrize(
    ("predictions", "code"),
    [
        (broken(label="d"), "EVL_UNKNOWN_LABEL"),
        (broken(patient_id=None), "EVL_NO_PATIENT_ID"),
        (predictions_of([None], [[1, 0, 0]]), "EVL_NO_LABELS"),
        (with_scores(lambda scores: scores.__setitem__((3, 0), np.nan)), "EVL_SCORES"),
        (with_scores(lambda scores: scores.__setitem__(3, [0.5, 0.8, -0.3])), "EVL_SCORES"),
        (with_scores(lambda scores: scores.__imul__(2)), "EVL_SCORES"),
        (predictions_of(["a"], [[0.5, 0.5]]), "EVL_SCORES"),
    ],
)
def test_predictions_that_break_their_promise_are_refused(predictions, code):
    with pytest.raises(DataError) as caught:
        evaluated(predictions)

    assert caught.value.code == code


@pytest.mark.parametrize("options", [{"draws": 1}, {"confidence": 1.0}, {"threshold": 0}, {"drwas": 500}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ValidationError):
        EvaluationOptions(**options)


# --- results ---


@pytest.mark.parametrize("patients", ["documented", "unknown"])
def test_an_evaluation_comes_back_from_json(patients):
    evaluation = evaluated(with_a_rare_class(4), patients=patients, positive=("b", "c"))
    text = json.dumps(evaluation.to_json(), allow_nan=False)

    assert Evaluation.from_json(json.loads(text)) == evaluation
    assert json.loads(text)["schema"] == 1


def test_json_of_another_version_or_of_something_else_is_refused():
    data = evaluated(sampled()).to_json()

    with pytest.raises(DataError, match="schema 99") as caught:
        Evaluation.from_json({**data, "schema": 99})
    assert caught.value.code == "EVL_SCHEMA"
    with pytest.raises(DataError, match="headline") as caught:
        Evaluation.from_json({key: value for key, value in data.items() if key != "headline"})
    assert caught.value.code == "EVL_INVALID"


def test_a_measure_that_does_not_exist_is_answered_with_the_nearest():
    evaluation = evaluated(sampled())

    with pytest.raises(UsageError, match="Did you mean 'balanced_accuracy'"):
        evaluation.measure("balanced_acuracy", unit="patient")
    with pytest.raises(UsageError, match=r"no recall with of='d'.*of='a', of='b', of='c'"):
        evaluation.measure("recall", unit="patient", of="d")
    with pytest.raises(UsageError, match="two-way reading"):
        evaluation.confusion(unit="patient", of="a + b")


def measure(**fields):
    given = {"name": "accuracy", "unit": "patient", "of": None, "value": 0.9123, "low": 0.874, "high": 0.943}
    return Measure(**{**given, "n_images": 1280, "n_patients": 412, "interval": "wilson", **fields})


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (measure(), "0.912 (95% CI 0.874-0.943, 412 patients)"),
        (measure(unit="image"), "0.912 (95% CI 0.874-0.943, 1280 images of 412 patients)"),
        (measure(unit="image", n_patients=None), "0.912 (95% CI 0.874-0.943, 1280 images)"),
        (measure(n_patients=1, confidence=0.999), "0.912 (99.9% CI 0.874-0.943, 1 patient)"),
        (measure(low=None, high=None), "0.912 (412 patients)"),
        (measure(value=None, low=None, high=None, reason="only 2 patients"), "not given (only 2 patients)"),
    ],
)
def test_a_measure_is_printed_with_its_interval_and_its_count(shown, text):
    assert str(shown) == text


def test_curves_are_thinned_and_run_from_left_to_right():
    evaluation = evaluated(sampled(patients=900, n_classes=2), draws=100)

    for curve in evaluation.curves:
        assert len(curve.x) == len(curve.y) <= 200
        assert (np.diff(curve.x) >= 0).all()
        assert curve.prevalence == 0.5
    assert {curve.kind for curve in evaluation.curves} == {"roc", "precision_recall"}


# --- real patients ---


@needs_shared
@pytest.mark.shared
def test_the_alzheimer_set_has_two_patients_with_moderate_dementia_and_no_figure_for_them():
    table = pd.read_csv(SHARED / "alzheimer-mri.csv", dtype=str)
    classes = tuple(sorted(table["label"].unique()))
    y_true = pd.Categorical(table["label"], categories=classes).codes
    patient = pd.factorize(table["patient_id"])[0]
    error = np.random.default_rng(0).normal(size=(200, 4))[patient]
    scores = np.exp(1.5 * np.eye(4)[y_true] + error)
    scores /= scores.sum(axis=1, keepdims=True)
    predictions = predictions_of(table["label"], scores, table["patient_id"], classes=classes)
    evaluation = evaluated(predictions)

    assert (evaluation.n_images, evaluation.n_patients) == (6400, 200)
    assert sorted(evaluation.confusion(unit="patient").support) == [2, 28, 70, 100]
    assert evaluation.measure("recall", unit="image", of="Moderate_Demented").value is None
    assert evaluation.headline.of == "Mild_Demented + Non_Demented + Very_Mild_Demented"
    # Every slice of a patient scores alike here: 32 slices tell no more than one.
    assert evaluation.design_effect == pytest.approx(32, rel=0.25)
