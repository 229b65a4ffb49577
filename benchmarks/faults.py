"""The faults that are planted to test the audit, each with the check that should find it.

To add one, write a function with `@kind(...)`: it gets a `Plan` and says whether the fault was found.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from PIL import Image as PillowImage

from benchmarks.phantom_sets import SETS, STACKS, Image, Plan, anonymous, edited, scored, with_copies
from plainfilm.auditing.cases import cases_of
from plainfilm.auditing.controls import check_controls
from plainfilm.auditing.copies import check_near_duplicates
from plainfilm.auditing.dependence import check_dependence
from plainfilm.auditing.duplicates import near_duplicates
from plainfilm.auditing.findings import Finding
from plainfilm.auditing.hidden import check_hidden_patients
from plainfilm.auditing.label_sanity import check_label_sanity
from plainfilm.auditing.labels import check_labels
from plainfilm.auditing.leakage import check_leakage, check_patients, check_same_pixels
from plainfilm.auditing.leakage_options import LeakageOptions
from plainfilm.auditing.patients import recover_patients
from plainfilm.auditing.probes import Setting, ShortcutOptions
from plainfilm.auditing.probing import ProbeOptions, make_design
from plainfilm.auditing.random_labels import check_random_labels
from plainfilm.auditing.reports import check_printed_report
from plainfilm.auditing.shortcuts import OF_FILES, OF_PIXELS, check_shortcuts
from plainfilm.auditing.subject import Subject
from plainfilm.data.phantoms import Faults, PhantomOptions

SEVERITIES = (0.01, 0.02, 0.05, 0.10, 0.20, 0.30)
SMALL, LARGE = 64, 128  # sides; an audit compares images at 128


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        name: What is wrong.
        check: Which check should find it.
        found: Plants it and looks: 1 where it was found, 0 where not, or a share between; nan where it cannot be
            planted.
        expected_from: Severity from which it should be found in 95 of 100 sets; None where no such claim is made.
        severities: Those that are planted.
        sets: The sets that it is planted in.
        size: Side of their images.
    """

    name: str
    check: str
    found: Callable[[Plan], float]
    expected_from: float | None
    severities: Sequence[float]
    sets: Mapping[str, PhantomOptions]
    size: int


KINDS: dict[str, Kind] = {}


def kind(
    name: str,
    check: str,
    *,
    expected_from: float | None,
    severities: Sequence[float] = SEVERITIES,
    sets: Mapping[str, PhantomOptions] = SETS,
    size: int = SMALL,
) -> Callable[[Callable[[Plan], float]], Callable[[Plan], float]]:
    """Register a fault; arguments as for `Kind`."""

    def register(found: Callable[[Plan], float]) -> Callable[[Plan], float]:
        KINDS[name] = Kind(name, check, found, expected_from, tuple(severities), sets, size)
        return found

    return register


def speaks(finding: Finding) -> bool:
    """Whether a finding warns or fails."""
    return finding.verdict in ("WARN", "FAIL")


# --- leakage: copies and patients on both sides ---


@kind("patients in two splits", "A1", expected_from=0.05)
def _divided(plan: Plan) -> float:
    subject, _ = plan.make(Faults(straddling_patients=plan.severity))
    if (np.bincount(subject.group) == 1).all():
        return np.nan  # no patient has two images
    return speaks(check_patients(subject))


@kind("patients in two splits, no ids", "A4", expected_from=0.05, sets=STACKS)
def _divided_unnamed(plan: Plan) -> float:
    subject = anonymous(plan.make(Faults(straddling_patients=plan.severity))[0])
    return speaks(hidden_patients(subject))


@kind("patients in two splits, random labels", "C1", expected_from=0.30, severities=(*SEVERITIES, 0.60, 0.90))
def _random_labels(plan: Plan) -> float:
    subject, _ = plan.make(Faults(straddling_patients=plan.severity))
    if (np.bincount(subject.group) == 1).all():
        return np.nan
    return check_random_labels(subject, ProbeOptions()).verdict == "FAIL"


@kind("stacks without ids", "A4", expected_from=0.90, severities=(0.60, 0.80, 0.90, 1.0), sets=STACKS)
def _stacks(plan: Plan) -> float:
    """Some patients have a stack and the others one image; the severity is the share of images in stacks."""
    subject, _ = plan.make()
    size = np.bincount(subject.group)
    order = plan.rng.permutation(len(size))
    shares = [size[order[:whole]].sum() / (size[order[:whole]].sum() + len(size) - whole) for whole in range(len(size))]
    whole = order[: int(np.abs(np.array([*shares, 1.0]) - plan.severity).argmin())]
    first = np.unique(subject.group, return_index=True)[1]
    kept = np.flatnonzero(np.isin(subject.group, whole) | np.isin(np.arange(len(subject)), first))
    assert subject.pixels is not None
    part = replace(
        subject,
        rows=subject.rows.iloc[kept].reset_index(drop=True),
        pixels=subject.pixels.take(kept),
        group=subject.group[kept],
    )
    return speaks(hidden_patients(anonymous(part, divided=False)))


@kind("the same pixels in two splits", "A2", expected_from=0.05)
def _same_pixels(plan: Plan) -> float:
    return speaks(check_same_pixels(copied(plan, lambda image, _: image)))


@kind("the same pixels under two labels", "A2", expected_from=0.05)
def _two_labels(plan: Plan) -> float:
    subject, _ = plan.make()
    rows = plan.chosen(np.arange(len(subject)))
    other = [subject.classes[1 - code] for code in subject.y[rows]]
    return speaks(check_same_pixels(with_copies(subject, rows, stored(subject, rows), label=other)))


@kind("copies in another split, flipped or turned", "A3", expected_from=0.05)
def _turned_copies(plan: Plan) -> float:
    return near_duplicates_found(plan.make(Faults(duplicates=plan.severity))[0])


@kind("copies in another split, saved again as JPEG", "A3", expected_from=0.05)
def _saved_again(plan: Plan) -> float:
    def saved(image: Image, quality: int) -> Image:
        buffer = io.BytesIO()
        PillowImage.fromarray(image).save(buffer, "JPEG", quality=quality)
        return np.asarray(PillowImage.open(buffer))

    return near_duplicates_found(copied(plan, saved))


@kind("copies in another split, smaller and back", "A3", expected_from=0.05, size=LARGE)
def _resized(plan: Plan) -> float:
    def resized(image: Image, _: int) -> Image:
        side = len(image)
        picture = PillowImage.fromarray(image).resize((3 * side // 4,) * 2, PillowImage.Resampling.LANCZOS)
        return np.asarray(picture.resize((side, side), PillowImage.Resampling.BICUBIC))

    return near_duplicates_found(copied(plan, resized))


@kind("one class made larger on disk", "A5", expected_from=0.30, severities=(*SEVERITIES, 0.60))
def _class_copies(plan: Plan) -> float:
    faults = Faults(duplicates_in_class=plan.options.classes[1], class_share=plan.severity)
    findings = check_leakage(plan.make(faults)[0]).findings
    return any(finding.verdict == "FAIL" for finding in findings if finding.check == "A5")


def copied(plan: Plan, change: Callable[[Image, int], Image]) -> Subject:
    """A share of the images once more, changed, under a new patient in another split."""
    subject, _ = plan.make()
    rows = plan.chosen(np.arange(len(subject)))
    assert subject.split is not None
    images = [change(image, 60 + 10 * (place % 4)) for place, image in enumerate(stored(subject, rows))]
    other = ["train" if split == "test" else "test" for split in subject.split[rows]]
    return with_copies(subject, rows, images, split=other, patient_id=[f"new {number}" for number in range(len(rows))])


def stored(subject: Subject, rows: np.ndarray) -> list[Image]:
    """Some of its images."""
    assert subject.pixels is not None
    return list(subject.pixels.stored(rows)[0])


def near_duplicates_found(subject: Subject) -> bool:
    """What A3 says."""
    assert subject.pixels is not None
    return speaks(check_near_duplicates(subject, near_duplicates(subject.pixels), LeakageOptions()))


def hidden_patients(subject: Subject) -> Finding:
    """What A4 says."""
    assert subject.pixels is not None
    recovered = recover_patients(subject.pixels, labels=subject.rows["label"].tolist())
    return check_hidden_patients(subject, recovered, LeakageOptions())


# --- shortcuts: files, marks, sites, borders, exposure ---


@kind("file size", "B1", expected_from=0.30)
def _size(plan: Plan) -> float:
    faults = Faults(size_fault_class=plan.options.classes[1], class_share=plan.severity)
    return probe_speaks(plan.saved(faults), "B1")


@kind("file quality", "B1", expected_from=0.30)
def _quality(plan: Plan) -> float:
    faults = Faults(quality_fault_class=plan.options.classes[1], class_share=plan.severity)
    return probe_speaks(plan.saved(faults), "B1")


@kind("burnt-in marks", "B7", expected_from=0.30, size=LARGE)
def _marks(plan: Plan) -> float:
    return probe_speaks(plan.make(Faults(markers=plan.severity))[0], "B7")


@kind("site follows class", "B8", expected_from=None, severities=(*SEVERITIES, 0.60, 0.90))
def _sites(plan: Plan) -> float:
    return probe_speaks(plan.make(Faults(sites_follow_class=plan.severity))[0], "B8")


@kind("bright borders", "B2", expected_from=0.30, severities=(*SEVERITIES, 0.60), size=LARGE)
def _borders(plan: Plan) -> float:
    def edit(image: np.ndarray) -> np.ndarray:
        image[[0, 1, 2, -1, -2, -3]] += 0.3
        return image

    return probe_speaks(second_class_edited(plan, edit), "B2")


@kind("other exposure", "B5", expected_from=0.30, severities=(*SEVERITIES, 0.60), size=LARGE)
def _exposure(plan: Plan) -> float:
    return probe_speaks(second_class_edited(plan, lambda image: 0.6 * image), "B5")


def second_class_edited(plan: Plan, edit: Callable[[np.ndarray], object]) -> Subject:
    """A set whose anatomy says nothing of the class, a share of the second class's patients edited."""
    subject, _ = plan.make(effect=0.0)
    hit = plan.chosen(np.unique(subject.group[subject.y == 1]))
    return edited(subject, np.isin(subject.group, hit), edit)


def probe_speaks(subject: Subject, check: str) -> bool:
    """What `check_shortcuts` says of one check, the other probes asked only where Holm's correction needs them."""
    options, recipe, makers = ShortcutOptions(), ProbeOptions(), OF_FILES | OF_PIXELS
    cases = cases_of(subject, min_patients=recipe.probe_patients)
    design = make_design(cases, recipe)
    setting = Setting(subject=subject, cases=cases, design=design, options=options, recipe=recipe)
    probe = makers[check][1](setting)
    probed = probe.probed
    if probed is None:
        assert probe.features is not None
        probed = setting.run(probe.features)
    if probed.p >= recipe.probe_alpha or probed.excess < options.shortcut_excess:
        return False
    if probed.p * len(makers) < recipe.probe_alpha:
        return True
    return any(speaks(finding) for finding in check_shortcuts(subject) if finding.check == check)


# --- labels, models and reports ---


@kind("wrong labels (share of the top of the list)", "G1", expected_from=None)
def _label_noise(plan: Plan) -> float:
    subject, phantoms = plan.make(Faults(label_noise=plan.severity), effect=2.0)
    planted = set(phantoms.paths("label_noise"))
    of_patient = pd.Series(subject.rows["path"].isin(planted)).groupby(subject.group).any()
    finding = check_labels(subject)
    listed = finding.tables["G-review"]["path"].head(int(of_patient.sum())) if "G-review" in finding.tables else []
    return float(np.mean([path in planted for path in listed])) if len(listed) else 0.0


@kind("mixed-up score columns", "C4", expected_from=0.0, severities=(1.0,))
def _columns(plan: Plan) -> float:
    subject = scored(plan.make()[0], 1.0, plan.options.seed)
    assert subject.predictions is not None
    turned = replace(subject.predictions, scores=subject.predictions.scores[:, ::-1])
    return check_label_sanity(replace(subject, predictions=turned)).verdict == "FAIL"


@kind("swapped report", "C4", expected_from=0.0, severities=(1.0,))
def _report(plan: Plan) -> float:
    rng = np.random.default_rng(plan.options.seed)
    true = rng.choice(4, 800, p=[0.15, 0.05, 0.5, 0.3])
    named = np.where(rng.random(800) < 0.7, true, rng.integers(0, 4, 800))
    report = printed_report(named, true)
    return check_printed_report(report, {str(c): int((true == c).sum()) for c in range(4)}).details["swapped"]


@kind("a model that guesses", "C2", expected_from=0.0, severities=(1.0,))
def _guess(plan: Plan) -> float:
    subject = scored(plan.make()[0], 0.0, plan.options.seed)
    return any(speaks(finding) for finding in check_controls(subject) if finding.check == "C2")


@kind("a model that reads the border", "B9", expected_from=0.0, severities=(1.0,), size=LARGE)
def _border_model(plan: Plan) -> float:
    def edit(image: np.ndarray) -> np.ndarray:
        return np.pad(image[3:-3], ((3, 3), (0, 0)), constant_values=1)

    def score(images: np.ndarray) -> np.ndarray:
        ill = (images[:, :2].mean(axis=(1, 2)) > 0.9).astype(float)
        return np.column_stack([1 - ill, ill])

    (finding,) = check_dependence(second_class_edited(plan, edit), score)
    return speaks(finding)


@kind("a model that reads marks", "B9", expected_from=0.0, severities=(1.0,), size=LARGE)
def _mark_model(plan: Plan) -> float:
    def score(images: np.ndarray) -> np.ndarray:
        side = images.shape[-1]
        corners = np.concatenate([images[:, : side // 6, : side // 6], images[:, : side // 6, -side // 6 :]], axis=2)
        ill = ((corners > 0.95).mean(axis=(1, 2)) > 0.01).astype(float)
        return np.column_stack([ill, 1 - ill])  # of abnormal and normal, in alphabetical order

    (finding,) = check_dependence(plan.make(Faults(markers=1.0), effect=0.0)[0], score)
    return speaks(finding)


def printed_report(y_true: np.ndarray, y_pred: np.ndarray) -> pd.DataFrame:
    """A report as scikit-learn prints it."""
    from sklearn.metrics import precision_recall_fscore_support

    figures = precision_recall_fscore_support(y_true, y_pred, labels=range(4), zero_division=0)
    names = dict(zip(("precision", "recall", "f1", "support"), figures, strict=True))
    return pd.DataFrame({"class": [str(c) for c in range(4)], **names}).round(2)
