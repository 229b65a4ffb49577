"""Runs: the test images are sealed, the same options give the same numbers, nothing is lost or taken over."""

import json
import shutil
import tomllib

import pandas as pd
import pytest

from plainfilm import verbs
from plainfilm.config import read_options
from plainfilm.errors import BundleError, DataError, Interrupted, UsageError
from plainfilm.prediction import Predictions
from plainfilm.runs import Run, check_free, new_run, open_run
from plainfilm.storage import sha256_of
from small_runs import SMALL, Stopper, copy_data, repaint, train_small, weights_hash, write_small_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "phantoms")


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    # A folder of this name must not hide the run's files from its manifest.
    return train_small(data, tmp_path_factory.mktemp("checkpoints") / "run")


@pytest.fixture
def copied(tmp_path, run):
    return Run(shutil.copytree(run.folder, tmp_path / "copied"))


@pytest.fixture
def stopped(tmp_path, data):
    """A run that was stopped in its second epoch."""
    with pytest.raises(Interrupted):
        train_small(data, tmp_path / "stopped", progress=Stopper(2))
    return Run(tmp_path / "stopped")


def refused(error: type[Exception], call, *arguments, **options) -> str:
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    return caught.value.code


# --- sealed -------------------------------------------------------------------------------------------------


def test_the_test_images_and_their_labels_change_no_weight(run, data, tmp_path):
    other = copy_data(data, tmp_path / "data")
    rows = pd.read_csv(other, dtype=str)
    tested = rows["split"] == "test"
    for number, name in enumerate(rows.loc[tested, "path"]):
        repaint(other.parent / name, seed=number)
    rows.loc[tested, "label"] = rows.loc[tested, "label"].map({"normal": "abnormal", "abnormal": "normal"})
    rows.to_csv(other, index=False)

    sealed = train_small(other, tmp_path / "run")

    assert weights_hash(sealed) == weights_hash(run)
    configs = [json.loads((one.folder / "bundle" / "config.json").read_text()) for one in (sealed, run)]
    assert configs[0] == configs[1]
    tests = [Predictions.load(one.predictions).tested("test") for one in (sealed, run)]
    assert (tests[0].scores != tests[1].scores).all()


def test_one_training_image_more_or_less_would_show(run, data, tmp_path):
    other = copy_data(data, tmp_path / "data")
    rows = pd.read_csv(other, dtype=str)
    repaint(other.parent / rows.loc[rows["split"] == "train", "path"].iloc[0], seed=0)

    assert weights_hash(train_small(other, tmp_path / "run")) != weights_hash(run)


def test_every_look_at_the_test_images_is_noted(run):
    openings = json.loads(run.ledger.read_text())

    assert [entry["by"] for entry in openings] == ["train"]


# --- the same again -----------------------------------------------------------------------------------------


def test_the_options_kept_in_a_run_rerun_it_to_the_same_files(run, data, tmp_path):
    kept = read_options(run.options)

    again = verbs.train(kept.pop("data"), kept, output=tmp_path / "again")

    assert again.predictions.read_bytes() == run.predictions.read_bytes()
    assert again.evaluation.read_bytes() == run.evaluation.read_bytes()
    assert again.options.read_bytes() == run.options.read_bytes()
    assert weights_hash(again) == weights_hash(run)
    assert tomllib.loads(run.options.read_text())["data"] == str(data)


@pytest.mark.long
def test_another_seed_gives_another_model(run, data, tmp_path):
    assert weights_hash(train_small(data, tmp_path / "other", seed=1)) != weights_hash(run)


def test_a_stopped_run_ends_as_one_that_was_not_wherever_its_images_are(stopped, run, data, tmp_path):
    moved = copy_data(data, tmp_path / "moved")

    resumed = train_small(moved, stopped.folder, resume=True)

    assert weights_hash(resumed) == weights_hash(run)
    assert resumed.predictions.read_bytes() == run.predictions.read_bytes()
    assert resumed.is_finished


def test_folds_are_resumed_where_they_stopped(data, tmp_path):
    class StopInFold2(Stopper):
        def say(self, sentence):
            self._title = "epoch 1/" if sentence.startswith("fold 2") else "never"

    options = {"folds": 2, "epochs": 1}
    with pytest.raises(Interrupted):
        train_small(data, tmp_path / "folds", progress=StopInFold2(1), **options)
    folds = train_small(data, tmp_path / "folds", resume=True, **options)

    whole = train_small(data, tmp_path / "whole", **options)
    assert folds.predictions.read_bytes() == whole.predictions.read_bytes()
    assert len(Predictions.load(folds.predictions)) == 80
    one, two = (sha256_of(folds.fold(number, 2) / "bundle" / "model.safetensors") for number in (1, 2))
    assert one != two
    assert len(verbs.predict(folds.folder, data, workers=0)[0]) == 80


# --- resuming is refused ------------------------------------------------------------------------------------


def test_a_run_is_not_resumed_with_other_images_labels_or_patients(stopped, data, tmp_path):
    other = copy_data(data, tmp_path / "data")
    original = pd.read_csv(other, dtype=str)
    train = original.index[original["split"] == "train"]

    def rewrite(change) -> None:
        rows = original.copy()
        change(rows)
        rows.to_csv(other, index=False)

    changes = {
        "label": lambda rows: rows.loc[train[:2], "label"].map({"normal": "abnormal", "abnormal": "normal"}),
        "patient_id": lambda rows: "Q" + rows.loc[train[:4], "patient_id"],
        "split": lambda rows: rows.loc[train, "split"].mask(rows["patient_id"] == rows["patient_id"][train[0]], "test"),
    }
    for name, change in changes.items():
        rewrite(lambda rows, name=name, change=change: rows.update(change(rows).rename(name)))
        assert refused(DataError, train_small, other, stopped.folder, resume=True) == "RUN_DATA_CHANGED", name

    rewrite(lambda rows: None)
    repaint(other.parent / original["path"][0], seed=0)
    assert refused(DataError, train_small, other, stopped.folder, resume=True) == "RUN_DATA_CHANGED"
    assert not stopped.is_finished


def test_a_run_is_not_resumed_with_other_options(stopped, data):
    with pytest.raises(UsageError, match="epochs = 2, not 3"):
        train_small(data, stopped.folder, resume=True, epochs=3)


def test_what_is_finished_absent_or_unnamed_is_not_resumed(copied, data, tmp_path):
    assert refused(BundleError, train_small, data, copied.folder, resume=True) == "RUN_FINISHED"
    assert refused(BundleError, train_small, data, tmp_path / "absent", resume=True) == "BUN_MISSING"
    assert not (tmp_path / "absent").exists()
    assert refused(UsageError, train_small, data, None, resume=True) == "OPT_RESUME"


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"PAR1"), lambda path: path.unlink()])
def test_a_stopped_run_without_a_sound_table_is_not_resumed(stopped, data, spoil):
    spoil(stopped.table)

    assert refused(BundleError, train_small, data, stopped.folder, resume=True) == "BUN_DAMAGED"


# --- what counts as finished --------------------------------------------------------------------------------


def test_the_manifest_vouches_for_every_file_but_checkpoints_and_the_card(run):
    named = json.loads((run.folder / "manifest.json").read_text())["sha256"]

    files = {path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if path.is_file()}
    own = {name for name in files if not name.startswith("checkpoints/")}
    assert own - set(named) == {"manifest.json", "bundle/README.md"}
    assert {"options.toml", "table.parquet", "predictions.csv", "bundle/model.safetensors", "report.html"} <= set(named)
    assert not any(".tmp" in name or ".lock" in name for name in files)


def test_a_changed_file_of_a_run_is_noticed(copied):
    assert open_run(copied.folder) == copied
    text = copied.evaluation.read_text()
    copied.evaluation.write_text(text.replace("0.", "1.", 1))

    assert refused(BundleError, open_run, copied.folder) == "BUN_DAMAGED"


def test_a_report_lost_halfway_is_written_again(copied):
    copied.report.write_text("<html>")  # as a kill leaves it between the report and the manifest

    verbs.report(copied.folder)

    assert open_run(copied.folder) == copied
    assert copied.report.stat().st_size > 10_000


def test_the_card_of_a_run_may_be_edited(copied):
    (copied.folder / "bundle" / "README.md").write_text("For adults.\n")

    assert verbs.evaluate(copied.folder).measures


def test_a_folder_that_is_no_finished_run_is_not_opened(tmp_path, stopped):
    assert refused(BundleError, open_run, tmp_path / "absent") == "BUN_MISSING"
    with pytest.raises(BundleError, match="--resume"):
        open_run(stopped.folder)


# --- where runs go ------------------------------------------------------------------------------------------


def test_a_run_without_a_name_gets_a_new_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    first = new_run(None, name="resnet1d")
    first.folder.mkdir(parents=True)
    second = new_run(None, name="resnet1d")

    assert first.folder.parent.name == "runs"
    assert first.folder.name.endswith("-resnet1d")
    assert second.folder.name == f"{first.folder.name}-2"


def test_a_folder_in_use_is_left_alone_unless_it_is_a_run_to_overwrite(copied, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("mine")

    check_free(Run(tmp_path / "empty"), overwrite=False)
    check_free(Run(tmp_path / "new"), overwrite=False)
    check_free(copied, overwrite=True)
    with pytest.raises(UsageError, match="--overwrite"):
        check_free(copied, overwrite=False)
    assert refused(UsageError, check_free, Run(tmp_path / "photos"), overwrite=True) == "RUN_NOT_A_RUN"
    assert refused(UsageError, new_run, tmp_path / "photos" / "a.jpg", name="x") == "RUN_EXISTS"


def test_a_run_is_overwritten_only_once_the_new_one_can_begin(copied, data, tmp_path):
    before = copied.predictions.read_bytes()
    (tmp_path / "bad.csv").write_text("path,label\nabsent.png,ill\n")

    with pytest.raises(DataError):
        train_small(tmp_path / "bad.csv", copied.folder, overwrite=True)
    assert copied.predictions.read_bytes() == before
    assert open_run(copied.folder) == copied

    (copied.folder / "notes.txt").write_text("old")
    train_small(data, copied.folder, overwrite=True, epochs=1)
    assert not (copied.folder / "notes.txt").exists()
    assert len(pd.read_csv(copied.folder / "history.csv")) == 1


def test_data_that_cannot_be_used_leaves_no_folder_behind(tmp_path):
    with pytest.raises(DataError):
        verbs.train(tmp_path / "absent", SMALL, output=tmp_path / "new" / "run")

    assert not (tmp_path / "new" / "run").exists()
