"""Kill trainings at random instants; each must end with the weights of a training that was left alone.

    python -m benchmarks.kill [--kills 20] [--seed 0]

A run is killed and resumed until it ends, then the next begins, until there were enough kills. Half come from outside
at a random time. Half strike while a checkpoint is written: SIGKILL at one of its file operations, or a limit on the
size of files, which ends the process in the middle of a write. Besides the weights, no epoch may be lost that was
announced as finished. About ten seconds a kill; needs a system with signals (Linux, macOS).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from plainfilm.data.phantoms import PhantomOptions, write_phantoms
from plainfilm.runs import Run
from plainfilm.storage import sha256_of
from plainfilm.training.checkpoint import sound_checkpoints

COMMON = ["--image-size", "32", "--batch-size", "16", "--epochs", "6", "--workers", "0", "--device", "cpu"]
TRAININGS = {
    "adamw, one-cycle": ["--optimizer", "adamw", "--schedule", "one-cycle"],
    "sgd, step": ["--optimizer", "sgd", "--schedule", "step", "--step-epochs", "2", "--learning-rate", "0.02"],
}
START_SECONDS, EPOCH_SECONDS = 8.0, 1.5  # roughly; only spreads the kills from outside
FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
OPERATIONS = 22  # on files, for one checkpoint and the one it replaces
BYTES = {"model.safetensors": 11 << 20, "optimizer.safetensors": 11 << 20, "state.json": 2000, "manifest.json": 300}

Kind = Literal["outside", "operation", "write"]


@dataclass(frozen=True)
class Aim:
    """How and when one process is to die.

    Attributes:
        kind: `outside`: SIGKILL some time after the `epoch`-th epoch of this process; `operation`: SIGKILL at a file
            operation of its next checkpoint; `write`: in the middle of writing a file of it.
        epoch: Epochs it may finish before.
        share: From 0 to 1: which instant, operation or byte.
        name: For `write`: which file.
    """

    kind: Kind
    epoch: int
    share: float
    name: str

    @classmethod
    def draw(cls, rng: random.Random) -> Aim:
        """Any of them."""
        kind: Kind = rng.choice(("outside", "outside", "operation", "write"))
        return cls(kind, rng.choice((0, 0, 1, 2)), rng.random(), rng.choice(list(BYTES)))


# --- inside the process that is to die ----------------------------------------------------------------------


class InsideJob:
    """An audit hook that ends its own process while a checkpoint is written."""

    def __init__(self, aim: Aim) -> None:
        self._aim = aim
        self._checkpoints: set[str] = set()
        self._operations = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by Python before each operation."""
        if event not in FILE_EVENTS or "epoch-" not in str(arguments[0]):
            return
        path = Path(str(arguments[0]))
        if event == "os.mkdir":
            self._checkpoints.add(path.name)
        if len(self._checkpoints) <= self._aim.epoch:
            return
        if self._aim.kind == "operation":
            self._operations += 1
            if self._operations > self._aim.share * OPERATIONS:
                os.kill(os.getpid(), signal.SIGKILL)
        elif event == "open" and path.name.startswith(f".{self._aim.name}."):
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, and gets an error instead
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            limit = int(self._aim.share * BYTES[self._aim.name])
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def die(aim: Aim, arguments: list[str]) -> None:
    """Run the command line in this process until it dies as aimed."""
    from plainfilm.cli import main

    if aim.kind != "outside":
        sys.addaudithook(InsideJob(aim))
    sys.argv = ["plainfilm", *arguments]
    main()


# --- outside it ---------------------------------------------------------------------------------------------


@dataclass
class Account:
    """What came of all kills."""

    kills: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    different: int = 0
    lost_epochs: int = 0

    @property
    def total(self) -> int:
        """Processes killed."""
        return self.kills.total()

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost."""
        return not self.different and not self.lost_epochs


def run_and_kill(aim: Aim, arguments: list[str]) -> tuple[int, int]:
    """The exit status (negative: the signal), and the last epoch that was announced."""
    command = [sys.executable, "-m", "benchmarks.kill", "--child", json.dumps(asdict(aim)), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    announced = finished = 0
    timer = None
    if aim.kind == "outside" and aim.epoch == 0:
        timer = _kill_after(aim.share * START_SECONDS, process)
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("epoch "):
            announced, finished = int(line.split()[1]), finished + 1
            if aim.kind == "outside" and finished == aim.epoch:
                timer = _kill_after(aim.share * EPOCH_SECONDS, process)
    status = process.wait()
    if timer is not None:
        timer.cancel()
    if status > 0:
        sys.exit(f"the training failed (exit {status}):\n{''.join(said)}")
    return status, announced


def _kill_after(seconds: float, process: subprocess.Popen[str]) -> threading.Timer:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    return timer


def train_under_fire(name: str, data: Path, folder: Path, account: Account, rng: random.Random, kills: int) -> None:
    """Train once to the end, killed on the way as often as it happens, or until there were enough kills."""
    run = Run(folder)
    while not run.is_finished:
        aim = Aim.draw(rng) if account.total < kills else Aim("outside", 10**6, 0, "")
        new = [str(data), "--output", str(folder), *COMMON, *TRAININGS[name]]
        arguments = ["--resume", str(folder)] if run.options.is_file() else new
        status, announced = run_and_kill(aim, ["train", *arguments])
        if status < 0:
            newest = next((checkpoint.epoch for checkpoint in sound_checkpoints(folder / "checkpoints")), 0)
            account.kills[aim.kind] += 1
            account.lost_epochs += max(0, announced - newest)
            print(
                f"{account.total:>4}  {aim.kind:<9} signal {-status:>2}  {newest} epochs on disk  ({name})", flush=True
            )
    account.ended += 1


def main() -> None:
    """Do what the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, account = random.Random(options.seed), Account()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        write_phantoms(place / "data", PhantomOptions(patients=20, images_per_patient=4, size=32))
        data = place / "data" / "manifest.csv"
        expected = {}
        for name in TRAININGS:
            train_under_fire(name, data, place / name, Account(), rng, kills=0)
            expected[name] = sha256_of(place / name / "bundle" / "model.safetensors")
        while account.total < options.kills:
            name, folder = list(TRAININGS)[account.ended % 2], place / f"run-{account.ended}"
            train_under_fire(name, data, folder, account, rng, options.kills)
            account.different += sha256_of(folder / "bundle" / "model.safetensors") != expected[name]
    print(
        f"{account.total} kills ({', '.join(f'{count} {kind}' for kind, count in account.kills.items())}); "
        f"{account.ended - account.different} of {account.ended} trainings ended with the very same weights; "
        f"{account.lost_epochs} finished epochs lost"
    )
    sys.exit(0 if account.is_good else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        die(Aim(**json.loads(sys.argv[2])), sys.argv[3:])
    main()
