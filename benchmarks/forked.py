"""Runs of the program in children of one warm process: torch is imported once, and a child may die as it likes.

Import this before anything heavy: it keeps the libraries to one thread, so that nothing but the main thread is there
to be forked. Needs a system with fork (Linux, macOS).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TypeVar

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

Key = TypeVar("Key")
ESCAPED = 99  # exit status of a child from which an exception came out
HEAVY = (
    *("torch", "torchvision", "timm", "lightning_fabric", "kornia.augmentation", "sklearn.linear_model", "scipy.stats"),
    *("pandas", "pyarrow.parquet", "PIL.Image", "PIL.GifImagePlugin", "matplotlib.figure", "jinja2", "rich.progress"),
    *("pydicom", "nibabel", "plainfilm.cli", "plainfilm.reporting.html"),
    *(f"plainfilm.verbs.{verb}" for verb in ("training", "auditing", "exploring", "explaining", "comparing")),
)


def warm() -> None:
    """Import what the commands import, and check that no thread came with it."""
    for name in HEAVY:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    if threading.active_count() > 1:
        sys.exit(f"{threading.active_count()} threads before the first fork: children may hang.")
    gc.collect()
    gc.freeze()  # else the first collection of each child copies every page


@dataclass(frozen=True)
class Ending:
    """How one child ended.

    Attributes:
        status: Its exit status; negative: the signal.
        out: What it printed.
        err: What it said on standard error.
        seconds: From fork to end.
        late: Whether it was killed because its time was up.
    """

    status: int
    out: str
    err: str
    seconds: float
    late: bool = False


class Child:
    """A call in a forked process, in a process group of its own; its output goes to files."""

    def __init__(self, call: Callable[[], int], *, seconds: float = float("inf")) -> None:
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        self._deadline = time.monotonic() + seconds
        self._began = time.monotonic()
        self._read = 0
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(call)

    def _become(self, call: Callable[[], int]) -> None:
        status = ESCAPED
        try:
            os.setpgid(0, 0)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((nothing, 0), (self._out.fileno(), 1), (self._err.fileno(), 2)):
                os.dup2(source, target)
            status = call()
            sys.stdout.flush()
            sys.stderr.flush()
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else ESCAPED
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    @property
    def age(self) -> float:
        """Seconds since it was forked."""
        return time.monotonic() - self._began

    def kill(self) -> None:
        """End it, and whatever it started."""
        for end in (lambda: os.killpg(self.pid, signal.SIGKILL), lambda: os.kill(self.pid, signal.SIGKILL)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end()

    def new_lines(self) -> list[str]:
        """What it said on standard error since it was last asked, in whole lines."""
        text = os.pread(self._err.fileno(), 1 << 20, self._read)
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode(errors="replace").splitlines()

    def poll(self) -> Ending | None:
        """How it ended; None while it runs. One whose time is up is killed."""
        late = time.monotonic() > self._deadline
        if late:
            self.kill()
        pid, status = os.waitpid(self.pid, 0 if late else os.WNOHANG)
        if not pid:
            return None
        seconds = self.age
        self.kill()  # what it started and left
        code = os.waitstatus_to_exitcode(status)
        return Ending(code, _text(self._out), _text(self._err), seconds, late=late and code == -signal.SIGKILL)

    def wait(self) -> Ending:
        """The same, waited for."""
        while (ending := self.poll()) is None:
            time.sleep(0.005)
        return ending


def _text(file: IO[bytes]) -> str:
    with file:
        return os.pread(file.fileno(), 1 << 24, 0).decode(errors="replace")


def run_all(
    calls: Iterable[tuple[Key, Callable[[], int]]], *, seconds: float, jobs: int
) -> Iterator[tuple[Key, Ending]]:
    """Each call in a child, `jobs` at a time; how they ended, in the order they did."""
    waiting = iter(calls)
    children: dict[Child, Key] = {}
    more = True
    while more or children:
        while more and len(children) < jobs:
            following = next(waiting, None)
            if following is None:
                more = False
                break
            children[Child(following[1], seconds=seconds)] = following[0]
        for child in list(children):
            if (ending := child.poll()) is not None:
                yield children.pop(child), ending
        time.sleep(0.005)
