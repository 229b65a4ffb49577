"""The frozen backbone that the audit asks: named by the user, or the one that a run began from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plainfilm.auditing.patches import NO_BACKBONE, Extract
from plainfilm.bundle import Bundle
from plainfilm.config import RunOptions
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.errors import PlainfilmError
from plainfilm.progress import Progress
from plainfilm.storage import cache_folder


@dataclass(frozen=True)
class Frozen:
    """A backbone that learnt nothing of these labels.

    Attributes:
        extract: From images to features, which are kept by content; None where there is no backbone.
        name: What to call it.
        reason: Why there is none.
    """

    extract: Extract | None = None
    name: str = ""
    reason: str = NO_BACKBONE


def frozen_backbone(
    asked: RunOptions,
    trained: RunOptions | None,
    bundle: Bundle | None,
    pixels: PixelStore | None,
    *,
    device: str,
    progress: Progress,
) -> Frozen:
    """The backbone of `--backbone`, else that of a run whose head alone was trained, else what a run began from.

    Args:
        asked: Options of the audit.
        trained: Options of the audited run, if there is one.
        bundle: Its model.
        pixels: All images.
        device: Where to compute.
        progress: Told after every batch.
    """
    if pixels is None or (asked.audit.backbone is None and trained is None):
        return Frozen()  # before torch is loaded: images alone are audited without it
    from plainfilm.models import create_model, describe_model
    from plainfilm.models.parts import pooled_features

    try:
        if asked.audit.backbone is None and trained is not None and trained.training.trains_features:
            if bundle is None or trained.model.first_weights is None:
                return Frozen()  # a frozen backbone of random weights tells no texture from another
            preprocessing, called = bundle.config.preprocessing, trained.model.model
            backbone = pooled_features(bundle.model)
        else:
            name, weights, adapter = asked.audit.backbone, asked.audit.backbone_weights, asked.model.adapter
            if name is None and trained is not None and trained.model.first_weights is not None:
                name, weights, adapter = trained.model.model, trained.model.first_weights, trained.model.adapter
            if name is None:
                return Frozen()
            if weights is None:
                return Frozen(reason=f"{name} has no weights: name them with --backbone-weights")
            size = pixels.shape[1]
            model = create_model(name, num_classes=2, adapter=adapter, weights=weights, image_size=size)
            backbone = pooled_features(model, image_size=size)
            described = describe_model(name, measure=False)
            called = name
            preprocessing = Preprocessing.fit_training(
                pixels, fitting=asked.fitting, options=asked.intensity, pretrained=(described.mean, described.std)
            )
    except PlainfilmError as error:
        return Frozen(reason=str(error).rstrip("."))

    def extract(images: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        from plainfilm.features import extract_features
        from plainfilm.training.batches import LabelledImages

        store = PixelStore(*images.shape)
        digests = []
        for index, image in enumerate(images):
            store.put(index, image)
            digests.append(hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest())
        (features,) = extract_features(
            backbone,
            LabelledImages(store, np.zeros(len(images), dtype=np.int64), preprocessing),
            digests,
            cache=cache_folder() if asked.training.keep_features else None,
            device=device,
            progress=progress,
        )
        return np.asarray(features.reshape(len(images), -1))

    return Frozen(extract, called)
