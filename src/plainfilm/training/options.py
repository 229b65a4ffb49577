"""How a model is trained: one small frozen class, saved whole in the run."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainingOptions(BaseModel):
    """How a model is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(20, ge=1, le=10_000, description="Passes over the training images.")
    batch_size: int = Field(64, ge=1, le=65_536, description="Images in one step.")
    tuning: Literal["all", "head", "logistic"] = Field(
        "all",
        description="What is learnt: all layers; the head alone, on a frozen backbone; or the head alone, by logistic "
        "regression on the features of the frozen backbone. Frozen features are computed once and kept.",
    )
    unfreeze_epoch: int | None = Field(
        None, ge=1, description="Tuning 'head': after this epoch all layers are trained; by default they stay frozen."
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Learning rate of each group of layers as a share of that of the next group towards the head: "
        "below 1, early layers move less.",
    )
    views: int = Field(
        0,
        ge=0,
        le=1000,
        description="Frozen backbone: augmented views of each image, seen in turn from epoch to epoch; 0: the images "
        "as they are.",
    )
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="SGD is with Nesterov momentum.")
    learning_rate: float | None = Field(
        None, gt=0, description="Highest learning rate; by default 0.002 for AdamW, 0.001 for Adam, 0.1 for SGD."
    )
    weight_decay: float | None = Field(None, ge=0, description="By default 0.05 for AdamW, 0 for Adam, 0.0005 for SGD.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    schedule: Literal["one-cycle", "step", "constant"] = Field(
        "one-cycle", description="How the learning rate moves: up and down once, by steps, or not."
    )
    warm_up: float = Field(0.25, gt=0, lt=1, description="One-cycle: share of the steps on the way up.")
    step_epochs: int = Field(20, ge=1, description="Step: epochs between two steps.")
    step_factor: float = Field(0.1, gt=0, le=1, description="Step: what the rate is multiplied by.")
    loss: Literal["cross-entropy", "focal"] = Field(
        "cross-entropy", description="Focal: images that are already right count less (Lin et al. 2017)."
    )
    focal_gamma: float = Field(2.0, ge=0, le=10, description="Focal: how much less; 0 is cross-entropy.")
    imbalance: Literal["none", "weights", "sampler"] = Field(
        "none", description="Unequal classes: weigh the loss, or draw each class as often as any other."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of each target spread over all classes.")
    choose: Literal["loss", "balanced-accuracy", "last"] = Field(
        "loss", description="Which epoch is kept: best on validation by this, or the last."
    )
    patience: int | None = Field(None, ge=1, description="Stop after this many epochs without a better one.")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto",
        description="Auto: bfloat16 where the processor or GPU computes in it, else 32 bits; these too where a short "
        "probe finds them much faster for this model.",
    )
    memory_format: Literal["auto", "channels-last", "contiguous"] = Field(
        "auto",
        description="How images lie in memory. Auto: channels last, unless a short probe finds the other much faster.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    devices: int = Field(
        1,
        ge=1,
        le=256,
        description="Processes on this machine that share each batch, one for each GPU; on a CPU they share its cores. "
        "Under torchrun or srun, which start processes themselves, leave it out.",
    )
    keep_checkpoints: Literal["needed", "all"] = Field(
        "needed",
        description="Needed: to resume from, until the run is finished. All: every epoch, to be scored afterwards.",
    )
    keep_features: bool = Field(
        True,
        description="Keep features of frozen backbones in the user's cache folder, found by content, without names.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of weights, order and augmentation.")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.unfreeze_epoch is not None and self.tuning != "head":
            raise ValueError("unfreeze_epoch needs tuning 'head': nothing else is frozen at first")
        if self.views and (self.tuning == "all" or self.unfreeze_epoch is not None):
            raise ValueError(
                "views are of images before a frozen backbone; with all layers trained, augment draws anew"
            )
        return self

    @property
    def trains_features(self) -> bool:
        """Whether only a head is trained, on features that are computed once."""
        return self.tuning != "all" and self.unfreeze_epoch is None

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate asked for, or the optimizer's usual one."""
        return self.learning_rate or {"adamw": 2e-3, "adam": 1e-3, "sgd": 0.1}[self.optimizer]

    @property
    def decay(self) -> float:
        """The weight decay asked for, or the optimizer's usual one."""
        usual = {"adamw": 0.05, "adam": 0.0, "sgd": 5e-4}
        return self.weight_decay if self.weight_decay is not None else usual[self.optimizer]
