"""From predictions to numbers: every one with its interval and its count."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from plainfilm.errors import DataError
from plainfilm.measures import (
    Curve,
    Evaluation,
    EvaluationOptions,
    Gap,
    Measure,
    PatientSource,
    SubgroupOptions,
    Unit,
    plural,
)
from plainfilm.metrics import Ints
from plainfilm.prediction import Predictions
from plainfilm.reliability import reliability_of
from plainfilm.sampling import Rows, Sample, readings_of, rows_of, strata_of
from plainfilm.subgroups import gaps_of

SCORE_SUM_TOLERANCE = 1e-3  # scores may have passed through half precision or a rounded CSV

# What stands beside every score below evidence level 2, by what was dealt to training and test.
STRUCK: dict[Unit, str] = {
    "image": "The split is by image: images of one patient can be in both training and test. "
    "The number does not hold on new patients.",
    "patient": "The patients are not known: images of one patient can be in both training and test. "
    "The number need not hold on new patients.",
}


def evaluate_predictions(
    predictions: Predictions,
    *,
    patients: PatientSource,
    split_unit: Unit,
    options: EvaluationOptions | None = None,
    attributes: pd.DataFrame | None = None,
    subgroups: SubgroupOptions | None = None,
) -> Evaluation:
    """Measure predictions against the truth, by image and by patient.

    A patient's score is the mean of the scores of their images. A patient with images under two labels has
    one row for each label, and is drawn as one. Images without a label are left out.

    Args:
        predictions: Scores, labels and patients of images of one split.
        patients: How `patient_id` is known. `declared`: every image is its own patient. `unknown`: images are
            resampled as if they were independent, with a caution, and nothing is given by patient.
        split_unit: What was dealt to training and test. Where every image is declared to be another patient,
            an image split is a patient split.
        options: Draws, confidence, limits, and the positive classes.
        attributes: Further columns by `path` (its index, or a column of that name), for groups of patients.
        subgroups: Which columns make groups.

    Raises:
        UsageError: If `positive` names an unknown class, or every class.
        DataError: `EVL_...` if labels, patient ids or scores are not what `Predictions` promises.
    """
    options = options or EvaluationOptions()
    labelled = _checked(predictions)
    group = patient_of_image(labelled, patients)
    known = patients != "unknown"
    units: tuple[Unit, ...] = ("image", "patient") if known else ("image",)
    samples = samples_of(predictions, patients=patients, units=units, options=options)
    measures: dict[tuple[str, Unit, str | None], Measure] = {}
    curves: dict[tuple[str, Unit, str], Curve] = {}
    for sample in samples:
        # A two-way reading of one class repeats that class against the rest: the first is kept.
        for measure in sample.measures():
            measures.setdefault((measure.name, measure.unit, measure.of), measure)
        for curve in sample.curves():
            curves.setdefault((curve.kind, curve.unit, curve.of), curve)

    reliability = []
    strata = strata_of(group, samples[0].rows.reading.y_true, smallest=options.min_patients)
    for sample in samples:
        found, points = reliability_of(sample.rows, strata, options)
        for measure in found:
            measures.setdefault((measure.name, measure.unit, measure.of), measure)
        reliability += [points] if points is not None else []

    gaps: list[Gap] = []
    said: list[str] = []
    if subgroups is not None and subgroups.subgroup and attributes is not None:
        gaps, said = gaps_of(
            samples[-1].rows.reading,
            group,
            strata,
            _aligned(attributes, labelled),
            subgroups,
            options,
            patients_known=known,
        )
    level = _evidence_level(patients, split_unit)
    design_effect = samples[0].design_effect() if known else None
    return Evaluation(
        classes=labelled.classes,
        options=options,
        patients=patients,
        split_unit=split_unit,
        n_images=len(labelled),
        n_patients=int(group.max()) + 1 if known else None,
        evidence_level=level,
        struck=_struck(labelled, level, split_unit),
        headline=headline_of(list(measures.values()), unit=units[-1], positive=samples[-1].rows.reading.of),
        measures=tuple(measures.values()),
        confusions=tuple(sample.confusion() for sample in samples),
        curves=tuple(curves.values()),
        design_effect=design_effect,
        effective_images=len(labelled) / design_effect if design_effect else None,
        notes=(*_notes(predictions, labelled, group, patients), *said),
        reliability=tuple(reliability),
        gaps=tuple(gaps),
    )


def samples_of(
    predictions: Predictions, *, patients: PatientSource, units: Iterable[Unit], options: EvaluationOptions
) -> list[Sample]:
    """Every reading of the labelled rows by each unit, measured and drawn; see `evaluate_predictions`."""
    labelled = _checked(predictions)
    group = patient_of_image(labelled, patients)
    readings = readings_of(labelled, options)
    strata = strata_of(group, readings[0].y_true, smallest=options.min_patients)
    return [
        Sample.drawn(rows_of(reading, group, unit=unit, patients_known=patients != "unknown"), strata, options)
        for reading in readings
        for unit in units
    ]


def two_way_rows(predictions: Predictions, *, patients: PatientSource, options: EvaluationOptions) -> tuple[Rows, Ints]:
    """The labelled patients read as positive or not, with the stratum each is drawn within.

    Args:
        predictions: Scores, labels and patients of images of one split.
        patients: How they are known; not `unknown`.
        options: With `positive` classes.
    """
    labelled = _checked(predictions)
    group = patient_of_image(labelled, patients)
    everything, reading = readings_of(labelled, options)
    rows = rows_of(reading, group, unit="patient", patients_known=True)
    return rows, strata_of(group, everything.y_true, smallest=options.min_patients)


def _aligned(attributes: pd.DataFrame, labelled: Predictions) -> pd.DataFrame:
    """The further columns in the order of the predictions."""
    by_path = attributes.set_index("path") if "path" in attributes.columns else attributes
    found = by_path[~by_path.index.duplicated()].reindex(labelled.table["path"])
    return found.reset_index(drop=True)


def _evidence_level(patients: PatientSource, split_unit: Unit) -> int:
    if patients == "unknown":
        return 0
    return 2 if split_unit == "patient" or patients == "declared" else 1


def _struck(labelled: Predictions, level: int, split_unit: Unit) -> str | None:
    """Why no number may stand; None when they may."""
    split = labelled.table["split"]
    trained_on, chosen_on = int((split == "train").sum()), int((split == "validation").sum())
    if trained_on:
        return f"{plural(trained_on, 'image')} of {len(labelled)} trained the model: it may know them by heart."
    if level < 2:
        return STRUCK[split_unit]
    if chosen_on:
        return (
            f"{plural(chosen_on, 'image')} of {len(labelled)} are of the validation split, "
            "on which the epoch was chosen: the number is too good."
        )
    return None


def headline_of(measures: list[Measure], *, unit: Unit, positive: str | None) -> Measure:
    """The number to print large; see `Evaluation.headline`."""
    name, of = ("balanced_accuracy", None) if positive is None else ("roc_auc", positive)
    named = [measure for measure in measures if (measure.name, measure.unit) == (name, unit)]
    whole = next(measure for measure in named if measure.of == of)
    if whole.value is not None or positive is not None:
        return whole
    return next((measure for measure in named if measure.value is not None), whole)


def _notes(predictions: Predictions, labelled: Predictions, group: Ints, patients: PatientSource) -> tuple[str, ...]:
    """What a reader should know about the rows and the patients."""
    notes = {
        "documented": "",
        "recovered": "Patients were recovered from the pixels; no document names them.",
        "declared": "It was declared that every image is of another patient; no document says so.",
        "unknown": "Patients are not known: intervals take images as independent, and can be too narrow.",
    }
    unlabelled = len(predictions) - len(labelled)
    choosing = int((labelled.table["split"] == "validation").sum())
    twice = int((labelled.table["label"].groupby(group).nunique() > 1).sum())
    return tuple(
        note
        for note, holds in (
            (notes[patients], True),
            (f"{plural(unlabelled, 'image')} without a label left out.", unlabelled),
            (
                f"{plural(choosing, 'image')} of the validation split, by which the model was chosen.",
                choosing,
            ),
            (
                f"{plural(twice, 'patient')} with images under two labels or more: "
                "one row for each label, drawn together as one patient.",
                twice,
            ),
        )
        if note and holds
    )


def _checked(predictions: Predictions) -> Predictions:
    """The labelled rows, when labels and scores are what `Predictions` promises."""
    labelled = predictions.labelled()
    if not len(labelled):
        raise DataError("No image has a label: there is no truth to measure against.", code="EVL_NO_LABELS")
    label = labelled.table["label"]
    unknown = label[~label.isin(predictions.classes)]
    if len(unknown):
        raise DataError(
            f"{plural(len(unknown), 'image')} with a label that the model does not know, first "
            f"'{unknown.iloc[0]}'. Known: {', '.join(predictions.classes)}. Rename it, or leave them out.",
            code="EVL_UNKNOWN_LABEL",
        )
    scores, shape = labelled.scores, (len(labelled), len(predictions.classes))
    if scores.shape != shape:
        raise DataError(f"The scores are {scores.shape}, but there are {shape} (images, classes).", code="EVL_SCORES")
    bad = ~(np.isfinite(scores).all(axis=1) & (scores >= 0).all(axis=1))
    bad |= ~np.isclose(scores.sum(axis=1), 1, rtol=0, atol=SCORE_SUM_TOLERANCE)
    if bad.any():
        raise DataError(
            f"The scores of {plural(int(bad.sum()), 'image')} are not a probability distribution, first row "
            f"{int(bad.argmax())}. Give softmax scores that are 0 or more and sum to 1.",
            code="EVL_SCORES",
        )
    return labelled


def patient_of_image(labelled: Predictions, patients: PatientSource) -> Ints:
    """Index of each image's patient, 0 to n - 1 by rising id; its own row where it has none."""
    ids = labelled.table["patient_id"]
    if patients in ("documented", "recovered"):
        if ids.isna().any():
            raise DataError(
                f"{plural(int(ids.isna().sum()), 'image')} of {len(ids)} without a patient id, though the "
                f"patients are {patients}. Fill the ids in, or evaluate with patients='unknown'.",
                code="EVL_NO_PATIENT_ID",
            )
        return np.unique(ids.astype(str), return_inverse=True)[1]
    repeated = ids[ids.notna() & ids.duplicated()]
    if patients == "declared" and len(repeated):
        raise DataError(
            f"Patient {repeated.iloc[0]} has several images, but one image per patient was declared. "
            "Use the patient ids of the table.",
            code="EVL_NOT_ONE_EACH",
        )
    return np.arange(len(ids))
