"""Which labels a person should look at again (G): a ranked list, and how much wrong labels would matter.

Confident learning on patients that the rule did not see. Nothing is edited, and nothing is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.auditing.appearance import grey_histograms, pooled
from plainfilm.auditing.baselines import linear_scores, parts_of
from plainfilm.auditing.cases import Cases
from plainfilm.auditing.findings import Finding, Picture, Verdict
from plainfilm.auditing.predicted import tested_of
from plainfilm.auditing.probing import Probed, ProbeOptions, make_design, probed_cases, run_probe
from plainfilm.auditing.subject import Subject
from plainfilm.auditing.thumbnails import thumbnails
from plainfilm.measures import plural
from plainfilm.metrics import Floats, Ints, percentile_interval, wilson_interval
from plainfilm.plots import contact_sheet

THUMBNAIL = 32
SIDE = 16
NOISE = (0.02, 0.05, 0.10)
FLIPS = 500  # draws of wrong labels
SHOWN = 12

TITLE = "Labels to look at again"
SOURCE = (
    "Confident learning: Northcutt, Jiang and Chuang, Journal of Artificial Intelligence Research 2021;70:1373-1411."
)
LIMITS = (
    "A label on the list is unusual for its images, not wrong: rare forms of a class and hard cases are on it too, and "
    "a rule on small thumbnails overlooks fine findings. Only a reader with the images can tell."
)


class LabelOptions(BaseModel):
    """When labels are called doubtful."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    doubt_p: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="p, that more labels are contradicted than a normal spread foresees, that warns.*",
    )
    most_listed: int = Field(500, ge=1, description="Rows of the list to review, the most doubtful first.")


@dataclass(frozen=True, kw_only=True)
class _Units:
    """One row for each patient and label, with class probabilities from a rule that did not see the patient."""

    y: Ints
    group: Ints
    of_image: Ints
    score: Floats
    probability: Floats


def check_labels(
    subject: Subject, options: LabelOptions | None = None, *, probing: ProbeOptions | None = None
) -> Finding:
    """Rank the labels that images of other patients contradict, and count those that duplicates contradict.

    Args:
        subject: What is audited.
        options: When labels are called doubtful.
        probing: Folds, draws and seed of the rule.
    """
    options, recipe = options or LabelOptions(), probing or ProbeOptions()
    rule = (
        "WARN where the same pixels stand under two labels; or where more patients than a normal spread of the scores "
        "foresees are as far on the wrong side as their class usually is on the right one (Poisson, "
        f"p < {options.doubt_p:g}*). Never FAIL."
    )
    cases = probed_cases(subject, recipe)
    conflicts = conflicting_duplicates(subject)
    n_conflicts = int(conflicts["images_against_the_majority"].sum()) if len(conflicts) else 0
    probed = _asked(subject, cases, recipe)
    if probed is None or probed[1].p >= recipe.probe_alpha:
        why = (
            "without images, or two classes with enough patients, no rule can be learnt"
            if probed is None
            else f"a rule on thumbnails does not tell the classes apart (balanced accuracy {probed[1].value:.3f}, "
            f"95% CI {probed[1].low:.3f}-{probed[1].high:.3f}, p = {probed[1].p:.3g}, {cases.counted})"
        )
        said = f" {_conflict_sentence(n_conflicts)}" if n_conflicts else ""
        return Finding(
            check="G1",
            title=TITLE,
            verdict="WARN" if n_conflicts else "NOT ASSESSABLE",
            sentence=f"No list of doubtful labels: {why}.{said}{cases.remarks}",
            rule=rule,
            source=SOURCE,
            limits=LIMITS,
            advice="Look at 'G-conflicts.csv'." if n_conflicts else "",
            value=float(n_conflicts) if n_conflicts else None,
            n_images=len(cases),
            n_patients=cases.known_patients,
            tables={"G-conflicts": conflicts} if len(conflicts) else {},
        )
    scores, probe = probed
    units = _units(scores, cases)
    review = _review(subject, cases, units)
    strong, foreseen = _contradicted(units)
    p = _poisson_p(strong, foreseen)
    low, high = wilson_interval(len(review) / len(units.y), len(units.y))
    verdict: Verdict = "WARN" if n_conflicts or p < options.doubt_p else "PASS"
    noise = _noise_table(subject, units, recipe.probe_seed)
    whose = "images" if cases.patients == "unknown" else "patients"
    sentence = (
        f"{len(review)} of {len(units.y)} {whose} ({len(review) / len(units.y):.1%}, 95% CI {float(low):.1%}-"
        f"{float(high):.1%}) look more like another class than like their label, and are listed for review. "
        f"{strong} are strongly contradicted, where a normal spread foresees {foreseen:.1f} (p = {p:.3g}); the rule "
        f"has balanced accuracy {probe.value:.3f} (95% CI {probe.low:.3f}-{probe.high:.3f}). "
        f"{_conflict_sentence(n_conflicts)} {_noise_sentence(noise)}{cases.remarks}"
    )
    return Finding(
        check="G1",
        title=TITLE,
        verdict=verdict,
        sentence=sentence,
        rule=rule,
        source=SOURCE,
        limits=LIMITS,
        advice="Have 'G-review.csv' read from the top, without showing the reader the present labels."
        if verdict != "PASS"
        else "",
        value=len(review) / len(units.y),
        low=float(low),
        high=float(high),
        p=p,
        n_images=len(cases),
        n_patients=cases.known_patients,
        details={
            "strongly_contradicted": strong,
            "foreseen": foreseen,
            "conflicting_duplicates": n_conflicts,
            "rule_balanced_accuracy": [probe.value, probe.low, probe.high],
        },
        tables={"G-review": review.head(options.most_listed), "G-noise": noise}
        | ({"G-conflicts": conflicts} if len(conflicts) else {}),
        pictures=_pictures(subject, review) if verdict != "PASS" else (),
    )


def conflicting_duplicates(subject: Subject) -> pd.DataFrame:
    """Images with the same decoded pixels and several labels: `pixel_sha256`, how often each label, and the minority.

    The images against the majority of their copies are a lower bound of the wrong labels.
    """
    columns = ["pixel_sha256", "labels", "images", "images_against_the_majority"]
    if "pixel_sha256" not in subject.rows.columns:
        return pd.DataFrame(columns=columns)
    labelled = subject.rows[subject.rows["label"].notna()]
    rows = []
    for digest, labels in labelled.groupby("pixel_sha256")["label"]:
        counts = labels.value_counts()
        if len(counts) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
            rows.append((digest, listed, int(counts.sum()), int(counts.sum() - counts.max())))
    return pd.DataFrame(rows, columns=columns)


def _asked(subject: Subject, cases: Cases, recipe: ProbeOptions) -> tuple[Floats, Probed] | None:
    """Class scores `(n, K)` of each image from the folds that did not see its patient, and how good they are."""
    if subject.pixels is None or len(cases.classes) < 2:
        return None
    thumbs = thumbnails(subject.pixels, THUMBNAIL, cases.rows)
    small = pooled(thumbs, SIDE).reshape(len(thumbs), -1)
    features = np.column_stack([small, grey_histograms(subject.pixels, cases.rows, thumbs)])
    probed = run_probe(features, cases, make_design(cases, recipe), recipe)
    everything = np.ones(len(cases), dtype=bool)
    parts = parts_of(~everything, everything, cases.group, cases.y, folds=recipe.probe_folds, seed=recipe.probe_seed)
    return linear_scores(features, cases, parts, recipe), probed


def _units(scores: Floats, cases: Cases) -> _Units:
    """Mean scores of each patient and label as probabilities, by the one temperature that fits them best."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax, softmax

    n_classes = len(cases.classes)
    keys, of_image = np.unique(cases.group * n_classes + cases.y, return_inverse=True)
    counts = np.bincount(of_image)
    means = np.column_stack([np.bincount(of_image, weights=column) / counts for column in scores.T])
    y = keys % n_classes
    # Every class counts the same: the scores know nothing of how frequent a class is.
    weight = 1 / np.bincount(y, minlength=n_classes)[y]

    def loss(log_scale: float) -> float:
        fitted = log_softmax(means * np.exp(log_scale), axis=1)
        return float(-(weight * fitted[np.arange(len(y)), y]).sum())

    best = minimize_scalar(loss, bounds=(-8, 8), method="bounded")
    return _Units(
        y=y,
        group=keys // n_classes,
        of_image=of_image,
        score=means,
        probability=softmax(means * np.exp(best.x), axis=1),
    )


def _contradicted(units: _Units) -> tuple[int, float]:
    """How many units lie as far on the wrong side as their class usually lies on the right one, and how many should.

    Classes that overlap have such units too, as the tail of a normal spread foresees it; wrong labels have more. Median
    and median absolute deviation, since wrong labels must not hide themselves by widening the spread.
    """
    from scipy.stats import median_abs_deviation, norm

    others = units.score.copy()
    own = others[np.arange(len(units.y)), units.y]
    others[np.arange(len(units.y)), units.y] = -np.inf
    margin = own - others.max(axis=1)
    count, foreseen = 0, 0.0
    for c in np.unique(units.y):
        of_class = margin[units.y == c]
        middle, spread = float(np.median(of_class)), float(median_abs_deviation(of_class, scale="normal"))
        if middle > 0:
            count += int((of_class <= -middle).sum())
            foreseen += len(of_class) * float(norm.cdf(-2 * middle / max(spread, 1e-12)))
    return count, foreseen


def _review(subject: Subject, cases: Cases, units: _Units) -> pd.DataFrame:
    """Units that reach the usual probability of another class, but not of their own; the most contradicted first."""
    n_classes = len(cases.classes)
    own = units.probability[np.arange(len(units.y)), units.y]
    usual = np.array([own[units.y == c].mean() for c in range(n_classes)])
    reached = np.where(units.probability >= usual, units.probability, -1)
    suggested = reached.argmax(axis=1)
    doubtful = np.flatnonzero((reached.max(axis=1) > 0) & (suggested != units.y))
    margin = own[doubtful] - units.probability[doubtful, suggested[doubtful]]
    doubtful = doubtful[np.argsort(margin, kind="stable")]
    first = np.unique(units.of_image, return_index=True)[1]
    names = np.array(cases.classes, dtype=object)
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(doubtful) + 1),
            "path": subject.rows["path"].to_numpy(dtype=object)[cases.rows[first[doubtful]]],
            "images": np.bincount(units.of_image)[doubtful],
            "label": names[units.y[doubtful]],
            "suggested": names[suggested[doubtful]],
            "probability_of_label": own[doubtful],
            "probability_of_suggested": units.probability[doubtful, suggested[doubtful]],
        }
    )


def _noise_table(subject: Subject, units: _Units, seed: int) -> pd.DataFrame:
    """Balanced accuracy if a share of the patients had wrong labels, all answers staying as they are."""
    tested = tested_of(subject)
    if tested is None:
        y, named, n_classes, of = units.y, units.probability.argmax(axis=1), units.probability.shape[1], "the rule"
    else:
        y, named, n_classes, of = tested.y, tested.scores.argmax(axis=1), len(tested.classes), "the model"
    rng = np.random.default_rng(seed)
    rows = []
    for share in (0.0, *NOISE):
        wrong = rng.random((FLIPS, len(y))) < share
        labels = np.where(wrong, (y + rng.integers(1, n_classes, (FLIPS, len(y)))) % n_classes, y)
        right = labels == named
        with np.errstate(invalid="ignore"):
            each = [((labels == c) & right).sum(axis=1) / (labels == c).sum(axis=1) for c in range(n_classes)]
        values = np.nanmean(each, axis=0)
        low, high = percentile_interval(values)
        rows.append((of, share, float(values.mean()), float(low), float(high)))
    return pd.DataFrame(rows, columns=["of", "wrong_labels", "balanced_accuracy", "low", "high"])


def _noise_sentence(noise: pd.DataFrame) -> str:
    clean = noise["balanced_accuracy"].iloc[0]
    lost = [
        f"{row.wrong_labels:.0%} would move it by {100 * (row.balanced_accuracy - clean):+.1f}"
        for row in noise.iloc[1:].itertuples()
    ]
    return (
        f"Further wrong labels at random, by the balanced accuracy of {noise['of'].iloc[0]}: {', '.join(lost)} points."
    )


def _conflict_sentence(n_conflicts: int) -> str:
    if not n_conflicts:
        return "No two copies of the same pixels have different labels."
    return f"Copies of the same pixels have different labels: at least {plural(n_conflicts, 'label')} must be wrong."


def _poisson_p(count: int, foreseen: float) -> float:
    from scipy.stats import poisson

    return float(poisson.sf(count - 1, foreseen))


def _pictures(subject: Subject, review: pd.DataFrame) -> tuple[Picture, ...]:
    if subject.pixels is None or review.empty:
        return ()
    top = review.head(SHOWN)
    place = {path: row for row, path in enumerate(subject.rows["path"])}
    images = subject.pixels.values([place[path] for path in top["path"]])
    captions = [f"{row.label}? {row.suggested}?" for row in top.itertuples()]
    caption = "The most contradicted labels: the present one, then the one that the images suggest."
    return (Picture(name="G-review.png", caption=caption, png=contact_sheet(list(images), captions).png()),)
