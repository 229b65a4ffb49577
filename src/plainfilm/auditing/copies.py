"""Near-duplicates across splits, labels and patients (A3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm import metrics
from plainfilm.auditing.duplicates import Belief, Pairs, believe
from plainfilm.auditing.findings import Finding, Picture, Verdict
from plainfilm.auditing.leakage_options import LeakageOptions
from plainfilm.auditing.neighbours import turned
from plainfilm.auditing.subject import Ints, Subject
from plainfilm.measures import plural
from plainfilm.metrics import Bools, Floats
from plainfilm.plots import contact_sheet
from plainfilm.prediction import Predictions
from plainfilm.sampling import strata_of

SHOWN = 12  # pairs on the sheet
LISTED = 10_000  # pairs in the table
SMALLEST_STRATUM = 2
TURNS = (
    "as it is", "turned 90", "turned 180", "turned 270",
    "mirrored", "mirrored, turned 90", "mirrored, turned 180", "mirrored, turned 270",
)  # fmt: skip


def check_near_duplicates(subject: Subject, pairs: Pairs | None, options: LeakageOptions) -> Finding:
    """A3: pairs of near-duplicates that a split, a label or a patient id tells apart.

    Args:
        subject: What is audited.
        pairs: Its look-alikes; None where there are no images.
        options: The limits.
    """
    facts: dict[str, Any] = {
        "check": "A3",
        "title": "Near-duplicates across splits or labels",
        "rule": f"Pixels of 64x64 correlate at {options.near_correlation:g}* or more, in one of 8 flips and turns. "
        "WARN where such a pair is in two splits, two labels or (where nothing is divided) not of one patient; FAIL "
        f"where {options.near_fail:.0%}* of test images have one outside the test split, or the metric falls without "
        "them.",
        "source": "CleanPatrick, arXiv 2505.11034; the check of thresholds by labels: perceptual-hash audit of 370,000 "
        "clinical images, 2025.",
        "limits": "Crops, strong changes of contrast and other views of the same body are not found.",
    }
    if pairs is None or subject.pixels is None:
        return Finding(**facts, verdict="NOT ASSESSABLE", sentence="Not assessable: there are no images.")
    belief = believe(pairs, subject.y, subject.group if subject.knows_patients else None, options)
    pairs = pairs.near(options)
    crossing = _crossings(subject, pairs)
    affected, n_test = _affected(subject, pairs)
    difference = _without_them(subject, affected, options)
    hits = np.logical_or.reduce(list(crossing.values()))
    share = float(affected.sum() / n_test) if n_test else 0.0
    fails = share >= options.near_fail or (difference is not None and difference["low"] > 0)
    verdict: Verdict = "PASS" if not hits.any() else "FAIL" if fails else "WARN"
    if hits.any() and not belief.believed:
        verdict = "NOT ASSESSABLE"
    return Finding(
        **facts,
        verdict=verdict,
        sentence=_sentence(subject, pairs, crossing, belief, int(affected.sum()), n_test, difference),
        advice="" if verdict == "PASS" else "Look at the pairs; keep copies together, or keep one of each.",
        value=share if n_test else float(hits.sum()),
        low=None if difference is None else difference["low"],
        high=None if difference is None else difference["high"],
        p=belief.p,
        n_images=len(subject),
        n_patients=len(np.unique(subject.group)) if subject.knows_patients else None,
        details={
            "pairs": len(pairs),
            "groups": int((np.bincount(pairs.groups(len(subject))) > 1).sum()),
            "pairs_in_two": {name: int(hit.sum()) for name, hit in crossing.items()},
            "test_images": n_test,
            "test_images_affected": int(affected.sum()),
            "share_of_test_images": share if n_test else None,
            "difference": difference,
            "threshold_believed": belief.believed,
            "threshold": belief.sentence,
            "between_patients": belief.between,
            "pairs_twice_as_far": belief.n_twice_as_far,
            "same_label": belief.same_label,
            "same_label_by_chance": belief.by_chance,
            "every_pair_compared": pairs.complete,
        },
        pictures=_picture(subject, pairs.where(hits)) if verdict != "PASS" else (),
        tables={"A3-pairs": _table(subject, pairs.where(hits))} if hits.any() else {},
    )


def _crossings(subject: Subject, pairs: Pairs) -> dict[str, Bools]:
    """Which pairs are told apart, and by what."""
    crossing = {"labels": _apart(subject.y, pairs)}
    if subject.split is not None:
        crossing["splits"] = _apart(_codes(subject.split), pairs)
    elif subject.knows_patients:
        crossing["patients"] = _apart(subject.group, pairs)
    else:
        crossing["files that nothing keeps together"] = np.ones(len(pairs), dtype=bool)
    return crossing


def _apart(codes: npt.NDArray[np.intp], pairs: Pairs) -> Bools:
    one, other = codes[pairs.one], codes[pairs.other]
    return np.asarray((one >= 0) & (other >= 0) & (one != other))


def _codes(names: npt.NDArray[np.object_]) -> Ints:
    return np.asarray(pd.Categorical(names).codes, dtype=np.intp)


def _affected(subject: Subject, pairs: Pairs) -> tuple[Bools, int]:
    """Test images with a near-duplicate that was trained or chosen on, and how many test images there are."""
    affected = np.zeros(len(subject), dtype=bool)
    if subject.split is None:
        return affected, 0
    is_test = np.isin(subject.split.astype(str), ["test", "external"])
    is_seen = np.isin(subject.split.astype(str), ["train", "validation"])
    for one, other in ((pairs.one, pairs.other), (pairs.other, pairs.one)):
        affected[one[is_test[one] & is_seen[other]]] = True
    return affected, int(is_test.sum())


def _without_them(subject: Subject, affected: Bools, options: LeakageOptions) -> dict[str, Any] | None:
    """Balanced accuracy on all test images less that on clean ones, with its interval; None without a model."""
    if subject.predictions is None or not affected.any():
        return None
    scored, rows = _scored(subject, subject.predictions)
    y_true, y_pred = scored
    clean = ~affected[rows]
    if not clean.any() or clean.all():
        return None
    group = subject.group[rows] if subject.knows_patients else np.arange(len(rows))
    group = np.unique(group, return_inverse=True)[1].astype(np.intp)
    n_classes = len(subject.classes)
    present = np.unique(y_true[clean])

    def mean_recall(weights: Floats | None, kept: Bools) -> Floats:
        given = np.ones(len(rows)) if weights is None else weights
        recall = metrics.recall(metrics.confusion_matrix(y_true, y_pred, n_classes, given * kept))
        return np.asarray(recall[..., present].mean(axis=-1))

    everything = np.ones(len(rows), dtype=bool)
    strata = strata_of(group, y_true, smallest=SMALLEST_STRATUM)
    draws = np.concatenate(
        [
            mean_recall(weights, everything) - mean_recall(weights, clean)
            for weights in metrics.bootstrap_weights(group, strata, draws=options.leak_draws, seed=options.leak_seed)
        ]
    )
    if np.isnan(draws).all():
        return None
    low, high = metrics.percentile_interval(draws)
    on_all, on_clean = float(mean_recall(None, everything)), float(mean_recall(None, clean))
    return {
        "metric": "balanced_accuracy",
        "on_all": on_all,
        "on_clean": on_clean,
        "value": on_all - on_clean,
        "low": float(low),
        "high": float(high),
        "n_clean": int(clean.sum()),
    }


def _scored(subject: Subject, predictions: Predictions) -> tuple[tuple[Ints, Ints], Ints]:
    """Truth and prediction of the scored test images, and their rows in the subject."""
    row_of = {path: row for row, path in enumerate(subject.rows["path"])}
    place = np.array([row_of.get(path, -1) for path in predictions.table["path"]], dtype=np.intp)
    code_of = {name: code for code, name in enumerate(subject.classes)}
    named = np.array([code_of.get(name, -1) for name in predictions.classes], dtype=np.intp)[predictions.y_pred]
    assert subject.split is not None
    is_test = np.isin(subject.split[place].astype(str), ["test", "external"])
    usable = (place >= 0) & (subject.y[place] >= 0) & (named >= 0) & is_test
    rows = place[usable]
    return (subject.y[rows], named[usable]), rows


def _sentence(
    subject: Subject,
    pairs: Pairs,
    crossing: dict[str, Bools],
    belief: Belief,
    n_affected: int,
    n_test: int,
    difference: dict[str, Any] | None,
) -> str:
    told = ", ".join(f"{int(hit.sum())} in two {name}" for name, hit in crossing.items())
    parts = [f"{plural(len(pairs), 'pair')} of near-duplicates among {plural(len(subject), 'image')}: {told}."]
    if n_test:
        parts.append(f"{n_affected} of {plural(n_test, 'test image')} have one outside the test split.")
    if difference is not None:
        parts.append(
            f"Balanced accuracy is {difference['on_all']:.3f} on all test images and {difference['on_clean']:.3f} on "
            f"the {difference['n_clean']} clean ones: {100 * difference['value']:+.1f} points (95% CI "
            f"{100 * difference['low']:+.1f} to {100 * difference['high']:+.1f})."
        )
    if len(pairs):
        doubt = "" if belief.believed else "The threshold is not to be believed here: "
        parts.append(doubt + belief.sentence)
    return " ".join(parts)


def _picture(subject: Subject, pairs: Pairs) -> Sequence[Picture]:
    """The pairs side by side, the first turned so that it lies as the second."""
    if subject.pixels is None or not len(pairs):
        return ()
    chosen = np.linspace(0, len(pairs) - 1, min(SHOWN, len(pairs))).astype(int)
    images: list[npt.NDArray[Any]] = []
    captions = []
    for index in chosen.tolist():
        one, other = subject.pixels.values([int(pairs.one[index]), int(pairs.other[index])])
        images += [turned(one[None], int(pairs.turn[index]))[0], other]
        names = [_whereabouts(subject, int(row)) for row in (pairs.one[index], pairs.other[index])]
        captions += [f"{index + 1}a {names[0]}", f"{index + 1}b {names[1]}"]
    caption = (
        f"{len(chosen)} of {plural(len(pairs), 'pair')} of near-duplicates, a beside b, turned to lie alike: is it the "
        "same picture?"
    )
    return (Picture(name="A3-pairs.png", caption=caption, png=contact_sheet(images, captions, columns=6).png()),)


def _whereabouts(subject: Subject, row: int) -> str:
    """Split and label of an image: what tells a pair apart."""
    split = None if subject.split is None else subject.split[row]
    label = subject.classes[subject.y[row]] if subject.y[row] >= 0 else "no label"
    return f"{split}, {label}" if split else str(label)


def _table(subject: Subject, pairs: Pairs) -> pd.DataFrame:
    pairs = pairs.where(np.arange(len(pairs)) < LISTED)
    columns: dict[str, Any] = {"correlation": pairs.correlation, "turn": [TURNS[turn] for turn in pairs.turn]}
    for name, rows in (("one", pairs.one), ("other", pairs.other)):
        columns[f"path_{name}"] = subject.rows["path"].to_numpy()[rows]
        columns[f"label_{name}"] = subject.rows["label"].to_numpy()[rows]
        columns[f"split_{name}"] = None if subject.split is None else subject.split[rows]
    return pd.DataFrame(columns)
