"""The model of a run, loaded once and asked as often as needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from plainfilm.bundle import Bundle, BundleConfig, find_bundles, load_bundle, read_config
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.data.table import COLUMNS, Table
from plainfilm.errors import UsageError
from plainfilm.exporting.folder import check_folder, exported_model
from plainfilm.exporting.reading import SUFFIX, OnnxModel, read_onnx
from plainfilm.exporting.scoring import onnx_scores
from plainfilm.hub import located
from plainfilm.prediction import BATCH, Predictions, ScoringPrecision, Share, answers, predict_table
from plainfilm.progress import Progress
from plainfilm.team import ALONE, Team
from plainfilm.verbs.gating import NoveltyCheck, unlike_columns

Engine = Literal["torch", "onnx"]


@dataclass(frozen=True)
class Predictor:
    """What `predict`, `evaluate` and the service ask; so they give the same answers.

    Attributes:
        bundles: The model, or those of several folds: their scores are averaged.
        novelty: When an image is unlike the training images; None for several folds.
        device: Where to compute.
        precision: What to compute scores in; whether an image is unlike the others is found in 32 bits.
    """

    bundles: Sequence[Bundle]
    novelty: NoveltyCheck | None
    device: str
    precision: ScoringPrecision = "32-true"

    @classmethod
    def load(cls, run: Path, *, device: str = "auto", precision: ScoringPrecision = "32-true") -> Predictor:
        """The model of a run's folder, or of a bundle's.

        Raises:
            BundleError: As `bundle.load_bundle`.
        """
        folders = find_bundles(run)
        bundles = [load_bundle(folder) for folder in folders]
        novelty = NoveltyCheck.load(folders[0], bundles[0], device=device) if len(folders) == 1 else None
        return cls(bundles, novelty, device, precision)

    @property
    def config(self) -> BundleConfig:
        """Of the model, or of the first fold: classes and preprocessing are the same in all."""
        return self.bundles[0].config

    def predict(
        self,
        table: Table,
        pixels: PixelStore,
        *,
        batch_size: int = BATCH,
        team: Team = ALONE,
        progress: Progress | None = None,
    ) -> Predictions:
        """Scores of images, whether the model abstains, and which are unlike its training images; all a team read."""
        predictions = predict_table(
            self.bundles,
            table,
            pixels,
            batch_size=batch_size,
            device=self.device,
            precision=self.precision,
            share=Share(team, np.arange(len(pixels))),
            progress=progress,
        )
        if self.novelty is None:
            return predictions
        columns = self.novelty.columns(table.rows, pixels)
        return replace(predictions, table=predictions.table.assign(**columns))


@dataclass(frozen=True)
class OnnxPredictor:
    """The same by onnxruntime, from an exported file alone.

    Attributes:
        model: The file.
    """

    model: OnnxModel

    def predict(
        self,
        table: Table,
        pixels: PixelStore,
        *,
        batch_size: int = BATCH,
        team: Team = ALONE,
        progress: Progress | None = None,
    ) -> Predictions:
        """As `Predictor.predict`; by the first process alone."""
        del team
        facts = self.model.facts
        found = onnx_scores(self.model, pixels, batch_size=batch_size, progress=progress)
        rows = table.rows[list(COLUMNS)].copy()
        rows = rows.assign(**answers(facts.abstention, facts.calling, facts.classes, found.scores))
        rows = rows.assign(**unlike_columns(facts.novelty, table.rows, found.distances))
        return Predictions(facts.classes, rows, found.scores)


def find_model(run: str | Path) -> Path:
    """Where RUN lies: a run, a bundle, an exported folder (all of it checked), or a model of the hub, fetched once."""
    place = located(run)
    check_folder(place)
    return place


def prepared_for(place: Path, *, engine: Engine) -> tuple[Preprocessing, OnnxModel | None]:
    """How images must be prepared for the model at `place`; and the exported file, where that one is to be asked.

    Raises:
        BundleError: As `bundle.read_config` and `exporting.reading.read_onnx`.
    """
    exported = None
    if place.suffix.lower() == SUFFIX:
        exported = read_onnx(place)
    elif engine == "onnx":
        exported = exported_model(place)
    if exported is not None:
        return exported.facts.preprocessing, exported
    return read_config(find_bundles(place)[0]).preprocessing, None


def predictor_of(
    place: Path, exported: OnnxModel | None, *, device: str, precision: ScoringPrecision = "32-true"
) -> Predictor | OnnxPredictor:
    """What answers for the model at `place`.

    Raises:
        UsageError: `OPT_ENGINE` if onnxruntime is to work on another device than the processor, or not in 32 bits.
    """
    if exported is None:
        return Predictor.load(place, device=device, precision=precision)
    if device not in ("auto", "cpu"):
        raise UsageError("the ONNX engine works on the processor: leave --device out.", code="OPT_ENGINE")
    if precision == "bf16-mixed":
        raise UsageError("the ONNX engine works in 32 bits: leave --precision out.", code="OPT_ENGINE")
    return OnnxPredictor(exported)
