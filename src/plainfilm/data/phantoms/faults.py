"""Faults: which images of a set are moved, copied, turned, marked or mislabelled, before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from plainfilm.data.phantoms.options import Faults, PhantomOptions
from plainfilm.data.phantoms.patients import SPLIT_CYCLE, Patient, draw_patient
from plainfilm.data.phantoms.streams import Stream, rng_of

SIZE_FAULT = 1.25  # the wrong side length, as a multiple of the right one
JPEG_QUALITY = 25
TURNS = (
    "unchanged", "rotated 90", "rotated 180", "rotated 270",
    "mirrored", "mirrored, rotated 90", "mirrored, rotated 180", "mirrored, rotated 270",
)  # fmt: skip

# Each fault draws from a stream of its own, so that planting one leaves every other where it was.
SITES, LABELS, SPLITS, TURNED, MARKED, ENLARGED, COMPRESSED, COPIED, CLASS_COPIED, MARKER_PLACE = range(10)


@dataclass(frozen=True)
class Entry:
    """One file to be written: whose image, under which label and split, and what is done to it."""

    patient: Patient
    image: int
    label: str
    split: str
    patient_id: str
    turn: int = 0  # one of the 8 flips and quarter turns; 0 leaves the image as it is
    marker: str = ""
    enlarged: bool = False
    as_jpeg: bool = False
    moved_from: str = ""
    true_label: str = ""
    copy_of: Entry | None = None
    path: str = ""

    @property
    def key(self) -> tuple[int, int]:
        """Patient and image; a copy has the key of its original."""
        return self.patient.number, self.image


def plan_images(options: PhantomOptions, faults: Faults) -> list[Entry]:
    """Every file of a set but its path: all images of all patients with the faults in them, copies last."""
    entries = _clean_entries(options, faults)
    entries = _mislabelled(entries, options, faults.label_noise)
    entries = _straddling(entries, options, faults.straddling_patients)
    entries = _spoiled(entries, options, faults)
    return entries + _copies(entries, options, faults) + _class_copies(entries, options, faults)


def _clean_entries(options: PhantomOptions, faults: Faults) -> list[Entry]:
    """Every image of every patient, with nothing wrong but, if asked for, the sites."""
    confounded = rng_of(Stream.FAULT, options.seed, SITES).random(options.patients) < faults.sites_follow_class
    entries = []
    for number in range(1, options.patients + 1):
        patient = draw_patient(options, number)
        if confounded[number - 1]:
            patient = replace(patient, site=patient.grade % options.sites)
        label = options.classes[patient.grade]
        entries += [
            Entry(patient, image, label, patient.split, patient.patient_id) for image in range(patient.n_images)
        ]
    return entries


def _chosen(n: int, share: float, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """A share of 0..n-1, at least one if any; a larger share includes every smaller one."""
    order = rng.permutation(n)
    return order[: max(1, round(share * n))] if share > 0 else order[:0]


def _mislabelled(entries: list[Entry], options: PhantomOptions, share: float) -> list[Entry]:
    rng = rng_of(Stream.FAULT, options.seed, LABELS)
    wrong: dict[int, str] = {}
    for index in sorted(_chosen(options.patients, share, rng).tolist()):
        right = draw_patient(options, index + 1).grade
        others = [label for grade, label in enumerate(options.classes) if grade != right]
        wrong[index + 1] = others[int(rng.integers(len(others)))]
    return [
        replace(entry, label=wrong[entry.patient.number], true_label=entry.label)
        if entry.patient.number in wrong
        else entry
        for entry in entries
    ]


def _straddling(entries: list[Entry], options: PhantomOptions, share: float) -> list[Entry]:
    """Move every other image of the chosen patients to test, or, if they are there, to train."""
    rng = rng_of(Stream.FAULT, options.seed, SPLITS)
    several = sorted({entry.patient.number for entry in entries if entry.patient.n_images > 1})
    chosen = {several[index] for index in _chosen(len(several), share, rng)}

    def moved(entry: Entry) -> Entry:
        if entry.patient.number not in chosen or entry.image % 2 == 0:
            return entry
        return replace(entry, split="train" if entry.split == "test" else "test", moved_from=entry.split)

    return [moved(entry) for entry in entries]


def _spoiled(entries: list[Entry], options: PhantomOptions, faults: Faults) -> list[Entry]:
    """Turn, mark, enlarge or compress images."""
    rng = rng_of(Stream.FAULT, options.seed, TURNED)
    entries = list(entries)
    for index in sorted(_chosen(len(entries), faults.turned, rng).tolist()):
        entries[index] = replace(entries[index], turn=int(rng.integers(1, len(TURNS))))
    rng = rng_of(Stream.FAULT, options.seed, MARKED)
    for index, (chance, letter) in enumerate(
        zip(rng.random(len(entries)), rng.choice(["L", "R"], len(entries)), strict=True)
    ):
        if entries[index].label != options.classes[0] and chance < faults.markers:
            entries[index] = replace(entries[index], marker=str(letter))
    rng = rng_of(Stream.FAULT, options.seed, ENLARGED)
    for index in _of_class(entries, faults.size_fault_class, faults.class_share, rng):
        entries[index] = replace(entries[index], enlarged=True)
    rng = rng_of(Stream.FAULT, options.seed, COMPRESSED)
    for index in _of_class(entries, faults.quality_fault_class, faults.class_share, rng):
        entries[index] = replace(entries[index], as_jpeg=True)
    return entries


def _of_class(entries: list[Entry], label: str | None, share: float, rng: np.random.Generator) -> list[int]:
    """Indices of a share of the images of one class."""
    members = [index for index, entry in enumerate(entries) if entry.label == label]
    return sorted(members[place] for place in _chosen(len(members), share, rng))


def _copies(entries: list[Entry], options: PhantomOptions, faults: Faults) -> list[Entry]:
    """The same picture under another patient id in another split."""
    rng = rng_of(Stream.FAULT, options.seed, COPIED)
    copies = []
    for order, index in enumerate(sorted(_chosen(len(entries), faults.duplicates, rng).tolist()), start=1):
        original = entries[index]
        other = sorted(set(SPLIT_CYCLE) - {original.split})
        copies.append(
            replace(
                original,
                split=other[int(rng.integers(len(other)))],
                patient_id=f"P{options.patients + order:03d}",
                turn=int(rng.integers(len(TURNS))),
                copy_of=original,
            )
        )
    return copies


def _class_copies(entries: list[Entry], options: PhantomOptions, faults: Faults) -> list[Entry]:
    """One class made larger on disk: a flipped or turned copy beside the original."""
    rng = rng_of(Stream.FAULT, options.seed, CLASS_COPIED)
    chosen = _of_class(entries, faults.duplicates_in_class, faults.class_share, rng)
    return [replace(entries[index], turn=int(rng.integers(1, len(TURNS))), copy_of=entries[index]) for index in chosen]
