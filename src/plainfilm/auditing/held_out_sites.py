"""Leave one site out (K1): does what is learnt at some sites hold at one that was not seen?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from plainfilm import metrics
from plainfilm.auditing.appearance import blurred_features, grey_histograms
from plainfilm.auditing.cases import Cases
from plainfilm.auditing.findings import Finding
from plainfilm.auditing.probing import (
    Design,
    ProbeOptions,
    class_scores,
    interval_of,
    make_design,
    patient_confusions,
    probed_cases,
    resampled,
    run_probe,
)
from plainfilm.auditing.sites import MISSING, site_columns
from plainfilm.auditing.subject import Subject
from plainfilm.auditing.thumbnails import thumbnails
from plainfilm.measures import plural
from plainfilm.metrics import Bools, Floats, Ints, percentile_interval

LOSS = 0.05
SIDE = 64


@dataclass(frozen=True, kw_only=True)
class SiteScore:
    """What a rule learnt at the other sites comes to at one."""

    site: str
    n_images: int
    n_patients: int
    value: float
    low: float
    high: float


def check_held_out_sites(subject: Subject, probing: ProbeOptions | None = None) -> Finding:
    """K1: a ridge discriminant on blurred pixels and grey values, tested at each site after learning at all others.

    Args:
        subject: What is audited; a column of its table names the site.
        probing: How the rule is made, and how many patients of each class a site needs.
    """
    recipe = probing or ProbeOptions()
    facts: dict[str, Any] = {
        "check": "K1",
        "title": "Leave one site out",
        "rule": f"WARN where balanced accuracy at sites that were not learnt from is lower than inside by "
        f"{100 * LOSS:g} points* or more, by the lower end of the paired interval.",
        "source": "Zech et al., PLoS Medicine 2018;15:e1002683; DeGrave et al., Nat. Mach. Intell. 2021;3:610-619.",
        "limits": "The rule is a linear one on blurred pixels; a network may hold better or worse. Sites of one table "
        "can share a shortcut that the next hospital does not have.",
    }
    columns = site_columns(subject.rows)
    cases = probed_cases(subject, recipe)
    why = ""
    if subject.pixels is None or not subject.knows_patients:
        why = "images of known patients are needed"
    elif not columns:
        why = "no column of the table looks like a site, scanner or source"
    elif len(cases.classes) < 2:
        why = "there are no two classes with enough patients"
    if why or subject.pixels is None:
        return Finding(**facts, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {why}.")
    column = columns[0]
    site = subject.rows[column].astype(object).fillna(MISSING).astype(str).to_numpy()[cases.rows]
    whole = _testable(site, cases, recipe.probe_patients)
    if len(whole) < 2:
        return Finding(
            **facts,
            verdict="NOT ASSESSABLE",
            sentence=f"Not assessable: fewer than two sites of column '{column}' have {recipe.probe_patients} patients "
            "of each class.",
        )
    thumbs = thumbnails(subject.pixels, SIDE, cases.rows)
    features = np.column_stack([blurred_features(thumbs), grey_histograms(subject.pixels, cases.rows, thumbs)])
    design = make_design(cases, recipe)
    inside = run_probe(features, cases, replace(design, labels=design.labels[:1]), recipe)
    outside = np.full(len(cases), -1, dtype=np.intp)
    found = []
    for name in whole:
        here: Bools = np.asarray(site == name)
        # A patient of this site who was imaged at another is learnt from nowhere.
        learnt = np.flatnonzero(~np.isin(cases.group, cases.group[here]))
        if len(np.unique(cases.y[learnt])) < len(cases.classes):
            continue
        outside[here] = _named(features, cases, design, learnt, np.flatnonzero(here), recipe)
        found.append(_site_score(name, outside[here], cases.where(here), recipe))
    asked = outside >= 0
    if len(found) < 2:
        why = "what is left without a site lacks a class"
        return Finding(**facts, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {why}.")
    some = cases.where(asked)
    both = np.stack([patient_confusions(part[asked], some) for part in (inside.predicted, outside)], axis=1)

    def loss(matrices: Floats) -> Floats:
        own, other = (metrics.balanced_accuracy(matrices[..., part, :, :]) for part in (0, 1))
        return np.asarray(own - other)

    low, high = (float(end) for end in percentile_interval(resampled(loss, both, some, seed=recipe.probe_seed)))
    value = float(loss(both.sum(axis=0)))
    own, away = (float(metrics.balanced_accuracy(both.sum(axis=0)[part])) for part in (0, 1))
    warns = low >= LOSS
    listed = ", ".join(f"{each.site} {each.value:.3f} ({each.low:.3f}-{each.high:.3f})" for each in found)
    return Finding(
        **facts,
        verdict="WARN" if warns else "PASS",
        sentence=f"A linear rule has balanced accuracy {own:.3f} with every site in sight and {away:.3f} at sites that "
        f"it did not learn from: a loss of {100 * value:.1f} points (95% CI {100 * low:.1f} to {100 * high:.1f}, "
        f"{some.counted}, {plural(len(found), 'site')} of column '{column}'). By site: {listed}.",
        advice="Test on a site that was not trained on: plainfilm evaluate RUN DATA." if warns else "",
        value=value,
        low=low,
        high=high,
        n_images=len(some),
        n_patients=some.known_patients,
        details={
            "column": column,
            "inside": own,
            "outside": away,
            "by_site": [vars(each) for each in found],
            "sites_left_out": sorted(set(site.tolist()) - {each.site for each in found}),
        },
    )


def _testable(site: npt.NDArray[np.object_], cases: Cases, least: int) -> list[str]:
    """Sites with enough patients of every class."""
    return [
        name
        for name in sorted(set(site.tolist()))
        if all(
            len(np.unique(cases.group[(site == name) & (cases.y == code)])) >= least
            for code in range(len(cases.classes))
        )
    ]


def _named(
    features: npt.NDArray[np.floating], cases: Cases, design: Design, learnt: Ints, asked: Ints, recipe: ProbeOptions
) -> Ints:
    """The class of some images by a rule learnt from others."""
    true = replace(design, labels=design.labels[:1])
    _, scores = next(class_scores(features, cases, true, learnt, asked, ridge=recipe.probe_ridge))
    return np.asarray(scores[:, 0].argmax(axis=1), dtype=np.intp)


def _site_score(name: str, predicted: Ints, cases: Cases, recipe: ProbeOptions) -> SiteScore:
    low, high = interval_of(predicted, cases, seed=recipe.probe_seed)
    return SiteScore(
        site=name,
        n_images=len(cases),
        n_patients=cases.n_patients,
        value=float(metrics.balanced_accuracy(patient_confusions(predicted, cases).sum(axis=0))),
        low=low,
        high=high,
    )
