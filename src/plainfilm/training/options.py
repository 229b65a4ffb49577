"""How a model is trained: one small frozen class, saved whole in the run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingOptions(BaseModel):
    """How a model is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(20, ge=1, le=10_000, description="Passes over the training images.")
    batch_size: int = Field(64, ge=1, le=65_536, description="Images in one step.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="SGD is with Nesterov momentum.")
    learning_rate: float | None = Field(
        None, gt=0, description="Highest learning rate; by default 0.002 for AdamW, 0.1 for SGD."
    )
    weight_decay: float | None = Field(None, ge=0, description="By default 0.05 for AdamW, 0.0005 for SGD.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    schedule: Literal["one-cycle", "step", "constant"] = Field(
        "one-cycle", description="How the learning rate moves: up and down once, by steps, or not."
    )
    warm_up: float = Field(0.25, gt=0, lt=1, description="One-cycle: share of the steps on the way up.")
    step_epochs: int = Field(20, ge=1, description="Step: epochs between two steps.")
    step_factor: float = Field(0.1, gt=0, le=1, description="Step: what the rate is multiplied by.")
    imbalance: Literal["none", "weights", "sampler"] = Field(
        "none", description="Unequal classes: weigh the loss, or draw each class as often as any other."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of each target spread over all classes.")
    choose: Literal["loss", "balanced-accuracy", "last"] = Field(
        "loss", description="Which epoch is kept: best on validation by this, or the last."
    )
    patience: int | None = Field(None, ge=1, description="Stop after this many epochs without a better one.")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="Auto: bfloat16 where the processor or GPU computes in it, else 32 bits."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    keep_checkpoints: Literal["needed", "all"] = Field(
        "needed",
        description="Needed: to resume from, until the run is finished. All: every epoch, to be scored afterwards.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of weights, order and augmentation.")

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate asked for, or the optimizer's usual one."""
        return self.learning_rate or {"adamw": 2e-3, "sgd": 0.1}[self.optimizer]

    @property
    def decay(self) -> float:
        """The weight decay asked for, or the optimizer's usual one."""
        return self.weight_decay if self.weight_decay is not None else {"adamw": 0.05, "sgd": 5e-4}[self.optimizer]
