"""Every bad input of the catalogue through every entry point: its code, an exit status, never a traceback or a hang.

    python -m benchmarks.bad_inputs [--jobs 2] [--only PART-OF-A-NAME]

The inputs are those of `tests/bad_*.py`. Each run is a child of one warm process, with limits on time and memory, and
counts as wrong if it ends in another way than the input's code says: an exit status, one line on standard error, and
that code at its end. Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.forked import ESCAPED, Child, Ending, run_all, warm

MAX_SECONDS = 120.0  # of one run, on a machine that does other things
GROWTH = 4 * 2**30  # address space a run may take beyond what it is forked with
SMALL = ["--epochs", "1", "--image-size", "32", "--batch-size", "8", "--workers", "0", "--no-audit", "--quiet"]
HERE = ["--workers", "0", "--quiet"]
BRIEF = ["--side", "8", "--most-clusters", "2", "--most-linked", "5", "--most-tsne", "5", "--no-umap", *HERE]


@dataclass(frozen=True)
class Trial:
    """One input through one entry point.

    Attributes:
        case: The input.
        entry: The command, or `api`.
        call: What the child does; gives the exit status.
        statuses: Exit statuses that are right.
        code: What the line on standard error must end with, where the status is not 0 and one is known.
        check: Looks at what was written, and gives what is wrong with it; empty if nothing.
    """

    case: str
    entry: str
    call: Callable[[], int]
    statuses: frozenset[int]
    code: str = ""
    check: Callable[[Ending], str] = field(default=lambda ending: "")


def command(*arguments: object) -> Callable[[], int]:
    """A command line, for a child."""
    words = [str(argument) for argument in arguments]

    def call() -> int:
        from plainfilm.cli import run

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + GROWTH, now + GROWTH))
        return run(words)

    return call


def what_is_wrong(trial: Trial, ending: Ending) -> str:
    """One word for the table and what was seen; empty if all is as it should be."""
    if ending.late:
        return "hang"
    if ending.status < 0 or ending.status in (ESCAPED, 70) or "Traceback" in ending.err:
        return f"traceback or death: status {ending.status}: {ending.err[-300:]}"
    if ending.status not in trial.statuses:
        return f"code: status {ending.status}, not {sorted(trial.statuses)}: {ending.err[-200:]}"
    if ending.status in (2, 3, 5):
        line = ending.err.rstrip("\n").rsplit("\n", 1)[-1]
        if not (line.startswith("plainfilm: ") and line.endswith("]")):
            return f"code: no line of ours: {line[:200]}"
        if trial.code and not line.endswith(f"[{trial.code}]"):
            return f"code: not {trial.code}: {line[-200:]}"
    said = trial.check(ending)
    return f"code: {said}" if said else ""


# --- the inputs ---------------------------------------------------------------------------------------------


class Bench:
    """A folder to work in, with a run to predict by."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._numbers = 0
        import bad_tables

        good = place / "good"
        bad_tables.write_images(good, bad_tables.good_rows())
        (good / "table.csv").write_text(bad_tables.as_csv(bad_tables.good_rows()))
        self.table = good / "table.csv"
        self.run = place / "run"
        ending = Child(command("train", self.table, "--output", self.run, *SMALL)).wait()
        if ending.status:
            sys.exit(f"the sound data cannot be trained on:\n{ending.err}")

    def output(self, suffix: str = "") -> Path:
        """A place of its own for each run."""
        self._numbers += 1
        return self.place / "outputs" / f"{self._numbers}{suffix}"

    def image(self, name: str, path: Path, code: str) -> Iterator[Trial]:
        """One bad image by itself through all that read images, and among good ones through a training."""
        account, well, refused = self.output(".csv"), frozenset((0,)), frozenset((3,))
        scan = command("scan", path, *HERE, "-o", account)
        yield Trial(name, "scan", scan, well, check=lambda ending: _accounted(account, code))
        by_itself = {
            "predict": command("predict", self.run, path, *HERE, "-o", self.output(".csv")),
            "evaluate": command("evaluate", self.run, path, "--quiet"),
            "explain": command("explain", self.run, path, *HERE, "-o", self.output()),
            "audit": command("audit", path, *HERE, "-o", self.output()),
            "explore": command("explore", path, "-o", self.output(), *BRIEF),
            "train": lambda: self._train_with(path),
        }
        for entry, call in by_itself.items():
            yield Trial(name, entry, call, refused, code)
        yield Trial(name, "api", lambda: self._ask(path, code), well)

    def _train_with(self, path: Path, *flags: str) -> int:
        """Train on good images and this one."""
        folder = Path(tempfile.mkdtemp(dir=self.place))
        shutil.copytree(self.table.parent, folder / "data")
        link_or_copy(path, folder / "data" / "images" / f"bad{path.suffix}")
        with (folder / "data" / "table.csv").open("a") as file:
            file.write(f"images/bad{path.suffix},ill,099\n")
        return command("train", folder / "data" / "table.csv", "--output", folder / "run", *SMALL, *flags)()

    def _ask(self, path: Path, *codes: str) -> int:
        """The Python call; its one error has one of the codes."""
        import plainfilm
        from plainfilm.errors import PlainfilmError

        try:
            plainfilm.predict(self.run, path, workers=0)
        except PlainfilmError as error:
            return 0 if error.code in codes else 1
        return 1

    def tables(self) -> Iterator[Trial]:
        """Every bad table through all that read tables; what stops a training alone is read by the others."""
        import bad_tables

        well = frozenset((0,))
        for table in bad_tables.bad_tables(self.place / "tables"):
            at_once, sound = table.stops == "scan", table.stops == "nothing"
            mine, code = frozenset((table.exit_code,)), table.code if at_once else ""
            reading, path = mine if at_once else well, table.path
            yield Trial(table.name, "scan", command("scan", path, *HERE, "-o", self.output(".csv")), reading, code)
            patients = ["--patients", "folder"] if sound and path.is_dir() else []
            flags = [*SMALL, *table.flags, *(["--dry-run"] if sound else []), *patients]
            train = command("train", path, "-o", self.output(), *flags)
            yield Trial(table.name, "train", train, well if sound else mine, table.code)
            predict = command("predict", self.run, path, *HERE, "-o", self.output(".csv"))
            yield Trial(table.name, "predict", predict, reading, code)
            others = mine if at_once else frozenset((0, 2, 3))
            evaluate = command("evaluate", self.run, path, "--quiet")
            yield Trial(table.name, "evaluate", evaluate, others, code)
            explore = command("explore", path, "-o", self.output(), *BRIEF)
            yield Trial(table.name, "explore", explore, others, code)
            audit = command("audit", path, *HERE, "-o", self.output())
            yield Trial(table.name, "audit", audit, others if at_once else others | {4}, code)

    def images(self) -> Iterator[Trial]:
        """Every bad image, and every odd one that is sound."""
        import bad_images

        for module in ("bad_images", "bad_dicom", "bad_nifti"):
            if importlib.util.find_spec(module) is None:
                continue
            written = getattr(importlib.import_module(module), module)(self.place / module)
            for image in written:
                trials = self.image if module == "bad_images" else self.medical
                yield from trials(image.name, image.path, image.code)
        for odd in bad_images.odd_images(self.place / "odd"):
            yield from self._odd(odd.name, odd.path, odd.note)

    def medical(self, name: str, path: Path, code: str) -> Iterator[Trial]:
        """A DICOM or NIfTI file by itself; it is known by its header first, and may be no image, or many.

        Several frames are refused by `read_image` alone: a listing names each.
        """
        well, several = frozenset((0,)), code == "IMG_MULTIFRAME"
        codes = {code, "TAB_NO_IMAGES"}
        if code == "IMG_CONSTANT":  # of a volume: the slices of a listing in which nothing is to be seen are left out
            codes |= {"SKIP_EMPTY_SLICE", "PRD_NONE"}
        account = self.output(".csv")
        scan = command("scan", path, *HERE, "-o", account)
        check = (lambda ending: "") if several else lambda ending: _one_of(ending, account, codes)
        yield Trial(name, "scan", scan, frozenset((0, 3)), check=check)
        by_itself = {
            "predict": command("predict", self.run, path, *HERE, "-o", self.output(".csv")),
            "evaluate": command("evaluate", self.run, path, "--quiet"),
            "audit": command("audit", path, *HERE, "-o", self.output()),
            "explore": command("explore", path, "-o", self.output(), *BRIEF),
        }
        for entry, call in by_itself.items():
            statuses = frozenset((0, 3, 4)) if several else frozenset((3,))
            check = (lambda ending: "") if several else lambda ending: _one_of(ending, None, codes)
            yield Trial(name, entry, call, statuses, check=check)
        yield Trial(name, "api", lambda: self._ask(path, *codes), well if not several else frozenset((0, 1)))

    def bundles(self) -> Iterator[Trial]:
        """Every bad bundle through what opens one."""
        import bad_bundles
        from small_runs import write_bundle

        sound, image = write_bundle(self.place / "sound"), self.table.parent / "images" / "00.png"
        for bundle in bad_bundles.BUNDLES:
            places = {entry: self.output() for entry in ("predict", "explain", "export", "explore")}
            typed = {
                "predict": ("predict", places["predict"], image, *HERE, "-o", self.output(".csv")),
                "explain": ("explain", places["explain"], image, *HERE, "-o", self.output()),
                "export": ("export", places["export"], "-o", self.output(".onnx")),
                "explore": ("explore", image, "--run", places["explore"], "-o", self.output(), *BRIEF),
            }
            for entry, words in typed.items():
                call = _spoilt(sound, places[entry], bundle.spoil, words)
                unread = bundle.of_features and entry in ("explain", "explore")
                statuses, code = ((0, 3), "") if unread else ((3,), bundle.code)
                yield Trial(bundle.name, entry, call, frozenset(statuses), code)

    def _odd(self, name: str, path: Path, note: str) -> Iterator[Trial]:
        account, well = self.output(".csv"), frozenset((0,))
        scan = command("scan", path, *HERE, "-o", account)
        yield Trial(name, "scan", scan, well, check=lambda ending: _noted(account, note))
        yield Trial(name, "predict", command("predict", self.run, path, *HERE, "-o", self.output(".csv")), well)
        yield Trial(name, "train", lambda: self._train_with(path, "--dry-run"), well)


def _spoilt(sound: Path, place: Path, spoil: Callable[[Path], object], words: tuple[object, ...]) -> Callable[[], int]:
    """A command on a copy of a bundle that is spoilt first."""

    def call() -> int:
        shutil.copytree(sound, place)
        spoil(place)
        return command(*words)()

    return call


def link_or_copy(source: Path, target: Path) -> None:
    """The same file at another place, at no cost where that can be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _accounted(account: Path, code: str) -> str:
    with account.open(newline="") as file:
        found = [row["code"] for row in csv.DictReader(file)]
    return "" if found == [code] else f"the account says {found}, not {code}"


def _one_of(ending: Ending, account: Path | None, codes: set[str]) -> str:
    """Whether it ended with one of the codes, or gives one of them for every image."""
    if ending.status == 3:
        said = {ending.err.rstrip().rsplit("[", 1)[-1].rstrip("]")}
    elif account is None:
        return f"ended with {ending.status}"
    else:
        with account.open(newline="") as file:
            said = {row["code"] for row in csv.DictReader(file)}
    return "" if said <= codes else f"{sorted(said)}, not {sorted(codes)}"


def _noted(account: Path, note: str) -> str:
    with account.open(newline="") as file:
        (row,) = csv.DictReader(file)
    if row["status"] != "used":
        return f"refused with {row['code']}"
    return "" if note in row.get("notes", note) else f"no note of {note}"


# --- all of them --------------------------------------------------------------------------------------------


def main() -> None:
    """Do what the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="inputs whose name holds this")
    parser.add_argument("--entry", default="", help="this entry point alone")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    warm()
    began = time.monotonic()
    runs: Counter[str] = Counter()
    wrong: list[tuple[str, str, str]] = []
    cases: set[str] = set()
    slowest = (0.0, "")
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary))
        (bench.place / "outputs").mkdir()
        trials = [
            (trial, trial.call)
            for trials in (bench.images(), bench.tables(), bench.bundles())
            for trial in trials
            if options.only in trial.case and options.entry in trial.entry
        ]
        for trial, ending in run_all(trials, seconds=MAX_SECONDS, jobs=options.jobs):
            cases.add(trial.case)
            runs[trial.entry] += 1
            slowest = max(slowest, (ending.seconds, f"{trial.entry} {trial.case}"))
            if said := what_is_wrong(trial, ending):
                wrong.append((trial.case, trial.entry, said))
                print(f"WRONG {trial.case}, {trial.entry}: {said}", flush=True)
    kinds = Counter(said.split(":")[0].split(" ")[0] for _, _, said in wrong)
    print(f"{'entry point':<12}{'runs':>6}{'wrong':>7}")
    for entry, count in runs.items():
        print(f"{entry:<12}{count:>6}{sum(where == entry for _, where, _ in wrong):>7}")
    print(
        json.dumps(
            {
                "cases": len(cases),
                "runs": runs.total(),
                "tracebacks": kinds["traceback"],
                "hangs": kinds["hang"],
                "wrong_codes": kinds["code"],
                "seconds": round(time.monotonic() - began),
                "slowest": f"{slowest[0]:.1f} s: {slowest[1]}",
            }
        )
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
