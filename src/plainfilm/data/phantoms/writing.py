"""A set of phantoms on disk: its files, their names and their pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from plainfilm.data.phantoms.acquisition import Pixels, acquired, quantised
from plainfilm.data.phantoms.dicom import save_dicom
from plainfilm.data.phantoms.drawing import Array, paint
from plainfilm.data.phantoms.faults import JPEG_QUALITY, MARKER_PLACE, SIZE_FAULT, Entry, plan_images
from plainfilm.data.phantoms.options import Faults, PhantomOptions, check_faults
from plainfilm.data.phantoms.patients import Patient
from plainfilm.data.phantoms.streams import Stream, rng_of
from plainfilm.data.phantoms.truth import Phantoms, describe, file_of, write_truth
from plainfilm.errors import DataError

Draw = Callable[[PhantomOptions, Patient, int], Array]


def write_phantoms(
    folder: Path | str, options: PhantomOptions, faults: Faults | None = None, *, draw: Draw = acquired
) -> Phantoms:
    """Draw a set of phantoms into an empty or new folder.

    The folder is a class-folder data set as it stands; `manifest.csv` adds patients, splits, site, sex and age,
    `truth.json` what was asked for and what was planted. Another `draw` may remember what it drew before.

    Raises:
        UsageError: `PHA_OPTIONS` if a fault does not fit the options.
        DataError: `PHA_FOLDER_NOT_EMPTY`; nothing is overwritten.
    """
    folder, faults = Path(folder), faults or Faults()
    check_faults(options, faults)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"'{folder}' is not an empty folder. Name a new one.", code="PHA_FOLDER_NOT_EMPTY")
    entries = name_files(plan_images(options, faults), options)
    for label in options.classes:
        (folder / label).mkdir(parents=True, exist_ok=True)
    for file, images in groupby(sorted(entries, key=lambda entry: entry.key), key=lambda entry: file_of(entry.path)):
        found = list(images)
        if options.format == "dicom-multiframe":
            stack = np.stack([developed(entry, options, draw) for entry in found])
            save_dicom(stack, folder / file, bits=options.bits, format=options.format, patient_id=found[0].patient_id)
        else:
            _save(developed(found[0], options, draw), folder / file, found[0], options)
    phantoms = describe(folder, entries)
    write_truth(phantoms, options, faults)
    phantoms.manifest.to_csv(folder / "manifest.csv", index=False, lineterminator="\n")
    return phantoms


def name_files(entries: list[Entry], options: PhantomOptions) -> list[Entry]:
    """Give every entry its path, and sort by it."""
    counts: dict[str, int] = {}
    places = []
    for entry in entries:
        places.append(counts.get(entry.patient_id, 0))
        counts[entry.patient_id] = places[-1] + 1
    stems = _stems(entries, places, options)
    usual = "png" if options.format == "png" else "dcm"
    if options.format == "dicom-multiframe":
        order = np.argsort([f"{entry.label}/{stem}" for entry, stem in zip(entries, stems, strict=True)])  # as files
        return [replace(entries[i], path=f"{entries[i].label}/{entries[i].patient_id}.dcm#{places[i]}") for i in order]
    named = [
        replace(entry, path=f"{entry.label}/{stem}.{'jpg' if entry.as_jpeg else usual}")
        for entry, stem in zip(entries, stems, strict=True)
    ]
    return sorted(named, key=lambda entry: entry.path)


def _stems(entries: list[Entry], places: list[int], options: PhantomOptions) -> list[str]:
    """File names without folder and suffix; `places` is each entry's number within its patient."""
    if options.file_names == "patient":
        width = max(2, len(str(options.stack_range[1])))
        return [f"{entry.patient_id}_{place:0{width}d}" for entry, place in zip(entries, places, strict=True)]
    if options.file_names == "interleaved":
        order = sorted(range(len(entries)), key=lambda index: (places[index], entries[index].patient_id))
    else:
        order = rng_of(Stream.NAMES, options.seed).permutation(len(entries)).tolist()
    digits = len(str(len(entries)))
    counts: dict[str, int] = {}
    stems = [""] * len(entries)
    for index in order:
        label = entries[index].label
        counts[label] = counts.get(label, 0) + 1
        stems[index] = f"{label}_{counts[label]:0{digits}d}"
    return stems


def developed(entry: Entry, options: PhantomOptions, draw: Draw = acquired) -> Pixels:
    """The pixels of one file; another `draw` may remember what it drew before."""
    if entry.copy_of is not None:
        return _turned(developed(entry.copy_of, options, draw), entry.turn)
    if entry.enlarged:
        options = replace(options, size=round(SIZE_FAULT * options.size))
    image = draw(options, entry.patient, entry.image)
    if entry.marker:
        image = _marked(image, entry.marker, rng_of(Stream.FAULT, options.seed, MARKER_PLACE, *entry.key))
    return _turned(quantised(image, options.bits), entry.turn)


def _turned(pixels: Pixels, turn: int) -> Pixels:
    """One of the eight flips and quarter turns, numbered as `TURNS`."""
    mirrored: npt.NDArray[Any] = pixels[:, ::-1] if turn >= 4 else pixels
    return np.ascontiguousarray(np.rot90(mirrored, turn % 4))


def _marked(image: Array, letter: str, rng: np.random.Generator) -> Array:
    """Burn a side marker into an upper corner, as lead letters leave it."""
    size = len(image)
    height = round(0.13 * size)
    stencil = Image.new("L", (size, size))
    left = rng.uniform(0.03, 0.08) * size if letter == "R" else rng.uniform(0.86, 0.90) * size
    corner = (left, rng.uniform(0.02, 0.06) * size)
    font = ImageFont.load_default(height)
    ImageDraw.Draw(stencil).text(corner, letter, 255, font, stroke_width=round(size / 256))
    return paint(image, 0.97, np.asarray(stencil, dtype=np.float32) / 255)


def _save(pixels: Pixels, path: Path, entry: Entry, options: PhantomOptions) -> None:
    """Write PNG or DICOM, or the JPEG of a quality fault."""
    if options.format != "png":
        save_dicom(pixels, path, bits=options.bits, format=options.format, patient_id=entry.patient_id)
        return
    picture = Image.fromarray(pixels)
    if entry.as_jpeg:
        picture.save(path, quality=JPEG_QUALITY)
    else:
        picture.save(path, compress_level=1)  # noise hardly packs better at higher levels
