"""Images a second in training, beside a plain float32 loop and fastai, and how near the machine's own limit they come.

    python -m benchmarks.training_speed ../shared/data/alzheimer-mri
    python -m benchmarks.training_speed ../shared/data/alzheimer-mri --rival-python ../venv-rivals/bin/python --rounds 3

Every program is a process of its own and reads the same files; they take turns. Timed are steps after the first five,
reading and augmentation-free preparation included (plainfilm has decoded the images before; the others decode in two
workers while they train). Memory is the most that a process held, its workers not counted.

The limit: for each operation of a step, forward and backward, the longer of its FLOPs at the measured matrix rate and
its bytes (what it must read and write) at the measured bandwidth; conversions between float types are no work.

On a busy machine, PROCESSOR_TIME=1 with OMP_NUM_THREADS=1 counts the seconds that a process computes; the workers that
decode for the others are then not counted, which favours the others.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.roofline import measured_limits, step_limit
from benchmarks.turns import clock, in_turns, machine, ratio, rival, spread, table
from plainfilm.data.preprocessing import FittingOptions, IntensityOptions, Preprocessing
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.models import create_model
from plainfilm.progress import Silent
from plainfilm.training.allocation import memory_kept
from plainfilm.training.batches import LabelledImages
from plainfilm.training.device import cpu_computes_bfloat16
from plainfilm.training.loop import fit
from plainfilm.training.options import TrainingOptions

MODELS = {"resnet1d": 64, "resnet1d-patch": 64, "resnet18": 64}
STEPS, WARM_UP = 25, 5


class Clock(Silent):
    """Notes when each step of an epoch ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Any]:
        """Listen to the training alone."""

        def advance(steps: int = 1, **facts: float) -> None:
            if title.startswith("epoch"):
                self.ends.append(clock())

        yield advance


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--rival-python", help="an interpreter that has fastai")
    parser.add_argument("--one", choices=("plainfilm", "limit"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps({"plainfilm": _plainfilm, "limit": _limit}[asked.one](asked.folder, asked.models[0])))
        return
    print(f"{machine()}\n")
    fastai = rival(asked.rival_python, "fastai")
    rows, limits = [], []
    for model in asked.models:
        of = ["--model", model, "--batch-size", str(MODELS[model]), "--steps", str(STEPS)]
        here = [sys.executable, "-m", "benchmarks.training_speed", str(asked.folder), "--models", model, "--one"]
        programs = {
            "plainfilm": [*here, "plainfilm"],
            "plain float32 loop": [sys.executable, "-m", "benchmarks.rivals.plain_loop", str(asked.folder), *of],
        }
        if fastai is not None:
            programs["fastai"] = [fastai, "-m", "benchmarks.rivals.fastai_loop", str(asked.folder), *of]
        programs["limit"] = [*here, "limit"]
        found = in_turns(programs, asked.rounds)
        ours = [one["rate"] for one in found["plainfilm"]]
        for name in programs:
            if name == "limit":
                continue
            rates = [one["rate"] for one in found[name]]
            memory = max(one["mib"] for one in found[name])
            rows.append([model, name, spread(rates), ratio(ours, rates), f"{memory:,.0f}"])
        for one in found["limit"]:
            limits.append([model, *(f"{value:,.1f}" for value in one.values())])
        table(["model", "program", "images/s", "plainfilm is times as fast", "MiB at most"], rows)
        rows = []
    table(["model", "GFLOP/s bfloat16", "GFLOP/s float32", "GB/s", "limit, ms", "step, ms", "step / limit"], limits)


def _examples(folder: Path, n_images: int) -> tuple[LabelledImages, int]:
    listing = list_images(folder)
    table_, pixels = scan_listing(listing, size=(128, 128))
    assert pixels is not None
    classes = table_.classes
    labels = np.array([classes.index(label) for label in table_.rows["label"]])
    chosen = np.random.default_rng(0).permutation(len(labels))[:n_images]
    own = pixels.take(chosen)
    preprocessing = Preprocessing.fit_training(own, fitting=FittingOptions(), options=IntensityOptions())
    return LabelledImages(own, labels[chosen], preprocessing), len(classes)


def _plainfilm(folder: Path, name: str) -> dict[str, float]:
    batch_size = MODELS[name]
    examples, num_classes = _examples(folder, batch_size * STEPS)
    few = LabelledImages(examples.pixels.take(range(64)), examples.labels[:64], examples.preprocessing)
    watch = Clock()
    with tempfile.TemporaryDirectory() as checkpoints:
        fit(
            create_model(name, num_classes=num_classes, image_size=128),
            examples,
            few,
            num_classes=num_classes,
            options=TrainingOptions(epochs=1, batch_size=batch_size),
            folder=Path(checkpoints),
            progress=watch,
        )
    rate = batch_size * (STEPS - WARM_UP) / (watch.ends[-1] - watch.ends[WARM_UP - 1])
    return {"rate": rate, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _limit(folder: Path, name: str) -> dict[str, float]:
    """The machine's limit for a step, and a step: forward, backward and the optimizer, on one batch at hand."""
    limits = measured_limits()
    floats = torch.bfloat16 if cpu_computes_bfloat16() else torch.float32
    batch_size = MODELS[name]
    model = create_model(name, num_classes=4, image_size=128).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batch = torch.randn(batch_size, 1, 128, 128).contiguous(memory_format=torch.channels_last)
    target = torch.arange(batch_size) % 4

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", floats, enabled=floats != torch.float32):
            logits = model(batch)
        nn.functional.cross_entropy(logits.float(), target).backward()
        optimizer.step()

    with memory_kept():
        for _ in range(WARM_UP):
            step()
        seconds = []
        for _ in range(STEPS - WARM_UP):
            started = clock()
            step()
            seconds.append(clock() - started)
        least = step_limit(step, limits)
    took = median(seconds)
    return {
        "bfloat16": limits.rate[torch.bfloat16] / 1e9,
        "float32": limits.rate[torch.float32] / 1e9,
        "bandwidth": limits.bandwidth / 1e9,
        "limit": 1000 * least,
        "step": 1000 * took,
        "times": took / least,
    }


if __name__ == "__main__":
    main()
