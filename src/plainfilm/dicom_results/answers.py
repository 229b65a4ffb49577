"""What a model says of one image, and the words a report says it in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import NAMESPACE_OID, uuid5

from plainfilm import __version__
from plainfilm.bundle import BundleConfig
from plainfilm.prediction import Predictions

RESEARCH = "RESEARCH - NOT FOR CLINICAL USE"
PRELIMINARY = "Preliminary and unverified: made by software, read by nobody."
CLASSES = "classes="  # before the names as JSON, among the parameters of the algorithm

Outcome = Literal["answer", "abstains", "withheld"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is said of one image.

    Attributes:
        classes: Names, in the order of `scores`.
        scores: A probability for each class.
        possible: The classes that it may be; None where the model has no rule for abstaining.
        unlike: Whether the image is unlike those of the training; None where that is not known.
        why: Why it is, in words; empty otherwise.
    """

    classes: tuple[str, ...]
    scores: tuple[float, ...]
    possible: tuple[str, ...] | None = None
    unlike: bool | None = None
    why: str = ""

    @property
    def outcome(self) -> Outcome:
        """Whether there is a finding, and why not.

        An image unlike those of the training gets none: a code is read by machines, which read no caution beside it.
        """
        if self.unlike:
            return "withheld"
        return "answer" if self.possible is None or len(self.possible) == 1 else "abstains"

    @property
    def predicted(self) -> str:
        """The class with the highest score; the first of equals."""
        return self.classes[max(range(len(self.scores)), key=lambda index: (self.scores[index], -index))]

    @property
    def finding(self) -> str | None:
        """The class that is found; None where the model gives no answer."""
        if self.outcome != "answer":
            return None
        return self.predicted if self.possible is None else self.possible[0]

    def in_words(self) -> str:
        """One or two sentences."""
        if self.outcome == "withheld":
            why = f" ({self.why})" if self.why else ""
            return f"No answer: the image is unlike those that the model was trained on{why}. The scores mean little."
        if self.outcome == "abstains":
            sets = f"it may be any of: {', '.join(self.possible)}" if self.possible else "no class fits it"
            return f"No answer: the model abstains; {sets}."
        assert self.finding is not None
        return f"Answer: {self.finding}, probability {self.scores[self.classes.index(self.finding)]:.3f}."


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Which model gave the answers.

    Attributes:
        name: Architecture; TID 4019 calls it the algorithm's name.
        version: plainfilm's version and the start of the hash of the weights.
        parameters: Further facts, each `name=value`.
        device_uid: The same for the same weights, on every machine.
        caution: What to know of its answers, in sentences.
    """

    name: str
    version: str
    parameters: tuple[str, ...]
    device_uid: str
    caution: str


def answers_of(predictions: Predictions, configs: Sequence[BundleConfig]) -> list[Answer]:
    """What is said of each row, as `predict` says it."""
    classes, table = predictions.classes, predictions.table
    rule = configs[0].abstention if len(configs) == 1 and configs[0].abstention.applies else None
    held = None if rule is None else rule.sets(predictions.scores, classes)
    knows = "unlike_training" in table.columns
    return [
        Answer(
            classes=classes,
            scores=tuple(predictions.scores[index].tolist()),
            possible=None
            if held is None
            else tuple(name for name, inside in zip(classes, held[index], strict=True) if inside),
            unlike=bool(table["unlike_training"].iat[index] == "yes") if knows else None,
            why=str(table["unlike_why"].iat[index]) if knows else "",
        )
        for index in range(len(table))
    ]


def identity_of(configs: Sequence[BundleConfig]) -> ModelIdentity:
    """The identity of a model, or of the models of several folds together."""
    first = configs[0]
    weights = "+".join(config.weights_sha256 for config in configs)
    name = first.architecture.name + (f", mean of {len(configs)} folds" if len(configs) > 1 else "")
    calibrated = ", ".join(f"{config.calibration.temperature:.4g}" for config in configs)
    return ModelIdentity(
        name=f"plainfilm {name}",
        version=f"{__version__} weights {first.weights_sha256[:12]}",
        parameters=(
            f"{CLASSES}{json.dumps(first.classes)}",
            *(f"weights_sha256={config.weights_sha256}" for config in configs),
            f"temperature={calibrated}",
            f"split_by={first.split_unit}",
        ),
        device_uid=f"2.25.{uuid5(NAMESPACE_OID, weights).int}",
        caution=" ".join(_cautions(configs)),
    )


def _cautions(configs: Sequence[BundleConfig]) -> list[str]:
    rule = configs[0].abstention
    said = []
    if len(configs) > 1 or not rule.applies:
        reason = "it is the mean of several" if len(configs) > 1 else rule.reason
        said.append(f"The model has no rule for abstaining: {reason}.")
    else:
        said.append(
            f"The classes that it may be are chosen to miss at most {rule.miss_rate:.0%} of each class among patients "
            "like those of its calibration."
        )
    if not configs[0].novelty.bits:
        said.append("Whether an image is like those of the training is not known.")
    if configs[0].split_unit != "patient":
        said.append("Its test was split by image: what it is worth on new patients is not known.")
    return said
