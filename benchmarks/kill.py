"""Kill trainings at random instants; each must end with the weights of a training that was left alone.

    python -m benchmarks.kill [--kills 200] [--seed 0]

A run is killed and resumed until it ends, then the next begins, until there were enough kills. A third come from
outside at a random time. The others strike while a checkpoint is written: SIGKILL at one of its file operations, or a
limit on the size of files, which ends the process in the middle of a write. Besides the weights, no epoch may be lost
that was announced as finished, and no torn checkpoint may be gone on from.

Trainings are small and run in children of one process that has torch imported already; every `--whole`-th is a process
of its own, as a user starts it. Needs a system with signals and fork (Linux, macOS).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.forked import Child, warm
from plainfilm.data.phantoms import PhantomOptions, write_phantoms
from plainfilm.runs import Run
from plainfilm.storage import sha256_of
from plainfilm.training.checkpoint import is_sound, sound_checkpoints

COMMON = ["--batch-size", "16", "--epochs", "6", "--workers", "0", "--device", "cpu", "--no-audit", "--no-gallery"]
TRAININGS = {
    "perceptron, adamw, one-cycle": [
        *("--model", "perceptron", "--image-size", "16", "--optimizer", "adamw", "--no-augment"),
    ],
    "lenet5, sgd, step": [
        *("--model", "lenet5", "--image-size", "32", "--optimizer", "sgd", "--schedule", "step"),
        *("--step-epochs", "2", "--learning-rate", "0.02", "--no-augment"),
    ],
    "resnet1d, adamw, one-cycle": ["--model", "resnet1d", "--image-size", "16", "--schedule", "one-cycle"],
}
FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
OPERATIONS = 22  # on files, for one checkpoint and the one it replaces
FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")

Kind = Literal["outside", "operation", "write"]


@dataclass(frozen=True)
class Aim:
    """How and when one process is to die.

    Attributes:
        kind: `outside`: SIGKILL at any time; `operation`: SIGKILL at a file operation of a checkpoint; `write`: in the
            middle of writing a file of one.
        epoch: Checkpoints of this process that are spared before.
        share: From 0 to 1: which instant of a whole training, which operation, or how far into the file.
        name: For `write`: which file.
    """

    kind: Kind
    epoch: int
    share: float
    name: str

    @classmethod
    def draw(cls, rng: random.Random) -> Aim:
        """Any of them."""
        kind: Kind = rng.choice(("outside", "operation", "write"))
        return cls(kind, rng.choice((0, 0, 1, 2)), rng.random(), rng.choice(FILES))


NOTHING = Aim("outside", 0, float("inf"), "")


# --- inside the process that is to die ----------------------------------------------------------------------


class InsideJob:
    """An audit hook that ends its own process while a checkpoint is written."""

    def __init__(self, aim: Aim, sizes: dict[str, int]) -> None:
        self._aim = aim
        self._sizes = sizes
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
            limit = int(self._aim.share * self._sizes[self._aim.name])
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def die(aim: Aim, sizes: dict[str, int], arguments: list[str]) -> int:
    """Run the command line in this process until it dies as aimed."""
    from plainfilm.cli import main

    if aim.kind != "outside":
        sys.addaudithook(InsideJob(aim, sizes))
    sys.argv = ["plainfilm", *arguments]
    main()


# --- outside it ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """What a training that was left alone is like.

    Attributes:
        weights: Hash of its weights.
        sizes: Bytes of each file of its last checkpoint.
        seconds: How long it took.
    """

    weights: str
    sizes: dict[str, int]
    seconds: float


@dataclass
class Account:
    """What came of all kills."""

    kills: Counter[str] = field(default_factory=Counter)
    whole: int = 0
    resumed: int = 0
    torn: int = 0
    torn_loaded: int = 0
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
        return not (self.different or self.lost_epochs or self.torn_loaded) and self.resumed == self.total


def run_and_kill(aim: Aim, reference: Reference | None, arguments: list[str], *, whole: bool) -> tuple[int, list[int]]:
    """The exit status (negative: the signal), and the epochs that were announced."""
    sizes = reference.sizes if reference else {}
    call: Callable[[], int] = lambda: die(aim, sizes, arguments)  # noqa: E731
    if whole:
        call = _as_a_user(aim, sizes, arguments)
    child = Child(call)
    scale = (reference.seconds if reference else 0.0) * (2.5 if whole else 1)  # about what importing takes
    announced: list[int] = []
    said: list[str] = []
    while True:
        ending = child.poll()
        lines = child.new_lines() if ending is None else ending.err.splitlines()[len(said) :]
        said += lines
        announced += [int(line.split()[1].split("/")[0]) for line in lines if line.startswith("epoch ")]
        if ending is not None:
            break
        if aim.kind == "outside" and child.age > aim.share * scale:
            child.kill()
        time.sleep(0.002)
    if ending.status > 0:
        sys.exit(f"the training failed (exit {ending.status}):\n{ending.err}")
    return ending.status, announced


def _as_a_user(aim: Aim, sizes: dict[str, int], arguments: list[str]) -> Callable[[], int]:
    """The same in a new process: the child becomes it."""
    command = [sys.executable, "-m", "benchmarks.kill", "--child", json.dumps([asdict(aim), sizes]), *arguments]
    return lambda: os.execv(sys.executable, command)


def train_under_fire(
    name: str,
    data: Path,
    folder: Path,
    account: Account,
    rng: random.Random,
    *,
    reference: Reference | None = None,
    kills: int = 0,
    whole: int = 0,
) -> None:
    """Train once to the end, killed on the way as often as it happens, or until there were enough kills."""
    run = Run(folder)
    checkpoints = folder / "checkpoints"
    killed_before = False
    while not run.is_finished:
        aim = Aim.draw(rng) if account.total < kills else NOTHING
        as_a_user = bool(whole) and account.total % whole == whole - 1
        newest = newest_epoch(checkpoints)
        torn = sum(not is_sound(place) for place in checkpoints.glob("epoch-*"))
        new = [str(data), "--output", str(folder), *COMMON, *TRAININGS[name]]
        arguments = ["--resume", str(folder)] if run.options.is_file() else new
        status, announced = run_and_kill(aim, reference, ["train", *arguments], whole=as_a_user)
        account.resumed += killed_before
        account.torn += torn
        if announced and announced[0] != newest + 1:
            account.torn_loaded += announced[0] > newest + 1
        killed_before = status < 0
        if killed_before:
            found = newest_epoch(checkpoints)
            account.kills[aim.kind] += 1
            account.whole += as_a_user
            account.lost_epochs += max(0, max(announced, default=0) - found)
            print(
                f"{account.total:>4}  {aim.kind:<9} signal {-status:>2}  {found} epochs on disk  ({name})", flush=True
            )
    account.ended += 1


def newest_epoch(checkpoints: Path) -> int:
    """The last epoch of which there is a sound checkpoint."""
    return next((checkpoint.epoch for checkpoint in sound_checkpoints(checkpoints)), 0)


def leave_alone(name: str, data: Path, folder: Path) -> Reference:
    """Train without a kill."""
    began = time.monotonic()
    arguments = [str(data), "--output", str(folder), "--keep-checkpoints", "all", *COMMON, *TRAININGS[name]]
    run_and_kill(NOTHING, None, ["train", *arguments], whole=False)
    last = max((folder / "checkpoints").glob("epoch-*"))
    return Reference(
        sha256_of(folder / "bundle" / "model.safetensors"),
        {name: (last / name).stat().st_size for name in FILES},
        time.monotonic() - began,
    )


def main() -> None:
    """Do what the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", type=int, default=10, help="every so many is a process of its own")
    options = parser.parse_args()
    rng, account = random.Random(options.seed), Account()
    warm()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        write_phantoms(place / "data", PhantomOptions(patients=20, images_per_patient=4, size=32))
        data = place / "data" / "manifest.csv"
        references = {name: leave_alone(name, data, place / name) for name in TRAININGS}
        while account.total < options.kills:
            name, folder = list(TRAININGS)[account.ended % len(TRAININGS)], place / f"run-{account.ended}"
            train_under_fire(
                name,
                data,
                folder,
                account,
                rng,
                reference=references[name],
                kills=options.kills,
                whole=options.whole,
            )
            account.different += sha256_of(folder / "bundle" / "model.safetensors") != references[name].weights
    print(
        f"{account.total} kills in {time.monotonic() - began:.0f} s "
        f"({', '.join(f'{count} {kind}' for kind, count in account.kills.items())}; {account.whole} of processes of "
        f"their own): {account.resumed} resumed; {account.torn} torn checkpoints met, {account.torn_loaded} gone on "
        f"from; {account.ended - account.different} of {account.ended} trainings ended with the very same weights; "
        f"{account.lost_epochs} finished epochs lost"
    )
    sys.exit(0 if account.is_good else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        drawn, bytes_of = json.loads(sys.argv[2])
        die(Aim(**drawn), bytes_of, sys.argv[3:])
    main()
