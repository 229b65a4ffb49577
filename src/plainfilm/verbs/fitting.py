"""One training, from rows to weights: fit the preprocessing, build the model, fit all of it or its head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from plainfilm.config import RunOptions
from plainfilm.data.augment import make_augmentation
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.data.splits import Fold
from plainfilm.data.table import Table
from plainfilm.prediction import Share
from plainfilm.progress import Progress
from plainfilm.team import ALONE, Team
from plainfilm.verbs.building import build_model, without_weights
from plainfilm.verbs.head_fitting import fit_head, frozen_features

if TYPE_CHECKING:
    from torch import nn

    from plainfilm.training.loop import FitResult, Row


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
    model, head = build_model(options, num_classes=len(classes), image_size=pixels.shape[1])
    train = LabelledImages(training, labels[fold.train], preprocessing, make_augmentation(options.augment))
    validation = LabelledImages(validating, labels[fold.validation], preprocessing)
    if options.training.trains_features:
        digests = table.rows["pixel_sha256"].to_numpy(dtype=object)
        result = fit_head(
            model,
            frozen_features(
                model,
                train,
                list(digests[fold.train]),
                options,
                views=options.training.views,
                num_classes=len(classes),
                share=Share(team, fold.train),
                progress=progress,
            ),
            frozen_features(
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

    asked, prepared = without_weights(options), Preprocessing.model_validate(preprocessing)
    train_rows, train_labels, rows, labels = (team.spread(None) for _ in range(4))
    model, _ = build_model(asked, num_classes=num_classes, image_size=pixels.shape[1])
    fit(
        model,
        LabelledImages(pixels.take(train_rows), train_labels, prepared, make_augmentation(asked.augment)),
        LabelledImages(pixels.take(rows), labels, prepared),
        num_classes=num_classes,
        options=asked.training,
        folder=Path(),
        team=team,
    )
