"""Sets of phantoms for the benchmarks of the audit: drawn once, planted into as often as needed."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from plainfilm.auditing import burnt_in, copies, dependence, labels, probes
from plainfilm.auditing.subject import Subject
from plainfilm.data.phantoms import Faults, PhantomOptions, write_phantoms
from plainfilm.data.phantoms.acquisition import acquired
from plainfilm.data.phantoms.faults import Entry, plan_images
from plainfilm.data.phantoms.truth import Phantoms, describe
from plainfilm.data.phantoms.writing import developed, name_files
from plainfilm.data.pixels import PixelStore
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.prediction import Predictions

Image = npt.NDArray[np.uint8]

SETS = {
    "brain slices": PhantomOptions(kind="brain", patients=120, images_per_patient=2),
    "chest films": PhantomOptions(kind="chest", patients=120, images_per_patient=(1, 3)),
    "single chests": PhantomOptions(kind="chest", patients=160, images_per_patient=1, sites=3),
}
STACKS = {
    "stacks of 8": PhantomOptions(kind="brain", patients=50, images_per_patient=8),
    "stacks of 3 to 20": PhantomOptions(kind="brain", patients=40, images_per_patient=(3, 20)),
    "stacks of 12, dealt in turn": PhantomOptions(
        kind="brain", patients=40, images_per_patient=12, file_names="interleaved"
    ),
}

# 64 KiB an image of 128x128: a set is drawn once and stays while faults are planted in it.
draw_once = lru_cache(maxsize=4096)(acquired)


@dataclass(frozen=True)
class Plan:
    """One set to be made and audited.

    Attributes:
        options: The phantoms.
        severity: Share that the fault hits.
    """

    options: PhantomOptions
    severity: float = 0.0

    @property
    def rng(self) -> np.random.Generator:
        """For what a fault leaves to chance; a severer fault hits what a milder one does, and more."""
        return np.random.default_rng([self.options.seed, 7])

    def make(self, faults: Faults | None = None, **options: object) -> tuple[Subject, Phantoms]:
        """Draw the phantoms with faults, in memory: as an audit sees them, but for the properties of files."""
        chosen = replace(self.options, **options)
        entries = name_files(plan_images(chosen, faults or Faults()), chosen)
        return in_memory(entries, chosen), describe(Path("phantoms"), entries)

    def saved(self, faults: Faults | None = None, **options: object) -> Subject:
        """The same through files, written and read."""
        chosen = replace(self.options, **options)
        with tempfile.TemporaryDirectory() as folder:
            phantoms = write_phantoms(Path(folder) / "images", chosen, faults, draw=draw_once)
            listing = list_images(phantoms.folder / "manifest.csv")
            table, pixels = scan_listing(listing, size=(chosen.size, chosen.size), workers=0)
        return Subject(
            rows=table.rows,
            pixels=pixels,
            patients="documented",
            group=np.unique(table.rows["patient_id"].astype(str), return_inverse=True)[1],
            split=table.rows["split"].to_numpy(dtype=object),
            split_unit="patient",
        )

    def chosen(self, candidates: Sequence[int] | npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """As many of them as the severity says, one at least, in random order."""
        order = self.rng.permutation(np.asarray(candidates, dtype=np.intp))
        return order[: max(1, round(self.severity * len(order)))]


def in_memory(entries: Sequence[Entry], options: PhantomOptions) -> Subject:
    """The images of a set with what its manifest says of them."""
    # In the order of patients, so that a patient's anatomy is drawn once.
    order = sorted(range(len(entries)), key=lambda index: entries[index].key)
    store = PixelStore(len(entries), options.size, options.size)
    for index in order:
        store.put(index, developed(entries[index], options, draw_once))
    rows = describe(Path("phantoms"), list(entries)).manifest
    return Subject(
        rows=rows.assign(pixel_sha256=digests(store)),
        pixels=store,
        patients="documented",
        group=np.unique(rows["patient_id"], return_inverse=True)[1],
        split=rows["split"].to_numpy(dtype=object),
        split_unit="patient",
    )


def edited(subject: Subject, hit: npt.NDArray[np.bool_], edit: Callable[[npt.NDArray[np.float32]], object]) -> Subject:
    """The same set with some images edited, on a scale from 0 to 1."""
    assert subject.pixels is not None
    store = PixelStore(*subject.pixels.shape)
    for index in range(len(subject)):
        image = subject.pixels.values([index])[0]
        store.put(index, eight_bit(edit(image.copy()) if hit[index] else image))
    return replace(subject, pixels=store, rows=subject.rows.assign(pixel_sha256=digests(store)))


def with_copies(subject: Subject, copied: npt.NDArray[np.intp], images: Sequence[Image], **columns: object) -> Subject:
    """The set and, after it, copies of some of its rows with images and columns of their own."""
    assert subject.pixels is not None
    n = len(subject)
    store = PixelStore(n + len(copied), *subject.pixels.shape[1:])
    for index in range(n):
        store.put(index, subject.pixels.stored(np.array([index]))[0][0])
    for place, image in enumerate(images):
        store.put(n + place, image)
    rows = subject.rows.iloc[[*range(n), *copied.tolist()]].reset_index(drop=True)
    rows.loc[n:, "path"] = [f"{path}-copy.png" for path in rows.loc[n:, "path"]]
    for name, values in columns.items():
        rows.loc[n:, name] = values
    return replace(
        subject,
        rows=rows.assign(pixel_sha256=digests(store)),
        pixels=store,
        group=np.unique(rows["patient_id"], return_inverse=True)[1],
        split=rows["split"].to_numpy(dtype=object),
    )


def anonymous(subject: Subject, *, divided: bool = True) -> Subject:
    """The same images without patient ids, and perhaps without a split."""
    return replace(
        subject,
        rows=subject.rows.assign(patient_id=None),
        patients="unknown",
        group=np.full(len(subject), -1, dtype=np.intp),
        split=subject.split if divided else None,
        split_unit=None,
    )


def scored(subject: Subject, skill: float, seed: int) -> Subject:
    """With predictions as good as asked for, whose scores are the probabilities that they say.

    A patient's images share one score: the mean of several calibrated ones would be too timid for the patient.
    """
    rng = np.random.default_rng(seed)
    evidence = skill * (2 * subject.y - 1) + rng.normal(size=subject.group.max() + 1)[subject.group]
    score = 1 / (1 + np.exp(-2 * skill * evidence))
    table = subject.rows[["path", "label", "patient_id", "split"]]
    return replace(subject, predictions=Predictions(subject.classes, table, np.column_stack([1 - score, score])))


class _NoSheet:
    def png(self) -> bytes:
        return b""


@contextmanager
def without_pictures() -> Iterator[None]:
    """The same verdicts without the sheets of images beside them, which take nine tenths of the time."""
    with ExitStack() as stack:
        for module in (burnt_in, copies, dependence, labels, probes):
            stack.enter_context(patch.object(module, "contact_sheet", lambda *_, **__: _NoSheet()))
        yield


def eight_bit(image: object) -> Image:
    """From a scale from 0 to 1."""
    return np.clip(np.rint(np.asarray(image) * 255), 0, 255).astype(np.uint8)


def digests(store: PixelStore) -> list[str]:
    """A hash of each image's pixels."""
    images = store.stored(np.arange(len(store)))[0]
    return [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() for image in images]
