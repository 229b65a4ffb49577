"""Printed classification reports: do their supports count the images of each class, or its predictions?

Swapping truth and prediction in a call leaves accuracy and F1 as they are, and exchanges precision with recall. The
printed supports then count how often each class was predicted. The true counts of the test images tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from plainfilm.auditing.findings import Finding, Verdict
from plainfilm.data.manifests import read_text_table
from plainfilm.data.table import clean_text
from plainfilm.errors import TableError
from plainfilm.measures import plural

COLUMNS = ("class", "precision", "recall", "f1", "support")
# scikit-learn prints no name above the classes; a column without one is then called after its place.
SPELLINGS = {"column_1": "class", "label": "class", "f1-score": "f1", "f1_score": "f1"}
AVERAGES = ("accuracy", "macro avg", "weighted avg", "micro avg", "samples avg")
MOST_DECIMALS = 6


@dataclass(frozen=True)
class _Line:
    """One class of a report as some reading has it: whole numbers of right images that give the printed figures."""

    name: str
    true: int
    predicted: int
    low: int
    high: int

    @property
    def fits(self) -> bool:
        return self.low <= self.high


def read_printed_report(path: Path) -> pd.DataFrame:
    """A report typed in as CSV: `class, precision, recall, f1, support`, one line for each class.

    The header of scikit-learn's print (an empty first cell, `f1-score`) is understood; lines of averages are skipped.

    Raises:
        TableError: `AUD_REPORT`, saying which column is missing or which line is wrong; `TAB_...` if it is no table.
    """
    if not path.is_file():
        raise _refusal(f"'{path.name}' is not a file")
    frame = read_text_table(path)
    spelt = {name: SPELLINGS.get(str(name).strip().casefold(), str(name).strip().casefold()) for name in frame.columns}
    frame = frame.rename(columns=spelt)
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise _refusal(f"'{path.name}' lacks the columns {', '.join(missing)}; they are {', '.join(COLUMNS)}")
    rows = []
    for number, cells in zip(frame.index, frame[list(COLUMNS)].to_dict("records"), strict=True):
        name = clean_text(cells["class"]) or ""
        if name.casefold() in AVERAGES:
            continue
        try:
            rows.append({"class": name} | {column: float(cells[column]) for column in COLUMNS[1:]})
        except (TypeError, ValueError):
            raise _refusal(f"line {number} of '{path.name}' has a cell that is no number") from None
    report = pd.DataFrame(rows, columns=list(COLUMNS))
    _check_report(report)
    return report


def check_printed_report(report: pd.DataFrame, true_counts: Mapping[str, int]) -> Finding:
    """Whether a printed report is about the images it says it is about, and which way round.

    Args:
        report: `class`, `precision`, `recall`, `f1`, `support`; one row for each class, figures as they were printed.
        true_counts: Images of each class among those that were scored.

    Raises:
        TableError: `AUD_REPORT` if the report is none, or its classes are not those of `true_counts`.
    """
    _check_report(report)
    names = [str(name) for name in report["class"]]
    if sorted(names) != sorted(true_counts):
        raise _refusal(f"its classes are {', '.join(names)}, but counts are given for {', '.join(sorted(true_counts))}")
    true = np.array([int(true_counts[name]) for name in names])
    support = report["support"].to_numpy(dtype=np.float64).astype(int)
    half = 0.5 * 10.0 ** -_decimals(report) + 1e-9
    precision, recall, f1 = (report[name].to_numpy(dtype=np.float64) for name in ("precision", "recall", "f1"))
    swapped = [
        _Line(name, t, s, *_whole_numbers([(p, t), (r, s), (f, (s + t) / 2)], half))
        for name, t, s, p, r, f in zip(names, true, support, precision, recall, f1, strict=True)
    ]
    verdict: Verdict = "PASS"
    if (support == true).all():
        contradictions = _contradictions(names, support, precision, recall, f1, half)
        sentence = f"The supports are the true counts of all {len(names)} classes"
        advice = ""
        if contradictions:
            verdict = "FAIL"
            advice = "Look for a typing error, or print the report again."
        sentence += f", but {contradictions}." if contradictions else ", and the figures agree with each other."
        table = report
    else:
        verdict = "FAIL"
        sentence, advice = _explained(names, true, support, swapped)
        table = _corrected(swapped) if all(line.fits for line in swapped) else report.assign(true=true)
    moved = int(np.abs(support - true).sum()) / 2
    return Finding(
        check="C4",
        title="Labels the right way round in a printed report",
        verdict=verdict,
        sentence=sentence,
        rule="FAIL where the support of a class is not its number of images, or where no whole number of right images "
        "gives the printed figures.",
        source="Definitions of precision, recall and F1; supports count true images (scikit-learn, "
        "classification_report).",
        limits="It says nothing of the images or the model; a report with the right supports can still be wrong.",
        advice=advice,
        value=moved / max(1, int(true.sum())),
        n_images=int(true.sum()),
        details={
            "support": dict(zip(names, support.tolist(), strict=True)),
            "true_counts": dict(zip(names, true.tolist(), strict=True)),
            "swapped": verdict == "FAIL" and bool((support != true).any()) and all(line.fits for line in swapped),
        },
        tables={"C4-report": table},
    )


def _explained(names: list[str], true: np.ndarray, support: np.ndarray, swapped: list[_Line]) -> tuple[str, str]:
    """What is wrong with the supports, and what to do, in words."""
    first = int(np.argmax(np.abs(support - true) / np.maximum(true, 1)))
    wrong = (
        f"The supports are not the numbers of images: class '{names[first]}' has {plural(int(true[first]), 'image')}, "
        f"but its support is {support[first]}"
    )
    if support.sum() != true.sum():
        return (
            f"{wrong}; and the supports add up to {support.sum()}, not to {true.sum()}.",
            "Find out which images were scored.",
        )
    if all(line.fits for line in swapped):
        n_right = sum(line.low for line in swapped), sum(line.high for line in swapped)
        shares = " to ".join(dict.fromkeys(f"{count / true.sum():.1%}" for count in n_right))
        return (
            f"{wrong}. True and predicted labels were swapped: the supports count how often each class was predicted, "
            "what is printed as precision is recall, and what is printed as recall is precision. Read so, whole "
            f"numbers of right images give every printed figure ({shares} of {true.sum()} images right). Accuracy and "
            "F1 are not touched by the swap.",
            "Exchange the columns precision and recall, and put the true counts in place of the supports: "
            "'C4-report.csv' has it. In code, give the true labels first.",
        )
    if sorted(support) == sorted(true):
        return (
            f"{wrong}; the same counts stand under other classes, so the class names are mixed up.",
            "Find out in which order the classes were numbered, in training and in the report.",
        )
    return (
        f"{wrong}; swapping true and predicted labels does not explain the figures.",
        "Find out which images were scored, and against which labels.",
    )


def _whole_numbers(shares: list[tuple[float, float]], half: float) -> tuple[int, int]:
    """Lowest and highest whole number that is each share of its total, within rounding; 0 of 0 is printed as 0."""
    low, high = 0, 2**62
    for share, total in shares:
        if total == 0:
            low, high = (low, min(high, 0)) if share <= half else (1, 0)
        else:
            low = max(low, math.ceil((share - half) * total))
            high = min(high, math.floor((share + half) * total))
    return low, high


def _contradictions(
    names: list[str], support: np.ndarray, precision: np.ndarray, recall: np.ndarray, f1: np.ndarray, half: float
) -> str:
    """The first class whose figures cannot all be; empty where all can."""
    fewest = most = 0.0
    for name, s, p, r, f in zip(names, support.tolist(), precision, recall, f1, strict=True):
        low, high = _whole_numbers([(r, s)], half)
        if low > high:
            return f"no whole number of {plural(s, 'image')} is the recall {r:g} of class '{name}'"
        # Predicted images follow from precision where any was right; a precision of 0 allows any number.
        ends = (low / (p + half), high / (p - half) if p > half else math.inf) if high else (0.0, math.inf)
        if high and low and p + half <= 0:
            return f"class '{name}' has a recall of {r:g} but a precision of 0"
        harmonic = [2 * a * b / (a + b) if a + b > 0 else 0.0 for a, b in ((r - half, p - half), (r + half, p + half))]
        if not max(harmonic[0], 0) - half <= f <= harmonic[1] + half:
            return f"the F1 of class '{name}' ({f:g}) is not that of its precision and recall"
        fewest, most = fewest + ends[0], most + ends[1]
    if not fewest <= support.sum() <= most:
        return f"precision and recall ask for another number of predictions than {support.sum()}"
    return ""


def _corrected(lines: list[_Line]) -> pd.DataFrame:
    """The report the right way round; ranges where several whole numbers give the printed figures."""
    rows = []
    for line in lines:
        recall, precision = (
            [count / total if total else math.nan for count in (line.low, line.high)]
            for total in (line.true, line.predicted)
        )
        rows.append(
            {
                "class": line.name,
                "images": line.true,
                "predicted": line.predicted,
                "right_low": line.low,
                "right_high": line.high,
                "recall_low": recall[0],
                "recall_high": recall[1],
                "precision_low": precision[0],
                "precision_high": precision[1],
            }
        )
    return pd.DataFrame(rows)


def _decimals(report: pd.DataFrame) -> int:
    """With how many decimals the figures were printed, two at least."""
    values = report[["precision", "recall", "f1"]].to_numpy(dtype=np.float64)
    for places in range(2, MOST_DECIMALS):
        if np.allclose(values, values.round(places), rtol=0, atol=1e-9):
            return places
    return MOST_DECIMALS


def _check_report(report: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in report.columns]
    if missing:
        raise _refusal(f"the columns {', '.join(missing)} are missing")
    if len(report) < 2:
        raise _refusal("it has fewer than two classes")
    if report["class"].duplicated().any():
        raise _refusal("a class stands in it twice")
    figures = report[["precision", "recall", "f1"]].to_numpy(dtype=np.float64)
    support = report["support"].to_numpy(dtype=np.float64)
    if not (np.isfinite(figures).all() and (figures >= 0).all() and (figures <= 1).all()):
        raise _refusal("precision, recall and F1 are shares from 0 to 1")
    if not (np.isfinite(support).all() and (support >= 0).all() and (support == support.round()).all()):
        raise _refusal("a support is a whole number, 0 or more")


def _refusal(what: str) -> TableError:
    return TableError(f"This is not a classification report: {what}.", code="AUD_REPORT")
