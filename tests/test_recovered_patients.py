"""`--patients recovered`: train, plan, evaluate and explore go by patients that no table names, and say so."""

import json

import pandas as pd
import pytest

from plainfilm import verbs
from plainfilm.auditing import leakage
from plainfilm.auditing.patients import recover_patients
from plainfilm.cli import run as typed
from plainfilm.config import RunOptions
from plainfilm.data.phantoms import PhantomOptions, write_phantoms
from plainfilm.data.splits import split_table
from plainfilm.errors import LeakageError, TableError, UsageError
from plainfilm.exploration.options import ExploreOptions
from plainfilm.progress import Silent
from plainfilm.verbs import recovering, training
from plainfilm.verbs.exploring import explore
from small_runs import SMALL, train_small

RECOVERED = {"patients": "recovered"}


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """Class folders of shuffled slices: nothing but the pixels says whose they are. The manifest knows."""
    options = PhantomOptions(patients=20, images_per_patient=8, size=64, file_names="shuffled")
    folder = write_phantoms(tmp_path_factory.mktemp("slices") / "set", options).folder
    truth = pd.read_csv(folder / "manifest.csv", dtype=str)
    for name in ("manifest.csv", "truth.json"):
        (folder / name).unlink()
    return folder, truth.set_index("path")


@pytest.fixture(scope="module")
def trained(slices, tmp_path_factory):
    return train_small(slices[0], tmp_path_factory.mktemp("run") / "run", **RECOVERED)


def test_no_true_patient_is_divided(slices, trained):
    table = trained.read_table()
    true = table["path"].map(slices[1]["patient_id"])

    assert true.notna().all()
    assert table["split"].notna().all()
    assert (table.groupby(true.to_numpy())["split"].nunique() == 1).all()
    assert table.groupby(true.to_numpy())["patient_id"].nunique().max() == 1


def test_the_score_is_by_patient_and_every_file_says_that_they_were_recovered(trained):
    evaluation = verbs.evaluate(trained.folder)

    assert evaluation.patients == "recovered"
    assert evaluation.evidence_level == 2
    assert evaluation.struck is None
    assert any("recovered from the pixels" in note for note in evaluation.notes)
    assert "not documented" in json.dumps(json.loads(trained.facts.read_text())["notes"])
    assert "Recovered: images were grouped by their pixels" in trained.report.read_text()


def test_a_stopped_run_goes_on_with_the_same_patients(slices, trained, tmp_path):
    again = train_small(slices[0], tmp_path / "run", **RECOVERED)

    assert list(again.read_table()["patient_id"]) == list(trained.read_table()["patient_id"])


def test_patients_are_recovered_once_for_the_split_and_the_audit(slices, monkeypatch):
    asked = []

    def counted(pixels, **others):
        asked.append(len(pixels))
        return recover_patients(pixels, **others)

    for module in (recovering, leakage):
        monkeypatch.setattr(module, "recover_patients", counted)
    options = RunOptions.from_flat(SMALL | RECOVERED)
    table, pixels, plan, recovered = training.prepare(slices[0], options, Silent())
    look = training._first_look(table, pixels, plan, recovered, options, Silent())

    assert asked == [160]
    assert look.leakage.recovered is recovered


def test_the_plan_counts_recovered_patients(slices):
    plan = verbs.plan(slices[0], RunOptions.from_flat(SMALL | RECOVERED))

    assert plan["patients"] == "recovered"
    assert "20 groups" in plan["notes"][0]


def test_outside_data_are_evaluated_by_recovered_patients(slices, trained):
    unknown = verbs.evaluate(trained.folder, slices[0])
    recovered = verbs.evaluate(trained.folder, slices[0], patients="recovered")

    assert unknown.patients == "unknown"
    assert recovered.patients == "recovered"
    assert recovered.n_patients == 20


def test_the_runs_own_rows_need_no_recovery(trained):
    with pytest.raises(UsageError, match="a run knows its own"):
        verbs.evaluate(trained.folder, patients="recovered")


def test_clusters_are_compared_with_recovered_patients(slices):
    options = ExploreOptions(side=32, umap=False, most_clusters=4)

    found = explore(slices[0], options, patients="recovered", workers=0)

    assert any("recovered from the pixels" in note for note in found.notes)
    assert found.rows["patient_id"].nunique() == 20


def test_the_commands_take_the_flag(slices, capsys):
    flags = ["--patients", "recovered", "--dry-run", "--image-size", "32", "--workers", "0", "--quiet"]

    assert typed(["train", str(slices[0]), *flags]) == 0
    assert "recovered" in capsys.readouterr().out


# --- refusals -----------------------------------------------------------------------------------------------


def test_a_table_that_names_patients_is_not_asked_again(tmp_path):
    manifest = write_phantoms(tmp_path / "set", PhantomOptions(patients=8, images_per_patient=4, size=32)).folder

    with pytest.raises(UsageError, match="own ids are better") as refused:
        verbs.train(manifest / "manifest.csv", SMALL | RECOVERED, output=tmp_path / "run")

    assert refused.value.code == "SPL_DECLARED_WRONGLY"


def test_images_of_different_patients_are_refused_with_the_reason(tmp_path):
    options = PhantomOptions(kind="chest", patients=40, images_per_patient=1, size=32)
    folder = write_phantoms(tmp_path / "set", options).folder
    (folder / "manifest.csv").unlink()

    with pytest.raises(TableError, match="No groups found: the third nearest") as refused:
        verbs.train(folder, SMALL | RECOVERED, output=tmp_path / "run")

    assert refused.value.code == "SPL_NOT_RECOVERED"


def test_a_split_that_divides_recovered_patients_is_refused():
    rows = pd.DataFrame(
        {
            "path": [f"{index}.png" for index in range(8)],
            "label": ["a", "a", "b", "b"] * 2,
            "patient_id": ["recovered-0001", "recovered-0001", "recovered-0002", "recovered-0002"] * 2,
            "split": ["train"] * 4 + ["test"] * 4,
        }
    )

    with pytest.raises(LeakageError, match="recovered-0001"):
        split_table(rows, RunOptions.from_flat(RECOVERED).split)


def test_who_names_no_patients_is_told_of_recovery(slices):
    with pytest.raises(UsageError, match="--patients recovered") as refused:
        verbs.plan(slices[0], RunOptions.from_flat(SMALL))

    assert refused.value.code == "SPL_NO_PATIENTS"
