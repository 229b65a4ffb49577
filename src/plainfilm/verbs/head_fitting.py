"""A head on a frozen backbone: the backbone's features of the images, once, and what is learnt from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plainfilm.config import RunOptions
from plainfilm.data.augment import make_augmentation
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.errors import ResourceError
from plainfilm.prediction import Share
from plainfilm.progress import Progress
from plainfilm.storage import cache_folder
from plainfilm.team import Team, spread_tensors
from plainfilm.verbs.building import build_model, headed, without_weights

if TYPE_CHECKING:
    from torch import nn

    from plainfilm.training.batches import LabelledFeatures, LabelledImages
    from plainfilm.training.loop import FitResult, Row

MAX_FEATURE_BYTES = 4 << 30


def frozen_features(
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

    backbone = headed(model).backbone
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

    asked, prepared = without_weights(options), Preprocessing.model_validate(preprocessing)
    rows, weights = team.spread(None), spread_tensors(team, None)
    model, _ = build_model(asked, num_classes=num_classes, image_size=pixels.shape[1])
    model.load_state_dict(weights)
    augmentation = make_augmentation(asked.augment) if augmented else None
    images = LabelledImages(pixels.take(rows), np.zeros(len(rows), dtype=np.int64), prepared, augmentation)
    help_extracting(team, headed(model).backbone, images, views=views, device=asked.training.device)


def fit_head(
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

    whole_model = headed(model)
    whole = {name: value.detach().cpu() for name, value in whole_model.state_dict().items()}
    if options.training.tuning == "head":
        result = fit(
            whole_model.head,
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
    layer = whole_model.head.state_dict()
    (weight,) = [name for name in layer if name.endswith("weight")]
    (bias,) = [name for name in layer if name.endswith("bias")]
    whole |= {
        f"head.{weight}": torch.from_numpy(found.weight).float(),
        f"head.{bias}": torch.from_numpy(found.bias).float(),
    }
    chosen_by = f"C = {found.inverse_penalty:g}, of {len(PENALTIES)} penalties the one with the lowest validation loss"
    return FitResult(whole, 1, found.history, training_facts(options.training) | {"chosen_by": chosen_by})
