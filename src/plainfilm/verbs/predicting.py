"""The model of a run, loaded once and asked as often as needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plainfilm.bundle import Bundle, BundleConfig, find_bundles, load_bundle
from plainfilm.data.pixels import PixelStore
from plainfilm.data.table import Table
from plainfilm.prediction import BATCH, Predictions, predict_table
from plainfilm.progress import Progress
from plainfilm.verbs.gating import NoveltyCheck


@dataclass(frozen=True)
class Predictor:
    """What `predict`, `evaluate` and the service ask; so they give the same answers.

    Attributes:
        bundles: The model, or those of several folds: their scores are averaged.
        novelty: When an image is unlike the training images; None for several folds.
        device: Where to compute.
    """

    bundles: Sequence[Bundle]
    novelty: NoveltyCheck | None
    device: str

    @classmethod
    def load(cls, run: Path, *, device: str = "auto") -> Predictor:
        """The model of a run's folder, or of a bundle's.

        Raises:
            BundleError: As `bundle.load_bundle`.
        """
        folders = find_bundles(run)
        bundles = [load_bundle(folder) for folder in folders]
        novelty = NoveltyCheck.load(folders[0], bundles[0], device=device) if len(folders) == 1 else None
        return cls(bundles, novelty, device)

    @property
    def config(self) -> BundleConfig:
        """Of the model, or of the first fold: classes and preprocessing are the same in all."""
        return self.bundles[0].config

    def predict(
        self, table: Table, pixels: PixelStore, *, batch_size: int = BATCH, progress: Progress | None = None
    ) -> Predictions:
        """Scores of images, whether the model abstains, and which are unlike its training images."""
        predictions = predict_table(
            self.bundles, table, pixels, batch_size=batch_size, device=self.device, progress=progress
        )
        if self.novelty is None:
            return predictions
        columns = self.novelty.columns(table.rows, pixels)
        return replace(predictions, table=predictions.table.assign(**columns))
