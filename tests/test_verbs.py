"""The public calls together: what one leaves, another reads."""

import json

import pandas as pd
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


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Other images, whose patients have the same ids."""
    return write_small_data(tmp_path_factory.mktemp("elsewhere"), seed=7)


def changed(manifest, **columns):
    """The same images under a table of its own."""
    rows = pd.read_csv(manifest, dtype=str)
    rows.assign(**{name: change(rows) for name, change in columns.items()}).to_csv(manifest.with_name("changed.csv"))
    return manifest.with_name("changed.csv")


def test_patients_who_trained_the_model_are_known_again_by_their_ids(run, elsewhere):
    evaluation = plainfilm.evaluate(run.folder, elsewhere)

    assert "have an id that trained the model" in evaluation.struck
    assert evaluation.evidence_level == 1


def test_other_patients_are_evidence_of_new_patients_and_no_more(run, elsewhere):
    others = changed(elsewhere, patient_id=lambda rows: "b" + rows["patient_id"])

    evaluation = plainfilm.evaluate(run.folder, others)

    assert (evaluation.struck, evaluation.n_images, evaluation.evidence_level) == (None, 80, 2)


def test_another_site_may_be_declared_and_is_printed_as_such(run, elsewhere):
    evaluation = plainfilm.evaluate(run.folder, elsewhere, other_site=True)

    assert (evaluation.struck, evaluation.evidence_level) == (None, 4)
    assert any("declared" in note for note in evaluation.notes)


def test_another_site_is_read_from_a_column_of_both_tables(data, elsewhere, tmp_path):
    here = changed(data, hospital=lambda rows: "Ghent", patient_id=lambda rows: "a" + rows["patient_id"])
    there = changed(elsewhere, hospital=lambda rows: "Leiden", patient_id=lambda rows: "b" + rows["patient_id"])
    trained = train_small(here, tmp_path / "run")

    evaluation = plainfilm.evaluate(trained.folder, there)

    assert evaluation.evidence_level == 4
    assert any("no hospital of these images (Leiden)" in note for note in evaluation.notes)
    both = changed(elsewhere, hospital=lambda rows: ["Ghent", *["Leiden"] * (len(rows) - 1)],
                   patient_id=lambda rows: "b" + rows["patient_id"])  # fmt: skip
    assert plainfilm.evaluate(trained.folder, both).evidence_level == 2


def test_images_that_trained_the_model_are_no_other_site_whatever_is_declared(run, data):
    evaluation = plainfilm.evaluate(run.folder, data, other_site=True)

    assert "trained the model" in evaluation.struck
    assert evaluation.evidence_level < 4


def test_a_bundle_alone_earns_no_level_by_a_declaration(run, elsewhere):
    evaluation = plainfilm.evaluate(run.folder / "bundle", elsewhere, other_site=True)

    assert evaluation.evidence_level == 2
    assert any("declared" in note for note in evaluation.notes)


def test_a_run_alone_is_of_no_other_site(run):
    with pytest.raises(plainfilm.PlainfilmError, match="--other-site is about DATA"):
        plainfilm.evaluate(run.folder, other_site=True)


def test_the_run_measured_again_gives_the_numbers_it_has_on_file(run):
    before = plainfilm.Evaluation.from_json(json.loads(run.evaluation.read_text()))

    assert plainfilm.evaluate(run.folder) == before


def test_folders_may_be_named_by_text(data, tmp_path):
    table = plainfilm.scan(str(data), output=str(tmp_path / "account.csv"))

    assert len(table) == 80
    assert (tmp_path / "account.csv").read_text().count("used") == 80
