"""Augmentation as batched tensor work: one random draw per image, on the device the batch is on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch

    Augmentation = Callable[[torch.Tensor], torch.Tensor]


class AugmentOptions(BaseModel):
    """Random changes to training images. All are off at 0.

    The defaults are small and keep left and right: a flipped chest is another patient, with the heart on the right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    augment: bool = Field(True, description="Whether training images are changed at random at all.")
    rotation: float = Field(8.0, ge=0, le=180, description="Largest rotation, degrees.")
    shift: float = Field(0.06, ge=0, lt=1, description="Largest shift, share of the side.")
    zoom: float = Field(0.08, ge=0, lt=1, description="Largest zoom in or out, share of the size.")
    shear: float = Field(0.0, ge=0, le=45, description="Largest shear, degrees.")
    brightness: float = Field(0.0, ge=0, lt=1, description="Largest brightening or darkening, share of the value.")
    contrast: float = Field(0.1, ge=0, lt=1, description="Largest change of contrast, share.")
    horizontal_flip: bool = Field(False, description="Mirror half of the images: left becomes right.")
    vertical_flip: bool = Field(False, description="Turn half of the images upside down.")


def make_augmentation(options: AugmentOptions) -> Augmentation | None:
    """The augmentation of a `(batch, 1, height, width)` float batch with values in about [0, 1]; None if all is off.

    Draws come from torch's global generator, so that seeding it makes them repeatable. What leaves the frame on one
    side is replaced by the border's own value, so that a black wedge does not become a class.
    """
    if not options.augment:
        return None
    from kornia.augmentation import (  # takes seconds to import
        AugmentationSequential,
        RandomAffine,
        RandomHorizontalFlip,
        RandomVerticalFlip,
    )

    steps: list[Any] = []
    if any((options.rotation, options.shift, options.zoom, options.shear)):
        steps.append(
            RandomAffine(
                degrees=options.rotation,
                translate=(options.shift, options.shift) if options.shift else None,
                scale=(1 - options.zoom, 1 + options.zoom) if options.zoom else None,
                shear=options.shear or None,
                padding_mode="border",
                p=1.0,
            )
        )
    if options.horizontal_flip:
        steps.append(RandomHorizontalFlip(p=0.5))
    if options.vertical_flip:
        steps.append(RandomVerticalFlip(p=0.5))
    geometry = AugmentationSequential(*steps, data_keys=["input"]) if steps else None
    shading = _shading(options) if options.brightness or options.contrast else None
    if geometry is None and shading is None:
        return None

    def augment(batch: torch.Tensor) -> torch.Tensor:
        if geometry is not None:
            batch = geometry(batch)
        return shading(batch) if shading is not None else batch

    return augment


def _shading(options: AugmentOptions) -> Augmentation:
    """Brightness and contrast without clipping: 16-bit and float images have values outside [0, 1]."""
    import torch

    def shade(batch: torch.Tensor) -> torch.Tensor:
        draws = torch.rand(2, len(batch), 1, 1, 1, dtype=batch.dtype).to(batch.device) * 2 - 1
        mean = batch.mean(dim=(1, 2, 3), keepdim=True)
        contrasted = (batch - mean) * (1 + options.contrast * draws[0]) + mean
        return contrasted * (1 + options.brightness * draws[1])

    return shade
