"""The truth about a set: its manifest, and what was planted in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from plainfilm.data.phantoms.faults import JPEG_QUALITY, SIZE_FAULT, TURNS, Entry
from plainfilm.data.phantoms.options import Faults, PhantomOptions

FaultKind = Literal[
    "straddling_patient", "duplicate", "class_duplicate", "turned", "marker", "label_noise", "size", "quality"
]

MANIFEST_COLUMNS = ("path", "label", "patient_id", "split", "site", "sex", "age")


def file_of(path: str) -> str:
    """The file that an image is in: of a stack, what stands before the number of the frame."""
    return path.partition("#")[0]


@dataclass(frozen=True)
class PlantedFault:
    """One image that a fault was planted in.

    Attributes:
        kind: Which fault.
        path: The image, as the manifest names it.
        detail: For a copy its original and how it was turned; for a straddling patient the split the image was
            moved from; for a wrong label the true one; else what was done.
    """

    kind: FaultKind
    path: str
    detail: str


@dataclass(frozen=True)
class Phantoms:
    """A set of phantoms on disk, and the truth about it.

    Attributes:
        folder: Holds a folder of images per class, `manifest.csv` and `truth.json`.
        manifest: One row per file, all text but `age`: `path` (relative to `folder`), `label`, `patient_id`,
            `split`, `site`, `sex`, `age` (years). A file is an image, or a patient's stack.
        planted: What was planted, in manifest order.
        severity: True severity of each image by path: about 0 for the first class, about 1 for the last.
    """

    folder: Path
    manifest: pd.DataFrame
    planted: tuple[PlantedFault, ...] = ()
    severity: dict[str, float] = field(default_factory=dict)

    def paths(self, kind: FaultKind) -> list[str]:
        """The images with this fault."""
        return [fault.path for fault in self.planted if fault.kind == kind]


def describe(folder: Path, entries: list[Entry]) -> Phantoms:
    """The set as it lies in `folder`, once every entry has its path."""
    rows = [
        (
            file_of(entry.path),
            entry.label,
            entry.patient_id,
            entry.split,
            f"site{entry.patient.site + 1}",
            entry.patient.sex,
            entry.patient.age,
        )
        for entry in entries
    ]
    originals = {entry.key: entry.path for entry in entries if entry.copy_of is None}
    return Phantoms(
        folder=folder,
        manifest=pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS)).drop_duplicates("path", ignore_index=True),
        planted=tuple(fault for entry in entries for fault in _planted_in(entry, originals)),
        severity={entry.path: round(entry.patient.severity, 4) for entry in entries},
    )


def _planted_in(entry: Entry, originals: dict[tuple[int, int], str]) -> Iterator[PlantedFault]:
    """Every fault of one entry; a copy counts once more for each fault it inherits."""
    if entry.true_label:
        yield PlantedFault("label_noise", entry.path, entry.true_label)
    if entry.moved_from and entry.patient_id == entry.patient.patient_id:
        yield PlantedFault("straddling_patient", entry.path, entry.moved_from)
    if entry.copy_of is not None:
        own_id = entry.patient_id == entry.patient.patient_id
        original = originals[entry.key]
        yield PlantedFault("class_duplicate" if own_id else "duplicate", entry.path, f"{original}, {TURNS[entry.turn]}")
    elif entry.turn:
        yield PlantedFault("turned", entry.path, TURNS[entry.turn])
    if entry.marker:
        yield PlantedFault("marker", entry.path, entry.marker)
    if entry.enlarged:
        yield PlantedFault("size", entry.path, f"{SIZE_FAULT} times the side")
    if entry.as_jpeg:
        yield PlantedFault("quality", entry.path, f"JPEG quality {JPEG_QUALITY}")


def write_truth(phantoms: Phantoms, options: PhantomOptions, faults: Faults) -> None:
    """Write `truth.json`: what was asked for and what was planted."""
    truth: dict[str, Any] = {
        "what": "Synthetic images made by plainfilm; no person's data.",
        "options": asdict(options),
        "faults": asdict(faults),
        "planted": [asdict(fault) for fault in phantoms.planted],
        "severity": phantoms.severity,
    }
    text = json.dumps(truth, indent=1, ensure_ascii=False)
    (phantoms.folder / "truth.json").write_text(text + "\n", encoding="utf-8", newline="\n")
