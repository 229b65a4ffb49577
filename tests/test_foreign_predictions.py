"""Predictions of other programs, as their tables have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plainfilm.auditing.foreign import read_predictions
from plainfilm.errors import TableError


def written(folder: Path, text: str) -> Path:
    path = folder / "predictions.csv"
    path.write_text(text)
    return path


def test_one_score_for_each_class_is_read_whatever_the_prefix(tmp_path: Path):
    path = written(tmp_path, "filename,y_true,prob_ill,prob_well,subject,split\n007.png,ill,0.8,0.2,007,test\n")

    predictions = read_predictions(path)

    assert predictions.classes == ("ill", "well")
    assert predictions.scores.tolist() == [[0.8, 0.2]]
    assert predictions.table.iloc[0].tolist() == ["007.png", "ill", "007", "test"]


def test_columns_named_as_the_classes_are_their_scores(tmp_path: Path):
    predictions = read_predictions(written(tmp_path, "label,ill,well\nill,0.9,0.1\nwell,0.33,0.66\n"))

    assert predictions.classes == ("ill", "well")
    np.testing.assert_allclose(predictions.scores.sum(axis=1), 1)  # 0.99 was rounded


def test_a_predicted_class_counts_as_a_score_of_one(tmp_path: Path):
    predictions = read_predictions(written(tmp_path, "truth,predicted\na,b\nb,b\n"))

    assert predictions.classes == ("a", "b")
    assert predictions.scores.tolist() == [[0, 1], [0, 1]]
    assert list(predictions.table["split"]) == ["test", "test"]


@pytest.mark.parametrize(("positive", "row"), [("ill", [0.7, 0.3]), ("well", [0.3, 0.7])])
def test_a_single_score_is_of_the_class_that_is_named(tmp_path: Path, positive: str, row: list[float]):
    predictions = read_predictions(written(tmp_path, "label,score\nill,0.7\nwell,0.1\n"), positive=positive)

    assert predictions.scores[0] == pytest.approx(row)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x,y\n1,2\n", "true classes"),
        ("label,x\na,1\nb,2\n", "neither scores"),
        ("label,score\na,0.5\nb,0.2\n", "--positive"),
        ("label,a,b\na,0.9,0.9\nb,0,1\n", "row 1 sum to 1.8"),
        ("label,score_a,score_b\na,high,0.1\n", "row 1: not a number"),
        ("label,score_a,score_b\nc,0.9,0.1\n", "'c' has no score column"),
        ("label,predicted\na,a\nb,\n", "row 2 has no predicted class"),
    ],
)
def test_a_table_that_is_not_predictions_is_refused_with_what_is_missing(tmp_path: Path, text: str, says: str):
    with pytest.raises(TableError, match="not predictions") as refusal:
        read_predictions(written(tmp_path, text))
    assert refusal.value.code == "AUD_PREDICTIONS"
    assert says in str(refusal.value)
