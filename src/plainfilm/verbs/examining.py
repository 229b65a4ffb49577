"""The checks in their order: what needs no model first, since it says whether to train at all; then the score's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.auditing.attention import check_attention
from plainfilm.auditing.controls import check_controls
from plainfilm.auditing.copies import check_near_duplicates
from plainfilm.auditing.dependence import Score, check_dependence
from plainfilm.auditing.findings import Finding
from plainfilm.auditing.held_out_sites import check_held_out_sites
from plainfilm.auditing.labels import check_labels
from plainfilm.auditing.leakage import Leakage, check_leakage, check_openings
from plainfilm.auditing.limits import AuditLimits
from plainfilm.auditing.own_gap import check_own_gap
from plainfilm.auditing.patches import check_shuffled_patches
from plainfilm.auditing.patients import RecoveredPatients
from plainfilm.auditing.potential import check_learning_curve, check_novelty
from plainfilm.auditing.precision import check_precision
from plainfilm.auditing.results import Audit
from plainfilm.auditing.seeds import Training
from plainfilm.auditing.shortcuts import Shortcuts, ask_shortcuts
from plainfilm.auditing.subject import Subject
from plainfilm.bundle import Bundle
from plainfilm.data.pixels import PixelStore
from plainfilm.data.splits import SplitPlan
from plainfilm.data.table import Table
from plainfilm.errors import LeakageError
from plainfilm.measures import Evaluation, plural
from plainfilm.prediction import Predictions, predict_scores
from plainfilm.progress import Progress
from plainfilm.verbs.frozen import Frozen
from plainfilm.verbs.gallery import attention_of

FOLD = "fold {}"  # the split of the images that a fold is tested on
FIRST_FOLD = FOLD.format(1)


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """What can be said of images and labels before there is a model.

    Attributes:
        subject: What was looked at; patients are the recovered ones where nothing else names any.
        limits: When a check warns and fails.
        leakage: Section A.
        shortcuts: What each probe answered.
        labels: Section G.
        sites: Section K.
        seconds: It took.
    """

    subject: Subject
    limits: AuditLimits
    leakage: Leakage
    shortcuts: Shortcuts
    labels: Finding
    sites: Finding
    seconds: float


def take_first_look(
    subject: Subject,
    limits: AuditLimits,
    *,
    recovered: RecoveredPatients | None = None,
    own_run: bool = False,
    progress: Progress,
) -> FirstLook:
    """Leakage, recovered patients, shortcuts, labels.

    Args:
        subject: What is audited.
        limits: When a check warns and fails.
        recovered: What recovery found on these images, if it was asked already.
        own_run: Whether plainfilm itself trains, or trained, the model.
        progress: Told of every check.
    """
    began = time.monotonic()
    leakage = check_leakage(
        subject,
        limits.leakage,
        recovery=limits.recovery,
        recovered=recovered,
        own_run=own_run,
        progress=progress,
    )
    known = _with_recovered(subject, leakage)
    return FirstLook(
        subject=known,
        limits=limits,
        leakage=leakage,
        shortcuts=ask_shortcuts(known, limits.shortcuts, probing=limits.probing, progress=progress),
        labels=check_labels(known, limits.labels, probing=limits.probing),
        sites=check_held_out_sites(known, limits.probing),
        seconds=time.monotonic() - began,
    )


def _with_recovered(subject: Subject, leakage: Leakage) -> Subject:
    """The subject with recovered patients, where it had none."""
    recovered = leakage.recovered
    if subject.patients != "unknown" or recovered is None or not recovered.found:
        return subject
    return replace(subject, patients="recovered", group=recovered.group)


def check_declaration(look: FirstLook) -> None:
    """Refuse to take every image for another patient where the pixels say otherwise.

    Raises:
        LeakageError: `SPL_PATIENTS_FOUND`.
    """
    recovered = look.leakage.recovered
    if look.subject.patients != "declared" or recovered is None or not recovered.found:
        return
    raise LeakageError(
        f"It was declared that every image is of another patient, but the pixels show "
        f"{plural(recovered.n_groups, 'group')} of look-alikes ({recovered.reason}) Use --patients recovered to keep "
        "them together; or --split image to split by image all the same, every score then struck through.",
        code="SPL_PATIENTS_FOUND",
    )


def take_second_look(
    look: FirstLook,
    *,
    source: str,
    evaluation: Evaluation | None = None,
    level: int | None = None,
    predictions: Predictions | None = None,
    bundle: Bundle | None = None,
    openings: int | None = None,
    by_patient: Predictions | None = None,
    trainings: Sequence[Training] = (),
    frozen: Frozen | None = None,
    heat_maps: bool = True,
    device: str = "auto",
    progress: Progress,
) -> Audit:
    """All findings: those of the first look, judged again by the model's score, and those of the score itself.

    Args:
        look: The first look.
        source: What the user calls what is audited.
        evaluation: Of the model's score; None where there is no model.
        level: What split and patients alone give the score; None where that is not known.
        predictions: On which the score stands.
        bundle: The model; of several folds the first. `look.subject.pixels` must be as it takes them.
        openings: How often the test set was scored so far; None where nobody counted.
        by_patient: Of the same recipe, trained a second time with whole patients held out.
        trainings: This training and others under other seeds; empty where there is but one.
        frozen: The backbone that is asked of shuffled patches.
        heat_maps: Whether those of the model are looked at, which takes some seconds.
        device: Where the model computes.
        progress: Told of every check.
    """
    began = time.monotonic()
    subject = replace(look.subject, predictions=predictions)
    model_score = None
    if evaluation is not None and evaluation.struck is None:
        model_score = _balanced_accuracy(evaluation)
    limits, config = look.limits, None if bundle is None else bundle.config
    frozen = frozen or Frozen()
    findings = [
        *_leakage_again(look, subject, openings),
        *([] if predictions is None else [check_own_gap(subject, by_patient, limits.leakage)]),
        *look.shortcuts.findings(model_balanced_accuracy=model_score),
        *check_dependence(
            _tested_once(subject),
            score=None if bundle is None else score_with(bundle, device=device),
            classes=() if config is None else config.classes,
            options=limits.dependence,
            probing=limits.probing,
            progress=progress,
        ),
        check_shuffled_patches(
            subject,
            frozen.extract,
            of=frozen.name,
            reason=frozen.reason,
            most_images=limits.dependence.dependence_images,
            probing=limits.probing,
            progress=progress,
        ),
        *check_controls(
            subject,
            limits.controls,
            probing=limits.probing,
            bundle_classes=None if config is None else config.classes,
            trainings=trainings,
            progress=progress,
        ),
        look.labels,
        look.sites,
        check_learning_curve(subject, limits.potential, progress=progress),
    ]
    if evaluation is not None:
        abstention = None if config is None else config.abstention
        findings += check_precision(evaluation, limits.precision, abstention=abstention, predictions=predictions)
    if config is not None:
        findings.append(check_novelty(config.novelty, limits.potential))
    findings += _attention(bundle, _tested_once(subject), limits, heat_maps)
    audit = Audit(
        source=source,
        n_images=len(subject),
        n_patients=subject.n_patients,
        patients=subject.patients,
        findings=tuple(sorted(findings, key=lambda finding: (finding.section, int(finding.check[1:])))),
        seconds=look.seconds + time.monotonic() - began,
    )
    return audit if level is None else audit.graded(level)


def _attention(bundle: Bundle | None, subject: Subject, limits: AuditLimits, heat_maps: bool) -> list[Finding]:
    """Section J: heat maps of the model, where it is to be asked for any."""
    if bundle is None:
        return []
    if not heat_maps:
        reason = "heat maps were left out (--no-gallery); 'plainfilm audit --run RUN' looks at them"
        return check_attention(None, reason=reason)
    attention, reason = attention_of(bundle, subject, limits.attention)
    return check_attention(attention, limits.attention, reason=reason)


def _leakage_again(look: FirstLook, subject: Subject, openings: int | None) -> list[Finding]:
    """Section A once there is a score: what near-duplicates are worth, and how often the test set was looked at."""
    again = {"A7": check_openings(openings, look.limits.leakage)}
    if subject.predictions is not None:
        again["A3"] = check_near_duplicates(subject, look.leakage.pairs, look.limits.leakage)
    return [again.get(finding.check, finding) for finding in look.leakage.findings]


def _tested_once(subject: Subject) -> Subject:
    """The subject with the images that the first of several folds was tested on as its test split."""
    if subject.split is None or not (subject.split == FIRST_FOLD).any():
        return subject
    return replace(subject, split=np.where(subject.split == FIRST_FOLD, "test", "train").astype(object))


def score_with(bundle: Bundle, *, device: str = "auto") -> Score:
    """What a model says of images, as `PixelStore.values` gives them; of several folds the first's."""

    def score(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        store = PixelStore(*images.shape)
        for index, image in enumerate(images):
            store.put(index, image)
        return predict_scores(bundle, store, device=device)

    return score


def _balanced_accuracy(evaluation: Evaluation) -> float | None:
    unit = evaluation.units[-1]
    return evaluation.measure("balanced_accuracy", unit=unit).value


# --- what is audited ----------------------------------------------------------------------------------------


def subject_of_plan(table: Table, pixels: PixelStore, plan: SplitPlan) -> Subject:
    """The images of a training, divided as it divides them; with folds, each row's split is its fold."""
    split = np.full(len(table), None, dtype=object)
    if len(plan.folds) > 1:
        for number, fold in enumerate(plan.folds, start=1):
            split[fold.test] = FOLD.format(number)
    else:
        fold = plan.folds[0]
        split[fold.train], split[fold.validation], split[fold.calibration] = "train", "validation", "validation"
        if plan.tested_on == "test":
            split[fold.test] = "test"
    return Subject(
        rows=table.rows,
        pixels=pixels,
        patients=plan.patients,
        group=patient_codes(plan.groups, known=plan.patients != "unknown"),
        split=split,
        split_unit=plan.unit,
    )


def patient_codes(ids: Sequence[object] | np.ndarray, *, known: bool) -> np.ndarray:
    """`(n,)` a number for each patient, -1 for None; all -1 where patients are not known."""
    if not known:
        return np.full(len(ids), -1, dtype=np.intp)
    return np.asarray(pd.factorize(np.asarray(ids, dtype=object))[0], dtype=np.intp)
