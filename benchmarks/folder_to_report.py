"""75 chest and abdomen films, from the folder to a report: plainfilm's five folds beside the X-ray paper's program.

    python -m benchmarks.folder_to_report ../shared/data ../shared/weights --rival-python ../venv-rivals/bin/python

plainfilm tests every film once, with a frozen SqueezeNet and a logistic regression, audit and report included; no
feature is kept from before. The paper's program is timed for a few of its 20 epochs, and the rest is multiplied out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.turns import ROOT, ask, machine, rival, spread, table
from plainfilm.measures import Evaluation
from plainfilm.runs import Run
from plainfilm.storage import read_json

PAPER_EPOCHS = 20
OPTIONS = ["--patients", "image", "--folds", "5", "--tuning", "logistic", "--no-augment", "--no-gallery", "--quiet"]
MODEL = ["--model", "torchvision:squeezenet1_0"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="of the paper's program, in each round")
    parser.add_argument("--rival-python", help="an interpreter that has tensorflow")
    asked = parser.parse_args()
    print(f"{machine()}\n")
    films = (asked.data / "openi-chest-abdomen").resolve()
    weights = (asked.weights / "squeezenet1_0.imagenet1k.safetensors").resolve()
    keras = rival(asked.rival_python, "tensorflow")
    ours: dict[str, list[float]] = {"audited": [], "not audited": []}
    theirs, epochs, right = [], [], ""
    for _ in range(asked.rounds):
        for name, more in (("audited", []), ("not audited", ["--no-audit"])):
            with tempfile.TemporaryDirectory() as folder:
                seconds, right = _plainfilm(films, weights, Path(folder), more)
                ours[name].append(seconds)
        if keras is not None:
            found = ask([keras, "-m", "benchmarks.rivals.keras_films", str(films), "--epochs", str(asked.epochs)])
            theirs.append(found["before"] + found["epochs"][0] + (PAPER_EPOCHS - 1) * median(found["epochs"][1:]))
            epochs += found["epochs"][1:]
    print(f"plainfilm: {right}\n")
    rows = []
    for name, seconds in ours.items():
        times = spread([t / s for t, s in zip(theirs, seconds, strict=True)], 1) if theirs else ""
        rows.append([f"plainfilm train, {name}", spread(seconds, 1), times])
    if theirs:
        rows.append([f"the paper's program, {PAPER_EPOCHS} epochs of {spread(epochs, 1)} s", spread(theirs, 0), "1"])
    table(["program", "seconds", "plainfilm is times as fast"], rows)


def _plainfilm(films: Path, weights: Path, folder: Path, more: list[str]) -> tuple[float, str]:
    run = Run(folder / "run")
    command = [sys.executable, "-m", "plainfilm.cli", "train", str(films), "-o", str(run.folder), *MODEL, *OPTIONS]
    env = {**os.environ, "PLAINFILM_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT / "src")}
    started = time.monotonic()
    subprocess.run([*command, "--weights", str(weights), *more], cwd=ROOT, env=env, check=True)
    seconds = time.monotonic() - started
    accuracy = Evaluation.from_json(read_json(run.evaluation)).measure("accuracy", unit="image")
    return seconds, f"accuracy {accuracy.value:.3f} ({accuracy.low:.3f}-{accuracy.high:.3f}), every film tested once"


if __name__ == "__main__":
    main()
