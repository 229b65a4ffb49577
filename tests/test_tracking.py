"""What trackers are told: every epoch once, also of a resumed run, the headline, and nothing about anybody."""

import importlib.util
import json
import socket
from pathlib import Path

import pandas as pd
import pytest

from plainfilm.errors import Interrupted, ResourceError, UsageError
from plainfilm.progress import Silent
from plainfilm.tracking import STATE, UNTRACKED, Tracked, TrackingOptions, begin_tracking
from small_runs import Stopper, write_small_data
from small_runs import train_small as train


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def train_small(*arguments, **options):
    """Few as the patients are, the headline is given."""
    return train(*arguments, **{"min_patients": 2, **options})


needs_tensorboard = pytest.mark.skipif(not installed("tensorboard"), reason="needs plainfilm[track]")
needs_mlflow = pytest.mark.skipif(
    not (installed("mlflow") and installed("alembic")), reason="needs plainfilm[mlflow], which is not in [dev]"
)
each_tracker = pytest.mark.parametrize(
    "tracker", [pytest.param("tensorboard", marks=needs_tensorboard), pytest.param("mlflow", marks=needs_mlflow)]
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "phantoms")


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to reach another program over the network, which none must make."""
    asked = []

    def refused(self, address):
        asked.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refused)
    return asked


def told(tracker: str, folder: Path, run: str = "run") -> tuple[dict[str, list[tuple[int, float]]], dict[str, str]]:
    """Figures by name as (step, value), and options, as the tracker itself reads them back."""
    return (_from_tensorboard if tracker == "tensorboard" else _from_mlflow)(folder, run)


def _from_tensorboard(folder, run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / run), size_guidance={"scalars": 0}).Reload()
    scalars = {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}
    (text,) = events.Tensors("options/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    return scalars, dict(line.strip().split(" = ", 1) for line in lines)


def _from_mlflow(folder, run):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("plainfilm").experiment_id
    (found,) = [each for each in client.search_runs([experiment]) if each.info.run_name == run]
    names = found.data.metrics
    return {
        name: [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, name)]
        for name in names
    }, found.data.params


# --- what is told -------------------------------------------------------------------------------------------


@each_tracker
def test_every_epoch_and_the_headline_with_its_interval_are_told(tracker, data, tmp_path, no_network):
    run = train_small(data, tmp_path / "run", track=tracker, track_to=str(tmp_path / "tracking"))

    figures, options = told(tracker, tmp_path / "tracking")
    history = pd.read_csv(run.folder / "history.csv")
    headline = json.loads(run.evaluation.read_text())["headline"]
    for name in history.columns.drop("epoch"):
        assert [step for step, _ in figures[name]] == [1, 2]
        assert [value for _, value in figures[name]] == pytest.approx(list(history[name]), rel=1e-6)
    for name, key in (("headline", "value"), ("headline_low", "low"), ("headline_high", "high")):
        assert figures[name][0][1] == pytest.approx(headline[key], rel=1e-6)
    assert (options["model"], options["epochs"], options["seed"]) == ("resnet1d", "2", "0")
    assert no_network == []


@each_tracker
def test_nothing_of_a_patient_a_file_or_a_column_is_told(tracker, data, tmp_path):
    run = train_small(
        data,
        tmp_path / "run",
        track=tracker,
        track_to=str(tmp_path / "tracking"),
        subgroup=("sex",),
        accept=("A2=Ann",),
    )

    written = b"".join(path.read_bytes() for path in (tmp_path / "tracking").rglob("*") if path.is_file())
    table = run.read_table()
    secrets = {*table["patient_id"], *table["path"], *table["label"], *table["pixel_sha256"], data.parent.name, "Ann"}
    secrets -= {"normal"}  # a class here, and a part of the option `normalize`
    assert len(secrets) > 180
    assert [secret for secret in secrets if secret.encode() in written] == []
    assert b"validation_loss" in written  # else nothing was looked at


@each_tracker
def test_each_fold_has_figures_of_its_own(tracker, data, tmp_path):
    train_small(data, tmp_path / "run", folds=2, track=tracker, track_to=str(tmp_path / "tracking"))

    figures, _ = told(tracker, tmp_path / "tracking")

    assert {name.split("/")[0] for name in figures if "/" in name} == {"fold_1", "fold_2"}
    assert [step for step, _ in figures["fold_2/train_loss"]] == [1, 2]


@each_tracker
def test_a_resumed_run_goes_on_and_repeats_nothing(tracker, data, tmp_path):
    asked = {"epochs": 3, "folds": 2, "track": tracker, "track_to": str(tmp_path / "tracking")}
    with pytest.raises(Interrupted):
        train_small(data, tmp_path / "run", progress=Stopper(2), **asked)

    train_small(data, tmp_path / "run", resume=True, **asked)

    figures, _ = told(tracker, tmp_path / "tracking")
    for fold in (1, 2):
        assert [step for step, _ in figures[f"fold_{fold}/train_loss"]] == [1, 2, 3]
    assert len(figures["headline"]) == 1


@needs_tensorboard
def test_two_runs_of_one_name_are_kept_apart(data, tmp_path):
    for place in ("a", "b"):
        train_small(data, tmp_path / place / "run", track="tensorboard", track_to=str(tmp_path / "tracking"))

    assert sorted(path.name for path in (tmp_path / "tracking").iterdir()) == ["run", "run-2"]


@needs_tensorboard
def test_a_number_that_may_not_stand_is_told_as_struck(data, tmp_path):
    train_small(data, tmp_path / "run", split="image", track="tensorboard", track_to=str(tmp_path / "tracking"))

    figures, _ = told("tensorboard", tmp_path / "tracking")

    assert "struck_headline" in figures
    assert "headline" not in figures


# --- off, absent, gone --------------------------------------------------------------------------------------


def test_nothing_is_told_unless_asked(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    run = train_small(data, tmp_path / "run", epochs=1)

    assert begin_tracking(TrackingOptions(), {}, folder=tmp_path, n_folds=1, progress=Silent()) is UNTRACKED
    assert not (run.folder / STATE).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(("tracker", "extra"), [("tensorboard", "track"), ("mlflow", "mlflow")])
def test_a_missing_library_is_named_before_anything_is_read(tracker, extra, tmp_path, monkeypatch):
    monkeypatch.setattr("plainfilm.tracking.find_spec", lambda name: None)

    with pytest.raises(UsageError, match=rf"plainfilm\[{extra}\]") as caught:
        train_small(tmp_path / "absent", tmp_path / "run", track=tracker)

    assert caught.value.code == "MISSING_EXTRA"
    assert not (tmp_path / "run").exists()


@needs_mlflow
def test_a_server_that_does_not_answer_is_said_before_training(data, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"

    with pytest.raises(ResourceError, match=address) as caught:
        train_small(data, tmp_path / "run", track="mlflow", track_to=address)

    assert caught.value.code == "TRK_UNREACHABLE"
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_folder_that_cannot_be_written_is_said_before_training(data, tmp_path):
    pytest.importorskip("tensorboard", reason="needs plainfilm[track]")
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(ResourceError) as caught:
        train_small(data, tmp_path / "run", track="tensorboard", track_to=str(tmp_path / "file"))

    assert caught.value.code == "TRK_UNREACHABLE"


@pytest.mark.parametrize("track_to", ["http://host", "s3://bucket", "sqlite:///x.db"])
def test_an_address_is_refused_where_a_folder_is_meant(track_to):
    with pytest.raises(ValueError, match="folder"):
        TrackingOptions(track="tensorboard", track_to=track_to)


def test_a_tracker_that_fails_is_given_up_and_training_goes_on(tmp_path):
    class Listener(Silent):
        warnings: list[str] = []  # noqa: RUF012 - one listener, one list

        def warn(self, sentence):
            self.warnings.append(sentence)

    class Down:
        def log_metrics(self, values, step):
            raise ConnectionError("the server is gone")

    listener = Listener()
    tracked = Tracked(Down(), tmp_path / STATE, {"options": {}, "epochs": {}}, n_folds=1, progress=listener)

    for n_epochs in (1, 2):
        tracked.epochs(1, [{"epoch": number, "train_loss": 0.5} for number in range(1, n_epochs + 1)])

    assert listener.warnings == ["The tracker cannot be told any more (ConnectionError); training goes on."]
    assert not (tmp_path / STATE).exists()
