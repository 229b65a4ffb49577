"""A disk that is full at the first, a middle and the last bytes of each file that a command writes.

    python -m benchmarks.full_disk [--only COMMAND] [--shares 3]

First each command runs once, and every file it writes is noted: none may be written in place. Then it runs again for
each of them and each share, with a limit on the size of that one file. It must end with 5 and RES_DISK_FULL on one
line; the file must be absent, or what it was before; nothing half-written or temporary may be left, nor a manifest that
says the run is whole. A training is gone on with after each failure, and must end with the weights of one that never
failed; a report is written again on the same run. Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.forked import Child, Ending, warm

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
SMALL = ["--model", "perceptron", "--image-size", "16", "--batch-size", "16", "--epochs", "1", "--workers", "0"]


@dataclass(frozen=True)
class Job:
    """One command and where it writes.

    Attributes:
        name: Of the command.
        words: What is typed; `{}` stands for the output.
        output: Its suffix: empty for a folder.
        resume: Typed instead once something is there.
        before: Copied to the output first; the command then writes inside it.
    """

    name: str
    words: tuple[str, ...]
    output: str = ""
    resume: tuple[str, ...] = ()
    before: Path | None = None


# --- inside the process -------------------------------------------------------------------------------------


class Disk:
    """An audit hook: notes what is written, and is full at one file."""

    def __init__(self, root: Path, *, wanted: str = "", limit: int = 0, notes: Path | None = None) -> None:
        self._root, self._wanted, self._limit, self._notes = root, wanted, limit, notes
        self._noting = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by Python before each operation."""
        if event == "open":
            self._opened(*arguments)
        elif event == "os.remove" and str(arguments[0]).endswith(".tmp"):
            resource.setrlimit(resource.RLIMIT_FSIZE, UNLIMITED)  # the failure is over: it may be told

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, str | os.PathLike) or not isinstance(flags, int):
            return
        place = Path(os.fsdecode(path))
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or not place.is_relative_to(self._root):
            return
        if place.name == ".lock" or place == self._notes:
            return
        temporary = place.name.startswith(".") and place.name.endswith(".tmp")
        name = ".".join(place.name.split(".")[1:-2]) if temporary else place.name
        final = place.with_name(name).relative_to(self._root).as_posix()
        if self._notes is not None and not self._noting:
            self._noting = True  # to note is to write as well
            with self._notes.open("a") as file:
                file.write(json.dumps([final, temporary]) + "\n")
            self._noting = False
        if final == self._wanted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._limit, resource.RLIM_INFINITY))


def run(words: list[str], disk: Disk) -> Ending:
    """One command in a child with that disk."""

    def call() -> int:
        from plainfilm.cli import run as run_command

        sys.addaudithook(disk)
        return run_command(words)

    return Child(call, seconds=600).wait()


# --- outside it ---------------------------------------------------------------------------------------------


def typed(job: Job, output: Path) -> list[str]:
    """The words, with the output in its place."""
    words = job.resume if job.resume and (output / "options.toml").is_file() else job.words
    return [word.replace("{}", str(output)) for word in words]


def files_of(output: Path) -> dict[str, int]:
    """Sizes by name, relative to the folder the output is in."""
    places = output.rglob("*") if output.is_dir() else [output]
    return {path.relative_to(output.parent).as_posix(): path.stat().st_size for path in places if path.is_file()}


def reference(job: Job, place: Path) -> tuple[Path, dict[str, int], list[str]]:
    """The output of a run that succeeds, the size of each file it wrote in order, and what it wrote in place."""
    output, notes = place / f"whole{job.output}", place / "notes"
    if job.before is not None:
        shutil.copytree(job.before, output)
    ending = run(typed(job, output), Disk(place, notes=notes))
    if ending.status not in (0, 4):
        sys.exit(f"{job.name} fails on a sound disk:\n{ending.err}")
    noted = [json.loads(line) for line in notes.read_text().splitlines()]
    sizes = files_of(output)
    written = {name: sizes[name] for name, temporary in noted if temporary and name in sizes}
    in_place = sorted({name for name, temporary in noted if not temporary and name in sizes})
    return output, written, in_place


def wrong_after(job: Job, place: Path, output: Path, name: str, limit: int, *, fresh: bool) -> Iterator[str]:
    """Fill the disk at one byte of one file, and say what is not as it should be."""
    if fresh and output.exists():
        shutil.rmtree(output) if output.is_dir() else output.unlink()
    if fresh and job.before is not None:
        shutil.copytree(job.before, output)
    if job.output:
        output.write_text("old")
    kept = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} if job.before else {}
    ending = run(typed(job, output), Disk(place, wanted=name, limit=limit))
    target = place / name
    if ending.status != 5 or "[RES_DISK_FULL]" not in ending.err.rstrip().rsplit("\n", 1)[-1]:
        yield f"ended with {ending.status}: {ending.err[-200:]}"
    if job.output:
        if output.read_text() != "old":
            yield "the old file is not what it was"
    elif target in kept:
        if target.is_file() and target.read_bytes() != kept[target]:
            yield "the old file is not what it was"
    elif target.exists() and target.stat().st_size > limit:  # smaller, it is whole from an earlier writing of it
        yield "the file is there"
    if left := [path.name for path in output.parent.rglob("*.tmp")]:
        yield f"left {left}"
    if job.resume and (output / "manifest.json").exists():
        yield "the manifest says that the run is whole"
    if job.before is not None and run(typed(job, output), Disk(place)).status:
        yield "it cannot be done again"


def jobs(place: Path) -> list[Job]:
    """Every command that writes, on small data."""
    from plainfilm.data.phantoms import PhantomOptions, write_phantoms

    options = PhantomOptions(patients=20, images_per_patient=2, size=32, effect=2.0)
    data = str(write_phantoms(place / "data", options).folder / "manifest.csv")
    trained = place / "trained"
    ending = run(["train", data, "-o", str(trained), *SMALL, "--no-audit", "-q"], Disk(place))
    if ending.status:
        sys.exit(ending.err)
    other = place / "other"
    run(["train", data, "-o", str(other), *SMALL, "--no-audit", "-q", "--seed", "1"], Disk(place))
    keep = ("--keep-checkpoints", "all")
    return [
        Job("scan", ("scan", data, "--workers", "0", "-q", "-o", "{}"), ".csv"),
        Job("predict csv", ("predict", str(trained), data, "--workers", "0", "-q", "-o", "{}"), ".csv"),
        Job("predict json", ("predict", str(trained), data, "--workers", "0", "-q", "-o", "{}"), ".json"),
        Job("evaluate", ("evaluate", str(trained), "-q", "-o", "{}"), ".json"),
        Job("compare", ("compare", str(trained), str(other), "-q", "-o", "{}")),
        Job(
            "explore",
            ("explore", data, "--side", "8", "--no-umap", "--workers", "0", "-q", "-o", "{}"),
        ),
        # A perceptron has no maps for Grad-CAM.
        Job("explain", ("explain", str(trained), data, "--methods", "gradient", "--workers", "0", "-q", "-o", "{}")),
        Job("audit", ("audit", data, "--workers", "0", "-q", "-o", "{}")),
        Job("report", ("report", "{}"), before=trained),
        Job(
            "train",
            ("train", data, "-o", "{}", *SMALL, *keep, "-q"),
            resume=("train", "--resume", "{}", "-q"),
        ),
    ]


def main() -> None:
    """Do what the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--shares", type=int, default=3, choices=(1, 2, 3))
    options = parser.parse_args()
    # Near the end, not at the last byte: a file that says how many seconds it took is now and then a few bytes shorter.
    shares: list[Callable[[int], int]] = [lambda size: size // 2, lambda size: 0, lambda size: max(size - 8, 0)]
    warm()
    n_files = n_fills = 0
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        for number, job in enumerate(jobs(Path(temporary))):
            if options.only not in job.name:
                continue
            place = Path(temporary) / str(number)
            place.mkdir()
            whole, sizes, in_place = reference(job, place)
            wrong += [f"{job.name}: {name} is written in place" for name in in_place]
            before = len(wrong)
            for name, size in sizes.items():
                for share in shares[: options.shares]:
                    output = place / f"full{job.output}"
                    renamed = name.replace(whole.name, output.name, 1)
                    said = wrong_after(job, place, output, renamed, share(size), fresh=not job.resume)
                    wrong += [f"{job.name}, {name} at byte {share(size)} of {size}: {what}" for what in said]
                    n_fills += 1
                n_files += 1
            if job.resume:
                wrong += list(_wrong_at_the_end(job, place / "full", whole))
            print(f"{job.name:<14}{len(sizes):>4} files, {len(wrong) - before} wrong", flush=True)
    for what in wrong:
        print(f"WRONG {what}")
    print(f"{n_files} files of {n_fills} full disks: {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


def _wrong_at_the_end(job: Job, output: Path, whole: Path) -> Iterator[str]:
    """Go on with a training that failed so often."""
    ending = run(typed(job, output), Disk(output))
    if ending.status:
        yield f"{job.name}: cannot be gone on with: {ending.err[-200:]}"
        return
    model = Path("bundle", "model.safetensors")
    if (output / model).read_bytes() != (whole / model).read_bytes():
        yield f"{job.name}: other weights"


if __name__ == "__main__":
    main()
