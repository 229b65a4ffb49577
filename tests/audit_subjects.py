"""Subjects for the tests of the audit: phantoms on disk, or made from arrays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from plainfilm.auditing.subject import Subject
from plainfilm.data.phantoms import Faults, PhantomOptions, write_phantoms
from plainfilm.data.pixels import PixelStore
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.prediction import Predictions


def subject_of(data: Path, *, side: int = 64, predictions=None, patients=None, split_unit=None) -> Subject:
    """Everything a check may look at, of a folder or manifest."""
    table, pixels = scan_listing(list_images(data), size=(side, side), workers=0)
    ids = table.rows["patient_id"]
    known = bool(ids.notna().all())
    group = np.unique(ids.astype(str), return_inverse=True)[1] if known else np.full(len(ids), -1)
    split = table.rows["split"].to_numpy(dtype=object)
    return Subject(
        rows=table.rows,
        pixels=pixels,
        patients=patients or ("documented" if known else "unknown"),
        group=np.asarray(group, dtype=np.intp),
        split=split if pd.notna(split).any() else None,
        split_unit=split_unit,
        predictions=predictions,
    )


def phantom_subject(folder: Path, faults: Faults | None = None, *, side: int = 64, **options) -> Subject:
    """Brains of 40 patients, 4 slices each, unless told otherwise."""
    sizes = {"patients": 40, "images_per_patient": 4, "size": side}
    phantoms = write_phantoms(folder, PhantomOptions(**{**sizes, **options}), faults)
    return subject_of(phantoms.folder / "manifest.csv", side=side)


def array_subject(images, labels, group=None, *, split=None, predictions=None, patients=None, **columns) -> Subject:
    """Images `(n, height, width)` of uint8 or float32, with labels and patients given."""
    store = PixelStore(len(images), *images.shape[1:])
    for index, image in enumerate(images):
        store.put(index, image)
    rows = pd.DataFrame(
        {
            "path": [f"image_{index:04d}.png" for index in range(len(images))],
            "label": np.asarray(labels, dtype=object),
            "patient_id": None if group is None else [f"p{number}" for number in group],
            **columns,
        }
    )
    return Subject(
        rows=rows,
        pixels=store,
        patients=patients or ("unknown" if group is None else "documented"),
        group=np.full(len(images), -1) if group is None else np.asarray(group, dtype=np.intp),
        split=None if split is None else np.asarray(split, dtype=object),
        predictions=predictions,
    )


def predictions_of(subject: Subject, scores, *, classes=None) -> Subject:
    """The same subject with scores of all its images; those without a split count as tested."""
    split = subject.split if subject.split is not None else np.full(len(subject), "test", dtype=object)
    table = subject.rows[["path", "label", "patient_id"]].assign(split=split)
    return replace(subject, predictions=Predictions(classes or subject.classes, table, np.asarray(scores)))
