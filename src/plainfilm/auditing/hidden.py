"""Hidden patients (A4): are there groups of images that a split would divide, and what is that worth?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.auditing.file_order import LagPeak, lag_peaks
from plainfilm.auditing.findings import Finding, Verdict, p_in_words
from plainfilm.auditing.leak_gap import LeakGap, leak_gap
from plainfilm.auditing.leakage_options import LeakageOptions
from plainfilm.auditing.patients import LIMITS, RecoveredPatients
from plainfilm.auditing.subject import Ints, Subject
from plainfilm.auditing.thumbnails import thumbnails
from plainfilm.data.pixels import PixelStore
from plainfilm.measures import plural

SIDE = 32  # of the thumbnails the rules look at
MOST_IMAGES = 20_000  # predicted by the rules; whole patients are left out beyond
SOURCE = (
    "Yagis et al., Scientific Reports 2021;11:22544 (slices split by image inflate accuracy by 29 to 55 points); "
    "Wen et al., Medical Image Analysis 2020 (arXiv 1904.07773)."
)


def check_hidden_patients(subject: Subject, recovered: RecoveredPatients | None, options: LeakageOptions) -> Finding:
    """A4: groups of look-alike images, whether the split in use divides them, and the leak gap.

    Args:
        subject: What is audited.
        recovered: What recovery found; None where there are no images.
        options: The limits.
    """
    facts: dict[str, Any] = {
        "check": "A4",
        "title": "Hidden patients and what they are worth",
        "rule": "Leak gap: accuracy of one nearest neighbour, and of ridge regression, on thumbnails, with a "
        "patient's other images in sight less without. FAIL where its lower bound is above "
        f"{100 * options.leak_points:g} points* and the split in use, or the lack of one, divides patients. WARN where "
        f"patients are divided, or files are {options.lag_deviations:g}* median deviations too regularly alike.",
        "source": SOURCE,
        "limits": LIMITS,
    }
    if recovered is None or subject.pixels is None:
        return Finding(**facts, verdict="NOT ASSESSABLE", sentence="Not assessable: there are no images.")
    documented = subject.knows_patients and subject.patients == "documented"
    group = subject.group if documented else recovered.group
    peaks = lag_peaks(subject.pixels, subject.rows["path"].to_numpy(), subject.rows["label"].to_numpy())
    regular = [peak for peak in peaks if peak.height > options.lag_deviations]
    details = _recovery_details(recovered) | {"file_order": [asdict(peak) for peak in peaks]}
    if not documented and not recovered.found:
        verdict: Verdict = "NOT ASSESSABLE" if recovered.outcome == "unclear" else "WARN" if regular else "PASS"
        return Finding(
            **facts,
            verdict=verdict,
            sentence=" ".join([recovered.reason, *_on_order(regular)]),
            advice="" if verdict == "PASS" else "Ask whoever made the set which images belong to one patient.",
            n_images=len(subject),
            details=details,
        )
    told = [] if documented else _on_order(regular)
    gap = _gap(subject, subject.pixels, group, options)
    divides = _divides(subject, group)
    worst = None if gap is None else max(gap.nn.gap.low, gap.ridge.gap.low)
    verdict = _verdict(divides, worst, options)
    return Finding(
        **facts,
        verdict=verdict,
        sentence=" ".join([_on_patients(documented, recovered), _on_split(subject, divides), _on_gap(gap), *told]),
        advice=_advice(verdict, documented),
        value=None if gap is None else gap.nn.gap.value,
        low=None if gap is None else gap.nn.gap.low,
        high=None if gap is None else gap.nn.gap.high,
        p=None if recovered.labels is None else recovered.labels.p,
        n_images=len(subject) if gap is None else gap.n_images,
        n_patients=len(np.unique(group[group >= 0])) if gap is None else gap.n_patients,
        details=details | {"divides_patients": divides} | _gap_details(gap),
    )


def _divides(subject: Subject, group: Ints) -> bool:
    """Whether images of one group are in two splits, or nothing keeps them together."""
    if subject.split is None:
        # Without a split, documented patients will be kept together; others would be divided by image.
        return not (subject.knows_patients and subject.patients == "documented")
    has_split = np.asarray(pd.notna(subject.split)) & (group >= 0)
    pairs = np.unique(np.column_stack([group[has_split], _codes(subject, has_split)]), axis=0)
    return len(np.unique(pairs[:, 0])) < len(pairs)


def _codes(subject: Subject, mask: npt.NDArray[np.bool_]) -> Ints:
    assert subject.split is not None
    return np.unique(subject.split[mask].astype(str), return_inverse=True)[1].astype(np.intp)


def _gap(subject: Subject, pixels: PixelStore, group: Ints, options: LeakageOptions) -> LeakGap | None:
    """The rules on the test images of a split that divides patients; else on all images."""
    usable = (subject.y >= 0) & (group >= 0)
    if usable.sum() > MOST_IMAGES:
        patients = np.random.default_rng(options.leak_seed).permutation(np.unique(group[usable]))
        size = np.bincount(group[usable])[patients]
        usable &= np.isin(group, patients[np.cumsum(size) <= MOST_IMAGES])
    asked = pool = None
    if subject.split is not None and _divides(subject, group):
        split = subject.split[usable].astype(str)
        asked, pool = np.isin(split, ["test", "external"]), np.isin(split, ["train", "validation"])
        if not asked.any() or not pool.any():
            asked = pool = None
    return leak_gap(
        thumbnails(pixels, SIDE, np.flatnonzero(usable)),
        subject.y[usable],
        group[usable],
        asked=asked,
        pool=pool,
        draws=options.leak_draws,
        seed=options.leak_seed,
    )


def _verdict(divides: bool, worst: float | None, options: LeakageOptions) -> Verdict:
    if not divides:
        return "PASS"
    return "FAIL" if worst is not None and worst > options.leak_points else "WARN"


# --- words --------------------------------------------------------------------------------------------------


def _on_patients(documented: bool, recovered: RecoveredPatients) -> str:
    if documented:
        said = f"{recovered.n_groups} groups" if recovered.found else "none"
        return f"Patients are documented (recovered from pixels: {said})."
    check = recovered.labels
    sure = (
        "; there are no labels of several classes to check that by."
        if check is None
        else f"; linked images share their label in {check.same:.1%} of {check.n_links} links, where chance gives "
        f"{check.by_chance:.1%} ({p_in_words(check.p)})."
    )
    return f"Patients recovered from pixels, not documented: {recovered.reason.rstrip('.')}{sure}"


def _on_split(subject: Subject, divides: bool) -> str:
    if subject.split is None:
        return "A split by image would divide them." if divides else "Nothing is divided yet."
    return "The split in use divides them." if divides else "The split in use keeps each together."


def _on_gap(gap: LeakGap | None) -> str:
    if gap is None:
        return "There are too few patients or classes to say what that is worth."
    return (
        f"One nearest neighbour is right for {gap.nn.by_image.value:.1%} of images with their patient in sight and "
        f"{gap.nn.by_patient.value:.1%} without (most frequent label: {gap.majority:.1%}): a gap of "
        f"{100 * gap.nn.gap.value:.1f} points (95% CI {100 * gap.nn.gap.low:.1f} to {100 * gap.nn.gap.high:.1f}, "
        f"{plural(gap.n_images, 'image')} of {plural(gap.n_patients, 'patient')}); ridge regression "
        f"{100 * gap.ridge.gap.value:.1f} points ({100 * gap.ridge.gap.low:.1f} to {100 * gap.ridge.gap.high:.1f})."
    )


def _on_order(regular: list[LagPeak]) -> list[str]:
    if not regular:
        return []
    lags = ", ".join(f"{peak.lag} in '{peak.label}'" for peak in regular)
    return [f"The order of files tells a story of its own: images are most alike at a distance of {lags}."]


def _advice(verdict: Verdict, documented: bool) -> str:
    if verdict == "PASS":
        return ""
    return "Divide by patient: --split patient" + ("." if documented else " --patients recovered.")


def _recovery_details(recovered: RecoveredPatients) -> dict[str, Any]:
    return {
        "recovery": recovered.outcome,
        "recovery_reason": recovered.reason,
        "groups": recovered.n_groups,
        "share_in_groups": recovered.share,
        "median_size": recovered.median_size,
        "floor": recovered.floor,
        "floor_range": [recovered.stable_from, recovered.stable_to],
        "turned": recovered.turned,
        "every_pair_compared": recovered.exact,
        "labels": None if recovered.labels is None else asdict(recovered.labels),
    }


def _gap_details(gap: LeakGap | None) -> dict[str, Any]:
    if gap is None:
        return {}
    counts = {"n_images": gap.n_images, "n_patients": gap.n_patients}
    details: dict[str, Any] = {"majority_rate": gap.majority}
    for name, rule in (("nn", gap.nn), ("ridge", gap.ridge)):
        details[f"{name}_by_image"] = asdict(rule.by_image) | counts
        details[f"{name}_by_patient"] = asdict(rule.by_patient) | counts
        details[f"{name}_gap"] = asdict(rule.gap) | counts
    return details
