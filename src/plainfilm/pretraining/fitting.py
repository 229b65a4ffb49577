"""Pretraining by the usual loop: the labels are a formula's parameters, or which image it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from plainfilm.errors import DataError
from plainfilm.models import create_model
from plainfilm.models.zoo import classifier_names
from plainfilm.pretraining.examples import GeneratedImages, generated
from plainfilm.pretraining.instances import Instances
from plainfilm.pretraining.options import PretrainOptions
from plainfilm.progress import Progress
from plainfilm.training.batches import Examples
from plainfilm.training.loop import fit
from plainfilm.training.options import TrainingOptions

if TYPE_CHECKING:
    from plainfilm.data.pixels import PixelStore
    from plainfilm.training.loop import FitResult, Row

MOST_VALIDATED = 1024  # generated images, the same after every epoch
FEWEST = 64  # images of a folder


@dataclass(frozen=True)
class Lesson:
    """What is learnt: images, and in how many classes they are.

    Attributes:
        train: New images in every epoch, or the same in new acquisitions.
        validation: What shows how far it has come; nothing is chosen on it.
        num_classes: Of both.
    """

    train: Examples
    validation: Examples
    num_classes: int


def generated_lesson(options: PretrainOptions) -> Lesson:
    """Name the parameters of the formula that drew an image."""
    train = generated(options.families, n_images=options.epoch_images, size=options.image_size, seed=options.seed)
    # Classes as in training; which are shown, and all that is drawn, comes from another seed.
    n_shown = min(MOST_VALIDATED, options.epoch_images)
    labels = np.random.default_rng([options.seed, 1]).integers(0, train.num_classes, n_shown)
    validation = GeneratedImages(train.families, labels, options.image_size, options.seed + 1)
    return Lesson(train, validation, train.num_classes)


def folder_lesson(pixels: PixelStore) -> Lesson:
    """Tell every image from all others.

    Raises:
        DataError: `PRE_TOO_FEW` below `FEWEST` images.
    """
    if len(pixels) < FEWEST:
        raise DataError(
            f"{len(pixels)} images are too few to learn from without labels; {FEWEST} are the least, thousands are "
            "better. Without a folder, images are generated.",
            code="PRE_TOO_FEW",
        )
    instances = Instances.of(pixels)
    return Lesson(instances, instances, len(pixels))


def pretrain_model(
    lesson: Lesson,
    options: PretrainOptions,
    checkpoints: Path,
    *,
    resume: bool,
    on_epoch: Callable[[list[Row]], None],
    progress: Progress,
) -> tuple[FitResult, Mapping[str, torch.Tensor]]:
    """Train; give the training and the weights of its last epoch without the classifier.

    What names the classes is left out: it is of no use elsewhere, and of a folder it holds a row for every image.
    """
    torch.manual_seed(options.seed)
    model = create_model(
        options.model, num_classes=lesson.num_classes, weights=options.begin_from, image_size=options.image_size
    )
    result = fit(
        model,
        lesson.train,
        lesson.validation,
        num_classes=lesson.num_classes,
        options=TrainingOptions(
            epochs=options.epochs,
            batch_size=min(options.batch_size, len(lesson.train.labels)),
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            choose="last",
            device=options.device,
            precision=options.precision,
            seed=options.seed,
        ),
        folder=checkpoints,
        resume=resume,
        on_epoch=on_epoch,
        progress=progress,
    )
    classifier = classifier_names(options.model, num_classes=lesson.num_classes, image_size=options.image_size)
    return result, {name: tensor for name, tensor in result.weights.items() if name not in classifier}
