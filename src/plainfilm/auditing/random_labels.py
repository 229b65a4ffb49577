"""C1: labels given to patients at random. Nothing can be learnt from them, so whatever is scored is leaked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plainfilm.auditing.baselines import Part, folds_of, nearest_images
from plainfilm.auditing.cases import Cases, cases_of
from plainfilm.auditing.findings import Finding
from plainfilm.auditing.predicted import tested_of
from plainfilm.auditing.probing import ProbeOptions
from plainfilm.auditing.subject import Subject
from plainfilm.auditing.thumbnails import thumbnails, unit_vectors
from plainfilm.metrics import Bools, Floats, Ints, percentile_interval
from plainfilm.prediction import Predictions

THUMBNAIL = 32
TRAININGS = 3
TITLE = "Random labels given to whole patients"
SOURCE = "Yagis et al., Scientific Reports 2021;11:22544: random labels, 96 % by slice and 50 % by subject."
LIMITS = "Chance here shows that no patient is on both sides, not that the model is good."

# From a label for each row of the subject (None where it has none) and a seed to predictions for the tested images.
Retrain = Callable[[npt.NDArray[np.object_], int], Predictions]


@dataclass(frozen=True)
class Guessed:
    """Balanced accuracy of the nearest image under random labels: mean of the draws, and their middle 95 %."""

    value: float
    low: float
    high: float


def check_random_labels(
    subject: Subject,
    recipe: ProbeOptions,
    *,
    excess: float = 0.05,
    most_images: int = 10_000,
    retrain: Retrain | None = None,
) -> Finding:
    """Give random labels to whole patients, and ask the nearest image, and the recipe itself where it can be had.

    Args:
        subject: What is audited; its own split is used where it has train and test.
        recipe: Draws, folds, seed.
        excess: Balanced accuracy above chance that the lower end may reach.
        most_images: Compared with each other, at most; whole patients are drawn.
        retrain: A short training on given labels.
    """
    rule = f"FAIL where the lower end of the interval is more than {100 * excess:g} points* above chance."
    cases = cases_of(subject, min_patients=recipe.probe_patients)
    reason = ""
    if subject.pixels is None:
        reason = "there are no images"
    elif cases.patients == "unknown":
        reason = "patients are not known, so labels cannot be given to whole patients"
    elif len(cases.classes) < 2:
        reason = f"fewer than two classes have {recipe.probe_patients} patients or more"
    if reason or subject.pixels is None:
        return Finding(
            check="C1", title=TITLE, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {reason}.", rule=rule,
            source=SOURCE, limits=LIMITS,
        )  # fmt: skip
    cases = cases.sampled(most_images, seed=recipe.probe_seed)
    units = unit_vectors(thumbnails(subject.pixels, THUMBNAIL, cases.rows))
    labels = random_labels(cases, draws=recipe.probe_draws, seed=recipe.probe_seed)
    given = _given_part(subject, cases)
    if given is None:
        parts = _fold_parts(folds_of(cases.group, cases.y, folds=recipe.probe_folds, seed=recipe.probe_seed))
        divided = f"divided by patient into {recipe.probe_folds} parts"
    else:
        parts, divided = [given], "divided as they are"
    own = guess(nearest_images(units, parts), labels, cases)
    images = np.arange(len(cases))
    by_image = guess(
        nearest_images(units, _fold_parts(folds_of(images, cases.y, folds=recipe.probe_folds, seed=recipe.probe_seed))),
        labels,
        cases,
    )
    chance = 1 / len(cases.classes)
    trained = _trained(subject, cases, recipe.probe_seed, retrain) if retrain is not None else None
    leaks = own.low > chance + excess
    learns = trained is not None and trained.low > chance + excess
    said = (
        f"With random labels given to patients, the nearest image names them with balanced accuracy {own.value:.3f} "
        f"(95% of draws {own.low:.3f}-{own.high:.3f}, {cases.counted}), {divided}; chance is {chance:.3f}. Divided by "
        f"image it would be {by_image.value:.3f}."
    )
    if trained is not None:
        said += (
            f" The training itself reaches {trained.value:.3f} (95% CI {trained.low:.3f}-{trained.high:.3f}, "
            f"{TRAININGS} trainings)."
        )
    shown = trained if trained is not None and learns and not leaks else own
    return Finding(
        check="C1",
        title=TITLE,
        verdict="FAIL" if leaks or learns else "PASS",
        sentence=said + cases.remarks,
        rule=rule,
        source=SOURCE,
        limits=LIMITS,
        advice="Images of one patient are in training and in test: split by patient." if leaks or learns else "",
        value=shown.value,
        low=shown.low,
        high=shown.high,
        n_images=len(cases),
        n_patients=cases.known_patients,
        details={
            "chance": chance,
            "draws": recipe.probe_draws,
            "nearest_image": [own.value, own.low, own.high],
            "nearest_image_by_image": [by_image.value, by_image.low, by_image.high],
            "trained": None if trained is None else [trained.value, trained.low, trained.high],
        },
    )


def random_labels(cases: Cases, *, draws: int, seed: int) -> npt.NDArray[np.int16]:
    """`(draws, n_patients)` the patients' own labels in random order: each class keeps its number of patients."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(cases.class_of_group.astype(np.int16), (draws, 1)), axis=1)


def guess(nearest: Ints, labels: npt.NDArray[np.int16], cases: Cases) -> Guessed:
    """How well each image's label is that of its nearest image, when labels are random.

    Args:
        nearest: `(n,)` index of the nearest image; -1 where an image is not asked.
        labels: `(draws, n_patients)`.
        cases: Whose patients they are.
    """
    asked = np.flatnonzero(nearest >= 0)
    values: list[Floats] = []
    for some in np.array_split(labels, max(1, len(labels) * len(asked) // 2**22)):
        truth, named = some[:, cases.group[asked]], some[:, cases.group[nearest[asked]]]
        right = truth == named
        found = np.stack([((truth == c) & right).sum(axis=1) for c in range(len(cases.classes))])
        total = np.stack([(truth == c).sum(axis=1) for c in range(len(cases.classes))])
        share = np.divide(found, total, out=np.full(found.shape, np.nan), where=total > 0)
        values.append(np.nanmean(share, axis=0))
    every = np.concatenate(values)
    low, high = percentile_interval(every)
    return Guessed(float(np.nanmean(every)), float(low), float(high))


def _trained(subject: Subject, cases: Cases, seed: int, retrain: Retrain) -> Guessed:
    """The recipe itself on random labels: mean of a few trainings, with its interval over patients."""
    labels = random_labels(cases, draws=TRAININGS, seed=seed + 1)
    values, draws = [], []
    for number, of_patient in enumerate(labels):
        given = np.full(len(subject), None, dtype=object)
        given[cases.rows] = np.array(cases.classes, dtype=object)[of_patient[cases.group]]
        rows = subject.rows.assign(label=given)
        answered = retrain(given, seed + number)
        table = answered.table.assign(
            label=answered.table["path"].map(dict(zip(rows["path"].astype(str), given, strict=True)))
        )
        tested = tested_of(
            Subject(
                rows=rows, pixels=None, patients=subject.patients, group=subject.group, split=subject.split,
                predictions=Predictions(answered.classes, table, answered.scores),
            )
        )  # fmt: skip
        if tested is not None:
            values.append(float(tested.balanced_accuracy(tested.right)))
            draws.append(tested.balanced_accuracy(tested.right, tested.draws(seed=seed)))
    low, high = percentile_interval(np.mean(draws, axis=0))
    return Guessed(float(np.mean(values)), float(low), float(high))


def _given_part(subject: Subject, cases: Cases) -> Part | None:
    """The division as it was made; None where nothing is divided into training and test."""
    if subject.split is None:
        return None
    split = subject.split[cases.rows].astype(str)
    train: Bools = np.isin(split, ["train", "validation"])
    test: Bools = split == "test"
    return Part(np.flatnonzero(train), np.flatnonzero(test)) if train.any() and test.any() else None


def _fold_parts(fold: Ints) -> list[Part]:
    return [Part(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in np.unique(fold)]
