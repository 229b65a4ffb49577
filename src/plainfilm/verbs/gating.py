"""Learn which images are unlike those of the training, and ask it of new ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from plainfilm.bundle import Bundle, load_bundle, load_reference
from plainfilm.data.pixels import PixelStore
from plainfilm.errors import PlainfilmError
from plainfilm.metrics import Bools, Floats, Ints, roc_auc
from plainfilm.novelty import (
    Features,
    Gate,
    NoveltyOptions,
    Reference,
    beyond,
    farness,
    file_gate,
    limits,
    refusals,
)
from plainfilm.progress import Progress, Silent
from plainfilm.verbs.strange import changed, inverted, strange_images

if TYPE_CHECKING:
    from plainfilm.features import Extractor

SELF_TEST: Final = 48  # images of each kind


def learn_gate(
    folder: Path,
    rows: pd.DataFrame,
    pixels: PixelStore,
    labels: Ints,
    groups: Ints,
    *,
    train: Ints,
    held_out: Ints,
    options: NoveltyOptions,
    device: str,
    seed: int,
    progress: Progress,
) -> tuple[Gate, Reference | None]:
    """What the files of the training images have in common, and how far from them held-out images are.

    Args:
        folder: The bundle.
        rows: The table: `bits`, `width`, `height`.
        pixels: All images.
        labels: Class of each.
        groups: Patient of each.
        train: Rows trained on.
        held_out: Rows of other patients, none of them of the test.
        options: Limits.
        device: Where to compute.
        seed: Of which images are looked at where there are many.
        progress: Told after every batch.
    """
    files = [rows[name].to_numpy()[train].astype(np.intp) for name in ("bits", "width", "height")]
    gate = file_gate(*files)
    if not options.novelty:
        return gate, None
    n_patients = len(np.unique(groups[held_out]))
    if n_patients < options.novelty_patients:
        return gate.model_copy(
            update={"reason": f"{options.novelty_patients} held-out patients are needed; there are {n_patients}"}
        ), None
    drawn = np.random.default_rng(seed)
    inside, outside = (np.sort(drawn.permutation(part)[: options.novelty_images]) for part in (train, held_out))
    bundle = load_bundle(folder)
    try:
        extractor = pooled_extractor(bundle, device=device)
        seen, new = (
            pooled(bundle, pixels.take(part), extractor=extractor, progress=progress) for part in (inside, outside)
        )
    except PlainfilmError as error:
        return gate.model_copy(update={"reason": str(error)}), None
    reference = Reference.fit(seen, labels[inside], most=options.novelty_images, seed=seed)
    distances = reference.distances(new, neighbours=options.novelty_neighbours)
    near, away = limits(distances, groups[outside], quantile=options.novelty_quantile)
    if not (near > 0 and away > 0 and np.isfinite([near, away]).all()):
        return gate.model_copy(update={"reason": "the features of all images are alike"}), None
    gate = gate.model_copy(
        update={
            "neighbour_limit": near,
            "class_limit": away,
            "quantile": options.novelty_quantile,
            "neighbours": options.novelty_neighbours,
            "n_reference": len(reference.images),
            "n_patients": n_patients,
            "reason": "",
        }
    )
    return gate.model_copy(
        update={
            "far_auc": _self_test(
                NoveltyCheck(gate, reference, extractor, bundle), pixels.take(outside[:SELF_TEST]), distances
            )
        }
    ), reference


@dataclass(frozen=True)
class NoveltyCheck:
    """What a bundle knows of images unlike those of its training, loaded once.

    Attributes:
        gate: When an image is unlike them.
        reference: What its features are compared with; None where that was not learnt.
        extractor: Makes those features; None likewise.
        bundle: Whose they are.
    """

    gate: Gate
    reference: Reference | None
    extractor: Extractor | None
    bundle: Bundle

    @classmethod
    def load(cls, folder: Path, bundle: Bundle, *, device: str) -> NoveltyCheck:
        """The check of the bundle in `folder`."""
        gate = bundle.config.novelty
        if gate.neighbour_limit is None:
            return cls(gate, None, None, bundle)
        return cls(gate, load_reference(folder), pooled_extractor(bundle, device=device), bundle)

    def distances(self, pixels: PixelStore) -> Floats | None:
        """`(n,)`: how far each image is, in units of the limit; None where that was not learnt."""
        found = self._distances(pixels)
        return None if found is None else farness(found, self.gate)

    def columns(self, rows: pd.DataFrame, pixels: PixelStore) -> dict[str, list[str]]:
        """For each image whether it is unlike the training images (`yes`, `no`), and why."""
        return unlike_columns(self.gate, rows, self._distances(pixels) if self.gate.bits else None)

    def looks_inverted(self, pixels: PixelStore) -> Bools:
        """`(n,)`: whether the negative of an image is within the limits, so that it alone is what is strange."""
        distances = self.distances(changed(pixels, inverted))
        return np.zeros(len(pixels), dtype=bool) if distances is None else np.asarray(distances <= 1)

    def _distances(self, pixels: PixelStore) -> Floats | None:
        if self.reference is None or self.extractor is None:
            return None
        features = pooled(self.bundle, pixels, extractor=self.extractor)
        return self.reference.distances(features, neighbours=self.gate.neighbours)


def unlike_columns(gate: Gate, rows: pd.DataFrame, distances: Floats | None) -> dict[str, list[str]]:
    """Whether each image is unlike the training images, by its file and by its distances where those are known."""
    if not gate.bits:
        return {}
    why = refusals(gate, *(rows[name].to_numpy().astype(np.intp) for name in ("bits", "width", "height")))
    if distances is not None:
        far = beyond(distances, gate)
        ratio = farness(distances, gate)
        why = [
            "; ".join(filter(None, (said, f"{times:.1f} times as far as the limit" if is_far else "")))
            for said, is_far, times in zip(why, far, ratio, strict=True)
        ]
    return {"unlike_training": ["yes" if said else "no" for said in why], "unlike_why": why}


def pooled_extractor(bundle: Bundle, *, device: str) -> Extractor:
    """What makes the features of a model right before its head.

    Raises:
        UsageError: `NO_FEATURES`, for a network that is a classifier and nothing else.
    """
    from plainfilm.features import Extractor
    from plainfilm.models.parts import pooled_features

    return Extractor.of(pooled_features(bundle.model), device)


def pooled(bundle: Bundle, pixels: PixelStore, *, extractor: Extractor, progress: Progress | None = None) -> Features:
    """`(n, d)` features of images; nothing is kept on disk."""
    from plainfilm.features import BATCH
    from plainfilm.training.batches import LabelledImages

    images = LabelledImages(pixels, np.zeros(len(pixels), dtype=np.int64), bundle.config.preprocessing)
    parts = []
    with (progress or Silent()).task("features", len(pixels)) as advance:
        for start in range(0, len(pixels), BATCH):
            part = range(start, min(start + BATCH, len(pixels)))
            parts.append(extractor.compute(images, part, None))
            advance(len(part))
    return np.concatenate(parts).astype(np.float32, copy=False)


def _self_test(check: NoveltyCheck, like: PixelStore, held_out: Floats) -> dict[str, float]:
    """ROC AUC of telling held-out images from others that nobody would take for them."""
    usual = farness(held_out, check.gate)
    found = {}
    for name, images in strange_images(like):
        strange = check.distances(images)
        assert strange is not None
        scores = np.concatenate([usual, strange])
        is_strange = np.arange(len(scores)) >= len(usual)
        found[name] = float(roc_auc(is_strange, scores))
    return found
