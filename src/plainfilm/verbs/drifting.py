"""Keep what training images are like as a whole, and ask whether a batch of new ones is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from plainfilm.bundle import find_bundles, load_statistics, read_config
from plainfilm.data.pixels import PixelStore
from plainfilm.data.splits import Fold, SplitPlan
from plainfilm.data.table import Table
from plainfilm.drift import (
    Drift,
    DriftOptions,
    DriftRule,
    Statistics,
    cannot_be_asked,
    image_statistics,
    look_for_drift,
    one_each,
)
from plainfilm.exporting.reading import SUFFIX


def learn_statistics(
    pixels: PixelStore, fold: Fold, plan: SplitPlan, options: DriftOptions
) -> tuple[Statistics | None, DriftRule]:
    """Statistics of one training image of each patient, and the rule; None where there are none, and why.

    Args:
        pixels: All images.
        fold: Of which only the training rows are looked at.
        plan: Who the patients are.
        options: The limits.
    """
    if not options.drift:
        return None, DriftRule.of(options, n_reference=0, reason="no statistics were kept (--no-drift)")
    if plan.patients == "unknown":
        return None, DriftRule.of(options, n_reference=0, reason="the patients of the training are not known")
    codes = np.unique(plan.groups[fold.train].astype(str), return_inverse=True)[1]
    chosen = fold.train[one_each(codes)]
    if len(chosen) < options.drift_patients:
        reason = f"{len(chosen)} patients were trained on, and {options.drift_patients} are needed"
        return None, DriftRule.of(options, n_reference=0, reason=reason)
    return image_statistics(pixels, chosen), DriftRule.of(options, n_reference=len(chosen))


def drift_of(place: Path, table: Table, pixels: PixelStore) -> Drift:
    """Whether images differ, as a batch, from those that the model at `place` was trained on.

    Args:
        place: A run, a bundle, an exported folder, or a lone ONNX file, which does not know them.
        table: The images.
        pixels: As the model is given them.
    """
    ids = table.rows["patient_id"]
    knows = bool(ids.notna().all())
    codes = pd.factorize(ids)[0].astype(np.intp) if knows else np.arange(len(table))
    chosen = one_each(codes)
    if place.suffix.lower() == SUFFIX:
        rule = DriftRule(reason="a lone ONNX file does not hold the statistics of the training images")
    else:
        folder = find_bundles(place)[0]  # of several folds the first: what it was trained on is like the rest
        rule = read_config(folder).drift
    reason = cannot_be_asked(len(chosen), rule)
    if reason:
        return Drift(n_batch=len(chosen), n_reference=rule.n_reference, knows_patients=knows, rule=rule, reason=reason)
    kept = load_statistics(folder, rule)
    return look_for_drift(image_statistics(pixels, chosen), kept, rule, knows_patients=knows)
