"""The command line: exit statuses, one line for each error, signals, and what each command prints."""

import json
import os
import signal
import tomllib

import pandas as pd
import pytest

from plainfilm.cli import run as cli
from plainfilm.config import SECTION_OF, RunOptions, read_options
from plainfilm.runs import Run
from small_runs import SIZES, SMALL_FLAGS, Stopper, start, train_small, weights_hash, write_small_data

on_posix = pytest.mark.skipif(os.name != "posix", reason="needs the signals of POSIX")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "phantoms")


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    return train_small(data, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def typed(capsys):
    """Runs a command in this process; gives exit status, standard output and standard error."""

    def call(*arguments):
        status = cli([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call


# --- faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "code", "said"),
    [
        (["trian", "x"], 2, "USAGE", 'Did you mean "train"?'),
        (["train", "x", "--epohs", "3"], 2, "USAGE", "Did you mean --epochs?"),
        (["train", "x", "--epochs", "many", "--optimizer", "adm"], 2, "USAGE", "optimizer: input should be 'adamw'"),
        (["train", "x", "--epochs", "0", "--learning-rate", "-1"], 2, "OPT_INVALID", "learning_rate: input should be"),
        (["train"], 2, "OPT_NO_DATA", "plainfilm train DATA"),
        (["train", "absent"], 3, "TAB_MISSING", "'absent' does not exist"),
        (["train", "https://example.org/x.zip"], 3, "TAB_URL", "is an address"),
        (["train", "x", "--options", "absent.toml"], 2, "OPT_FILE", "No options file"),
        (["train", "--resume", "absent"], 2, "OPT_FILE", "absent"),
        (["train", "--resume", "absent", "--epochs", "3"], 2, "OPT_RESUME", "give nothing else"),
        (["predict", "absent", "x"], 3, "BUN_MISSING", "'absent' does not exist"),
        (["predict", "absent", "x", "--batch-size", "0"], 2, "OPT_INVALID", "--batch-size"),
        (["evaluate", "absent"], 3, "BUN_MISSING", "No run at 'absent'"),
        (["report", "absent"], 3, "BUN_MISSING", "No run at 'absent'"),
        (["models", "resnet1e"], 2, "UNKNOWN_MODEL", "No model matches 'resnet1e'"),
        (["config", "--epochs", "1", "--test-fraction", "2"], 2, "OPT_INVALID", "test_fraction"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_fault_is_one_line_with_its_code_and_exit_status(typed, tmp_path, monkeypatch, arguments, status, code, said):
    monkeypatch.chdir(tmp_path)

    found, out, err = typed(*arguments)

    assert found == status
    assert out == ""
    assert err.startswith("plainfilm: ")
    assert err.endswith(f"[{code}]\n")
    assert err.count("\n") == 1
    assert said in err
    assert not list(tmp_path.iterdir())


def test_an_unknown_model_is_named_with_its_nearest(typed, data, tmp_path):
    status, _, err = typed("train", data, "-o", tmp_path / "run", "--model", "resnet1e", "-q")

    assert status == 2
    assert "'resnet1d'" in err
    assert not (tmp_path / "run").exists()


def test_a_file_name_cannot_break_the_line_or_talk_to_the_terminal(typed, tmp_path):
    status, _, err = typed("scan", tmp_path / "a\nb\x1b[31m\u202e")

    assert status == 3
    assert err.count("\n") == 1
    assert "a\\nb\\x1b[31m\\u202e" in err


def test_a_fault_of_our_own_is_70_without_words_of_the_data(typed, monkeypatch, data):
    from plainfilm import verbs

    def fail(*arguments, **options):
        raise KeyError("Mr Miller")

    monkeypatch.setattr(verbs, "scan", fail)

    status, _, err = typed("scan", data)

    assert status == 70
    assert err.endswith("[INTERNAL]\n")
    assert "Miller" not in err
    monkeypatch.setenv("PLAINFILM_TRACEBACK", "1")
    with pytest.raises(KeyError):
        typed("scan", data)


# --- options ------------------------------------------------------------------------------------------------


def test_the_command_line_comes_before_the_options_file(typed, tmp_path):
    (tmp_path / "options.toml").write_text('epochs = 7\nseed = 3\nmodel = "resnet50-1d"\ndata = "x"\n')

    status, out, _ = typed("config", "--options", tmp_path / "options.toml", "--epochs", "9", "--no-augment")

    options = RunOptions.from_flat(tomllib.loads(out))
    assert status == 0
    assert (options.training.epochs, options.training.seed, options.model.model) == (9, 3, "resnet50-1d")
    assert not options.augment.augment


def test_faults_of_the_options_file_are_reported_together(typed, tmp_path):
    (tmp_path / "options.toml").write_text('epoks = 7\nseed = -1\nmodl = "x"\n')

    status, _, err = typed("config", "--options", tmp_path / "options.toml")

    assert status == 2
    assert "'epoks'. Did you mean 'epochs'?" in err
    assert "'modl'. Did you mean 'model'?" in err
    assert "seed: " in err


def test_what_config_prints_is_an_options_file(typed, tmp_path):
    _, out, _ = typed("config")
    (tmp_path / "options.toml").write_text(out)

    assert RunOptions.from_flat(read_options(tmp_path / "options.toml")) == RunOptions()


def test_the_schema_is_json_and_names_every_option(typed):
    status, out, _ = typed("config", "--schema")

    assert status == 0
    assert json.loads(out)["properties"].keys() == SECTION_OF.keys()


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(typed, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    status, out, _ = typed("train", data, *SMALL_FLAGS, "--dry-run")

    assert status == 0
    told = json.loads(out)
    assert told["split_unit"] == "patient"
    assert {count["split"] for count in told["counts"]} == {"train", "validation", "test"}
    assert not list(tmp_path.iterdir())


# --- commands -----------------------------------------------------------------------------------------------


def test_help_names_every_command(typed):
    status, out, _ = typed("--help")

    assert status == 0
    for name in ("demo", "scan", "train", "evaluate", "predict", "report", "models", "doctor", "config"):
        assert f" {name} " in out
    assert typed("--version")[0] == 0


def test_scan_counts_every_file(typed, data, tmp_path):
    (tmp_path / "data").mkdir()
    status, out, _ = typed("scan", data, "--json", "-q", "--workers", "0", "-o", tmp_path / "account.csv")

    counts = json.loads(out)
    assert status == 0
    assert (counts["files"], counts["used"], counts["patients"]) == (80, 80, 20)
    assert len(pd.read_csv(tmp_path / "account.csv")) == 80
    assert "80 files: 80 used, 0 skipped, 0 refused" in typed("scan", data, "-q", "--workers", "0")[1]


def test_predict_writes_scores_and_says_where(typed, run, data, tmp_path):
    status, out, err = typed("predict", run.folder, data, "-o", tmp_path / "out.json", "-q", "--workers", "0")

    assert (status, err) == (0, "")
    assert f"80 images -> {tmp_path / 'out.json'}" in out.replace("\n", " ")
    assert len(json.loads((tmp_path / "out.json").read_text())["predictions"]) == 80


def test_evaluate_prints_the_numbers_of_the_run(typed, run):
    status, out, _ = typed("evaluate", run.folder, "--json", "-q")

    assert status == 0
    assert json.loads(out) == json.loads(run.evaluation.read_text())
    assert "evidence level" in typed("evaluate", run.folder, "-q")[1]


def test_report_prints_its_path(typed, run):
    assert typed("report", run.folder)[:2] == (0, f"{run.report}\n")


def test_models_lists_ours_with_their_cost(typed):
    listed = json.loads(typed("models", "--json")[1])

    assert {"resnet1d", "resnet50-1d"} <= {model["name"] for model in listed}
    assert all(model["parameters"] > 0 for model in listed)


def test_doctor_says_what_the_machine_has(typed):
    status, out, err = typed("doctor")

    assert (status, err) == (0, "")
    for what in ("plainfilm", "Python", "processors", "memory", "device", "precision", "torch"):
        assert f"\n{what}" in f"\n{out}"


def test_progress_goes_to_standard_error_and_results_to_standard_output(typed, data, tmp_path):
    status, out, err = typed("train", data, *SMALL_FLAGS, "-o", tmp_path / "run")

    assert status == 0
    assert "epoch   1   loss" in err
    assert "epoch   1   loss" not in out
    assert out.rstrip().splitlines()[-1].startswith("report: ")
    assert "headline: " in out


def test_a_finished_run_is_not_resumed_or_replaced_unasked(typed, run, data):
    assert typed("train", "--resume", run.folder, "-q")[2].endswith("[RUN_FINISHED]\n")
    status, _, err = typed("train", data, "-o", run.folder, "-q")
    assert status == 2
    assert "--overwrite" in err


# --- signals ------------------------------------------------------------------------------------------------


def stop_after(epoch, sent, *arguments, folder) -> tuple[int, str]:
    """Start a training, send a signal once an epoch is on disk; gives the exit status and the last line said."""
    process = start("train", *arguments, "--no-progress")
    for line in process.stderr:
        if line.startswith(f"epoch {epoch:>3} "):
            process.send_signal(sent)
            break
    said = process.communicate(timeout=300)[1]
    assert "Traceback" not in said
    assert not Run(folder).is_finished
    return process.returncode, (said.splitlines() or [""])[-1]


@pytest.mark.long
@on_posix
@pytest.mark.parametrize(
    ("options", "stops"),
    [
        ({"epochs": 9}, [(1, signal.SIGKILL, -9), (3, signal.SIGINT, 130), (5, signal.SIGTERM, 143)]),
        (
            {"epochs": 5, "optimizer": "sgd", "schedule": "step", "step_epochs": 2, "learning_rate": 0.02},
            [(2, signal.SIGKILL, -9)],
        ),
    ],
    ids=["adamw one-cycle", "sgd step"],
)
def test_a_run_stopped_by_signals_and_resumed_ends_with_the_same_weights(data, tmp_path, options, stops):
    folder = tmp_path / "stopped"
    flags = {f"--{name.replace('_', '-')}": str(value) for name, value in (SIZES | options).items()}
    arguments = [data, "-o", folder, "--no-audit", *(part for pair in flags.items() for part in pair)]
    for epoch, sent, expected in stops:
        status, last = stop_after(epoch, sent, *arguments, folder=folder)
        assert status == expected
        if expected > 0:
            assert last.startswith("plainfilm: Stopped; epochs 1 to ")
            assert last.endswith("Go on with --resume. [INTERRUPTED]")
        arguments = ["--resume", folder]

    assert cli(["train", "--resume", str(folder), "-q"]) == 0

    assert weights_hash(Run(folder)) == weights_hash(train_small(data, tmp_path / "whole", **options))


def test_a_stop_while_images_are_read_leaves_nothing_behind(data, tmp_path, typed, monkeypatch):
    from plainfilm.commands import running

    monkeypatch.setattr(running, "Terminal", lambda **options: Stopper("reading images"))

    status, _, err = typed("train", data, *SMALL_FLAGS, "-o", tmp_path / "run")

    assert (status, err) == (130, "plainfilm: stopped. [INTERRUPTED]\n")
    assert not (tmp_path / "run").exists()


def test_a_stop_before_the_first_epoch_says_that_nothing_is_saved(data, tmp_path, typed, monkeypatch):
    from plainfilm.commands import running

    monkeypatch.setattr(running, "Terminal", lambda **options: Stopper(1))

    status, _, err = typed("train", data, *SMALL_FLAGS, "-o", tmp_path / "run")

    assert status == 130
    assert err == "plainfilm: Stopped; no epoch was finished. Go on with --resume. [INTERRUPTED]\n"
