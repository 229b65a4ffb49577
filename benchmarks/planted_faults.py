"""Does the audit find what was planted, and keep quiet where nothing was?

Phantoms with a known fault, in three kinds of sets, at several severities and seeds. Printed as Markdown: how often
each fault was found, how often each check speaks up on sets without a fault, and how p values spread where there is
nothing to find.

    python -m benchmarks.planted_faults --results FOLDER         everything (about an hour on one core)
    python -m benchmarks.planted_faults --quick                  one seed, few severities (some minutes)
    python -m benchmarks.planted_faults --kinds "file size" "burnt-in marks" --seeds 5
    python -m benchmarks.planted_faults --kinds none             clean sets and p values only

What was found is kept in the folder, a file for each kind: a run that was stopped goes on where it was. The faults are
in `benchmarks/faults.py`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.faults import KINDS, Kind
from benchmarks.phantom_sets import SETS, Plan, scored, without_pictures
from plainfilm.auditing.cases import cases_of
from plainfilm.auditing.limits import AuditLimits
from plainfilm.auditing.probing import ProbeOptions, make_design, run_probe
from plainfilm.auditing.subject import Subject
from plainfilm.data.phantoms import PhantomOptions
from plainfilm.data.pixels import PixelStore
from plainfilm.evaluation import evaluate_predictions
from plainfilm.metrics import wilson_interval
from plainfilm.progress import Silent
from plainfilm.storage import read_json, write_json
from plainfilm.verbs.examining import take_first_look, take_second_look

CLEAN_SIDE = 64
LEVELS = (0.01, 0.05, 0.10, 0.50)
AIM = 0.95


class Kept:
    """Answers that were found before, in a file of a folder; without a folder nothing is kept."""

    def __init__(self, folder: Path | None, name: str, settings: dict[str, Any]) -> None:
        self._path = None if folder is None else folder / f"{name.replace(' ', '-').replace('/', '-')}.json"
        self._settings = settings
        self._answers: dict[str, Any] = {}
        if self._path is not None and self._path.exists():
            kept = read_json(self._path)
            if kept["settings"] == settings:
                self._answers = kept["answers"]

    def ask(self, key: str, answer: Callable[[], Any]) -> Any:
        """The answer of before, or a new one, which is kept."""
        if key not in self._answers:
            self._answers[key] = answer()
            if self._path is not None:
                write_json(self._path, {"settings": self._settings, "answers": self._answers})
        return self._answers[key]


def planted(fault: Kind, options: PhantomOptions, severity: float) -> float:
    """Plant one fault, and look for it."""
    with without_pictures():
        return float(fault.found(Plan(replace(options, size=fault.size), severity)))


def sensitivity(fault: Kind, seeds: Sequence[int], severities: Sequence[float], folder: Path | None) -> dict[str, str]:
    """One row of the table: of how many sets the fault was found in, by severity."""
    row = {"fault": fault.name, "check": fault.check}
    settings = {"size": fault.size, "sets": {name: str(options) for name, options in fault.sets.items()}}
    kept = Kept(folder, fault.name, settings)
    began = time.perf_counter()
    found: dict[float, list[float]] = {severity: [] for severity in severities}
    for name, options in fault.sets.items():
        for seed in seeds:  # a set at all severities, so that it is drawn once
            for severity in severities:
                ask = _asked(fault, replace(options, seed=seed), severity)
                if (value := kept.ask(f"{severity:g} {name} {seed}", ask)) is not None:
                    found[severity].append(value)
        _say(f"{fault.name}, {name} ({time.perf_counter() - began:.0f} s)")
    falls_short = []
    for severity, values in found.items():
        whole = set(values) <= {0, 1}
        row[f"{severity:.0%}"] = f"{sum(values):g}/{len(values)}" if whole else f"{np.mean(values):.0%}"
        if fault.expected_from is not None and severity >= fault.expected_from and np.mean(values) < AIM:
            falls_short.append(f"{severity:.0%}")
    _say(", ".join([fault.name, *(f"{severity:.0%}: {row[f'{severity:.0%}']}" for severity in severities)]))
    row["aim"] = "" if fault.expected_from is None else f"95% from {fault.expected_from:.0%}"
    row["short at"] = ", ".join(falls_short)
    return row


def _asked(fault: Kind, options: PhantomOptions, severity: float) -> Callable[[], float | None]:
    def ask() -> float | None:
        value = planted(fault, options, severity)
        return None if np.isnan(value) else value

    return ask


def clean_audit(options: PhantomOptions, seed: int, *, effect: float) -> dict[str, str]:
    """The verdict of every check on a set without a fault, with a model that is as good as its scores say."""
    subject = scored(Plan(replace(options, seed=seed, size=CLEAN_SIDE)).saved(effect=effect), 1.0, seed)
    assert subject.predictions is not None
    tested = subject.predictions.tested("test")
    evaluation = evaluate_predictions(tested, patients="documented", split_unit="patient")
    with without_pictures():
        look = take_first_look(subject, AuditLimits(), progress=Silent())
        audit = take_second_look(
            look, source="clean", evaluation=evaluation, level=2, predictions=tested, progress=Silent()
        )
    return {finding.check: finding.verdict for finding in audit.findings}


def false_alarms(seeds: Sequence[int], *, effect: float, folder: Path | None) -> pd.DataFrame:
    """How often each check warns or fails on sets without a fault, and how often any fails.

    With `effect` 0 nothing in the image tells the class, so no probe may find it; above 0 the anatomy does, and B2 to
    B6 may say so. D and E speak of a model's few test patients, which is no alarm but the truth; they are counted too.
    """
    kept = Kept(folder, f"clean, effect {effect:g}", {"sets": {name: str(options) for name, options in SETS.items()}})
    audits: list[dict[str, str]] = []
    began = time.perf_counter()
    for seed in seeds:
        for name, options in SETS.items():
            audits.append(kept.ask(f"{name} {seed}", lambda o=options, s=seed: clean_audit(o, s, effect=effect)))
        _say(f"clean, effect {effect:g}: {len(audits)} sets ({time.perf_counter() - began:.0f} s)")
    rows = []
    for check in sorted({check for audit in audits for check in audit}, key=lambda check: (check[0], int(check[1:]))):
        verdicts = [audit[check] for audit in audits if audit.get(check, "NOT ASSESSABLE") != "NOT ASSESSABLE"]
        if verdicts:
            warned, failed = verdicts.count("WARN"), verdicts.count("FAIL")
            rows.append(_alarms(check, warned, failed, len(verdicts)))
    any_fail = sum("FAIL" in audit.values() for audit in audits)
    return pd.DataFrame([*rows, _alarms("any", 0, any_fail, len(audits))])


def _alarms(check: str, warned: int, failed: int, n: int) -> dict[str, object]:
    low, high = (float(end) for end in wilson_interval((warned + failed) / n, n))
    return {"check": check, "WARN": warned, "FAIL": failed, "sets": n, "alarms": f"{(warned + failed) / n:.1%}",
            "95% CI": f"{low:.1%}-{high:.1%}"}  # fmt: skip


def p_values(n: int, draws: int = 1_000, folder: Path | None = None) -> pd.DataFrame:
    """Shares of p values up to some levels, where patients' features have nothing to do with their labels."""
    options = ProbeOptions(probe_draws=draws)
    kept = Kept(folder, "p of nulls", {"draws": draws})
    found = [float(kept.ask(str(seed), lambda seed=seed: _null_p(seed, options))) for seed in range(n)]
    rows = []
    for level in LEVELS:
        share = float(np.mean(np.array(found) <= level))
        low, high = (float(end) for end in wilson_interval(share, n))
        rows.append({"p at or below": level, "share": f"{share:.3f}", "95% CI": f"{low:.3f}-{high:.3f}", "nulls": n})
    return pd.DataFrame(rows)


def _null_p(seed: int, options: ProbeOptions) -> float:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    features = rng.normal(size=(40, 8))[group] + rng.normal(size=(len(group), 8))
    store = PixelStore(len(group), 8, 8)
    rows = pd.DataFrame({"path": np.arange(len(group)).astype(str), "label": np.where(group % 3, "a", "b")})
    cases = cases_of(Subject(rows=rows, pixels=store, patients="documented", group=group), min_patients=5)
    design = make_design(cases, options.model_copy(update={"probe_seed": seed}))
    return run_probe(features, cases, design, options).p


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown; what is missing is left empty."""
    lines = [table.columns, ["---"] * len(table.columns), *table.fillna("").to_numpy(dtype=object)]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _say(line: str) -> None:
    """How far it is; not part of the tables."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", help=f"of {', '.join(KINDS)}; 'none' for clean sets only")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help="a seed that nothing was developed with")
    parser.add_argument("--clean", type=int, default=34, help="seeds of clean sets, three sets each; 0 leaves them out")
    parser.add_argument("--nulls", type=int, default=500, help="p values where there is nothing to find; 0 for none")
    parser.add_argument("--results", type=Path, help="folder of what was found; a stopped run goes on from it")
    parser.add_argument("--quick", action="store_true", help="one seed, two severities, one clean seed, 100 nulls")
    asked = parser.parse_args()
    unknown = set(asked.kinds or []) - {*KINDS, "none"}
    if unknown:
        parser.error(f"no kind named {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    if asked.results is not None:
        asked.results.mkdir(parents=True, exist_ok=True)
    first = asked.first_seed
    seeds, clean_seeds, nulls = (1, 1, 100) if asked.quick else (asked.seeds, asked.clean, asked.nulls)
    rows = []
    for fault in KINDS.values():
        if asked.kinds is None or fault.name in asked.kinds:
            severities = fault.severities[-2:] if asked.quick else fault.severities
            rows.append(sensitivity(fault, range(first, first + seeds), severities, asked.results))
    if rows:
        table = pd.DataFrame(rows)
        ends = ["aim", "short at"]
        shares = sorted(set(table.columns) - {"fault", "check", *ends}, key=lambda share: float(share.rstrip("%")))
        print(f"Found in so many sets, seeds {first} to {first + seeds - 1}:\n")
        print(markdown(table[["fault", "check", *shares, *ends]]), flush=True)
    for effect in (0.0, 1.0) if clean_seeds else ():
        clean = range(first + 1_000, first + 1_000 + clean_seeds)
        print(f"\nClean sets, class effect {effect:g}:\n")
        print(markdown(false_alarms(clean, effect=effect, folder=asked.results)), flush=True)
    if nulls:
        print(f"\np where there is nothing to find:\n\n{markdown(p_values(nulls, folder=asked.results))}")


if __name__ == "__main__":
    main()
