"""Programs that take turns, so that whoever else uses the machine slows all of them; medians, spread, ratios."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

ROOT = Path(__file__).parent.parent


def ask(command: Sequence[str], **more: str) -> dict[str, Any]:
    """Run one program from the root of the repository; its last line of output is JSON."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    env = {**os.environ, "PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3", **more}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def in_turns(programs: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """What each program printed in each round."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, command in programs.items():
            found[name].append(ask(command))
    return found


def spread(values: Sequence[float], digits: int = 0) -> str:
    """`median (least to most)`."""
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The median over rounds of ours to theirs, and its spread."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True)], 2)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print Markdown."""
    print(f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def rival(python: str | None, module: str) -> str | None:
    """The rival's interpreter if it has `module`; else None, with the reason printed."""
    if python is None or shutil.which(python) is None:
        print(f"left out: {module} (name an interpreter that has it with --rival-python)")
        return None
    if subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode:
        print(f"left out: '{python}' has no {module}")
        return None
    return python


def clock() -> float:
    """Seconds by the clock; with `PROCESSOR_TIME=1`, those that this process and its ended children computed."""
    if os.environ.get("PROCESSOR_TIME") != "1":
        return time.perf_counter()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def machine() -> str:
    """What the figures below it were measured on."""
    load = os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0))} cores, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
        f"Python {sys.version.split()[0]}, "
        f"{torch.get_num_threads()} thread(s); load average {load:.1f}"
        + ("; in seconds of processor time" if os.environ.get("PROCESSOR_TIME") == "1" else "")
    )
