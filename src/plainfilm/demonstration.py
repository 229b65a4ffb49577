"""The demo: synthetic brains with known patients, trained on twice, so that the reader sees what a split is worth."""

from __future__ import annotations

from pathlib import Path

from plainfilm import verbs
from plainfilm.config import RunOptions
from plainfilm.data.phantoms import Faults, PhantomOptions, write_phantoms
from plainfilm.measures import Evaluation
from plainfilm.progress import Progress
from plainfilm.storage import make_folder, read_json
from plainfilm.summaries import scan_summary

PATIENTS, SLICES, SIZE, EPOCHS = 90, 8, 64, 8


def demonstrate(folder: Path, *, overwrite: bool, progress: Progress) -> str:
    """Write phantoms, scan them, train by patient and by image, and say what came out.

    Args:
        folder: Gets `images/`, `by-patient/` and `by-image/`.
        overwrite: Replace what an earlier demo left there.
        progress: Told of every step.

    Returns:
        The summary for the terminal; its last line is the path of the report.
    """
    import shutil

    make_folder(folder)
    images = folder / "images"
    if overwrite and (images / "truth.json").is_file():
        shutil.rmtree(images)
    progress.say("drawing synthetic brains of known patients")
    options = PhantomOptions(
        kind="brain",
        patients=PATIENTS,
        images_per_patient=SLICES,
        classes=("healthy", "ill"),
        size=SIZE,
        seed=1,
    )
    write_phantoms(images, options, Faults())
    table = verbs.scan(images / "manifest.csv", progress=progress)
    figures: dict[str, Evaluation] = {}
    for name, split in (("by-image", "image"), ("by-patient", "patient")):
        progress.say(f"training resnet1d, split {name.replace('-', ' ')}")
        run = verbs.train(
            images / "manifest.csv",
            RunOptions.from_flat({"split": split, "image_size": SIZE, "epochs": EPOCHS, "batch_size": 32}),
            output=folder / name,
            overwrite=overwrite,
            progress=progress,
        )
        figures[name] = Evaluation.from_json(read_json(run.evaluation))
    leaky, honest = (figures[name].measure("accuracy", unit="image") for name in ("by-image", "by-patient"))
    return "\n".join(
        [
            scan_summary(table),
            "",
            "The same images, the same model, two splits (accuracy by image):",
            f"  split by image    {leaky}   slices of one patient in training and in test",
            f"  split by patient  {honest}   what a new patient can expect",
            "",
            f"headline: balanced accuracy by patient: {figures['by-patient'].headline}",
            f"report: {folder / 'by-patient' / 'report.html'}",
        ]
    )
