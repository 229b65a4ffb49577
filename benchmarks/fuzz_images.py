"""Give the readers a hundred thousand spoilt files: nothing but a typed error, a sound image or table may come out.

    python -m benchmarks.fuzz_images [--mutants 10000] [--formats png jpeg ...] [--seed 0] [--jobs 2]
    python -m benchmarks.fuzz_images --again FILE       read one reproducer again, and show what happens

Each mutant follows from the seed, the format and its number. It is read in a process of its own kind: address space
and time are bounded as in the decoding workers. A fault is an exception that is not ours, a code that is not
documented, an image that is not what its record says, an image of which the decoder complained, a death of the
process, over 5 s of the processor, or over 512 MiB of memory at the peak. The file of each fault is kept (`--keep`).
Ends with 1 if there was any.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.fuzz_seeds import SUFFIXES, seeds
from benchmarks.mutations import mutate

MAX_SECONDS = 5.0  # of the processor: a machine that does other things is not the reader's fault
HANG_SECONDS = 60.0  # by the clock
MAX_MIB = 512
PORTION = 500  # mutants between two lines of a worker
GROWTH = 2 * 2**30  # address space a worker may take beyond what it starts with, as the decoding workers have it
IMAGE_FORMATS = {"png", "jpeg", "tiff", "bmp", "webp"}
READ_FIRST = 3  # images of a table that are read too


def mutant(kind: str, number: int, seed: int, sound: list[bytes]) -> bytes:
    """The file with that number."""
    rng = Random(f"{seed} {kind} {number}")
    return mutate(rng.choice(sound), kind, rng, sound)


# --- inside a worker ----------------------------------------------------------------------------------------


class Fault(Exception):  # noqa: N818 - it is one of the reader, not of this program
    """What must not happen, in a word or two."""


def reader(kind: str, folder: Path) -> Callable[[bytes], str]:
    """How one file is read: `read`, or the code it was refused with; anything else raises `Fault`."""
    import warnings

    from plainfilm.data.images import read_image
    from plainfilm.data.sources import list_images
    from plainfilm.errors import PlainfilmError

    codes = documented_codes()
    warnings.simplefilter("error")
    path = folder / f"mutant{SUFFIXES[kind]}"

    def read(data: bytes) -> str:
        if kind in IMAGE_FORMATS:
            check_image(*read_image(data))
            return "read"
        path.write_bytes(data)
        return read_listing(path)

    def read_listing(path: Path) -> str:
        listing = list_images(path)
        said = "read"
        for ref in listing.refs[:READ_FIRST]:
            try:
                check_image(*read_image(ref))
            except PlainfilmError as error:
                said = error.code
                check_error(error)
        return said

    def check_error(error: PlainfilmError) -> None:
        if error.code not in codes:
            raise Fault(f"unknown code {error.code}")
        if str(folder) in str(error) or len(str(error)) > 2000:
            raise Fault("a path, or too many words, in the message")

    def guarded(data: bytes) -> str:
        try:
            return read(data)
        except PlainfilmError as error:
            check_error(error)
            return error.code
        except Fault:
            raise
        except BaseException as error:
            raise Fault(f"{type(error).__name__}: {traceback.format_exc(limit=-3)}") from error

    return guarded


def check_image(pixels: object, record: object) -> None:
    """Raise `Fault` unless the image is what the contract of `read_image` says."""
    import numpy as np

    from plainfilm.data.images import DecodeRecord

    assert isinstance(pixels, np.ndarray)
    assert isinstance(record, DecodeRecord)
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise Fault(f"pixels of {pixels.dtype} with {pixels.ndim} dimensions")
    if pixels.shape != (record.height, record.width):
        raise Fault("another size than its record")
    if not np.isfinite(pixels).all() or pixels.min() == pixels.max():
        raise Fault("pixels that show nothing, or are no numbers")


def documented_codes() -> set[str]:
    """Every code of the reference."""
    page = Path(__file__).parents[1] / "docs" / "reference" / "codes.md"
    return {word.strip("`") for line in page.read_text().splitlines() for word in line.split()[1:2] if "`" in word}


def work(kind: str, start: int, stop: int, seed: int, clock: Path, folder: Path) -> None:
    """Read the mutants from `start` on, and say after each portion what came of them."""
    sound = seeds(kind)
    read = reader(kind, folder)
    _bound_memory()
    shared = mmap.mmap(os.open(clock, os.O_RDWR), 16)
    complaints = _own_stderr(folder / "stderr")
    said: Counter[str] = Counter()
    slowest = 0.0
    for number in range(start, stop):
        data = mutant(kind, number, seed, sound)
        shared[:] = struct.pack("<qd", number, time.monotonic())
        complaints()  # those of a mutant that was a fault are not this one's
        before = time.process_time()
        try:
            outcome = read(data)
            said[outcome] += 1
            if (words := complaints()) and outcome == "read":
                raise Fault(f"the decoder complained: {words}")
        except Fault as fault:
            _tell({"fault": str(fault), "number": number})
        seconds = time.process_time() - before
        slowest = max(slowest, seconds)
        mib = most_mib()
        if seconds > MAX_SECONDS:
            _tell({"fault": f"took {seconds:.1f} s", "number": number})
        if mib > MAX_MIB:
            _tell({"fault": f"took {mib} MiB", "number": number})
        if (number + 1) % PORTION == 0 or number + 1 == stop or mib > MAX_MIB:
            _tell({"done": number + 1, "said": said, "slowest": slowest, "mib": mib})
            said, slowest = Counter(), 0.0
        if mib > MAX_MIB:
            return


def _tell(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def _own_stderr(path: Path) -> Callable[[], str]:
    """What C libraries print goes to a file; gives what was printed since it was last asked."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 2)

    def said() -> str:
        size = os.fstat(file).st_size
        if not size:
            return ""
        words = os.pread(file, 200, 0).decode(errors="replace")
        os.ftruncate(file, 0)
        return words

    return said


def most_mib() -> int:
    """The most memory this program has held, in MiB.

    Linux hands `ru_maxrss` down to a program from the process that started it, which may have been a large one.
    """
    if sys.platform == "linux":
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _bound_memory() -> None:
    if sys.platform == "linux":
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + GROWTH, now + GROWTH))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# --- outside it ---------------------------------------------------------------------------------------------


@dataclass
class Account:
    """What came of one format."""

    mutants: int = 0
    said: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    slowest: float = 0.0
    mib: int = 0
    seconds: float = 0.0


class Lane:
    """One worker at a time over the mutants of one format; another takes over where one dies."""

    def __init__(self, kind: str, stop: int, seed: int, place: Path) -> None:
        self.kind, self.stop, self.seed = kind, stop, seed
        self.account = Account()
        self._next = 0
        self._began = time.monotonic()
        self._folder = place / kind
        self._folder.mkdir()
        self._clock = place / f"{kind}.clock"
        self._output = place / f"{kind}.lines"
        self._read_bytes = 0
        self._process: subprocess.Popen[bytes] | None = None

    def step(self) -> bool:
        """Look after the worker; False when all is done."""
        if self._process is None:
            if self._next >= self.stop:
                self.account.seconds = time.monotonic() - self._began
                return False
            self._start()
            return True
        assert self._process is not None
        ended = self._process.poll() is not None
        self._take_lines()
        number, since = struct.unpack("<qd", self._clock.read_bytes())
        if ended:
            self._process = None
            if self._next < self.stop and number >= self._next:  # it died of a mutant
                self._die_of(number, "the process died")
        elif since and time.monotonic() - since > HANG_SECONDS:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._take_lines()
            self._die_of(number, f"still at it after {HANG_SECONDS:.0f} s")
        return True

    def _start(self) -> None:
        self._clock.write_bytes(struct.pack("<qd", -1, 0.0))
        self._read_bytes = 0
        arguments = [self.kind, self._next, self.stop, self.seed, self._clock, self._folder]
        command = [sys.executable, "-m", "benchmarks.fuzz_images", "--worker", *map(str, arguments)]
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, env={**os.environ, **one})

    def _take_lines(self) -> None:
        with self._output.open("rb") as file:
            file.seek(self._read_bytes)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            told = json.loads(line)
            if "fault" in told:
                self.account.faults.append((told["number"], told["fault"]))
            else:
                self._count(told["done"] - self._next)
                self._next = told["done"]
                self.account.said.update(told["said"])
                self.account.slowest = max(self.account.slowest, told["slowest"])
                self.account.mib = max(self.account.mib, told["mib"])

    def _die_of(self, number: int, how: str) -> None:
        self.account.faults.append((number, how))
        self._count(number + 1 - self._next)
        self._next = number + 1

    def _count(self, mutants: int) -> None:
        self.account.mutants += mutants


def run(kinds: list[str], mutants: int, seed: int, jobs: int, keep: Path) -> dict[str, Account]:
    """All formats, `jobs` at a time."""
    accounts: dict[str, Account] = {}
    with tempfile.TemporaryDirectory() as temporary:
        waiting = list(kinds)
        lanes: list[Lane] = []
        while waiting or lanes:
            while waiting and len(lanes) < jobs:
                lanes.append(Lane(waiting.pop(0), mutants, seed, Path(temporary)))
            for lane in list(lanes):
                if not lane.step():
                    lanes.remove(lane)
                    accounts[lane.kind] = lane.account
                    _keep(lane.kind, lane.account, seed, keep)
                    print(_line(lane.kind, lane.account), flush=True)
            time.sleep(0.1)
    return accounts


def _keep(kind: str, account: Account, seed: int, keep: Path) -> None:
    """The file of each fault, under a name that says which."""
    if account.faults:
        keep.mkdir(parents=True, exist_ok=True)
        sound = seeds(kind)
    for number, how in account.faults:
        name = f"{kind}-{seed}-{number}"
        (keep / f"{name}{SUFFIXES[kind]}").write_bytes(mutant(kind, number, seed, sound))
        (keep / f"{name}.txt").write_text(how)


def _line(kind: str, account: Account) -> str:
    read = account.said["read"]
    codes = ", ".join(f"{count:,} {code}" for code, count in account.said.most_common(4) if code != "read")
    return (
        f"{kind:<8} {account.mutants:>7,} mutants in {account.seconds:4.0f} s: {len(account.faults)} faults; {read:,} "
        f"read, {codes}, {len(account.said)} outcomes; slowest {account.slowest:.2f} s, peak {account.mib} MiB"
    )


def again(path: Path) -> None:
    """Read one kept file in this process."""
    kind = next(kind for kind, suffix in SUFFIXES.items() if suffix == path.suffix)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        _bound_memory()
        print(reader(kind, Path(folder))(path.read_bytes()))
        mib = most_mib()
        print(f"{time.monotonic() - began:.2f} s, {mib} MiB")


def readable_formats() -> list[str]:
    """The formats of which at least one sound file is read by this version."""
    kinds = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in SUFFIXES:
            read = reader(kind, Path(folder))
            if any(read(data) in ("read", "IMG_MISSING") for data in seeds(kind)):
                kinds.append(kind)
    return kinds


def main() -> None:
    """Do what the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=10_000, help="of each format")
    parser.add_argument("--formats", nargs="+", choices=list(SUFFIXES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"))
    parser.add_argument("--again", type=Path)
    options = parser.parse_args()
    if options.again:
        again(options.again)
        return
    kinds = options.formats or readable_formats()
    accounts = run(kinds, options.mutants, options.seed, options.jobs, options.keep)
    faults = sum(len(account.faults) for account in accounts.values())
    total = sum(account.mutants for account in accounts.values())
    print(
        f"{total:,} mutants of {len(accounts)} formats: {faults} faults; slowest "
        f"{max(account.slowest for account in accounts.values()):.2f} s, peak "
        f"{max(account.mib for account in accounts.values())} MiB"
    )
    for kind, account in accounts.items():
        for number, how in account.faults[:10]:
            print(f"  {kind} {number}: {how.strip().splitlines()[-1][:150]}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        what, first, last, drawn, *places = sys.argv[2:]
        work(what, int(first), int(last), int(drawn), *map(Path, places))
    else:
        main()
