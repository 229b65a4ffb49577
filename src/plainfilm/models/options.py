"""Which model: one small frozen class, read without loading a deep-learning library."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PRETRAINED = "pretrained"  # as first weights: those inside plainfilm, or else of the model's own hub


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
        description="'pretrained' for the weights that come with plainfilm or lie on the model's own hub, or a "
        ".safetensors file; by default none.",
    )
    pretrained: bool = Field(
        False,
        description="The same as weights 'pretrained'. Those of resnet1d are inside plainfilm, made from generated "
        "images; they need no network.",
    )
    image_size: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="Height and width the images are fitted to; by default the model's own.",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.pretrained and self.weights is not None:
            raise ValueError(
                "pretrained begins from the model's published weights, and weights names others; give one of the two"
            )
        return self

    @property
    def first_weights(self) -> str | None:
        """What training begins from, for `create_model`; None: random numbers."""
        return PRETRAINED if self.pretrained else self.weights
