"""One training, from rows to a bundle: build the model, fit all of it or its head, keep what was learnt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from plainfilm.bundle import Architecture, BundleConfig, load_bundle, save_bundle
from plainfilm.config import RunOptions
from plainfilm.data.augment import make_augmentation
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.data.splits import Fold, SplitPlan
from plainfilm.data.table import Table
from plainfilm.errors import ResourceError, UsageError
from plainfilm.prediction import Predictions, Share, predict_table
from plainfilm.progress import Progress
from plainfilm.reporting import card
from plainfilm.reporting.history import LiveHistory, write_history
from plainfilm.runs import CHOOSING, Run
from plainfilm.storage import cache_folder, make_folder
from plainfilm.team import ALONE, Team, spread_tensors
from plainfilm.tracking import UNTRACKED, Tracker
from plainfilm.verbs.calibrating import calibrated
from plainfilm.verbs.drifting import learn_statistics
from plainfilm.verbs.gating import learn_gate

if TYPE_CHECKING:
    from torch import nn

    from plainfilm.models.heads import Headed
    from plainfilm.training.batches import LabelledFeatures, LabelledImages
    from plainfilm.training.loop import FitResult, Row

MAX_FEATURE_BYTES = 4 << 30


@dataclass(frozen=True)
class Learnt:
    """What came of one training, before anything of it is kept.

    Attributes:
        result: Weights of the chosen epoch, history, facts.
        preprocessing: Fitted on the training images.
        model: As it was built; its weights are not those of `result`.
        head: What makes scores of its features.
    """

    result: FitResult
    preprocessing: Preprocessing
    model: nn.Module
    head: Any


def learn_fold(
    number: int,
    fold: Fold,
    table: Table,
    pixels: PixelStore,
    options: RunOptions,
    place: Path,
    *,
    resume: bool,
    on_epoch: Callable[[list[Row]], bool | None],
    team: Team = ALONE,
    progress: Progress,
) -> Learnt:
    """One training; checkpoints go to `place`, and nothing else is written. The test images are not touched."""
    import torch

    from plainfilm.models import describe_model
    from plainfilm.training.batches import LabelledImages
    from plainfilm.training.loop import fit

    classes = table.classes
    labels = class_numbers(table)
    described = describe_model(options.model.model, head=options.model.head, measure=False)
    # Copies: what is trained on and chosen on, and no way from there to the test images.
    training, validating = pixels.take(fold.train), pixels.take(fold.validation)
    torch.manual_seed(options.training.seed + number - 1)
    preprocessing = Preprocessing.fit_training(
        training,
        fitting=options.fitting,
        options=options.intensity,
        pretrained=(described.mean, described.std) if options.model.first_weights else None,
        window=options.source.window,
        seed=options.training.seed,
    )
    model, head = _build(options, num_classes=len(classes), image_size=pixels.shape[1])
    train = LabelledImages(training, labels[fold.train], preprocessing, make_augmentation(options.augment))
    validation = LabelledImages(validating, labels[fold.validation], preprocessing)
    if options.training.trains_features:
        digests = table.rows["pixel_sha256"].to_numpy(dtype=object)
        result = _fit_head(
            model,
            _features(
                model,
                train,
                list(digests[fold.train]),
                options,
                views=options.training.views,
                num_classes=len(classes),
                share=Share(team, fold.train),
                progress=progress,
            ),
            _features(
                model,
                validation,
                list(digests[fold.validation]),
                options,
                views=0,
                num_classes=len(classes),
                share=Share(team, fold.validation),
                progress=progress,
            ),
            options,
            place,
            num_classes=len(classes),
            on_epoch=on_epoch,
            resume=resume,
            progress=progress,
        )
    else:
        if team.size > 1:
            _ask_to_fit(team, options, fold, labels, preprocessing, num_classes=len(classes))
        result = fit(
            model,
            train,
            validation,
            num_classes=len(classes),
            options=options.training,
            folder=place / "checkpoints",
            resume=resume,
            on_epoch=on_epoch,
            team=team,
            progress=progress,
        )
    return Learnt(result, preprocessing, model, head)


def class_numbers(table: Table) -> npt.NDArray[np.int64]:
    """The class of each row as a number; -1 without a label."""
    classes = table.classes
    return np.array(
        [classes.index(label) if label is not None else -1 for label in table.rows["label"]], dtype=np.int64
    )


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


def _ask_to_fit(
    team: Team,
    options: RunOptions,
    fold: Fold,
    labels: npt.NDArray[np.int64],
    preprocessing: Preprocessing,
    *,
    num_classes: int,
) -> None:
    """Set the others to `help_fitting`."""
    team.ask(
        "fit",
        options=options.flat(),
        preprocessing=preprocessing.model_dump(mode="json"),
        num_classes=num_classes,
    )
    for rows in (fold.train, fold.validation):
        team.spread(rows.astype(np.int64))
        team.spread(labels[rows].astype(np.int64))


def help_fitting(
    team: Team, pixels: PixelStore, *, options: dict[str, Any], preprocessing: dict[str, Any], num_classes: int
) -> None:
    """Another process's part in the training of a fold; its first weights come from the leader, and it keeps none.

    Args:
        team: Of which it is one.
        pixels: All images that the team read.
        options: Of the run, by name.
        preprocessing: Fitted on the training images.
        num_classes: Classes of the task.
    """
    from plainfilm.training.batches import LabelledImages
    from plainfilm.training.loop import fit

    asked, prepared = _without_weights(options), Preprocessing.model_validate(preprocessing)
    train_rows, train_labels, rows, labels = (team.spread(None) for _ in range(4))
    model, _ = _build(asked, num_classes=num_classes, image_size=pixels.shape[1])
    fit(
        model,
        LabelledImages(pixels.take(train_rows), train_labels, prepared, make_augmentation(asked.augment)),
        LabelledImages(pixels.take(rows), labels, prepared),
        num_classes=num_classes,
        options=asked.training,
        folder=Path(),
        team=team,
    )


def help_featuring(
    team: Team,
    pixels: PixelStore,
    *,
    options: dict[str, Any],
    preprocessing: dict[str, Any],
    augmented: bool,
    views: int,
    num_classes: int,
) -> None:
    """Another process's part in computing the features of a frozen backbone; arguments as of `help_fitting`."""
    from plainfilm.features import help_extracting
    from plainfilm.training.batches import LabelledImages

    asked, prepared = _without_weights(options), Preprocessing.model_validate(preprocessing)
    rows, weights = team.spread(None), spread_tensors(team, None)
    model, _ = _build(asked, num_classes=num_classes, image_size=pixels.shape[1])
    model.load_state_dict(weights)
    augmentation = make_augmentation(asked.augment) if augmented else None
    images = LabelledImages(pixels.take(rows), np.zeros(len(rows), dtype=np.int64), prepared, augmentation)
    help_extracting(team, _headed(model).backbone, images, views=views, device=asked.training.device)


def _without_weights(options: dict[str, Any]) -> RunOptions:
    """A run's options, but that no file or hub is asked for weights: they come from the leader."""
    return RunOptions.from_flat({**options, "weights": None, "pretrained": False})


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


def _build(options: RunOptions, *, num_classes: int, image_size: int) -> tuple[nn.Module, Any]:
    """The model, and the head it got: a frozen backbone needs one that can be told from it."""
    from plainfilm.models import create_model
    from plainfilm.models.heads import Headed

    def built(head: Any) -> nn.Module:
        return create_model(
            options.model.model,
            num_classes=num_classes,
            adapter=options.model.adapter,
            weights=options.model.first_weights,
            image_size=image_size,
            head=head,
        )

    tuning, head = options.training.tuning, options.model.head
    if tuning == "logistic":
        if head == "conv":
            raise UsageError(
                "Logistic regression is a linear head: leave --head out, or use --tuning head.", code="OPT_HEAD"
            )
        return built("linear"), "linear"
    model = built(head)
    if tuning == "head" and not isinstance(model, Headed):
        return built("linear"), "linear"
    return model, head


def _features(
    model: nn.Module,
    images: LabelledImages,
    digests: list[str],
    options: RunOptions,
    *,
    views: int,
    num_classes: int,
    share: Share,
    progress: Progress,
) -> LabelledFeatures:
    """What the frozen backbone makes of some images."""
    import torch

    from plainfilm.features import extract_features
    from plainfilm.training.batches import LabelledFeatures

    backbone = _headed(model).backbone
    with torch.inference_mode():
        shape = backbone.eval()(images.load(np.array([0]), torch.device("cpu"))).shape[1:]
    n_bytes = max(1, views) * len(digests) * shape.numel() * 4
    if n_bytes > MAX_FEATURE_BYTES:
        raise ResourceError(
            f"{n_bytes / 2**30:.0f} GiB of features ({max(1, views)} views of {len(digests)} images, "
            f"{'x'.join(map(str, shape))} numbers each). Take fewer --views, or --head linear.",
            code="RES_MEMORY",
        )
    team = share.team
    if team.size > 1:
        team.ask(
            "features",
            options=options.flat(),
            preprocessing=images.preprocessing.model_dump(mode="json"),
            augmented=images.augmentation is not None,
            views=views,
            num_classes=num_classes,
        )
        team.spread(share.rows.astype(np.int64))
        spread_tensors(team, model.state_dict())
    values = extract_features(
        backbone,
        images,
        digests,
        team=team,
        views=views,
        augmented_as=options.augment.model_dump_json(),
        seed=options.training.seed,
        cache=cache_folder() if options.training.keep_features else None,
        device=options.training.device,
        progress=progress,
    )
    return LabelledFeatures(values, images.labels)


def _fit_head(
    model: nn.Module,
    train: LabelledFeatures,
    validation: LabelledFeatures,
    options: RunOptions,
    place: Path,
    *,
    num_classes: int,
    on_epoch: Callable[[list[Row]], bool | None],
    resume: bool,
    progress: Progress,
) -> FitResult:
    """Train the head on features; the weights that come back are those of the whole model."""
    import torch

    from plainfilm.training.logistic import PENALTIES, fit_logistic
    from plainfilm.training.loop import FitResult, fit, training_facts

    headed = _headed(model)
    whole = {name: value.detach().cpu() for name, value in headed.state_dict().items()}
    if options.training.tuning == "head":
        result = fit(
            headed.head,
            train,
            validation,
            num_classes=num_classes,
            options=options.training,
            folder=place / "checkpoints",
            resume=resume,
            on_epoch=on_epoch,
            progress=progress,
        )
        whole |= {f"head.{name}": value for name, value in result.weights.items()}
        return FitResult(whole, result.chosen_epoch, result.history, result.facts)
    found = fit_logistic(train, validation, num_classes=num_classes, options=options.training)
    layer = headed.head.state_dict()
    (weight,) = [name for name in layer if name.endswith("weight")]
    (bias,) = [name for name in layer if name.endswith("bias")]
    whole |= {
        f"head.{weight}": torch.from_numpy(found.weight).float(),
        f"head.{bias}": torch.from_numpy(found.bias).float(),
    }
    chosen_by = f"C = {found.inverse_penalty:g}, of {len(PENALTIES)} penalties the one with the lowest validation loss"
    return FitResult(whole, 1, found.history, training_facts(options.training) | {"chosen_by": chosen_by})


def _headed(model: nn.Module) -> Headed:
    from plainfilm.models.heads import Headed

    assert isinstance(model, Headed)
    return model
