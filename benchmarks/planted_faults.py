"""Does the audit find what was planted, and keep quiet where nothing was?

Phantoms with a known fault, in three kinds of sets, at several severities and seeds. Printed as Markdown: how often
each fault was found, how often each check speaks up on sets without a fault, and how p values spread where there is
nothing to find.

    python -m benchmarks.planted_faults                          everything (about an hour on one core)
    python -m benchmarks.planted_faults --quick                  one seed, few severities (some minutes)
    python -m benchmarks.planted_faults --kinds "file size" marks --seeds 5
    python -m benchmarks.planted_faults --kinds none             clean sets and p values only

To add a fault, write a function with `@kind(...)`: it gets a `Plan` and says whether the fault was found.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from plainfilm.auditing.cases import cases_of
from plainfilm.auditing.controls import check_controls
from plainfilm.auditing.dependence import check_dependence
from plainfilm.auditing.findings import Finding
from plainfilm.auditing.label_sanity import check_label_sanity
from plainfilm.auditing.labels import check_labels
from plainfilm.auditing.probing import ProbeOptions, make_design, run_probe
from plainfilm.auditing.random_labels import check_random_labels
from plainfilm.auditing.reports import check_printed_report
from plainfilm.auditing.shortcuts import check_shortcuts
from plainfilm.auditing.subject import Subject
from plainfilm.data.phantoms import Faults, PhantomOptions, Phantoms, write_phantoms
from plainfilm.data.pixels import PixelStore
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images
from plainfilm.metrics import wilson_interval
from plainfilm.prediction import Predictions

SIDE = 128
SEVERITIES = (0.01, 0.02, 0.05, 0.10, 0.20, 0.30, 0.60, 0.90)
SETS = {
    "brain stacks": PhantomOptions(kind="brain", patients=120, images_per_patient=2, size=SIDE),
    "chest films": PhantomOptions(kind="chest", patients=120, images_per_patient=(1, 3), size=SIDE),
    "single chests": PhantomOptions(kind="chest", patients=160, images_per_patient=1, size=SIDE, sites=3),
}


@dataclass(frozen=True)
class Plan:
    """One set to be made and audited.

    Attributes:
        options: The phantoms.
        severity: Share that the fault hits.
        folder: Empty; for the images.
    """

    options: PhantomOptions
    severity: float
    folder: Path

    def read(self, faults: Faults | None = None, **options: object) -> tuple[Subject, Phantoms]:
        """Draw the phantoms with faults, and read them as an audit does."""
        phantoms = write_phantoms(self.folder / "images", replace(self.options, **options), faults)
        return read_subject(phantoms.folder / "manifest.csv"), phantoms


@dataclass(frozen=True)
class Kind:
    """A kind of fault: which check should find it, from which severity on, and how it is planted and looked for."""

    name: str
    check: str
    found: Callable[[Plan], float]
    expected_from: float
    severities: Sequence[float]


KINDS: dict[str, Kind] = {}


def kind(
    name: str, check: str, *, expected_from: float, severities: Sequence[float] = SEVERITIES
) -> Callable[[Callable[[Plan], float]], Callable[[Plan], float]]:
    """Register a fault. Its function gives 1 where the fault was found, 0 where not, or a share between."""

    def register(found: Callable[[Plan], float]) -> Callable[[Plan], float]:
        KINDS[name] = Kind(name, check, found, expected_from, tuple(severities))
        return found

    return register


def read_subject(manifest: Path) -> Subject:
    """A manifest as an audit sees it."""
    table, pixels = scan_listing(list_images(manifest), size=(SIDE, SIDE), workers=0)
    return Subject(
        rows=table.rows,
        pixels=pixels,
        patients="documented",
        group=np.unique(table.rows["patient_id"].astype(str), return_inverse=True)[1],
        split=table.rows["split"].to_numpy(dtype=object),
        split_unit="patient",
    )


def speaks(findings: Sequence[Finding], check: str) -> bool:
    """Whether a check warns or fails."""
    return any(finding.check == check and finding.verdict in ("WARN", "FAIL") for finding in findings)


# --- faults of files and images ---


@kind("file size", "B1", expected_from=0.30)
def _size(plan: Plan) -> float:
    faults = Faults(size_fault_class=plan.options.classes[1], class_share=plan.severity)
    return speaks(check_shortcuts(plan.read(faults)[0]), "B1")


@kind("file quality", "B1", expected_from=0.30)
def _quality(plan: Plan) -> float:
    faults = Faults(quality_fault_class=plan.options.classes[1], class_share=plan.severity)
    return speaks(check_shortcuts(plan.read(faults)[0]), "B1")


@kind("marks", "B7", expected_from=0.30)
def _marks(plan: Plan) -> float:
    return speaks(check_shortcuts(plan.read(Faults(markers=plan.severity))[0]), "B7")


@kind("site follows class", "B8", expected_from=0.60)
def _sites(plan: Plan) -> float:
    return speaks(check_shortcuts(plan.read(Faults(sites_follow_class=plan.severity))[0]), "B8")


@kind("bright borders", "B2", expected_from=0.30)
def _borders(plan: Plan) -> float:
    def edit(image: np.ndarray) -> np.ndarray:
        image[[0, 1, 2, -1, -2, -3]] += 0.3
        return image

    return speaks(check_shortcuts(edited(plan.read(effect=0.0)[0], plan, edit)), "B2")


@kind("other exposure", "B5", expected_from=0.30)
def _exposure(plan: Plan) -> float:
    return speaks(check_shortcuts(edited(plan.read(effect=0.0)[0], plan, lambda image: 0.6 * image)), "B5")


def edited(subject: Subject, plan: Plan, edit: Callable[[np.ndarray], np.ndarray]) -> Subject:
    """The same set with a share of the patients of the second class edited."""
    assert subject.pixels is not None
    rng = np.random.default_rng(plan.options.seed)
    of_class = np.unique(subject.group[subject.y == 1])
    hit = rng.permutation(of_class)[: max(1, round(plan.severity * len(of_class)))]
    store = PixelStore(len(subject), SIDE, SIDE)
    for index in range(len(subject)):
        image = subject.pixels.values([index])[0]
        changed = edit(image.copy()) if subject.y[index] == 1 and subject.group[index] in hit else image
        store.put(index, np.clip(changed * 255, 0, 255).astype(np.uint8))
    return replace(subject, pixels=store)


# --- faults of splits and labels ---


@kind("straddling patients (random labels)", "C1", expected_from=0.30)
def _straddling(plan: Plan) -> float:
    subject, _ = plan.read(Faults(straddling_patients=plan.severity))
    if (np.bincount(subject.group) == 1).all():
        return np.nan  # no patient has two images
    return check_random_labels(subject, ProbeOptions()).verdict == "FAIL"


@kind("wrong labels (share of the top of the list)", "G", expected_from=0.05, severities=(0.02, 0.05, 0.10, 0.20))
def _label_noise(plan: Plan) -> float:
    subject, phantoms = plan.read(Faults(label_noise=plan.severity), effect=2.0)
    planted = set(phantoms.paths("label_noise"))
    of_patient = pd.Series(subject.rows["path"].isin(planted)).groupby(subject.group).any()
    finding = check_labels(subject)
    listed = finding.tables["G-review"]["path"].head(int(of_patient.sum())) if "G-review" in finding.tables else []
    return float(np.mean([path in planted for path in listed])) if len(listed) else 0.0


# --- faults of models and reports ---


@kind("mixed-up score columns", "C4", expected_from=0.0, severities=(1.0,))
def _columns(plan: Plan) -> float:
    subject = scored(plan.read()[0], 2.0, plan.options.seed)
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
    subject = scored(plan.read()[0], 0.0, plan.options.seed)
    return speaks(check_controls(subject), "C2")


@kind("a model that reads the border", "B9", expected_from=0.0, severities=(1.0,))
def _border_model(plan: Plan) -> float:
    half = replace(plan, severity=1.0)
    subject = edited(
        plan.read(effect=0.0)[0], half, lambda image: np.pad(image[3:-3], ((3, 3), (0, 0)), constant_values=1)
    )

    def score(images: np.ndarray) -> np.ndarray:
        ill = (images[:, :2].mean(axis=(1, 2)) > 0.9).astype(float)
        return np.column_stack([1 - ill, ill])

    return speaks(check_dependence(subject, score), "B9")


def scored(subject: Subject, skill: float, seed: int) -> Subject:
    """With predictions as good as asked for."""
    rng = np.random.default_rng(seed)
    logit = skill * (2 * subject.y - 1) + rng.normal(size=len(subject))
    score = 1 / (1 + np.exp(-logit))
    table = subject.rows[["path", "label", "patient_id", "split"]]
    return replace(subject, predictions=Predictions(subject.classes, table, np.column_stack([1 - score, score])))


def printed_report(y_true: np.ndarray, y_pred: np.ndarray) -> pd.DataFrame:
    """A report as scikit-learn prints it."""
    from sklearn.metrics import precision_recall_fscore_support

    figures = precision_recall_fscore_support(y_true, y_pred, labels=range(4), zero_division=0)
    names = dict(zip(("precision", "recall", "f1", "support"), figures, strict=True))
    return pd.DataFrame({"class": [str(c) for c in range(4)], **names}).round(2)


# --- the tables ---


def sensitivity(kinds: Sequence[Kind], seeds: int, most_severities: int) -> pd.DataFrame:
    """How often each fault was found, over all sets and seeds."""
    rows = []
    for fault in kinds:
        chosen = [s for s in fault.severities if s >= fault.expected_from] or list(fault.severities)
        severities = fault.severities if most_severities >= len(fault.severities) else chosen[:most_severities]
        for severity in severities:
            started = time.perf_counter()
            found = [
                value
                for options in SETS.values()
                for seed in range(seeds)
                if not np.isnan(value := planted(fault, replace(options, seed=seed), severity))
            ]
            low, high = wilson_interval(np.mean(found), len(found))
            rows.append(
                {
                    "fault": fault.name,
                    "check": fault.check,
                    "severity": f"{severity:.0%}",
                    "found": f"{np.mean(found):.0%}",
                    "95% CI": f"{float(low):.0%}-{float(high):.0%}",
                    "sets": len(found),
                    "aim": "95%" if severity >= fault.expected_from else "",
                    "seconds": f"{time.perf_counter() - started:.0f}",
                }
            )
    return pd.DataFrame(rows)


def planted(fault: Kind, options: PhantomOptions, severity: float) -> float:
    """Plant one fault, and look for it."""
    with tempfile.TemporaryDirectory() as folder:
        return float(fault.found(Plan(options, severity, Path(folder))))


def false_alarms(seeds: int, *, effect: float) -> pd.DataFrame:
    """How often each check speaks up on sets without a fault, and how often any fails.

    With `effect` 0 nothing in the image tells the class, so no probe may find it; above 0 the anatomy does, and B2 to
    B6 may say so.
    """
    spoken: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for options in SETS.values():
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                subject, _ = Plan(replace(options, seed=1000 + seed), 0.0, Path(folder)).read(effect=effect)
            findings = [*check_shortcuts(subject), *check_controls(scored(subject, 2.0, seed)), check_labels(subject)]
            verdicts = {finding.check: finding.verdict for finding in findings}
            for check, verdict in verdicts.items():
                asked[check] += verdict != "NOT ASSESSABLE"
                spoken[check] += verdict in ("WARN", "FAIL")
            asked["any FAIL"] += 1
            spoken["any FAIL"] += "FAIL" in verdicts.values()
    rows = []
    for check in sorted(asked):
        low, high = wilson_interval(spoken[check] / max(asked[check], 1), asked[check])
        if asked[check]:
            share = f"{spoken[check] / asked[check]:.0%}"
            rows.append({"check": check, "alarms": share, "95% CI": f"{float(low):.0%}-{float(high):.0%}",
                         "sets": asked[check]})  # fmt: skip
    return pd.DataFrame(rows)


def p_values(n: int, draws: int = 999) -> pd.DataFrame:
    """Shares of p values up to some levels, where patients' features have nothing to do with their labels."""
    options, found = ProbeOptions(probe_draws=draws), []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(40), rng.integers(1, 6, 40))
        features = rng.normal(size=(40, 8))[group] + rng.normal(size=(len(group), 8))
        store = PixelStore(len(group), 8, 8)
        rows = pd.DataFrame({"path": np.arange(len(group)).astype(str), "label": np.where(group % 3, "a", "b")})
        cases = cases_of(Subject(rows=rows, pixels=store, patients="documented", group=group), min_patients=5)
        design = make_design(cases, options.model_copy(update={"probe_seed": seed}))
        found.append(run_probe(features, cases, design, options).p)
    levels = (0.01, 0.05, 0.10, 0.50)
    shares = [float(np.mean(np.array(found) <= level)) for level in levels]
    return pd.DataFrame({"level": levels, "share of p at or below": shares, "nulls": n})


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *table.to_numpy(dtype=object)]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", help=f"of {', '.join(KINDS)}; 'none' for clean sets only")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, two severities, 100 nulls")
    parser.add_argument("--skip-clean", action="store_true", help="leave clean sets and p values out")
    asked = parser.parse_args()
    unknown = set(asked.kinds or []) - {*KINDS, "none"}
    if unknown:
        parser.error(f"no kind named {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    kinds = [fault for name, fault in KINDS.items() if asked.kinds is None or name in asked.kinds]
    seeds = 1 if asked.quick else asked.seeds
    if kinds:
        print(markdown(sensitivity(kinds, seeds, 2 if asked.quick else len(SEVERITIES))), flush=True)
    if not asked.skip_clean:
        for effect in (0.0, 1.0):
            print(
                f"\nClean sets, class effect {effect:g}:\n\n{markdown(false_alarms(seeds, effect=effect))}", flush=True
            )
        print(f"\np where there is nothing to find:\n\n{markdown(p_values(100 if asked.quick else 500))}")


if __name__ == "__main__":
    main()
