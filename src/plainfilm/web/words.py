"""What the service says of an answer, in plain words."""

from __future__ import annotations

from typing import Any

from plainfilm.bundle import BundleConfig
from plainfilm.calling import POSITIVE
from plainfilm.reporting.words import EVIDENCE

RESEARCH_ONLY = "Research software, not a medical device. Do not use it to decide about a patient."


def answer_in_words(
    config: BundleConfig, *, predicted: str, score: float, held: list[str] | None, is_covered: bool
) -> str:
    """One or two sentences on what the model says of an image.

    Args:
        config: Of the model.
        predicted: Class of the highest score.
        score: That score.
        held: The classes that it may be; None without a rule for abstaining.
        is_covered: Whether nothing says that the image is another than those the model was made for.
    """
    if held is None:
        return (
            f"Highest score: {predicted}, {score:.2f}. This model has no rule for saying nothing, so this is not a "
            "considered answer."
        )
    promise = f"{1 - config.abstention.miss_rate:.0%} of new patients of each class"
    if len(held) == 1:
        worth = f"keep the true class for {promise}" if is_covered else "promise nothing for an image such as this"
        return f"The model answers {held[0]}. Its answers {worth}."
    if not held:
        return "The model says nothing: the image looks like none of its classes."
    listed = ", ".join(held[:-1]) + f" or {held[-1]}"
    return f"The model does not decide: it may be {listed}. To name one would break its promise to {promise}."


def calibration_in_words(config: BundleConfig) -> str:
    """What the scores are."""
    calibration = config.calibration
    if calibration.n_patients:
        return (
            f"Scores are calibrated: a temperature of {calibration.temperature:.2f}, fitted on "
            f"{calibration.n_patients} patients of their own."
        )
    return f"Scores are not calibrated, so 0.9 does not mean nine in ten: {calibration.reason}."


def call_in_words(config: BundleConfig, *, called: str | None) -> str:
    """On which side of the model's threshold an image is; nothing where there is none."""
    rule = config.calling
    if called is None or rule.threshold is None:
        return ""
    side = "reaches" if called == POSITIVE else "is below"
    return f" Called {called}: the score of {' + '.join(rule.positive)} {side} the threshold, {rule.threshold:.3f}."


def abstention_in_words(config: BundleConfig) -> str:
    """When the model says nothing."""
    rule = config.abstention
    if not rule.applies:
        return f"The model never says nothing: {rule.reason}."
    caution = f" Beware: {rule.caution}." if rule.caution else ""
    return f"The model says nothing rather than miss more than {rule.miss_rate:.0%} of any class.{caution}"


def evidence_in_words(level: int | None) -> dict[str, Any]:
    """What kind of test stands behind the score of a run."""
    if level is None:
        return {"level": None, "name": "Not known", "meaning": "A bundle alone does not say how it was tested."}
    name, meaning = EVIDENCE[level]
    here = meaning.replace("what the audit warns of is listed below", "what the audit warns of is in the run's report")
    return {"level": level, "name": name, "meaning": here}
