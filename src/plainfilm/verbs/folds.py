"""A fold: trained, its bundle kept with all that is learnt beside the weights, and its rows scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plainfilm.bundle import Architecture, BundleConfig, load_bundle, save_bundle
from plainfilm.config import RunOptions
from plainfilm.data.pixels import PixelStore
from plainfilm.data.splits import Fold, SplitPlan
from plainfilm.data.table import Table
from plainfilm.prediction import Predictions, Share, predict_table
from plainfilm.progress import Progress
from plainfilm.reporting import card
from plainfilm.reporting.history import LiveHistory, write_history
from plainfilm.runs import CHOOSING, Run
from plainfilm.storage import cache_folder, make_folder
from plainfilm.team import ALONE, Team
from plainfilm.tracking import UNTRACKED, Tracker
from plainfilm.verbs.calibrating import calibrated
from plainfilm.verbs.drifting import learn_statistics
from plainfilm.verbs.fitting import class_numbers, learn_fold
from plainfilm.verbs.gating import learn_gate

if TYPE_CHECKING:
    from plainfilm.training.loop import Row


def train_fold(
    number: int,
    fold: Fold,
    plan: SplitPlan,
    table: Table,
    pixels: PixelStore,
    options: RunOptions,
    run: Run,
    *,
    resume: bool,
    tracker: Tracker = UNTRACKED,
    team: Team = ALONE,
    progress: Progress,
) -> dict[str, Any]:
    """One training, from the images to the bundle; gives the facts of it. The test images are not touched."""
    from plainfilm.models import describe_model

    place = run.fold(number, len(plan.folds))
    make_folder(place)
    classes = table.classes
    if len(plan.folds) > 1:
        progress.say(f"fold {number} of {len(plan.folds)}")
    labels = class_numbers(table)
    described = describe_model(options.model.model, head=options.model.head, measure=False)
    drawn = LiveHistory(place)

    def told(history: list[Row]) -> None:
        drawn(history)
        tracker.epochs(number, history)

    learnt = learn_fold(
        number, fold, table, pixels, options, place, resume=resume, on_epoch=told, team=team, progress=progress
    )
    result, preprocessing, head = learnt.result, learnt.preprocessing, learnt.head
    tracker.epochs(number, result.history)
    write_history(place, result.history, chosen_epoch=result.chosen_epoch)
    config = BundleConfig(
        architecture=Architecture(
            name=options.model.model,
            adapter=options.model.adapter,
            head=head,
            num_classes=len(classes),
            image_size=pixels.shape[1],
        ),
        classes=classes,
        preprocessing=preprocessing,
        data=card.fingerprint(table, fold),
        weights_licence=described.licence if options.model.first_weights else "",
        split_unit=plan.unit,
    )
    measured = describe_model(
        options.model.model,
        head=head,
        num_classes=len(classes),
        adapter=options.model.adapter,
        image_size=pixels.shape[1],
        built=learnt.model,
    )
    save_bundle(place / "bundle", result.weights, config, card=card.model_card(config, measured))
    reference = None
    statistics, rule = learn_statistics(pixels, fold, plan, options.drift)
    config = config.model_copy(update={"drift": rule})
    codes = np.unique(plan.groups.astype(str), return_inverse=True)[1]
    if len(fold.calibration):
        kept = fold.calibration
        fitted = calibrated(place / "bundle", pixels.take(kept), labels[kept], codes[kept], options, progress=progress)
        config = fitted.model_copy(update={"drift": rule})
    if len(plan.folds) == 1 and plan.tested_on == "test" and plan.unit == "patient":
        gate, reference = learn_gate(
            place / "bundle",
            table.rows,
            pixels,
            labels,
            codes,
            train=fold.train,
            held_out=np.concatenate([fold.validation, fold.calibration]),
            options=options.novelty,
            device=options.training.device,
            seed=options.training.seed,
            progress=progress,
        )
        config = config.model_copy(update={"novelty": gate})
    save_bundle(
        place / "bundle",
        result.weights,
        config,
        card=card.model_card(config, measured),
        reference=reference,
        statistics=statistics,
    )
    return {
        "calibration": config.calibration.model_dump(),
        "abstention": config.abstention.model_dump(),
        "novelty": config.novelty.model_dump(),
        "drift": config.drift.model_dump(),
        "chosen_epoch": result.chosen_epoch,
        "epochs": len(result.history),
        "seconds": result.history[-1]["seconds"],
        "preprocessing": preprocessing.in_words(),
        "head": head,
        **result.facts,
    }


def score_fold(
    place: Path,
    fold: Fold,
    plan: SplitPlan,
    table: Table,
    pixels: PixelStore,
    options: RunOptions,
    *,
    team: Team = ALONE,
    progress: Progress,
) -> Predictions:
    """Score the test and validation rows with the bundle on disk; for a single training also unlabelled rows.

    Of several trainings those of the validation rows are kept in `place`: other folds test these rows.
    """
    parts = {"test": fold.test} if plan.tested_on == "test" else {}
    parts["validation"] = np.concatenate([fold.validation, fold.calibration])
    if len(plan.folds) == 1:
        parts["unlabelled"] = np.flatnonzero(table.rows["label"].isna())
    indices = np.concatenate(list(parts.values()))
    predictions = predict_table(
        [load_bundle(place / "bundle")],
        table.take(indices),
        pixels.take(indices),
        device=options.training.device,
        cache=_kept_features(options),
        share=Share(team, indices),
        progress=progress,
    )
    predictions.table["split"] = np.repeat(list(parts), [len(part) for part in parts.values()])
    if plan.patients in ("documented", "recovered"):
        predictions.table["patient_id"] = plan.groups[indices]
    if len(plan.folds) > 1:
        predictions.tested("validation").save(place / CHOOSING)
        return predictions.tested("test")
    return predictions


def _kept_features(options: RunOptions) -> Path | None:
    """Where the features of a frozen backbone are kept, if this training keeps them."""
    if not (options.training.trains_features and options.training.keep_features):
        return None
    return cache_folder()
