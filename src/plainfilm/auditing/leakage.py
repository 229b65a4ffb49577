"""Leakage (A1 to A7): does anything of the test images lie among the training images?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from plainfilm.auditing.class_copies import check_class_copies
from plainfilm.auditing.copies import check_near_duplicates
from plainfilm.auditing.duplicates import Pairs, near_duplicates
from plainfilm.auditing.findings import Finding, Verdict
from plainfilm.auditing.hidden import check_hidden_patients
from plainfilm.auditing.leakage_options import LeakageOptions
from plainfilm.auditing.patients import RecoveredPatients, RecoveryOptions, recover_patients
from plainfilm.auditing.subject import Ints, Subject
from plainfilm.measures import plural
from plainfilm.progress import Progress

KAPOOR = "Kapoor and Narayanan, Patterns 2023;4:100804 (arXiv 2207.07048)."


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """All findings of section A, and the patients recovered on the way.

    Attributes:
        findings: A1 to A7.
        recovered: What recovery found; None where there are no images.
        pairs: Look-alikes, to be judged again when there is a score; None where there are no images.
    """

    findings: tuple[Finding, ...]
    recovered: RecoveredPatients | None
    pairs: Pairs | None


def check_leakage(
    subject: Subject,
    options: LeakageOptions | None = None,
    *,
    recovery: RecoveryOptions | None = None,
    recovered: RecoveredPatients | None = None,
    openings: int | None = None,
    own_run: bool = False,
    progress: Progress | None = None,
) -> Leakage:
    """Look for patients, copies and stacks on both sides of a split, or that a split by image would divide.

    Args:
        subject: What is audited.
        options: When a check warns and fails.
        recovery: When images are taken for one patient's.
        recovered: What came of that, if these images were asked already.
        openings: How often the test set was scored so far; None where nobody counted.
        own_run: Whether plainfilm itself trained the model, from training rows alone.
        progress: Told of the long steps.

    Raises:
        UsageError: `MISSING_EXTRA` if there are so many images that an index is needed, and no library for it.
    """
    options, recovery = options or LeakageOptions(), recovery or RecoveryOptions()
    pairs = None
    if subject.pixels is not None:
        classes = subject.classes
        labels = [None if code < 0 else classes[code] for code in subject.y.tolist()]
        recovered = recovered or recover_patients(subject.pixels, labels=labels, options=recovery, progress=progress)
        pairs = near_duplicates(
            subject.pixels, options, most_exact=recovery.most_exact, seed=recovery.seed, progress=progress
        )
    units = units_of(subject, recovered)
    return Leakage(
        findings=(
            check_patients(subject),
            check_same_pixels(subject),
            check_near_duplicates(subject, pairs, options),
            check_hidden_patients(subject, recovered, options),
            check_class_copies(
                subject, pairs, units, options, in_chains=recovered is not None and recovered.outcome == "unclear"
            ),
            _check_fitting(subject, own_run),
            check_openings(openings, options),
        ),
        recovered=recovered,
        pairs=pairs,
    )


def units_of(subject: Subject, recovered: RecoveredPatients | None) -> Ints | None:
    """Patients as they are documented, or else recovered; None where neither is."""
    if subject.knows_patients and subject.patients != "declared":
        return subject.group
    return recovered.group if recovered is not None and recovered.found else None


# --- A1, A2: patients and pixels on both sides ---------------------------------------------------------------


def check_patients(subject: Subject) -> Finding:
    """A1: whether a patient is in two splits."""
    title = "Patients in two splits"
    rule, source = "FAIL where any patient is in two splits.", KAPOOR
    limits = "Ids are taken at their word: one patient under two ids is not seen here (see A3 and A4)."
    facts: dict[str, Any] = {"check": "A1", "title": title, "rule": rule, "source": source, "limits": limits}
    if not (subject.group >= 0).any() or subject.patients == "declared":
        what = "it was declared that every image is of another patient" if subject.patients == "declared" else ""
        return _not_assessable(facts, what or "patients are not known")
    if subject.split is None:
        return _not_assessable(facts, "nothing is divided yet")
    frame = pd.DataFrame({"patient": subject.group, "split": subject.split})
    frame = frame[(frame["patient"] >= 0) & frame["split"].notna()]
    n_splits = frame.groupby("patient")["split"].nunique()
    n_divided, n_patients = int((n_splits > 1).sum()), len(n_splits)
    hit = frame["patient"].isin(n_splits.index[n_splits > 1])
    return Finding(
        **facts,
        verdict="FAIL" if n_divided else "PASS",
        sentence=f"{n_divided} of {plural(n_patients, 'patient')} are in more than one split, with "
        f"{int(hit.sum())} of {plural(len(frame), 'image')}.",
        advice="Divide anew by patient: --split patient." if n_divided else "",
        value=float(n_divided),
        n_images=len(frame),
        n_patients=n_patients,
        details={"patients_divided": n_divided, "images_of_them": int(hit.sum()), "patients": subject.patients},
    )


def check_same_pixels(subject: Subject) -> Finding:
    """A2: whether the same pixels are in two splits, under two labels or under two patients."""
    facts: dict[str, Any] = {
        "check": "A2",
        "title": "The same pixels in two splits or under two labels",
        "rule": "FAIL where any decoded image is in two splits or has two labels; WARN where it has two patients.",
        "source": KAPOOR,
        "limits": "Only pixels that are the same bit for bit after decoding; A3 looks for near-duplicates.",
    }
    if "pixel_sha256" not in subject.rows.columns or subject.rows["pixel_sha256"].isna().all():
        return _not_assessable(facts, "there are no decoded pixels to compare")
    frame = pd.DataFrame(
        {
            "digest": subject.rows["pixel_sha256"].to_numpy(),
            "path": subject.rows["path"].to_numpy(),
            "label": subject.rows["label"].to_numpy(),
            "split": subject.split if subject.split is not None else None,
            "patient": pd.Series(subject.group).where(subject.group >= 0),
        }
    )
    frame = frame[frame["digest"].notna()]
    several = frame[frame.duplicated("digest", keep=False)]
    kinds = several.groupby("digest")[["label", "split", "patient"]].nunique() > 1
    in_splits, in_labels, in_patients = (int(kinds[name].sum()) for name in ("split", "label", "patient"))
    verdict: Verdict = "FAIL" if in_splits or in_labels else "WARN" if in_patients else "PASS"
    shown = several[several["digest"].isin(kinds.index[kinds.any(axis=1)])].sort_values(["digest", "path"])
    return Finding(
        **facts,
        verdict=verdict,
        sentence=f"{plural(len(several), 'image')} of {len(frame)} have an identical copy; {in_splits} such pictures "
        f"are in two splits, {in_labels} have two labels, {in_patients} are under two patients.",
        advice="" if verdict == "PASS" else "Keep one copy of each picture, and correct labels that contradict.",
        value=float(in_splits + in_labels),
        n_images=len(frame),
        n_patients=_n_patients(subject),
        details={
            "copies": len(several),
            "in_two_splits": in_splits,
            "under_two_labels": in_labels,
            "under_two_patients": in_patients,
        },
        tables={"A2-copies": shown[["digest", "path", "label", "split"]]} if len(shown) else {},
    )


# --- A6, A7: what was fitted, and how often the test was opened ----------------------------------------------


def _check_fitting(subject: Subject, own_run: bool) -> Finding:
    facts: dict[str, Any] = {
        "check": "A6",
        "title": "Anything fitted sees training images only",
        "rule": "PASS for plainfilm's own runs, whose every fitted step is given the training rows alone.",
        "source": f"Rosenblatt et al., Nature Communications 2024;15:1829; {KAPOOR}",
        "limits": "It does not cover what was done to the images before plainfilm read them.",
    }
    if not own_run:
        what = "nothing was fitted" if subject.predictions is None else "the model is not plainfilm's"
        return _not_assessable(facts, f"{what}, so that it cannot be seen what scaling, selection or components saw")
    sentence = (
        "Weights, normalisation, augmentation and the choice of epoch saw no test image: plainfilm trained it so."
    )
    return Finding(**facts, verdict="PASS", sentence=sentence, n_images=len(subject), n_patients=_n_patients(subject))


def check_openings(openings: int | None, options: LeakageOptions) -> Finding:
    """A7: how often the test set was scored; None where nobody counted."""
    facts: dict[str, Any] = {
        "check": "A7",
        "title": "How often the test set was scored",
        "rule": f"WARN where it was scored more than {plural(options.most_openings, 'time')}*.",
        "source": "Dwork et al., Science 2015;349:636-638 (a holdout that is looked at again stops being one).",
        "limits": "Looks outside this run, and at other runs on the same images, are not counted.",
    }
    if openings is None:
        return _not_assessable(facts, "nobody counted")
    often = openings > options.most_openings
    return Finding(
        **facts,
        verdict="WARN" if often else "PASS",
        sentence=f"The test set was scored {plural(openings, 'time')}.",
        advice="Report every look, or seal a new test set." if often else "",
        value=float(openings),
        details={"openings": openings},
    )


def _not_assessable(facts: dict[str, Any], reason: str) -> Finding:
    return Finding(**facts, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {reason}.")


def _n_patients(subject: Subject) -> int | None:
    return len(np.unique(subject.group)) if subject.knows_patients else None
