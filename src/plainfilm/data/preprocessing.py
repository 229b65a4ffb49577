"""From decoded pixels to what a model sees: one affine map, fitted on training rows only."""

from __future__ import annotations

from typing import Literal, Self, TypeVar, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.data.pixels import PixelStore
from plainfilm.data.windows import FILE
from plainfilm.errors import UsageError

T = TypeVar("T")

# What percentiles are taken from: enough for a stable 0.1 percentile, little enough to sort in a second.
SAMPLED_IMAGES = 1000
SAMPLED_PIXELS = 1 << 26


class FittingOptions(BaseModel):
    """How an image is brought to the model's size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit: Literal["pad", "stretch"] = Field(
        "pad",
        description="Pad keeps the aspect ratio, and shows it by its borders; stretch fills the size, and hides it "
        "from the eye. Where shapes differ between classes, either can leak the class.",
    )
    resample: Literal["smooth", "nearest"] = Field(
        "smooth", description="Antialiased bilinear, or the nearest pixel unchanged (as Keras resized images in 2018)."
    )


class IntensityOptions(BaseModel):
    """How pixel values become the numbers a model sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rescale: Literal["auto", "depth", "training"] = Field(
        "auto",
        description="What becomes [0, 1]: the full range of the depth, or the 0.1 to 99.9 percentile of the training "
        "rows. Auto: depth if all training images have 8 bits, else training.",
    )
    normalize: Literal["auto", "training", "pretrained", "none"] = Field(
        "auto",
        description="Mean and standard deviation: of the training rows, of the pretrained weights, or none. "
        "Auto: pretrained where weights are, else training.",
    )


class Preprocessing(BaseModel):
    """Everything between a decoded image and the model's input; kept in the bundle.

    Attributes:
        height: Rows of the model's input.
        width: Columns.
        fit: `pad` or `stretch`.
        resample: `smooth` or `nearest`.
        low: Value that becomes 0; in units of the full range for integer images, in their own for float images.
        high: Value that becomes 1.
        mean: Mean taken off after that.
        std: Standard deviation divided by.
        source: Where the four numbers come from, in words.
        window: Window of grey values that DICOM and NIfTI images are seen through; see `windows.parse_window`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int
    width: int
    fit: Literal["pad", "stretch"]
    resample: Literal["smooth", "nearest"] = "smooth"
    low: float = 0.0
    high: float = 1.0
    mean: float = 0.0
    std: float = 1.0
    source: str = "none"
    window: str = FILE

    @classmethod
    def fit_training(
        cls,
        training: PixelStore,
        *,
        fitting: FittingOptions,
        options: IntensityOptions,
        pretrained: tuple[float, float] | None = None,
        window: str = FILE,
        seed: int = 0,
    ) -> Self:
        """Fit on the training images alone.

        Args:
            training: The training rows, and no others.
            fitting: How the images were fitted to the size.
            options: What to fit.
            pretrained: Mean and standard deviation the weights expect, on [0, 1]; None without weights.
            window: What the images were seen through.
            seed: For the sample of images that percentiles are taken from.

        Raises:
            UsageError: `OPT_NORMALIZE` if mean and standard deviation of weights are asked for without weights.
        """
        if options.normalize == "pretrained" and pretrained is None:
            raise UsageError(
                "--normalize pretrained takes mean and SD from pretrained weights, but the model has none. Use "
                "--normalize training.",
                code="OPT_NORMALIZE",
            )
        rescale = options.rescale if options.rescale != "auto" else ("depth" if training.is_eight_bit else "training")
        normalize = options.normalize
        if normalize == "auto":
            normalize = "pretrained" if pretrained is not None else "training"
        low, high = (0.0, 1.0) if rescale == "depth" else _percentiles(training, seed)
        mean, std = 0.0, 1.0
        if normalize == "training":
            mean, std = _mean_and_std(training, low, high)
        elif normalize == "pretrained" and pretrained is not None:
            mean, std = pretrained
        scale = "full range of the depth" if rescale == "depth" else "0.1 to 99.9 percentile of the training rows"
        center = {"training": "mean and SD of the training rows", "pretrained": "mean and SD of the weights"}
        return cls(
            height=training.shape[1],
            width=training.shape[2],
            fit=fitting.fit,
            resample=fitting.resample,
            low=low,
            high=high,
            mean=mean,
            std=std,
            source=f"{scale} to [0, 1]; {center.get(normalize, 'no centring')}",
            window=window,
        )

    @property
    def offset(self) -> float:
        """What is taken off a value before `gain`."""
        return self.low + self.mean * (self.high - self.low)

    @property
    def gain(self) -> float:
        """What a value is multiplied by after `offset`."""
        return 1.0 / ((self.high - self.low) * self.std)

    def apply(self, values: T) -> T:
        """Map values (array or tensor, as `PixelStore.values` gives them) to the model's input."""
        return cast("T", (values - self.offset) * self.gain)  # type: ignore[operator]

    def in_words(self) -> str:
        """One sentence for the report."""
        shape = {
            "pad": "padded with its darkest value to keep the aspect ratio",
            "stretch": "stretched, which hides the aspect ratio from the eye but not from the model",
        }[self.fit]
        how = {"smooth": "antialiased bilinear", "nearest": "nearest pixel"}[self.resample]
        return (
            f"One grey channel, resized to {self.height}x{self.width} ({how}) and {shape}; "
            f"intensities: {self.source} (low {self.low:.4g}, high {self.high:.4g}, mean {self.mean:.4g}, "
            f"SD {self.std:.4g})."
        )


def _percentiles(training: PixelStore, seed: int) -> tuple[float, float]:
    n_images = max(1, min(SAMPLED_IMAGES, SAMPLED_PIXELS // (training.shape[1] * training.shape[2])))
    chosen = np.random.default_rng(seed).permutation(len(training))[:n_images]
    low, high = np.percentile(training.values(np.sort(chosen)), (0.1, 99.9))
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def _mean_and_std(training: PixelStore, low: float, high: float) -> tuple[float, float]:
    total = total_of_squares = 0.0
    for start in range(0, len(training), 512):
        part = np.arange(start, min(start + 512, len(training)))
        values = (training.values(part).astype(np.float64) - low) / (high - low)
        total += float(values.sum())
        total_of_squares += float((values * values).sum())
    n_pixels = len(training) * training.shape[1] * training.shape[2]
    mean = total / n_pixels
    variance = max(total_of_squares / n_pixels - mean * mean, 1e-12)
    return mean, float(np.sqrt(variance))
