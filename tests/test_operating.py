"""A threshold is chosen on validation patients alone, and measured on patients that chose nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from plainfilm.bundle import read_config
from plainfilm.evaluation import evaluate_predictions
from plainfilm.fold_thresholds import FoldChoice, with_fold_thresholds
from plainfilm.measures import Evaluation, EvaluationOptions
from plainfilm.operating import (
    THRESHOLDS,
    OperatingOptions,
    Rule,
    called_positive,
    net_benefit,
    npv_at,
    ppv_at,
    with_operating_point,
)
from plainfilm.prediction import Predictions
from plainfilm.storage import read_json
from plainfilm.summaries import evaluation_summary, prediction_summary
from plainfilm.verbs import evaluate, predict, report
from small_runs import train_small, write_small_data


def scored(patients=120, *, ill=0.5, split="test", images_each=2, strength=2.5, seed=0):
    """Healthy and ill patients, each with a few images whose scores resemble each other."""
    rng = np.random.default_rng(seed)
    y = np.arange(patients) < round(ill * patients)
    patient = np.repeat(np.arange(patients), images_each)
    logit = (strength * (y - 0.5) + rng.normal(size=patients))[patient] + 0.3 * rng.normal(size=len(patient))
    p = 1 / (1 + np.exp(-logit))
    table = pd.DataFrame(
        {
            "path": [f"{split}{index}.png" for index in range(len(patient))],
            "label": [("healthy", "ill")[c] for c in y[patient].astype(int)],
            "patient_id": [f"{split}{index}" for index in patient],
            "split": split,
        },
        dtype=object,
    )
    return Predictions(("healthy", "ill"), table, np.column_stack([1 - p, p]))


def found(tested=None, choosing=None, *, positive=("ill",), patients="documented", draws=300, **options):
    tested = scored(seed=1) if tested is None else tested
    evaluation = evaluate_predictions(
        tested, patients=patients, split_unit="patient", options=EvaluationOptions(draws=draws, positive=positive)
    )
    return with_operating_point(
        evaluation,
        tested,
        scored(split="validation", seed=2) if choosing is None else choosing,
        choosing_patients="documented",
        options=OperatingOptions(**options),
    )


def figure(evaluation, name):
    (measure,) = [measure for measure in evaluation.operating.measures if measure.name == name]
    return measure


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=4, max_size=40),
    floor=st.sampled_from([0.5, 0.8, 0.9, 0.95]),
)
def test_a_rule_gets_what_it_asks_of_those_it_is_chosen_on(scores, floor):
    y, score = np.array([row[0] for row in scores]), np.array([row[1] for row in scores]) / 20
    if y.all() or not y.any():
        return
    every = np.append(np.unique(score), 2.0)

    def rates(threshold):
        called = score >= threshold
        return called[y].mean(), 1 - called[~y].mean()

    possible = [rates(threshold) for threshold in every]
    chosen = Rule("sensitivity", floor).threshold(y, score)
    assert rates(chosen)[0] >= floor - 1e-9
    assert rates(chosen)[1] == max(spared for hit, spared in possible if hit >= floor - 1e-9)

    chosen = Rule("specificity", floor).threshold(y, score)
    best = max(hit for hit, spared in possible if spared >= floor - 1e-9)
    if chosen is None:
        assert best == 0
    else:
        assert rates(chosen)[1] >= floor - 1e-9
        assert rates(chosen)[0] == best

    chosen = Rule("youden").threshold(y, score)
    most = max(hit + spared for hit, spared in possible)
    if chosen is None:
        assert most == pytest.approx(1)
    else:
        assert sum(rates(chosen)) == pytest.approx(most)


def test_a_threshold_lies_between_two_scores_that_were_seen():
    y, score = np.array([True, True, False, False]), np.array([0.9, 0.8, 0.3, 0.2])

    assert Rule("youden").threshold(y, score) == pytest.approx(0.55)


def test_the_tested_patients_choose_nothing():
    tested = scored(seed=1)
    other = Predictions(tested.classes, tested.table, tested.scores[::-1].copy())

    chosen = found(tested).operating
    assert chosen.threshold is not None
    assert found(other).operating.threshold == chosen.threshold
    assert found(other).operating.measures != chosen.measures
    assert (chosen.n_positive, chosen.n_negative) == (60, 60)


def test_the_validation_patients_alone_choose():
    thresholds = {found(choosing=scored(split="validation", seed=seed)).operating.threshold for seed in range(3)}

    assert len(thresholds) == 3


def test_the_figures_are_those_of_the_patients_at_that_threshold():
    tested = scored(seed=1)
    evaluation = found(tested, operating_rule="sensitivity=0.9")
    at_it = evaluate_predictions(
        tested,
        patients="documented",
        split_unit="patient",
        options=EvaluationOptions(draws=300, positive=("ill",), threshold=evaluation.operating.threshold),
    )

    for name in ("sensitivity", "specificity"):
        assert figure(evaluation, name) == at_it.measure(name, unit="patient", of="ill")
        assert figure(evaluation, name).interval == "wilson"


def test_ppv_and_npv_are_given_only_at_a_stated_prevalence():
    assert [measure.name for measure in found().operating.measures] == ["sensitivity", "specificity"]

    rare = found(prevalence=0.05)
    hit, spared = figure(rare, "sensitivity").value, figure(rare, "specificity").value
    assert figure(rare, "ppv").value == pytest.approx(hit * 0.05 / (hit * 0.05 + (1 - spared) * 0.95))
    assert figure(rare, "npv").value == pytest.approx(spared * 0.95 / (spared * 0.95 + (1 - hit) * 0.05))
    assert figure(rare, "ppv").low < figure(rare, "ppv").value < figure(rare, "ppv").high
    assert figure(rare, "ppv").n_patients == 120
    assert figure(found(prevalence=0.5), "ppv").value > figure(rare, "ppv").value


def test_at_the_prevalence_of_the_patients_bayes_gives_the_counted_share():
    tested = scored(ill=0.25, seed=1)
    evaluation = found(tested, prevalence=0.25)
    at_it = evaluate_predictions(
        tested,
        patients="documented",
        split_unit="patient",
        options=EvaluationOptions(draws=300, positive=("ill",), threshold=evaluation.operating.threshold),
    )

    for name in ("ppv", "npv"):
        assert figure(evaluation, name).value == pytest.approx(at_it.measure(name, unit="patient", of="ill").value)


def test_no_mistake_still_leaves_an_interval():
    evaluation = found(scored(40, strength=30), scored(40, strength=30, split="validation"), prevalence=0.05)
    ppv, curve = figure(evaluation, "ppv"), evaluation.decision

    assert (ppv.value, ppv.high) == (1, 1)
    assert ppv.low < 0.5
    assert curve.model[49] == 0.5
    assert curve.low[49] < 0.45
    with np.errstate(invalid="raise", divide="raise"):
        assert np.isnan(ppv_at(np.zeros(1), np.ones(1), 0.05)[0])
        assert np.isnan(npv_at(np.ones(1), np.zeros(1), 0.05)[0])


@pytest.mark.long
def test_intervals_of_ppv_hold_the_truth_about_as_often_as_they_say():
    prevalence, choosing = 0.2, scored(200, split="validation", images_each=1, seed=1)
    everybody = scored(40_000, images_each=1, seed=99)
    ill = (everybody.table["label"] == "ill").to_numpy()
    held = 0
    for seed in range(60):
        tested = scored(150, images_each=1, seed=seed)
        evaluation = found(tested, choosing, prevalence=prevalence, draws=200)
        called = everybody.scores[:, 1] >= evaluation.operating.threshold
        truth = ppv_at(np.asarray(called[ill].mean()), np.asarray((~called[~ill]).mean()), prevalence)
        held += figure(evaluation, "ppv").low <= truth <= figure(evaluation, "ppv").high

    assert held >= 52


@pytest.mark.parametrize("ill", [0.05, 0.95])
def test_too_few_validation_patients_on_a_side_choose_no_threshold(ill):
    evaluation = found(choosing=scored(100, ill=ill, split="validation"))

    assert evaluation.operating.threshold is None
    assert evaluation.operating.measures == ()
    assert evaluation.operating.reason == "only 5 validation patients on one side; 10 are needed"
    assert evaluation.operating.reason in evaluation_summary(evaluation)
    assert evaluation.decision is not None


def test_few_validation_patients_bring_a_caution():
    assert found(choosing=scored(40, split="validation")).operating.reason == (
        "caution: chosen on only 20 validation patients of one side"
    )


def test_nothing_is_chosen_on_what_is_measured_or_unknown_or_useless():
    tested = scored(seed=1)
    evaluation = found(tested)

    def reason(choosing, patients="documented", measured=evaluation):
        point = with_operating_point(
            measured, tested, choosing, choosing_patients=patients, options=OperatingOptions()
        ).operating
        assert point.threshold is None
        return point.reason

    flat = scored(split="validation")
    assert "are measured" in reason(None)
    assert "mean of several folds" in reason(tested.tested("validation"))
    assert "not known" in reason(flat, "unknown")
    assert "not known" in reason(flat, measured=replace(evaluation, patients="unknown"))
    same = np.full_like(flat.scores, 0.5)
    assert "no threshold does" in reason(Predictions(flat.classes, flat.table, same))


def test_without_a_positive_class_nothing_is_added():
    evaluation = found(positive=())

    assert (evaluation.operating, evaluation.decision) == (None, None)
    assert "operating" not in evaluation_summary(evaluation)


def test_net_benefit_is_that_of_counted_patients():
    y, score = np.arange(10) < 4, np.array([0.9, 0.8, 0.6, 0.1, 0.7, 0.3, 0.2, 0.2, 0.1, 0.05])
    at = np.array([0.5])

    # 3 of 10 found, 1 of 10 called in vain; at 0.5 a false alarm weighs as much as a hit.
    assert net_benefit(*called_positive(y, score, at), at, prevalence=0.4)[0] == pytest.approx(0.3 - 0.1)
    weights = np.stack([np.ones(10), np.where(y, 2.0, 1.0)])
    assert called_positive(y, score, at, weights)[0].tolist() == [[0.75], [0.75]]


def test_the_decision_curve_begins_at_treating_all_and_ends_at_treating_none():
    curve = found(scored(300, ill=0.3, seed=1), draws=200).decision

    assert curve.prevalence == pytest.approx(0.3)
    assert curve.model[0] == pytest.approx(curve.treat_all[0], abs=0.01)
    assert curve.model[-1] == pytest.approx(0, abs=0.05)
    assert np.interp(0.3, curve.thresholds, curve.treat_all) == pytest.approx(0, abs=1e-9)
    assert all(low <= value <= high for low, value, high in zip(curve.low, curve.model, curve.high, strict=True))
    first, last = curve.useful
    assert first < 0.3 < last


def test_scores_without_a_meaning_are_never_called_useful():
    for seed in range(5):
        curve = found(scored(200, strength=0, seed=seed), draws=200).decision
        middle = [low for low, at in zip(curve.low, curve.thresholds, strict=True) if at == pytest.approx(0.5)]
        assert middle[0] < 0


def test_the_same_seed_gives_the_same_and_json_keeps_it():
    evaluation = found(prevalence=0.1)

    assert found(prevalence=0.1) == evaluation
    assert Evaluation.from_json(evaluation.to_json()) == evaluation
    assert len(evaluation.decision.thresholds) == len(THRESHOLDS)


def test_an_older_evaluation_still_loads():
    written = found().to_json()
    del written["operating"], written["decision"]

    assert Evaluation.from_json(written).operating is None


@pytest.mark.parametrize("rule", ["best", "sensitivity", "sensitivity=1.5", "specificity=x", "accuracy=0.9", ""])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(ValidationError, match=r"a rule is youden, sensitivity=0\.9"):
        OperatingOptions(operating_rule=rule)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("operating")
    data = write_small_data(folder / "data", patients=60, images_per_patient=2)
    return train_small(data, folder / "run", positive=["abnormal"], draws=100, threshold_patients=2, prevalence=0.05)


def test_a_training_gives_it_and_evaluate_the_same(run):
    trained = Evaluation.from_json(read_json(run.evaluation))

    assert trained.operating.threshold is not None
    assert trained.decision is not None
    again = evaluate(run.folder)
    assert (again.operating, again.decision) == (trained.operating, trained.decision)
    assert evaluate(run.folder, overrides={"prevalence": 0.5}).operating.prevalence == 0.5


def test_a_run_chooses_on_its_validation_patients_and_no_others(run):
    kept = Predictions.load(run.predictions)
    chosen = with_operating_point(
        Evaluation.from_json(read_json(run.evaluation)),
        kept.tested("test"),
        kept.tested("validation"),
        choosing_patients="documented",
        options=OperatingOptions(threshold_patients=2, prevalence=0.05),
    )

    assert chosen.operating == Evaluation.from_json(read_json(run.evaluation)).operating
    validation = set(kept.tested("validation").table["patient_id"])
    assert not validation & set(kept.tested("test").table["patient_id"])
    assert chosen.operating.n_positive + chosen.operating.n_negative == len(validation)


def test_the_model_measured_on_other_data_keeps_its_threshold(run, tmp_path):
    other = write_small_data(tmp_path / "other", patients=20, seed=5)

    elsewhere = evaluate(run.folder, other)
    assert elsewhere.operating.threshold == evaluate(run.folder).operating.threshold
    assert elsewhere.operating.measures != evaluate(run.folder).operating.measures


# --- in a cross-validation ----------------------------------------------------------------------------------


def found_in_folds(*choosing, tested=None, fold=None, **options):
    tested = scored(seed=1) if tested is None else tested
    evaluation = evaluate_predictions(
        tested,
        patients="documented",
        split_unit="patient",
        options=EvaluationOptions(draws=300, positive=("ill",)),
    )
    number = tested.table["patient_id"].str[4:].astype(int).to_numpy() % len(choosing) if fold is None else fold
    choice = FoldChoice(choosing, number.astype(np.intp))
    return with_fold_thresholds(
        evaluation, tested, choice, patients="documented", options=OperatingOptions(**options)
    ).operating


def test_every_fold_calls_its_own_patients_at_its_own_threshold():
    low, high = (scored(split="validation", seed=seed, strength=strength) for seed, strength in ((2, 2.5), (3, 4)))
    tested = scored(seed=1)

    point = found_in_folds(low, high, tested=tested)

    assert point.folds == tuple(found(choosing=part).operating.threshold for part in (low, high))
    by_patient = tested.table.assign(score=tested.scores[:, 1]).groupby("patient_id")
    score, ill = by_patient["score"].mean(), by_patient["label"].first() == "ill"
    own = np.array(point.folds)[score.index.str[4:].astype(int) % 2]
    sensitivity, specificity = (measure.value for measure in point.measures)
    assert sensitivity == pytest.approx((score >= own)[ill].mean())
    assert specificity == pytest.approx((score < own)[~ill].mean())
    assert (point.n_positive, point.n_negative) == (60, 60)


def test_no_tested_row_can_move_the_threshold_it_is_called_at():
    parts = [scored(split="validation", seed=seed) for seed in (2, 3)]
    tested = scored(seed=1)
    wrong = tested.table.assign(label=np.where(tested.table["label"] == "ill", "healthy", "ill"))
    changed = Predictions(tested.classes, wrong, tested.scores[:, ::-1].copy())

    assert found_in_folds(*parts, tested=changed).folds == found_in_folds(*parts, tested=tested).folds


def test_a_fold_that_cannot_choose_leaves_none_to_all():
    point = found_in_folds(scored(split="validation", seed=2), scored(8, split="validation", seed=3))

    assert (point.threshold, point.folds, point.measures) == (None, (), ())
    assert point.reason == "fold 2 of 2: only 4 validation patients on one side; 10 are needed"


def test_a_patient_in_several_folds_has_no_threshold():
    parts = [scored(split="validation", seed=seed) for seed in (2, 3)]

    assert "several folds" in found_in_folds(*parts, fold=np.arange(240) % 2).reason


def test_a_cross_validated_run_has_it_from_validation_patients_that_the_fold_does_not_test(tmp_path):
    data = write_small_data(tmp_path / "data", patients=24, images_per_patient=1)
    options = {"positive": ["abnormal"], "draws": 100, "folds": 2, "epochs": 1, "threshold_patients": 2}
    run = train_small(data, tmp_path / "folds", model="lenet5", validation_fraction=0.4, **options)

    point = Evaluation.from_json(read_json(run.evaluation)).operating
    assert len(point.folds) == 2
    assert evaluate(run.folder).operating == point
    rows = run.read_table()
    for number in (1, 2):
        chosen_on = Predictions.load(run.choosing(number, 2))
        assert set(chosen_on.table["split"]) == {"validation"}
        assert not set(chosen_on.table["patient_id"]) & set(rows.loc[rows["fold"] == number, "patient_id"])
    assert len(Predictions.load(run.predictions)) == 24
    assert "Each of 2 folds chose a threshold of its own" in run.report.read_text()


def test_the_report_shows_it(run):
    page = report(run.folder).read_text("utf-8")

    assert "Operating point for" in page
    assert "Decision curve over" in page
    assert "operating point for" in evaluation_summary(Evaluation.from_json(read_json(run.evaluation)))


# --- in the bundle, for new images --------------------------------------------------------------------------


def test_predict_calls_new_images_at_the_threshold_of_the_run(run, tmp_path):
    threshold = evaluate(run.folder).operating.threshold
    images = write_small_data(tmp_path / "new", patients=10, seed=5)

    predictions, table = predict(run.folder, images, workers=0, output=tmp_path / "scores.csv")

    ill = predictions.scores[:, predictions.classes.index("abnormal")]
    assert predictions.table["call"].tolist() == ["positive" if score >= threshold else "negative" for score in ill]
    assert set(predictions.table["call"]) == {"positive", "negative"}
    called = int((ill >= threshold).sum())
    assert f"called positive, at the threshold of the run: {called:,}" in prediction_summary(predictions, table)
    written = pd.read_csv(tmp_path / "scores.csv")
    assert written["call"].tolist() == predictions.table["call"].tolist()


def test_the_bundle_says_who_chose_it(run):
    rule, point = read_config(run.folder / "bundle").calling, evaluate(run.folder).operating

    assert (rule.positive, rule.threshold, rule.rule) == (("abnormal",), point.threshold, "youden")
    assert (rule.n_positive, rule.n_negative) == (point.n_positive, point.n_negative)
    assert f"from a score of {point.threshold:.3f} on, chosen by 'youden'" in rule.in_words()


def test_without_a_threshold_nobody_is_called(tmp_path):
    data = write_small_data(tmp_path / "data")
    too_few = train_small(data, tmp_path / "run", positive=["abnormal"], draws=100, epochs=1)

    rule = read_config(too_few.folder / "bundle").calling
    assert not rule.applies
    assert "validation patient" in rule.in_words()
    predictions, _ = predict(too_few.folder, data, workers=0)
    assert "call" not in predictions.table
