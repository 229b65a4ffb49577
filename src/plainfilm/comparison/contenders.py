"""Models, and the rows that all of them were tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from plainfilm.errors import DataError, UsageError
from plainfilm.measures import PatientSource, plural
from plainfilm.prediction import Predictions


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One model with its predictions of test rows.

    Attributes:
        name: What it is called.
        predictions: Of labelled rows that the model was tested on.
        patients: How their patients are known.
        struck: Why its numbers may not stand; None where they may.
        digests: Hash of the pixels by path, where known: the same path must be the same image.
    """

    name: str
    predictions: Predictions
    patients: PatientSource
    struck: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict, repr=False)


def aligned(contenders: Sequence[Contender]) -> tuple[list[Predictions], PatientSource, tuple[str, ...]]:
    """The rows all models were tested on, in one order and with one set of patient ids."""
    if len(contenders) < 2:
        raise UsageError("One run has nothing to be compared with: name two or more.", code="CMP_ONE_RUN")
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"'{twice}' is named twice.", code="CMP_SAME_NAME")
    first = contenders[0]
    for other in contenders[1:]:
        if set(other.predictions.classes) != set(first.predictions.classes):
            raise DataError(
                f"'{first.name}' and '{other.name}' do not tell the same classes apart: "
                f"{', '.join(first.predictions.classes)}, and {', '.join(other.predictions.classes)}.",
                code="CMP_CLASSES",
            )
    rows = [dict(zip(one.predictions.table["path"], range(len(one.predictions)), strict=True)) for one in contenders]
    paths = sorted(set(rows[0]).intersection(*rows[1:]))
    if not paths:
        raise DataError(
            "No image was tested by all of these runs. Train them on the same data with the same --split-seed.",
            code="CMP_NO_COMMON",
        )
    _check_images(contenders, paths)
    known = next((one for one in contenders if one.patients != "unknown"), first)
    parts = []
    for one, row_of in zip(contenders, rows, strict=True):
        places = np.array([row_of[path] for path in paths], dtype=np.intp)
        columns = [one.predictions.classes.index(name) for name in first.predictions.classes]
        table = one.predictions.table.iloc[places].reset_index(drop=True)
        parts.append(Predictions(first.predictions.classes, table, one.predictions.scores[places][:, columns]))
    ids = parts[contenders.index(known)].table["patient_id"]
    for one, part in zip(contenders, parts, strict=True):
        _check_truth(first, parts[0], one, part)
        if one.patients == known.patients and not part.table["patient_id"].equals(ids):
            raise DataError(
                f"'{known.name}' and '{one.name}' do not name the same patients for the same images.",
                code="CMP_PATIENTS",
            )
        part.table["patient_id"] = ids
    return parts, known.patients, _notes(contenders, parts[0])


def _check_images(contenders: Sequence[Contender], paths: Sequence[str]) -> None:
    """Refuse to take two images for one because they have one name."""
    first = contenders[0]
    for other in contenders[1:]:
        differing = [
            path
            for path in paths
            if path in first.digests and path in other.digests and first.digests[path] != other.digests[path]
        ]
        if differing:
            raise DataError(
                f"{plural(len(differing), 'image')} of the same name, first '{differing[0]}', have other pixels in "
                f"'{other.name}' than in '{first.name}'.",
                code="CMP_IMAGES",
            )


def _check_truth(first: Contender, labels: Predictions, other: Contender, others: Predictions) -> None:
    differ = (labels.table["label"] != others.table["label"]).to_numpy()
    if differ.any():
        raise DataError(
            f"{plural(int(differ.sum()), 'image')}, first '{labels.table['path'].iat[int(differ.argmax())]}', have "
            f"another label in '{other.name}' than in '{first.name}'.",
            code="CMP_LABELS",
        )


def _notes(contenders: Sequence[Contender], common: Predictions) -> tuple[str, ...]:
    """What was left out, and whose numbers may not stand."""
    notes = []
    n_patients = common.table["patient_id"].nunique()
    shared = f"{plural(len(common), 'image')}" + (f" of {plural(n_patients, 'patient')}" if n_patients else "")
    for one in contenders:
        left_out = len(one.predictions) - len(common)
        if left_out:
            notes.append(
                f"{plural(left_out, 'test image')} of '{one.name}' left out: not tested by every run. "
                f"Compared: {shared}."
            )
    notes += [f"'{one.name}' is struck through: {one.struck}" for one in contenders if one.struck]
    return tuple(notes)
