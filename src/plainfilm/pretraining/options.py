"""How weights are made without labels: one small frozen class."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plainfilm.errors import nearest_name

FAMILY_NAMES = ("fractals", "contours", "textures", "ellipses", "phantoms")
USUAL = FAMILY_NAMES[:-1]  # a demonstration on phantoms shows nothing with weights that have seen phantoms


class PretrainOptions(BaseModel):
    """How weights are made without labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field("resnet1d", description="What is pretrained; see 'plainfilm models'.")
    begin_from: str | None = Field(
        None,
        description="Weights to go on from: a .safetensors file of an earlier pretraining; by default none.",
    )
    epochs: int = Field(20, ge=1, le=10_000, description="Passes; each draws new images, or goes over the folder once.")
    epoch_images: int = Field(
        20_000, ge=64, le=100_000_000, description="Generated images of one epoch; a folder has as many as it has."
    )
    image_size: int = Field(
        64, ge=32, le=1024, description="Height and width; a convolutional network may be used at another later."
    )
    families: tuple[str, ...] = Field(
        USUAL,
        min_length=1,
        description="What is generated: fractals, contours, textures, ellipses, phantoms (by default all but these).",
    )
    batch_size: int = Field(128, ge=2, le=65_536, description="Images in one step.")
    learning_rate: float = Field(3e-3, gt=0, description="Highest learning rate, of AdamW with one cycle.")
    weight_decay: float = Field(0.05, ge=0, description="Of AdamW.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="Auto: bfloat16 where the processor or GPU computes in it, else 32 bits."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of formulas, images, weights and order.")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for name in self.families:
            if name not in FAMILY_NAMES:
                raise ValueError(f"no family named '{name}'.{nearest_name(name, FAMILY_NAMES)}")
        if len(set(self.families)) < len(self.families):
            raise ValueError("a family is named twice")
        return self
