"""Sweeps: every model under every seed, judged on validation images, gone on with after a kill, and the test sealed."""

import json
import shutil
import signal

import numpy as np
import pandas as pd
import pytest

from plainfilm import verbs
from plainfilm.cli import run as cli
from plainfilm.errors import DataError, Interrupted, UsageError
from plainfilm.runs import Run
from plainfilm.storage import read_json
from small_runs import SMALL, Stopper, copy_data, repaint, start, train_small, weights_hash, write_small_data

optuna = pytest.importorskip("optuna", reason="needs plainfilm[sweep]")

from plainfilm.trials import Trials  # noqa: E402 - of no use without it

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
MODELS = ("lenet5", "perceptron")
ASKED = {**SMALL, "min_patients": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "phantoms")


def sweep_small(data, output, **options):
    own = {name: options.pop(name) for name in ("seeds", "prune", "test", "resume", "progress") if name in options}
    return verbs.sweep(data, {**ASKED, **options}, models=MODELS, output=output, **{"seeds": 2, **own})


@pytest.fixture(scope="module")
def found(data, tmp_path_factory):
    return sweep_small(data, tmp_path_factory.mktemp("sweeps") / "sweep", prune=False)


def test_every_model_is_trained_under_every_seed_and_the_best_mean_is_chosen(found):
    table = found.table

    assert set(zip(table["model"], table["seed"], strict=True)) == {(m, s) for m in MODELS for s in (0, 1)}
    assert set(table["state"]) == {"finished"}
    assert list(table["value"]) == sorted(table["value"])  # a loss: the best first
    means = table.groupby("model")["value"].mean()
    assert found.chosen == (means.idxmin(), 0)
    assert found.measure == "validation_loss"


def test_the_table_is_on_file_and_each_value_is_of_its_own_history(found):
    on_file = pd.read_csv(found.folder / "trials.csv")

    assert list(on_file["value"]) == pytest.approx(list(found.table["value"]))
    for row in on_file.to_dict("records"):
        history = pd.read_csv(found.folder / "trials" / f"{row['model']}-seed-{row['seed']}" / "history.csv")
        assert row["value"] == pytest.approx(history["validation_loss"].min())
    assert not list(found.folder.glob("**/checkpoints"))


def test_a_trial_is_the_training_that_train_would_do(found, data, tmp_path):
    run = train_small(data, tmp_path / "run", model="lenet5", seed=1)

    ours = pd.read_csv(found.folder / "trials" / "lenet5-seed-1" / "history.csv").drop(columns="seconds")
    assert ours.equals(pd.read_csv(run.folder / "history.csv").drop(columns="seconds"))


# --- sealed -------------------------------------------------------------------------------------------------


def test_no_test_image_is_scored_and_none_can_change_what_is_chosen(found, data, tmp_path):
    assert not list(found.folder.glob("**/test-openings.json"))
    assert not list(found.folder.glob("**/predictions.csv"))

    other = copy_data(data, tmp_path / "other")
    rows = pd.read_csv(other, dtype=str)
    tested = rows["split"] == "test"
    assert tested.sum() >= 8
    for number, path in enumerate(rows["path"][tested]):
        repaint(other.parent / path, number)
    rows.loc[tested, "label"] = rows["label"][tested].to_numpy()[::-1]
    rows.to_csv(other, index=False)

    again = sweep_small(other, tmp_path / "sweep", prune=False)

    assert list(again.table["value"]) == list(found.table["value"])
    assert again.chosen == found.chosen


def test_the_chosen_model_alone_is_tested_and_once(data, tmp_path):
    found = sweep_small(data, tmp_path / "sweep", test=True)

    assert found.run is not None
    assert read_json(found.run.facts)["openings"] == 1
    assert len(read_json(found.run.ledger)) == 1
    own = train_small(data, tmp_path / "run", model=found.chosen[0], seed=0)
    assert weights_hash(found.run) == weights_hash(own)

    again = sweep_small(None, found.folder, test=True, resume=True)

    assert len(read_json(again.run.ledger)) == 1
    assert list(found.folder.glob("**/test-openings.json")) == [found.run.ledger]


def test_what_was_chosen_is_an_options_file_that_trains_it(found, data, tmp_path):
    status = cli(["train", "--options", str(found.folder / "chosen.toml"), "-o", str(tmp_path / "run"), "-q"])

    assert status == 0
    assert (Run(tmp_path / "run").options).read_text() == (found.folder / "chosen.toml").read_text()


# --- going on -----------------------------------------------------------------------------------------------


def test_a_stopped_sweep_goes_on_where_it_was_and_comes_to_the_same(found, data, tmp_path):
    with pytest.raises(Interrupted):
        sweep_small(data, tmp_path / "sweep", prune=False, progress=Stopper(2))

    again = sweep_small(None, tmp_path / "sweep", resume=True)

    assert again.table.drop(columns="seconds").equals(found.table.drop(columns="seconds"))


@pytest.mark.long
def test_a_killed_sweep_goes_on(found, data, tmp_path):
    flags = [part for name, value in ASKED.items() if not isinstance(value, bool) for part in (_flag(name), str(value))]
    asked = [*flags, "--no-audit", "--no-gallery", "--no-prune", "--seeds", "2", "--model", "lenet5"]
    process = start("sweep", data, *asked, "--model", "perceptron", "-o", tmp_path / "sweep")
    for line in process.stderr:
        if line.startswith("lenet5, seed 1"):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()

    again = sweep_small(None, tmp_path / "sweep", resume=True)

    assert again.table.drop(columns="seconds").equals(found.table.drop(columns="seconds"))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def test_other_images_are_refused(data, tmp_path):
    other = copy_data(data, tmp_path / "other")
    sweep_small(other, tmp_path / "sweep", seeds=1)
    shutil.rmtree(tmp_path / "sweep" / "trials")
    (tmp_path / "sweep" / "study.log").unlink()
    repaint(other.parent / pd.read_csv(other)["path"][0], 1)

    with pytest.raises(DataError) as caught:
        sweep_small(None, tmp_path / "sweep", resume=True)
    assert caught.value.code == "RUN_DATA_CHANGED"


# --- pruning ------------------------------------------------------------------------------------------------


def opened(folder, **options):
    asked = {"models": ["a", "b", "c"], "seeds": range(2), "rises": False, "prune": True, "warm_up": 1}
    return Trials(folder, **{**asked, **options})


def played(trials, model, seed, values):
    """A trial whose values are given, ended as a training would end it; gives the epochs it was allowed."""
    trial = trials.begin(model, seed)
    for epoch in range(1, len(values) + 1):
        if trial.is_hopeless(values[:epoch]):
            trial.end("pruned", value=min(values[:epoch]), epochs=epoch)
            return epoch
    trial.end("finished", value=min(values), epochs=len(values))
    return len(values)


def test_a_trial_worse_than_the_median_ends_after_the_warm_up(tmp_path):
    trials = opened(tmp_path)
    for seed in (0, 1):
        assert played(trials, "a", seed, [0.9, 0.7, 0.5, 0.4]) == 4

    assert played(trials, "b", 0, [2.0, 1.9, 1.8, 1.7]) == 2
    assert played(trials, "b", 1, [0.8, 0.6, 0.4, 0.3]) == 4
    assert trials.waiting() == [("c", 0), ("c", 1)]
    assert trials.chosen() == ("a", 0)  # of b a seed was pruned
    assert list(trials.table()["state"]) == ["finished"] * 3 + ["pruned"]


def test_without_pruning_nothing_is_pruned(tmp_path):
    trials = opened(tmp_path, prune=False)
    for model, start_at in (("a", 0.5), ("b", 5.0), ("c", 50.0)):
        for seed in (0, 1):
            assert played(trials, model, seed, [start_at, start_at / 2, start_at / 3]) == 3


def test_where_higher_is_better_the_highest_mean_is_chosen(tmp_path):
    trials = opened(tmp_path, rises=True, prune=False)
    for model, value in (("a", 0.6), ("b", 0.9), ("c", 0.7)):
        for seed in (0, 1):
            trial = trials.begin(model, seed)
            trial.end("finished", value=value + seed / 100, epochs=1)

    assert trials.chosen() == ("b", 0)
    assert list(trials.table()["model"][:2]) == ["b", "b"]


def test_a_trial_that_was_cut_off_is_made_again(tmp_path):
    opened(tmp_path).begin("a", 0).is_hopeless([0.5])

    trials = opened(tmp_path)

    assert trials.waiting()[0] == ("a", 0)
    assert trials.table().empty


def test_a_trial_that_fails_is_noted_and_the_others_go_on(data, tmp_path):
    found = sweep_small(data, tmp_path / "sweep", seeds=1, optimizer="sgd", learning_rate=1e30, schedule="constant")

    assert set(found.table["state"]) == {"failed"}
    assert set(found.table["code"]) == {"TRN_NOT_FINITE"}
    assert found.chosen is None


# --- faults, words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": ()}, "name models"),
        ({"seeds": 0}, "--seeds"),
        ({"data": None}, "name the images"),
        ({"options": {"folds": 3}}, "--folds"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_is_read(change, said, tmp_path):
    asked = {"data": "absent", "options": {}, "models": MODELS, "seeds": 2, **change}

    with pytest.raises(UsageError, match=said) as caught:
        verbs.sweep(asked.pop("data"), asked.pop("options"), **asked, output=tmp_path / "sweep")

    assert caught.value.code == "OPT_INVALID"
    assert not (tmp_path / "sweep").exists()


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("plainfilm.trials.find_spec", lambda name: None)

    with pytest.raises(UsageError, match=r"plainfilm\[sweep\]") as caught:
        verbs.sweep("absent", models=MODELS, output=tmp_path / "sweep")
    assert caught.value.code == "MISSING_EXTRA"


def test_the_command_prints_the_trials_and_how_to_test(found, data, tmp_path, capsys):
    assert cli(["sweep", "--resume", str(found.folder), "-q"]) == 0

    said = capsys.readouterr().out
    assert all(model in said for model in MODELS)
    assert f"chosen on validation images: {found.chosen[0]}; no test image was scored" in said
    assert cli(["sweep", "--resume", str(found.folder), "-q", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert np.allclose([row["value"] for row in rows], found.table["value"])
    assert cli(["sweep", str(data), "--model", "lenet5", "-o", str(found.folder), "-q"]) == 2
    assert "[OUT_EXISTS]" in capsys.readouterr().err
