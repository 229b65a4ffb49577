"""C4: true and predicted the right way round, in predictions and in printed reports."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import classification_report
from tests.audit_subjects import array_subject, predictions_of

from plainfilm import metrics
from plainfilm.auditing.label_sanity import check_label_sanity
from plainfilm.auditing.reports import check_printed_report, read_printed_report
from plainfilm.errors import TableError

TRUE_COUNTS = {"0": 172, "1": 15, "2": 634, "3": 459}

# As Figures 10 and 12 of the ResNet1d paper print them (Ilyassov 2024).
RESNET1D = """,precision,recall,f1-score,support
0,0.00,0.00,0.00,0
1,0.00,0.00,0.00,0
2,0.91,0.81,0.86,720
3,0.83,0.68,0.75,560
accuracy,,,0.75,1280
macro avg,0.44,0.37,0.40,1280
weighted avg,0.88,0.75,0.81,1280
"""
RESNET50_1D = """class,precision,recall,f1,support
0,0.76,0.69,0.72,188
1,0.00,0.00,0.00,0
2,0.93,0.90,0.91,654
3,0.83,0.87,0.85,438
"""


def typed(folder: Path, text: str) -> pd.DataFrame:
    (folder / "report.csv").write_text(text)
    return read_printed_report(folder / "report.csv")


def printed(y_true, y_pred) -> pd.DataFrame:
    """What scikit-learn prints, two decimals."""
    figures = classification_report(y_true, y_pred, output_dict=True, zero_division=0)
    rows = {name: row for name, row in figures.items() if name not in ("accuracy", "macro avg", "weighted avg")}
    report = pd.DataFrame(rows).T.round(2).rename(columns={"f1-score": "f1"})
    return report.rename_axis("class").reset_index()


labels = st.lists(st.sampled_from("abc"), min_size=60, max_size=200)


# --- printed reports ---


@pytest.mark.parametrize(("text", "right"), [(RESNET1D, "75.0%"), (RESNET50_1D, "85.")])
def test_the_reports_of_the_resnet1d_paper_have_truth_and_prediction_swapped(tmp_path, text, right):
    finding = check_printed_report(typed(tmp_path, text), TRUE_COUNTS)

    assert finding.verdict == "FAIL"
    assert "True and predicted labels were swapped" in finding.sentence
    assert "what is printed as precision is recall" in finding.sentence
    assert right in finding.sentence
    assert finding.details["swapped"]


def test_the_report_is_given_the_right_way_round(tmp_path):
    table = check_printed_report(typed(tmp_path, RESNET1D), TRUE_COUNTS).tables["C4-report"].set_index("class")

    assert table.loc["2", "images"] == 634
    assert table.loc["2", "predicted"] == 720
    assert round(table.loc["2", "recall_low"], 2) == 0.91
    assert round(table.loc["2", "precision_high"], 2) == 0.81


@settings(max_examples=60, deadline=None)
@given(labels, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_report_as_scikit_learn_prints_it_passes_and_its_swap_fails(y_true, seed, skill):
    rng = np.random.default_rng(seed)
    y_true = np.array(y_true)
    y_pred = np.where(rng.random(len(y_true)) < skill, y_true, rng.choice(list("abc"), len(y_true)))
    counts = {name: int((y_true == name).sum()) for name in np.union1d(y_true, y_pred)}
    assume(len(counts) > 1)

    assert check_printed_report(printed(y_true, y_pred), counts).verdict == "PASS"

    swapped = check_printed_report(printed(y_pred, y_true), counts)
    same = all((y_pred == name).sum() == count for name, count in counts.items())
    assert swapped.verdict == ("PASS" if same else "FAIL")
    assert same or swapped.details["swapped"]


def test_supports_of_other_images_fail_without_blaming_a_swap():
    report = pd.DataFrame(
        {"class": ["a", "b"], "precision": [0.9, 0.9], "recall": [0.9, 0.9], "f1": [0.9, 0.9], "support": [40, 60]}
    )

    finding = check_printed_report(report, {"a": 90, "b": 110})

    assert finding.verdict == "FAIL"
    assert "add up to 100, not to 200" in finding.sentence
    assert not finding.details["swapped"]


def test_figures_that_contradict_each_other_fail():
    report = pd.DataFrame(
        {"class": ["a", "b"], "precision": [0.9, 0.9], "recall": [0.9, 0.55], "f1": [0.9, 0.95], "support": [50, 50]}
    )

    finding = check_printed_report(report, {"a": 50, "b": 50})

    assert finding.verdict == "FAIL"
    assert "'b'" in finding.sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class,precision,recall,support\na,1,1,5\nb,1,1,5\n", "f1"),
        ("class,precision,recall,f1,support\na,1,1,1,5\nb,x,1,1,5\n", "line 3"),
        ("class,precision,recall,f1,support\na,1,1,1,5\na,1,1,1,5\n", "twice"),
        ("class,precision,recall,f1,support\na,1,1,1,5\nb,91,1,1,5\n", "shares from 0 to 1"),
        ("class,precision,recall,f1,support\na,1,1,1,5\nb,1,1,1,5.5\n", "whole number"),
        ("class,precision,recall,f1,support\na,1,1,1,5\n", "fewer than two"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, text, said):
    with pytest.raises(TableError, match=said) as refusal:
        typed(tmp_path, text)
    assert refusal.value.code == "AUD_REPORT"


def test_a_report_of_other_classes_is_refused(tmp_path):
    with pytest.raises(TableError, match="counts are given for"):
        check_printed_report(typed(tmp_path, RESNET1D), {"0": 3, "1": 2})


def test_a_report_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(TableError, match="not a file"):
        read_printed_report(tmp_path / "report.csv")


# --- predictions ---


def scored_subject(skill=2.0, *, n=60, flip=None, seed=0, **predictions):
    """Two or three classes whose scores follow the label, with a patient for every two images."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n), 2)
    labels = np.array(["a", "b", "c"])[group % 3]
    scores = rng.normal(size=(len(group), 3))
    scores[np.arange(len(group)), group % 3] += skill
    scores = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    subject = array_subject(np.zeros((len(group), 8, 8), dtype=np.uint8), labels, group)
    return predictions_of(subject, scores if flip is None else scores[:, flip], **predictions)


def test_sound_predictions_pass():
    finding = check_label_sanity(scored_subject(), bundle_classes=("a", "b", "c"))

    assert finding.verdict == "PASS"
    assert finding.details["support"] == {"a": 20, "b": 20, "c": 20}


def test_mixed_up_score_columns_fail():
    finding = check_label_sanity(scored_subject(flip=[1, 0, 2]))

    assert finding.verdict == "FAIL"
    assert "'a' as 'b'" in finding.sentence or "'b' as 'a'" in finding.sentence
    assert finding.low > 0


def test_a_score_that_ranks_the_wrong_way_round_fails():
    rng = np.random.default_rng(0)
    labels = np.array(["ill", "well"] * 30)
    score = np.clip(0.7 + 0.2 * (labels == "well") + rng.normal(0, 0.05, 60), 0, 1)  # highest for the other class
    subject = array_subject(np.zeros((60, 8, 8), dtype=np.uint8), labels, np.arange(60))

    finding = check_label_sanity(predictions_of(subject, np.column_stack([score, 1 - score])))

    assert finding.verdict == "FAIL"
    assert "wrong way round" in finding.sentence


def test_classes_of_the_model_in_another_order_fail():
    assert check_label_sanity(scored_subject(), bundle_classes=("b", "a", "c")).verdict == "FAIL"


def test_labels_that_are_not_those_of_the_table_fail():
    subject = scored_subject()
    subject.rows["label"] = np.roll(subject.rows["label"].to_numpy(), 2)

    finding = check_label_sanity(subject)

    assert finding.verdict == "FAIL"
    assert "another label than the table" in finding.sentence


def test_a_model_at_chance_is_not_called_mixed_up():
    verdicts = [check_label_sanity(scored_subject(0.0, seed=seed)).verdict for seed in range(20)]

    assert verdicts.count("FAIL") <= 2


def test_without_predictions_there_is_nothing_to_say():
    subject = array_subject(np.zeros((4, 8, 8), dtype=np.uint8), ["a", "a", "b", "b"], [0, 1, 2, 3])

    assert check_label_sanity(subject).verdict == "NOT ASSESSABLE"


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(10, 80), st.integers(0, 2**32 - 1))
def test_our_figures_are_those_of_an_independent_reference(n_classes, n, seed):
    rng = np.random.default_rng(seed)
    y_true = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=n)])
    y_pred = rng.integers(n_classes, size=len(y_true))
    reference = classification_report(y_true, y_pred, labels=range(n_classes), output_dict=True, zero_division=np.nan)

    cm = metrics.confusion_matrix(y_true, y_pred, n_classes)

    for c in range(n_classes):
        row = reference[str(c)]
        assert cm[c].sum() == row["support"]
        assert metrics.recall(cm)[c] == pytest.approx(row["recall"], abs=1e-9)
        assert metrics.recall(cm)[c] == cm[c, c] / cm[c].sum()
        assert metrics.precision(cm)[c] == pytest.approx(row["precision"], abs=1e-9, nan_ok=True)
        assert metrics.f1(cm)[c] == pytest.approx(row["f1-score"], abs=1e-9)
