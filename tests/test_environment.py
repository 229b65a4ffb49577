"""A hostile environment: full disks, locks, places that cannot be written, processes that die."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from plainfilm.errors import ResourceError, UsageError
from plainfilm.runs import Run
from plainfilm.storage import is_temporary, locked, make_folder, sweep, write_bytes, write_json, write_text
from small_runs import SMALL, SMALL_FLAGS, command, settings, train_small, weights_hash, write_small_data

on_posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and limits of POSIX")
as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become somebody else")

ONE_EPOCH = {"epochs": 1, "keep_checkpoints": "all"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data") / "phantoms")


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    return train_small(data, tmp_path_factory.mktemp("runs") / "run", **ONE_EPOCH)


def resource_code(call, *arguments, **options) -> str:
    with pytest.raises(ResourceError) as caught:
        call(*arguments, **options)
    assert caught.value.exit_code == 5
    return caught.value.code


# --- places that cannot be written --------------------------------------------------------------------------


@pytest.fixture
def nobody():
    os.seteuid(65534)
    yield
    os.seteuid(0)


@as_root
def test_a_read_only_folder_is_said_to_be_one(tmp_path, nobody, request):
    place = Path("/")  # what nobody may write to on any system

    assert resource_code(write_text, place / "plainfilm-test", "x") == "RES_READ_ONLY"
    assert resource_code(make_folder, place / "plainfilm-test") == "RES_READ_ONLY"
    with pytest.raises(ResourceError), locked(place):
        pass


def test_a_path_through_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")

    assert resource_code(write_text, tmp_path / "file" / "x", "x") == "RES_WRITE"
    assert resource_code(make_folder, tmp_path / "file" / "x") == "RES_WRITE"


def test_an_output_that_is_a_file_is_not_touched(tmp_path, data):
    (tmp_path / "file").write_text("mine")

    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is a file"):
            train_small(data, tmp_path / "file", overwrite=overwrite)
    assert resource_code(train_small, data, tmp_path / "file" / "run") == "RES_WRITE"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")

    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.txt", float("nan"))
    with pytest.raises(TypeError):
        write_bytes(tmp_path / "a.txt", "not bytes")

    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_what_a_killed_writer_left_is_swept_away(tmp_path):
    left = tmp_path / "deeper" / ".model.safetensors.4711.tmp"
    left.parent.mkdir()
    left.write_bytes(b"half")
    (tmp_path / ".hidden").write_text("mine")

    assert is_temporary(left)
    sweep(tmp_path)

    assert not left.exists()
    assert (tmp_path / ".hidden").exists()


# --- one writer for each folder -----------------------------------------------------------------------------


@on_posix
def test_two_runs_cannot_share_a_folder(tmp_path, data):
    with locked(tmp_path / "run"):
        assert resource_code(train_small, data, tmp_path / "run") == "RES_LOCKED"
        assert resource_code(train_small, data, tmp_path / "run", overwrite=True) == "RES_LOCKED"


@on_posix
def test_a_run_in_progress_is_not_overwritten(tmp_path, data, run):
    (tmp_path / "run").mkdir()
    Run(tmp_path / "run").options.write_text(run.options.read_text())

    with locked(tmp_path / "run"):
        assert resource_code(train_small, data, tmp_path / "run", overwrite=True) == "RES_LOCKED"
    assert Run(tmp_path / "run").options.is_file()


@on_posix
def test_a_lock_dies_with_its_process(tmp_path):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom plainfilm.storage import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ResourceError), locked(tmp_path):
        pass

    holder.kill()
    holder.communicate()

    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()


def test_a_lock_leaves_no_empty_folder_behind(tmp_path):
    with locked(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()

    with locked(tmp_path / "new" / "deep"):
        assert (tmp_path / "new" / "deep").is_dir()
    assert not (tmp_path / "new").exists()

    with locked(tmp_path / "new" / "deep"):
        (tmp_path / "new" / "kept").write_text("")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["kept"]


@on_posix
def test_never_do_two_hold_one_lock(tmp_path):
    inside, most, entered = 0, 0, 0
    count = threading.Lock()
    until = time.monotonic() + 1

    def contend():
        nonlocal inside, most, entered
        while time.monotonic() < until:
            try:
                with locked(tmp_path / "run"):
                    with count:
                        inside, entered = inside + 1, entered + 1
                        most = max(most, inside)
                    with count:
                        inside -= 1
            except ResourceError:
                continue

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1
    assert entered > 5


# --- a full disk --------------------------------------------------------------------------------------------

# In the order they are written; the disk is full at the first, a middle or the last byte.
ARTEFACTS = {
    "options.toml": 0.5,
    "table.parquet": 0.0,
    "checkpoints/epoch-0001/model.safetensors": 0.5,
    "checkpoints/epoch-0001/optimizer.safetensors": 1.0,
    "checkpoints/epoch-0001/manifest.json": 1.0,
    "history.csv": 0.0,
    "bundle/model.safetensors": 1.0,
    "bundle/manifest.json": 1.0,
    "test-openings.json": 0.0,
    "predictions.csv": 0.5,
    "examples/00.png": 0.5,
    "report.html": 0.5,
    "manifest.json": 1.0,
}

FILL_THE_DISK = """
import json, resource, sys
from pathlib import Path
from plainfilm import verbs
from plainfilm.errors import ResourceError

data, folder, sizes, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
wanted = None

def watch(event, arguments):
    if wanted and event == "open" and str(arguments[0]).startswith(str(wanted.parent / f".{wanted.name}.")):
        limit = sizes[wanted.relative_to(folder).as_posix()]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

sys.addaudithook(watch)
found = {}
for name in sizes:
    wanted = folder / name
    try:
        verbs.train(data, options, output=folder, resume=(folder / "options.toml").exists())
    except ResourceError as error:
        found[name] = error.code
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    left = [path.name for path in folder.rglob("*.tmp")]
    if wanted.exists() or left or (folder / "manifest.json").exists():
        found[name] = f"left {left} or the artefact itself"
wanted = None
verbs.train(data, options, output=folder, resume=True)
print(json.dumps(found))
"""


@pytest.mark.long
@on_posix
def test_a_disk_full_at_any_artefact_is_said_and_the_run_goes_on_afterwards(tmp_path, data, run):
    sizes = {name: int(share * ((run.folder / name).stat().st_size - 1)) for name, share in ARTEFACTS.items()}
    arguments = [str(data), str(tmp_path / "run"), json.dumps(sizes), json.dumps(SMALL | ONE_EPOCH)]

    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, *arguments], capture_output=True, text=True, check=False, **settings()
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == dict.fromkeys(ARTEFACTS, "RES_DISK_FULL")
    assert weights_hash(Run(tmp_path / "run")) == weights_hash(run)


@on_posix
def test_a_full_disk_ends_the_command_with_5_and_one_line(tmp_path, data):
    program = (
        "import resource, sys\nfrom plainfilm.cli import run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\nsys.exit(run(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "scan",
            str(data),
            "-q",
            "-o",
            str(tmp_path / "account.csv"),
            "--workers",
            "0",
            "--no-keep-images",
        ],
        capture_output=True,
        text=True,
        check=False,
        **settings(),
    )

    assert done.returncode == 5
    assert (
        done.stderr
        == "plainfilm: 'account.csv' cannot be written: the file would pass the size limit. [RES_DISK_FULL]\n"
    )
    assert list(tmp_path.iterdir()) == []


# --- death in the middle of a write -------------------------------------------------------------------------

DIE_IN_WRITE = """
import os, resource, signal, sys
from plainfilm.cli import run

def watch(event, arguments):
    if event == "open" and "epoch-0002" in str(arguments[0]) and ".optimizer.safetensors." in str(arguments[0]):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))

sys.addaudithook(watch)
run(sys.argv[1:])
"""


@pytest.mark.long
@on_posix
def test_a_process_that_dies_while_it_writes_a_checkpoint_loses_only_that(tmp_path, data):
    died = subprocess.run(
        [sys.executable, "-c", DIE_IN_WRITE, "train", str(data), "-o", str(tmp_path / "run"), *SMALL_FLAGS],
        capture_output=True,
        check=False,
        **settings(),
    )
    assert died.returncode == -signal.SIGXFSZ
    torn = tmp_path / "run" / "checkpoints" / "epoch-0002"
    assert sum(path.stat().st_size for path in torn.glob(".optimizer*.tmp")) == 1 << 20

    resumed = train_small(data, tmp_path / "run", resume=True, gallery=True)  # as the command began

    assert weights_hash(resumed) == weights_hash(train_small(data, tmp_path / "whole"))
    assert not list(resumed.folder.rglob("*.tmp"))


# --- no home ------------------------------------------------------------------------------------------------


def test_a_run_needs_no_home_and_says_nothing_but_its_progress(tmp_path, data):
    homeless = {"HOME": str(tmp_path / "absent" / "home"), "MPLCONFIGDIR": None, "XDG_CACHE_HOME": None}
    flags = [*SMALL_FLAGS, "--precision", "bf16-mixed", "--quiet"]

    done = command("train", data, "-o", tmp_path / "run", *flags, env=homeless)

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "precision" not in done.stderr.lower()
    assert Run(tmp_path / "run").is_finished
