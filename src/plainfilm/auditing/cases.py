"""The labelled images that a probe can work with, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from plainfilm.auditing.subject import Subject
from plainfilm.measures import PatientSource, plural
from plainfilm.metrics import Bools, Ints

FIRST = 100  # patients of every class that come before all others where not all can be looked at
WHOSE: dict[PatientSource, str] = {
    "documented": "",
    "recovered": " Patients were recovered from the pixels.",
    "declared": " It was declared that every image is of another patient.",
    "unknown": " Patients are not known: images count as independent, so p is too small where patients have several.",
}


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Labelled images of the classes that have enough patients.

    Attributes:
        rows: `(n,)` which images of the subject.
        y: `(n,)` index into `classes`.
        group: `(n,)` patient, 0 to `n_patients - 1`; each image its own where patients are not known.
        classes: Names, sorted.
        left_out: Classes with too few patients.
        patients: How patients are known.
        drawn_from: How many images these were drawn from; 0 where all are there.
    """

    rows: Ints
    y: Ints
    group: Ints
    classes: tuple[str, ...]
    left_out: tuple[str, ...]
    patients: PatientSource
    drawn_from: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_patients(self) -> int:
        """Independent units; images, where patients are not known."""
        return int(self.group.max()) + 1 if len(self.group) else 0

    @property
    def known_patients(self) -> int | None:
        """Patients, for a finding; None where they are not known."""
        return None if self.patients == "unknown" else self.n_patients

    @property
    def counted(self) -> str:
        """`1280 images of 40 patients`."""
        images = plural(len(self), "image")
        return images if self.patients == "unknown" else f"{images} of {plural(self.n_patients, 'patient')}"

    @property
    def remarks(self) -> str:
        """What a reader should know of the patients and classes; begins with a space, or empty."""
        small = f" Left out, with too few patients: {', '.join(self.left_out)}." if self.left_out else ""
        return WHOSE[self.patients] + small + self.drawn_remark

    @property
    def drawn_remark(self) -> str:
        """What they were drawn from; begins with a space, or empty."""
        whose = "They" if self.patients == "unknown" else "Whole patients"
        return f" {whose} were drawn from {plural(self.drawn_from, 'image')}." if self.drawn_from else ""

    @cached_property
    def class_of_group(self) -> Ints:
        """`(n_patients,)` the most frequent label of each patient."""
        counts = np.zeros((self.n_patients, len(self.classes)), dtype=np.intp)
        np.add.at(counts, (self.group, self.y), 1)
        return np.asarray(counts.argmax(axis=1), dtype=np.intp)

    def where(self, mask: Bools) -> Cases:
        """Some of the images, patients numbered anew; all classes stay."""
        return Cases(
            rows=self.rows[mask],
            y=self.y[mask],
            group=np.unique(self.group[mask], return_inverse=True)[1].astype(np.intp),
            classes=self.classes,
            left_out=self.left_out,
            patients=self.patients,
            drawn_from=self.drawn_from,
        )

    def sampled(self, most: int, *, seed: int) -> Cases:
        """Whole patients in random order, as many as make no more than `most` images; itself where it is no larger."""
        if len(self) <= most:
            return self
        return self._first_of(np.random.default_rng(seed).permutation(self.n_patients), most)

    def drawn(self, most: int, *, seed: int) -> Cases:
        """As `sampled`, but patients of every class come first, so that rare classes stay; a finding says so."""
        if len(self) <= most:
            return self
        order = np.random.default_rng(seed).permutation(self.n_patients)
        place = np.argsort(order)
        turn = np.full(self.n_patients, FIRST)
        for code in range(len(self.classes)):
            own = np.unique(self.group[self.y == code])
            own = own[np.argsort(place[own])][:FIRST]
            turn[own] = np.minimum(turn[own], np.arange(len(own)))
        chosen = self._first_of(order[np.argsort(turn[order], kind="stable")], most)
        return replace(chosen, drawn_from=len(self))

    def _first_of(self, order: Ints, most: int) -> Cases:
        kept = order[np.cumsum(np.bincount(self.group)[order]) <= most]
        return self.where(np.isin(self.group, kept))


def cases_of(subject: Subject, *, min_patients: int, among: Bools | None = None) -> Cases:
    """The labelled images of classes with `min_patients` or more.

    Args:
        subject: What is audited.
        min_patients: Patients a class needs; one with images under two labels counts for both.
        among: `(n,)` which images may be used; all if None.
    """
    y, group = subject.y, subject.group.copy()
    nameless = group < 0
    group[nameless] = group.max(initial=-1) + 1 + np.arange(nameless.sum())  # each its own
    usable = (y >= 0) if among is None else (y >= 0) & among
    pairs = np.unique(np.stack([y[usable], group[usable]]), axis=1)
    enough = np.bincount(pairs[0], minlength=len(subject.classes)) >= min_patients
    rows = np.flatnonzero(usable & np.append(enough, False)[y])  # -1, no label, is the one put at the end
    kept = np.flatnonzero(enough)
    return Cases(
        rows=rows,
        y=np.searchsorted(kept, y[rows]),
        group=np.unique(group[rows], return_inverse=True)[1].astype(np.intp),
        classes=tuple(subject.classes[c] for c in kept),
        left_out=tuple(name for name, fits in zip(subject.classes, enough, strict=True) if not fits),
        patients=subject.patients if subject.knows_patients else "unknown",
    )
