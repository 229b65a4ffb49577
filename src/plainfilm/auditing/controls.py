"""Negative controls (C1 to C5): what a sound score must do better than, and what must not be possible at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.auditing.appearance import container_facts, fact_features, pooled
from plainfilm.auditing.baselines import linear_labels, nearest_images, parts_of
from plainfilm.auditing.cases import Cases
from plainfilm.auditing.findings import Finding, Verdict
from plainfilm.auditing.label_sanity import check_label_sanity
from plainfilm.auditing.predicted import Tested, tested_of
from plainfilm.auditing.probing import ProbeOptions, exchanged, permutation_p
from plainfilm.auditing.random_labels import Retrain, check_random_labels
from plainfilm.auditing.seeds import Training, check_seeds
from plainfilm.auditing.subject import Subject
from plainfilm.auditing.thumbnails import thumbnails, unit_vectors
from plainfilm.metrics import Floats, Ints, percentile_interval
from plainfilm.progress import Progress, Silent

THUMBNAIL = 32
LINEAR_SIDE = 16
TOO_FEW = "there are no predictions of two classes with two patients each"


class ControlOptions(BaseModel):
    """What the controls allow."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    control_excess: float = Field(
        0.05, gt=0, lt=1, description="Balanced accuracy above chance that random labels may reach, lower end.*"
    )
    control_p: float = Field(0.01, gt=0, lt=0.5, description="p that a score needs, from exchanged labels.*")
    control_images: int = Field(
        10_000, ge=100, description="Images compared with each other; whole patients are drawn where there are more."
    )
    naming_gain: float = Field(
        0.05, gt=0, lt=1, description="Balanced accuracy that another naming of the predicted classes may gain.*"
    )
    seed_spread: float = Field(
        0.05, gt=0, lt=1, description="Standard deviation of the score over seeds from which C5 warns.*"
    )


def check_controls(
    subject: Subject,
    options: ControlOptions | None = None,
    *,
    probing: ProbeOptions | None = None,
    retrain: Retrain | None = None,
    bundle_classes: Sequence[str] | None = None,
    trainings: Sequence[Training] = (),
    progress: Progress | None = None,
) -> list[Finding]:
    """C1 random labels, C2 permutation, C3 simple rivals, C4 label sanity, C5 seeds.

    Args:
        subject: What is audited.
        options: What the controls allow.
        probing: How cheap probes and exchanges are made.
        retrain: Trains for a short while on labels it is given; without it C1 asks the nearest image only.
        bundle_classes: Class names in the model's own order, where there is a model.
        trainings: The same training under several seeds, or under one seed again.
        progress: Told after every control.
    """
    options, recipe = options or ControlOptions(), probing or ProbeOptions()
    controls: list[Callable[[], Finding]] = [
        lambda: check_random_labels(
            subject, recipe, excess=options.control_excess, most_images=options.control_images, retrain=retrain
        ),
        lambda: check_permutation(subject, recipe, alpha=options.control_p),
        lambda: check_rivals(subject, recipe),
        lambda: check_label_sanity(
            subject, bundle_classes=bundle_classes, gain=options.naming_gain, seed=recipe.probe_seed
        ),
        lambda: check_seeds(trainings, spread=options.seed_spread),
    ]
    findings = []
    with (progress or Silent()).task("controls", len(controls)) as advance:
        for control in controls:
            findings.append(control())
            advance(1)
    return findings


def check_permutation(subject: Subject, recipe: ProbeOptions, *, alpha: float = 0.01) -> Finding:
    """C2: how often labels exchanged between whole patients give the model as high a score as the true ones."""
    title, rule = "The score against exchanged labels", f"PASS where p < {alpha:g}*, else WARN."
    source = "Ojala and Garriga, Journal of Machine Learning Research 2010;11:1833-1863; blocks after Winkler 2014."
    limits = "Above chance is not yet useful, and a leak or a shortcut is above chance too."
    tested = tested_of(subject)
    if tested is None:
        return _not_assessable("C2", title, TOO_FEW, rule, source, limits)
    labels = _exchanged_units(tested, recipe)
    named = np.where(tested.scores.max(axis=1) >= tested.elsewhere, tested.scores.argmax(axis=1), -1)
    scores = _balanced(named, labels, len(tested.classes))
    value, p = float(scores[0]), permutation_p(float(scores[0]), scores[1:])
    low, high = tested.interval(seed=recipe.probe_seed)
    verdict: Verdict = "PASS" if p < alpha else "WARN"
    return Finding(
        check="C2",
        title=title,
        verdict=verdict,
        sentence=f"Balanced accuracy {value:.3f} (95% CI {low:.3f}-{high:.3f}, {tested.counted}); with "
        f"labels exchanged between patients {scores[1:].mean():.3f} on average, p = {p:.3g}"
        f"{'' if verdict == 'PASS' else ': the model was not shown to beat chance'}.",
        rule=rule,
        source=source,
        limits=limits,
        advice="" if verdict == "PASS" else "Test on more patients, or take the model as unproven.",
        value=value,
        low=low,
        high=high,
        p=p,
        n_images=len(tested.rows),
        n_patients=tested.known_patients,
        details={"null": float(scores[1:].mean()), "draws": len(scores) - 1},
    )


def check_rivals(subject: Subject, recipe: ProbeOptions) -> Finding:
    """C3: whether the model beats the majority, the nearest image, a linear rule on thumbnails, and the file alone."""
    title = "The model against rules that need none"
    rule = "WARN where the paired 95% interval of the difference from any of them reaches 0 or less."
    source = "Paired bootstrap of patients. Simple baselines: Wen et al., Medical Image Analysis 2020;63:101694."
    limits = "The rules see small copies of the images; a better simple rule may exist."
    tested = tested_of(subject)
    if tested is None:
        return _not_assessable("C3", title, TOO_FEW, rule, source, limits)
    draws = tested.draws(seed=recipe.probe_seed)
    own = tested.right.astype(np.float64)
    value = float(tested.balanced_accuracy(own))
    rivals = _rivals(subject, tested, recipe)
    beaten, table = [], {}
    for name, scores in rivals.items():
        rival = _share_right(tested, scores)
        difference = float(tested.balanced_accuracy(own - rival))
        low, high = (float(end) for end in percentile_interval(tested.balanced_accuracy(own - rival, draws)))
        table[name] = {
            "balanced_accuracy": float(tested.balanced_accuracy(rival)),
            "difference": difference,
            "low": low,
            "high": high,
        }
        beaten.append(low > 0)
    worst = min(table, key=lambda name: table[name]["low"])
    end = table[worst]
    passed = all(beaten)
    listed = ", ".join(f"{name} {figures['balanced_accuracy']:.3f}" for name, figures in table.items())
    said = "beats every rule that needs no model" if passed else f"was not shown to beat {worst}"
    return Finding(
        check="C3",
        title=title,
        verdict="PASS" if passed else "WARN",
        sentence=f"The model (balanced accuracy {value:.3f}, {tested.counted}) {said}: {listed}. Difference from "
        f"{worst} {100 * end['difference']:+.1f} points (95% CI {100 * end['low']:+.1f} to {100 * end['high']:+.1f}).",
        rule=rule,
        source=source,
        limits=limits,
        advice=""
        if passed
        else f"Report {worst} beside the model; it does as well, as far as these patients can tell.",
        value=end["difference"],
        low=end["low"],
        high=end["high"],
        n_images=len(tested.rows),
        n_patients=tested.known_patients,
        details={"balanced_accuracy": value, "rivals": table},
    )


def _rivals(subject: Subject, tested: Tested, recipe: ProbeOptions) -> dict[str, Floats]:
    """Class scores `(n_images, K)` of the tested images from each rule, learnt from the rows that the model had."""
    cases = _all_cases(subject, tested)
    train = np.zeros(len(cases), dtype=bool)
    if subject.split is not None:
        train = np.isin(subject.split[cases.rows].astype(str), ["train", "validation"])
    test = np.isin(cases.rows, tested.rows)
    parts = parts_of(train & ~test, test, cases.group, cases.y, folds=recipe.probe_folds, seed=recipe.probe_seed)
    named: dict[str, Ints] = {}
    if subject.pixels is not None:
        thumbs = thumbnails(subject.pixels, THUMBNAIL, cases.rows)
        nearest = nearest_images(unit_vectors(thumbs), parts)
        named["the nearest image"] = np.where(nearest >= 0, cases.y[nearest], -1)
        small = pooled(thumbs, LINEAR_SIDE).reshape(len(thumbs), -1)
        named["a linear rule on thumbnails"] = linear_labels(small, cases, parts, recipe)
    facts = container_facts(subject.rows.iloc[cases.rows])
    if facts:
        named["file properties"] = linear_labels(fact_features(facts), cases, parts, recipe)
    of_tested = np.searchsorted(cases.rows, tested.rows)
    identity = np.eye(len(tested.classes))
    majority = np.zeros((len(tested.rows), len(tested.classes)))
    learnt = np.bincount(cases.y[train & ~test] if (train & ~test).any() else cases.y, minlength=len(tested.classes))
    majority[:, learnt.argmax()] = 1
    return {"the majority": majority} | {name: identity[labels[of_tested]] for name, labels in named.items()}


def _all_cases(subject: Subject, tested: Tested) -> Cases:
    """Every image with a label of the tested classes."""
    index = {name: number for number, name in enumerate(tested.classes)}
    y = np.array([index.get(label, -1) for label in subject.rows["label"]], dtype=np.intp)
    rows = np.flatnonzero(y >= 0)
    known = tested.patients != "unknown" and bool((subject.group[rows] >= 0).all())
    group = subject.group[rows] if known else np.arange(len(rows))
    return Cases(
        rows=rows,
        y=y[rows],
        group=np.unique(group, return_inverse=True)[1].astype(np.intp),
        classes=tested.classes,
        left_out=(),
        patients=tested.patients if known else "unknown",
    )


def _share_right(tested: Tested, scores: Floats) -> Floats:
    """`(n_units,)` 1 where the mean of a unit's scores names its class; ties are shared."""
    means = tested.gathered(scores)
    highest = means >= means.max(axis=1, keepdims=True) - 1e-12
    right: Floats = highest[np.arange(len(means)), tested.y] / highest.sum(axis=1)
    return right


def _exchanged_units(tested: Tested, recipe: ProbeOptions) -> npt.NDArray[np.int16]:
    """`(1 + draws, n_units)` labels: true ones, then exchanged between patients with one label each."""
    rng = np.random.default_rng(recipe.probe_seed)
    mixed = np.bincount(tested.group)[tested.group] > 1
    pool = np.where(mixed, 1 + tested.group, 0)
    rows = [exchanged(tested.y, pool, rng) for _ in range(recipe.probe_draws)]
    return np.vstack([tested.y, *rows]).astype(np.int16)


def _balanced(named: Ints, labels: npt.NDArray[np.int16], n_classes: int) -> Floats:
    """Balanced accuracy of the same answers under each row of labels."""
    right = labels == named
    shares = [((labels == c) & right).sum(axis=1) / (labels == c).sum(axis=1) for c in range(n_classes)]
    return np.asarray(np.mean(shares, axis=0))


def _not_assessable(check: str, title: str, reason: str, rule: str, source: str, limits: str) -> Finding:
    return Finding(
        check=check, title=title, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {reason}.", rule=rule,
        source=source, limits=limits,
    )  # fmt: skip
