"""The public calls together: what one leaves, another reads."""

import json

import pytest

import plainfilm
from small_runs import train_small, write_small_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return train_small(data, tmp_path_factory.mktemp("runs") / "run")


def test_a_model_scored_on_its_own_training_images_has_every_score_struck(run, data):
    evaluation = plainfilm.evaluate(run.folder, data)

    assert "trained the model" in evaluation.struck


def test_a_model_scored_on_other_images_may_stand(run, tmp_path):
    elsewhere = write_small_data(tmp_path, seed=7)

    evaluation = plainfilm.evaluate(run.folder, elsewhere)

    assert evaluation.struck is None
    assert evaluation.n_images == 80


def test_the_run_measured_again_gives_the_numbers_it_has_on_file(run):
    before = plainfilm.Evaluation.from_json(json.loads(run.evaluation.read_text()))

    assert plainfilm.evaluate(run.folder) == before


def test_folders_may_be_named_by_text(data, tmp_path):
    table = plainfilm.scan(str(data), output=str(tmp_path / "account.csv"))

    assert len(table) == 80
    assert (tmp_path / "account.csv").read_text().count("used") == 80
