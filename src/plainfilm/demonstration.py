"""The demo: synthetic brains of known patients, trained on twice, so that the reader sees what a split is worth."""

from __future__ import annotations

import shutil
from pathlib import Path

from plainfilm import verbs
from plainfilm.config import RunOptions
from plainfilm.data.phantoms import PhantomOptions, write_phantoms
from plainfilm.measures import Evaluation, Measure
from plainfilm.prediction import safe_csv
from plainfilm.progress import Progress
from plainfilm.storage import make_folder, read_json, write_text
from plainfilm.summaries import scan_summary

PHANTOMS = PhantomOptions(
    kind="brain", patients=100, images_per_patient=10, classes=("healthy", "ill"), size=64, effect=0.3, seed=1
)
TRAINING = {
    "pretrained": True,
    "image_size": PHANTOMS.size,
    "epochs": 8,
    "batch_size": 32,
    "learning_rate": 0.002,
    "augment": False,
}


def demonstrate(folder: Path, *, overwrite: bool, progress: Progress) -> str:
    """Draw phantoms, scan them, train by image and by patient, and say what came out.

    Args:
        folder: Gets `images/`, `by-image/` and `by-patient/`.
        overwrite: Replace what an earlier demo left there.
        progress: Told of every step.

    Returns:
        The summary for the terminal; its last line is the path of the report.
    """
    make_folder(folder)
    table = _draw(folder / "images", overwrite=overwrite, progress=progress)
    scanned = verbs.scan(table, progress=progress)
    accuracy: dict[str, Measure] = {}
    headline = None
    for split in ("image", "patient"):
        progress.say(f"training resnet1d from the weights inside plainfilm, split by {split}")
        run = verbs.train(
            table,
            RunOptions.from_flat({"split": split, "gallery": split == "patient", **TRAINING}),
            output=folder / f"by-{split}",
            overwrite=overwrite,
            progress=progress,
        )
        evaluation = Evaluation.from_json(read_json(run.evaluation))
        accuracy[split], headline = evaluation.measure("accuracy", unit="image"), evaluation.headline
    return "\n".join(
        [
            scan_summary(scanned),
            "",
            "The same images, the same model, two splits (accuracy by image):",
            f"  by image    {accuracy['image']}: slices of one patient in training and in test",
            f"  by patient  {accuracy['patient']}: what a new patient can expect",
            f"headline: balanced accuracy by patient {headline}",
            f"report of the leaky split: {folder / 'by-image' / 'report.html'}",
            f"report: {folder / 'by-patient' / 'report.html'}",
        ]
    )


def _draw(folder: Path, *, overwrite: bool, progress: Progress) -> Path:
    """Write the phantoms and a table of them that names patients but, like most, no split."""
    if overwrite and (folder / "truth.json").is_file():
        shutil.rmtree(folder)
    progress.say("drawing synthetic brains of known patients")
    phantoms = write_phantoms(folder, PHANTOMS)
    table = folder / "patients.csv"
    write_text(table, safe_csv(phantoms.manifest.drop(columns="split")))
    return table
