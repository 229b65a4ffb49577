"""What a score is at each site that the model never saw, and the evidence that this is."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from plainfilm.evaluation import headline_of, samples_of
from plainfilm.measures import Evaluation, SiteScore
from plainfilm.prediction import Predictions

NEW_PATIENTS: Final = 2
OTHER_SITE: Final = 4


def as_other_site(evaluation: Evaluation, why: str) -> Evaluation:
    """The evaluation of patients whose sites had no part in the training.

    Evidence level 4 in place of 2. A score that is struck, or whose patients are not known, stays where it is.

    Args:
        evaluation: Of new patients.
        why: In words, how it is known that the sites are others.
    """
    noted = replace(evaluation, notes=(*evaluation.notes, why))
    if evaluation.struck is not None or evaluation.evidence_level != NEW_PATIENTS:
        return noted
    return replace(noted, evidence_level=OTHER_SITE)


def at_held_out_sites(
    evaluation: Evaluation, predictions: Predictions, rows: pd.DataFrame, *, column: str, why: str
) -> Evaluation:
    """The same as `as_other_site`, with the headline at each of the sites.

    Args:
        evaluation: Of `predictions`.
        predictions: Labelled rows, each scored by a model that had not learnt from its site.
        rows: The table, with `path`.
        column: Of the table, that names the site.
        why: As for `as_other_site`.
    """
    site_of = dict(zip(rows["path"], rows[column].astype(str), strict=True))
    site = np.array([site_of[path] for path in predictions.table["path"]], dtype=object)
    scores = []
    for name in sorted(set(site.tolist())):
        samples = samples_of(
            predictions.where(site == name),
            patients=evaluation.patients,
            units=[evaluation.headline.unit],
            options=evaluation.options,
        )
        measures = [measure for sample in samples for measure in sample.measures()]
        positive = samples[-1].rows.reading.of
        scores.append(SiteScore(name, headline_of(measures, unit=evaluation.headline.unit, positive=positive)))
    return as_other_site(replace(evaluation, sites=tuple(scores)), why)
