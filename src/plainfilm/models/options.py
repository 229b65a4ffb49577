"""Which model: one small frozen class, read without loading a deep-learning library."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ModelOptions(BaseModel):
    """Which model, how one channel reaches it, what its scores are made by, and where its weights come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field("resnet1d", description="Name; see 'plainfilm models'.")
    adapter: Literal["conv1x1", "depthwise", "sum", "replicate"] = Field(
        "conv1x1", description="How one channel becomes the three that a backbone expects."
    )
    head: Literal["own", "linear", "conv"] = Field(
        "own",
        description="What makes scores of a model's features: its own classifier, one linear layer, or the small "
        "convolutional network of the chest and abdomen study.",
    )
    weights: str | None = Field(
        None,
        description="'pretrained' for the weights of the model's own hub, or a .safetensors file; by default none.",
    )
    image_size: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="Height and width the images are fitted to; by default the model's own.",
    )
