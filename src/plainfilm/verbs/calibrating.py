"""What is fitted after training, on patients who took no part in it: the temperature, and when to say nothing."""

from __future__ import annotations

from pathlib import Path

from plainfilm.abstention import fit_abstention
from plainfilm.bundle import BundleConfig, load_bundle
from plainfilm.calibration import fit_temperature, tempered
from plainfilm.config import RunOptions
from plainfilm.data.pixels import PixelStore
from plainfilm.metrics import Ints
from plainfilm.prediction import predict_scores
from plainfilm.progress import Progress


def calibrated(
    folder: Path, pixels: PixelStore, y_true: Ints, group: Ints, options: RunOptions, *, progress: Progress
) -> BundleConfig:
    """The bundle's config with calibration and abstention.

    Args:
        folder: The bundle, as training left it.
        pixels: Images of the calibration patients.
        y_true: Their classes.
        group: Their patients.
        options: Of the run.
        progress: Told after every batch.
    """
    bundle = load_bundle(folder)
    scores = predict_scores(bundle, pixels, device=options.training.device, progress=progress)
    calibration = fit_temperature(y_true, scores, group)
    abstention = fit_abstention(
        y_true, tempered(scores, calibration.temperature), group, bundle.config.classes, options.abstention
    )
    return bundle.config.model_copy(update={"calibration": calibration, "abstention": abstention})
