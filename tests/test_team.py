"""Several processes are one: the same weights, scores and tables; and one that dies is said, never waited for."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from plainfilm import verbs
from plainfilm.errors import Interrupted, ResourceError, TrainingError, UsageError
from plainfilm.progress import Silent
from plainfilm.storage import read_json
from plainfilm.team import ALONE, Place, Team, connected, launched_place
from plainfilm.team.connected import Connected
from small_runs import SIZES, Stopper, copy_data, settings, start, train_small, weights_hash, write_small_data

# No batch norm, whose statistics are of each process's own part; batches that two cannot share evenly.
PLAIN = {"model": "lenet5", "precision": "32-true", "batch_size": 15, "epochs": 3}
on_linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")


def flags(**options) -> list[str]:
    named = {**SIZES, **PLAIN, **options}
    return [part for name, value in named.items() for part in (f"--{name.replace('_', '-')}", str(value))] + [
        "--no-audit",
        "--no-gallery",
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "phantoms")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data):
    """Trained by one process."""
    return train_small(data, tmp_path_factory.mktemp("runs") / "alone", **PLAIN)


@pytest.fixture(scope="module")
def together(tmp_path_factory, data):
    """The same by two."""
    return train_small(data, tmp_path_factory.mktemp("runs") / "together", **PLAIN, devices=2)


def furthest(one, other) -> float:
    """The largest difference of any weight."""
    ours, theirs = (load_file(run.folder / "bundle" / "model.safetensors") for run in (one, other))
    return max(float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours)


def children_of(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- the same weights ---------------------------------------------------------------------------------------


def test_two_processes_train_the_weights_of_one(alone, together):
    assert furthest(alone, together) < 1e-5
    assert furthest(alone, together) < 1e-3 * max(
        float(value.abs().max()) for value in load_file(alone.folder / "bundle" / "model.safetensors").values()
    )
    assert read_json(together.facts)["folds"][0]["processes"] == 2
    assert "processes" not in read_json(alone.facts)["folds"][0]


def test_their_history_is_that_of_one(alone, together):
    one, other = (
        np.genfromtxt(run.folder / "history.csv", delimiter=",", skip_header=1)[:, :-1] for run in (alone, together)
    )

    assert np.allclose(one, other, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        {"imbalance": "weights", "label_smoothing": 0.1, "devices": 3},
        {"imbalance": "sampler", "optimizer": "sgd", "learning_rate": 0.05, "loss": "focal"},
        {"batch_size": 64},  # more than there are: one batch, cut in two
        {"tuning": "head", "head": "linear", "unfreeze_epoch": 1, "optimizer": "sgd", "learning_rate": 0.05},
    ],
    ids=["weighted classes", "sampler", "one batch", "unfrozen later"],
)
def test_unequal_parts_and_classes_are_weighed_as_one_process_would(data, tmp_path, options):
    options = dict(options)
    devices = options.pop("devices", 2)

    one = train_small(data, tmp_path / "one", **{**PLAIN, **options})
    other = train_small(data, tmp_path / "other", **{**PLAIN, **options}, devices=devices)

    assert furthest(one, other) < 1e-5


@pytest.mark.long
def test_batch_norm_sees_parts_of_a_batch(data, tmp_path):
    options = {**PLAIN, "model": "resnet1d", "epochs": 1, "batch_size": 16}

    one = train_small(data, tmp_path / "one", **options)
    other = train_small(data, tmp_path / "other", **options, devices=2)

    assert furthest(one, other) > 1e-5  # as the documentation says


def test_a_run_goes_on_from_what_the_first_process_saved(data, together, tmp_path):
    with pytest.raises(Interrupted):
        train_small(data, tmp_path / "run", progress=Stopper(3), **PLAIN, devices=2)

    resumed = train_small(data, tmp_path / "run", resume=True, **PLAIN, devices=2)

    assert weights_hash(resumed) == weights_hash(together)


def test_more_processes_than_images_in_a_batch_are_refused(data, tmp_path):
    with pytest.raises(UsageError, match="2 processes cannot share a batch of 1") as caught:
        train_small(data, tmp_path / "run", **{**PLAIN, "batch_size": 1}, devices=2)

    assert caught.value.code == "DEV_TOO_MANY"


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that is not there")
def test_processes_for_absent_gpus_are_refused(data, tmp_path):
    with pytest.raises(UsageError, match="no 'cuda' device"):
        train_small(data, tmp_path / "run", **{**PLAIN, "device": "cuda"}, devices=2)


# --- launchers ----------------------------------------------------------------------------------------------


def torchrun(*arguments) -> list[str]:
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*started, "-m", "plainfilm.cli", *map(str, arguments)]


@pytest.mark.long
def test_torchrun_trains_the_same_and_the_first_process_alone_speaks(data, together, tmp_path):
    done = subprocess.run(
        torchrun("train", data, "-o", tmp_path / "run", *flags()),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        **settings(),
    )

    assert done.returncode == 0, done.stderr
    assert weights_hash(verbs.training.Run(tmp_path / "run")) == weights_hash(together)
    assert done.stdout.count("report: ") == 1
    assert sum(line.startswith("epoch   1 ") for line in done.stderr.splitlines()) == 1


@pytest.mark.long
def test_the_variables_of_srun_are_honoured(data, together, tmp_path):
    """Set by hand: two tasks on one machine, as `srun --ntasks-per-node=2` sets them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_JOB_ID": "4711"}
    common |= {"SLURM_NODELIST": "127.0.0.1", "SLURM_NODEID": "0", "SLURM_JOB_NAME": "train", "MASTER_PORT": str(port)}
    tasks = [
        start(
            "train",
            data,
            "-o",
            tmp_path / "run",
            *flags(),
            env={**common, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in (0, 1)
    ]

    said = [task.communicate(timeout=600) for task in tasks]

    assert [task.returncode for task in tasks] == [0, 0], said
    assert said[1] == ("", "")
    assert weights_hash(verbs.training.Run(tmp_path / "run")) == weights_hash(together)


def test_without_a_launcher_there_is_one_process(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert launched_place() is None
    monkeypatch.setenv("SLURM_NTASKS", "1")  # a batch job of one task
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert launched_place() is None


# --- the same scores, tables and features -------------------------------------------------------------------


def test_two_processes_read_and_score_as_one_does(together, data):
    predictions, table = verbs.predict(together.folder, data, workers=0, device="cpu")
    shared, read = verbs.predict(together.folder, data, workers=0, device="cpu", devices=2)

    assert np.array_equal(predictions.scores, shared.scores)
    assert predictions.table.equals(shared.table)
    assert table.rows.equals(read.rows)


@pytest.mark.long
def test_what_is_refused_is_the_same_whoever_reads_it(together, data, tmp_path):
    spoilt = copy_data(data, tmp_path / "spoilt")
    images = sorted((spoilt.parent).rglob("*.png"))
    for path in images[:7]:
        path.write_bytes(path.read_bytes()[:90])

    one, other = (
        verbs.predict(together.folder, spoilt, workers=0, device="cpu", devices=devices) for devices in (1, 3)
    )

    assert len(one[1].refused) == 7
    assert one[1].left_out == other[1].left_out
    assert np.array_equal(one[0].scores, other[0].scores)


@pytest.mark.long
def test_features_of_a_frozen_backbone_are_the_same_whoever_computes_them(data, tmp_path, monkeypatch):
    hashes = []
    for devices in (1, 2):
        monkeypatch.setenv("PLAINFILM_CACHE", str(tmp_path / f"cache-{devices}"))
        options = {**PLAIN, "model": "resnet1d", "tuning": "head", "views": 2, "epochs": 2}
        hashes.append(weights_hash(train_small(data, tmp_path / str(devices), **options, devices=devices)))

    assert hashes[0] == hashes[1]


# --- one that is gone ---------------------------------------------------------------------------------------


def until_epoch(process: subprocess.Popen, number: int) -> None:
    for line in process.stderr:
        if line.startswith(f"epoch {number:>3} "):
            return
    raise AssertionError("it ended before")


@on_linux
def test_a_killed_process_is_said_and_the_run_goes_on_from_its_last_epoch(data, tmp_path):
    process = start("train", data, "-o", tmp_path / "run", *flags(epochs=2000, devices=2, schedule="constant"))
    until_epoch(process, 2)
    (helper,) = children_of(process.pid)

    os.kill(helper, signal.SIGKILL)
    began = time.monotonic()
    said = process.communicate(timeout=120)[1].splitlines()

    assert process.returncode == 5
    assert "One of 2 processes is gone or does not answer; process 1 ended with status -9." in said[-1]
    assert said[-1].endswith("goes on with --resume. [DEV_PROCESS_LOST]")
    assert time.monotonic() - began < 60
    assert list((tmp_path / "run" / "checkpoints").glob("epoch-*/manifest.json"))


@on_linux
@pytest.mark.long
def test_when_the_first_process_is_killed_the_others_end(data, tmp_path):
    process = start("train", data, "-o", tmp_path / "run", *flags(epochs=2000, devices=3))
    until_epoch(process, 1)
    helpers = children_of(process.pid)
    assert len(helpers) == 2

    process.kill()
    process.communicate()
    until = time.monotonic() + 60
    while any(map(is_running, helpers)):
        assert time.monotonic() < until
        time.sleep(0.1)


@on_linux
@pytest.mark.long
@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun_ends_when_one_of_its_processes_is_killed(data, tmp_path, rank):
    process = subprocess.Popen(
        torchrun("train", data, "-o", tmp_path / "run", *flags(epochs=2000)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings(),
    )
    until_epoch(process, 1)
    ranks = {
        int(
            dict(part.split("=", 1) for part in Path(f"/proc/{pid}/environ").read_text().split("\0") if part)["RANK"]
        ): pid
        for pid in children_of(process.pid)
    }

    os.kill(ranks[rank], signal.SIGKILL)
    said = process.communicate(timeout=120)[1]

    assert process.returncode != 0
    assert not any(map(is_running, ranks.values()))
    if rank == 1:  # torchrun may be the faster to say so, by stopping the first
        assert "[DEV_PROCESS_LOST]" in said or "[INTERRUPTED]" in said


@on_linux
@pytest.mark.long
def test_a_process_that_stands_still_is_not_waited_for(data, tmp_path, monkeypatch):
    monkeypatch.setattr(connected, "COLLECTIVE_SECONDS", 5.0)
    before = set(children_of(os.getpid()))

    class Halting(Silent):
        def epoch(self, row):
            for pid in set(children_of(os.getpid())) - before:
                os.kill(pid, signal.SIGSTOP)

    with pytest.raises(ResourceError) as caught:
        train_small(data, tmp_path / "run", progress=Halting(), **PLAIN, devices=2)

    assert caught.value.code == "DEV_PROCESS_LOST"
    assert not [pid for pid in set(children_of(os.getpid())) - before if is_running(pid)]


def test_what_ended_another_process_is_said_in_its_words():
    store = torch.distributed.HashStore()
    places = [Place(rank, 2, rank, 2, "127.0.0.1", 0) for rank in (0, 1)]
    leader, helper = (Connected(place, store, []) for place in places)

    helper.confess(TrainingError("The loss is no longer a number.", code="TRN_NOT_FINITE"))

    with pytest.raises(TrainingError, match="Process 1 of 2: The loss is no longer a number") as caught:
        leader.meet("somewhere")
    assert caught.value.code == "TRN_NOT_FINITE"


def test_silence_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(connected, "SILENCE_SECONDS", 1.0)
    leader = Connected(Place(0, 2, 0, 2, "127.0.0.1", 0), torch.distributed.HashStore(), [])

    with pytest.raises(ResourceError, match="gone or does not answer") as caught:
        leader.meet("somewhere")
    assert caught.value.code == "DEV_PROCESS_LOST"


# --- parts --------------------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(1, 9))
def test_parts_cover_everything_once_and_are_alike(n, size):
    team = Team()
    team.size = size

    parts = [range(n)[team.own(n, rank=rank)] for rank in range(size)]

    assert [index for part in parts for index in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_of_one_nothing_is_exchanged():
    assert ALONE.agree({"a": [1]}) == {"a": [1]}
    assert ALONE.total([1.5, 2.0]) == [1.5, 2.0]
    assert ALONE.join("x") == ["x"]
    assert ALONE.own(7) == slice(0, 7)
    assert list(ALONE.jobs()) == []
