"""What an audit costs: seconds and memory from 1,000 to 1,000,000 images, and how they grow.

    python -m benchmarks.audit_cost                              phantoms in memory, each size in a process of its own
    python -m benchmarks.audit_cost --sizes 1000 3000 10000
    python -m benchmarks.audit_cost --sizes 1000000                  hours; prints what it does meanwhile
    python -m benchmarks.audit_cost --data ../shared/data/alzheimer-mri   and `plainfilm audit` of these, start to page

Stacks of 32 slices without ids, two classes: 64x64 up to 10,000 images, thumbnails of 32x32 beyond; above 20,000 the
patients are looked for through an index. Drawing them is not counted. "processor" is seconds of processors, of all
cores together, which other programs on the machine lengthen less than the clock's. Exponents are those of a cost
against the number of images: 1 is a cost in proportion, and n log n comes to 1.1 over this range.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
STACK = 32
LARGE, SMALL = 64, 32  # sides
MOST_LARGE = 10_000


def main() -> None:
    """Print one line for each size, the exponent, and the cost of real images where they are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--data", type=Path, help="images that 'plainfilm audit' takes")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(_audited(asked.one)))
        return
    print(f"{'images':>8} {'side':>5} {'groups':>7} {'seconds':>8} {'processor':>9} {'GiB':>6} {'drawing':>8}")
    costs = []
    for n in asked.sizes:
        command = [sys.executable, "-m", "benchmarks.audit_cost", "--one", str(n)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        cost = json.loads(done.stdout)
        costs.append(cost)
        print(
            f"{n:>8} {cost['side']:>5} {cost['groups']:>7} {cost['seconds']:>8.1f} {cost['processor']:>9.1f} "
            f"{cost['gib']:>6.2f} {cost['drawing']:>8.1f}",
            flush=True,
        )
    if len(asked.sizes) > 1:
        for name, what in (("seconds", "seconds"), ("processor", "seconds of processors"), ("gib", "memory")):
            slope = float(np.polyfit(np.log(asked.sizes), np.log([cost[name] for cost in costs]), 1)[0])
            print(f"{what}: the number of images to the power of {slope:.2f}")
    if asked.data is not None:
        wall, gib = _of_command(asked.data)
        print(f"plainfilm audit {asked.data}: {wall:.1f} s from start to page, {gib:.2f} GiB at its peak")


def _audited(n_images: int) -> dict[str, Any]:
    """Audit phantoms in this process, which should have done nothing else."""
    from benchmarks.phantom_sets import anonymous
    from plainfilm.auditing.limits import AuditLimits
    from plainfilm.terminal import Terminal
    from plainfilm.verbs.examining import take_first_look, take_second_look

    began = time.perf_counter()
    subject = anonymous(_drawn(n_images), divided=False)
    drawing = time.perf_counter() - began
    began, began_processor = time.perf_counter(), time.process_time()
    watcher = Terminal(bars=False)
    look = take_first_look(subject, AuditLimits(), progress=watcher)
    take_second_look(look, source="phantoms", progress=watcher)
    recovered = look.leakage.recovered
    assert subject.pixels is not None
    if recovered is not None and not recovered.found:
        print(recovered.reason, file=sys.stderr)
    return {
        "seconds": time.perf_counter() - began,
        "processor": time.process_time() - began_processor,
        "drawing": drawing,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "side": subject.pixels.shape[1],
        "groups": 0 if recovered is None else recovered.n_groups,
    }


def _drawn(n_images: int) -> Any:
    """Phantoms drawn one by one into a store; nothing else of them stays."""
    import pandas as pd

    from plainfilm.auditing.subject import Subject
    from plainfilm.data.phantoms import PhantomOptions
    from plainfilm.data.phantoms.acquisition import acquired, quantised
    from plainfilm.data.phantoms.patients import draw_patient
    from plainfilm.data.pixels import PixelStore

    side = LARGE if n_images <= MOST_LARGE else SMALL
    options = PhantomOptions(patients=-(-n_images // STACK), images_per_patient=STACK, size=side)
    store = PixelStore(n_images, side, side)
    labels = []
    for index in range(n_images):
        number, image = divmod(index, STACK)
        if image == 0:
            patient = draw_patient(options, number + 1)
        store.put(index, quantised(acquired(options, patient, image), options.bits))
        labels.append(options.classes[patient.grade])
    rows = pd.DataFrame({"path": [f"{index:06d}.png" for index in range(n_images)], "label": labels})
    return Subject(
        rows=rows.assign(patient_id=None, split=None),
        pixels=store,
        patients="unknown",
        group=np.full(n_images, -1, dtype=np.intp),
    )


def _of_command(data: Path) -> tuple[float, float]:
    """Seconds and peak memory of the command itself; the processes that decode images are others."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "plainfilm.cli",
            "audit",
            str(data),
            "--output",
            folder,
            "--overwrite",
            "--quiet",
        ]
        began = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, _, usage = os.wait4(child.pid, 0)
        return time.perf_counter() - began, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    main()
