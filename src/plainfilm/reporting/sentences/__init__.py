"""What a run says of itself, a sentence for each matter: the methods paragraph and the checklists are made of these.

One place for every statement, so that a paper, a checklist and the page cannot contradict each other. No sentence
holds a patient id or the path of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from plainfilm.reporting.content import ReportData
from plainfilm.reporting.sentences import methods, results
from plainfilm.reporting.sentences.words import in_words, main_unit, reached_level

__all__ = ["SENTENCES", "in_words", "main_unit", "reached_level", "sentences_of"]


def sentences_of(report: ReportData) -> dict[str, str]:
    """Every sentence that this run can say, by what it is about; one that it cannot is left out."""
    said = {name: make(report) for name, make in SENTENCES.items()}
    return {name: sentence for name, sentence in said.items() if sentence}


SENTENCES: Final[Mapping[str, Callable[[ReportData], str]]] = {
    "task": methods.task,
    "source": methods.source,
    "patients_known": methods.patients_known,
    "exclusions": methods.exclusions,
    "missing": methods.missing,
    "stored": methods.stored,
    "preprocessing": methods.preprocessing,
    "partition": methods.partition,
    "disjoint": methods.disjoint,
    "characteristics": methods.characteristics,
    "technology": methods.technology,
    "model": methods.model,
    "software": methods.software,
    "initial": methods.initial,
    "training": methods.training,
    "selection": methods.selection,
    "ensemble": methods.ensemble,
    "calibrated": methods.calibrated,
    "abstaining": methods.abstaining,
    "heat": methods.heat,
    "metrics": methods.metrics,
    "uncertainty": methods.uncertainty,
    "internal": results.internal,
    "external": results.external,
    "precision": results.precision,
    "audit": results.audit,
    "robustness": results.robustness,
    "leakage": results.leakage,
    "labels": results.labels,
    "subgroups": results.subgroups,
    "calibration": results.calibration,
    "headline": results.headline,
    "per_class": results.per_class,
    "failures": results.failures,
    "gap": results.gap,
    "limits": results.limits,
    "rerun": results.rerun,
    "availability": results.availability,
}
"""What a run can say, by name: the data file of the standards refers to these names."""
