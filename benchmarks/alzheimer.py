"""ResNet1d on the Alzheimer MRI slices: how soon it passes the paper's accuracies, by image and by patient.

Every epoch is scored on the test rows afterwards, from its checkpoint, so that the test stays sealed while it trains.
Times count from the start of the process, reading the images included.

    python -m benchmarks.alzheimer ../shared/data                    every recipe, one after the other
    python -m benchmarks.alzheimer ../shared/data --recipe paper     one of them
    python -m benchmarks.alzheimer ../shared/data --score RUN        score the epochs of a run made before

The image split is leaky: one nearest neighbour on raw pixels scores 99.7 % under it. It is run to be compared with
published figures, which were made under it, and for no other reason.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.turns import ask, rival
from plainfilm import metrics
from plainfilm.auditing.results import NUMBERS
from plainfilm.bundle import Bundle, read_config
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.models import create_model
from plainfilm.prediction import predict_scores
from plainfilm.runs import Run
from plainfilm.training.checkpoint import load_checkpoint

SETTINGS = ["--keep-checkpoints", "all"]
RESNET1D = ["--model", "resnet1d", "--batch-size", "32"]
ONE_CYCLE = [*RESNET1D, "--learning-rate", "0.003", "--no-augment"]
# As the recipe `alzheimer-fast`.
FAST = ["--model", "resnet1d-patch", "--split", "image", "--learning-rate", "0.006"]
FAST += ["--label-smoothing", "0.1", "--no-augment"]
QUIET = ["--no-audit", "--no-gallery"]
# The best of the short ones on validation images.
SMOOTHED = ["--model", "resnet1d", "--label-smoothing", "0.2", "--no-augment"]
RECIPES = {
    "image": ("alzheimer-mri", ["--split", "image", "--epochs", "30", *ONE_CYCLE]),
    "patient": ("alzheimer-mri.csv", ["--split", "patient", "--epochs", "10", *ONE_CYCLE]),
    "fast": ("alzheimer-mri", ["--epochs", "15", *FAST, *QUIET]),
    "fast-resnet1d": (
        "alzheimer-mri",
        ["--split", "image", "--epochs", "12", "--learning-rate", "0.006", *SMOOTHED, *QUIET],
    ),
    "fast-pretrained": (
        "alzheimer-mri",
        ["--split", "image", "--epochs", "12", "--learning-rate", "0.006", "--pretrained", *SMOOTHED, *QUIET],
    ),
    "fast-audited": ("alzheimer-mri", ["--epochs", "15", *FAST]),
    "fast-longer": ("alzheimer-mri", ["--epochs", "40", *FAST, *QUIET]),
    # The paper: SGD 0.1, a tenth of it every 20 of 60 epochs, no augmentation; here a tenth every 8 of 24.
    "paper": (
        "alzheimer-mri",
        [
            *RESNET1D,
            "--split",
            "image",
            "--epochs",
            "24",
            "--optimizer",
            "sgd",
            "--schedule",
            "step",
            "--step-epochs",
            "8",
            "--no-augment",
        ],
    ),
}
MARKS = (0.75, 0.86, 0.9795)


def main() -> None:
    """Run the recipes asked for and print one table each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", choices=RECIPES)
    parser.add_argument("--score", type=Path, help="a run trained with --keep-checkpoints all")
    parser.add_argument("--rival-python", help="an interpreter that has fastai: its ResNet-18 on the same split")
    asked = parser.parse_args()
    if asked.score is not None:
        report(asked.score, asked.data / RECIPES[asked.recipe or "image"][0], started=None)
        return
    for name in [asked.recipe] if asked.recipe else RECIPES:
        source, options = RECIPES[name]
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / name
            started = _now()
            command = [sys.executable, "-m", "plainfilm.cli", "train", str(asked.data / source), "-o", str(run)]
            subprocess.run([*command, *SETTINGS, *options, "--quiet"], check=True)
            print(f"\n{name}: plainfilm train {source} {' '.join([*SETTINGS, *options])}")
            report(run, asked.data / source, started=started)
            if name.startswith("fast") and rival(asked.rival_python, "fastai") is not None:
                report_fastai(asked.rival_python, run, (asked.data / source).resolve())


def report(folder: Path, data: Path, *, started: float | None) -> None:
    """Print test accuracy after every epoch, and when the marks were passed.

    Args:
        folder: The run.
        data: What it was trained on.
        started: When its process started; None for a run made before (then from when its options were written).
    """
    run = Run(folder)
    if started is None:
        started = run.options.stat().st_mtime
    rows = run.read_table()
    table, pixels = scan_listing(list_images(data), size=(128, 128))
    assert pixels is not None
    split_of = dict(zip(rows["path"], rows["split"], strict=True))
    test = np.flatnonzero([split_of[path] == "test" for path in table.rows["path"]])
    config = read_config(folder / "bundle")
    y_true = np.array([config.classes.index(label) for label in table.rows["label"].iloc[test]])
    held_out = pixels.take(test)
    print(f"{os.cpu_count()} cores, {len(test)} test images\n epoch  seconds  test accuracy  balanced")
    print("audited, which counts" if (folder / NUMBERS).is_file() else "not audited")
    passed: dict[float, float] = {}
    best = 0.0
    for place in sorted((folder / "checkpoints").glob("epoch-*")):
        checkpoint = load_checkpoint(place)
        model = create_model(config.architecture.name, num_classes=len(config.classes), image_size=128)
        model.load_state_dict(checkpoint.model)
        scores = predict_scores(Bundle(model.eval(), config), held_out)
        matrix = metrics.confusion_matrix(y_true, scores.argmax(axis=1), len(config.classes))
        accuracy = float(metrics.accuracy(matrix))
        seconds = (place / "manifest.json").stat().st_mtime - started
        balanced = float(np.nanmean(metrics.recall(matrix)))
        print(f"{checkpoint.epoch:>6} {seconds:>8.0f} {accuracy:>14.4f} {balanced:>9.4f}")
        best = max(best, accuracy)
        for mark in MARKS:
            if accuracy >= mark:
                passed.setdefault(mark, seconds)
    for mark in MARKS:
        said = f"after {passed[mark]:.0f} s" if mark in passed else f"not reached; best {best:.4f}"
        print(f"{mark:.2%}: {said}")


def report_fastai(python: str, folder: Path, data: Path) -> None:
    """Print fastai's accuracy on the same test images after each epoch, until it passes 86 % or its time is up."""
    rows = Run(folder).read_table()
    listed = folder / "held-out.txt"
    listed.write_text("\n".join(rows.loc[rows["split"] == "test", "path"]))
    how = ["--model", "resnet18", "--until", str(MARKS[1]), "--test-list", str(listed), "--started", str(time.time())]
    found = ask([python, "-m", "benchmarks.rivals.fastai_loop", str(data), *how])
    print("\nfastai, ResNet-18 at 128x128, batches of 64, its defaults, validation images among the training images")
    for epoch, (seconds, accuracy) in enumerate(found["epochs"], start=1):
        print(f"{epoch:>6} {seconds:>8.0f} {accuracy:>14.4f}")


def _now() -> float:
    """The time on the clock that file times are written with."""
    with tempfile.NamedTemporaryFile() as file:
        return os.stat(file.name).st_mtime


if __name__ == "__main__":
    main()
