"""Heat maps as evidence (J): do they depend on what was learnt, and do they look at the border of the image?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from plainfilm.auditing.appearance import border_mask
from plainfilm.auditing.findings import Finding

if TYPE_CHECKING:
    from plainfilm.explanation.sanity import SanityCheck

ADEBAYO = "Adebayo et al. 2018, Sanity checks for saliency maps (arXiv 1810.03292)."
INSTEAD = "Do not show Grad-CAM of this model; try 'plainfilm explain --methods occlusion'."
NO_MAPS = "there is no model whose heat maps could be looked at"


class AttentionOptions(BaseModel):
    """What counts as the border, and how many images are looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attention_border: float = Field(
        0.125, gt=0, lt=0.5, description="Width of the border, as a share of the side, whose attention is measured.*"
    )
    attention_images: int = Field(24, ge=5, description="Tested images whose heat maps are looked at.")


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Grad-CAM on some tested images, and what the randomisation check says of it.

    Attributes:
        check: On the same images and model.
        heat: `(n, height, width)`, 0 or more, of the predicted class.
        groups: Patient of each image; None where patients are not known.
    """

    check: SanityCheck
    heat: npt.NDArray[np.float32]
    groups: Sequence[object] | None


def check_attention(
    attention: Attention | None, options: AttentionOptions | None = None, *, reason: str = NO_MAPS
) -> list[Finding]:
    """J1: whether Grad-CAM changes when the model forgets. J2: the share of its attention in the border.

    Args:
        attention: What was looked at; None where nothing was.
        options: What counts as the border.
        reason: Why nothing was.
    """
    options = options or AttentionOptions()
    return [_randomised(attention, reason), _border(attention, options, reason)]


def _randomised(attention: Attention | None, reason: str) -> Finding:
    facts: dict[str, Any] = {
        "check": "J1",
        "title": "Do heat maps show what was learnt?",
        "rule": "WARN where Grad-CAM of a network with shuffled weights is as alike as rank correlation 0.5*, or that "
        "with a shuffled head 0.95*, by the upper end of the interval; or where most of its maps are empty.",
        "source": ADEBAYO,
        "limits": "A map that depends on the weights need not show the disease, nor the reason for the answer.",
    }
    if attention is None:
        return Finding(**facts, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {reason}.")
    check = attention.check
    counts: dict[str, Any] = {"n_images": check.n_images, "n_patients": _n_patients(attention)}
    if not check.stages and check.verdict == "failed":
        return Finding(**facts, **counts, verdict="WARN", sentence=f"Grad-CAM {check.in_words()}.", advice=INSTEAD)
    if not check.stages:
        return Finding(**facts, **counts, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {check.in_words()}.")
    whole = check.stages[-1].rank_similarity
    return Finding(
        **facts,
        **counts,
        verdict="PASS" if check.passed else "WARN",
        sentence=f"Grad-CAM {check.in_words()} ({check.n_images} images, {check.n_blank} of them with an empty map).",
        advice="" if check.passed else INSTEAD,
        value=whole.value,
        low=whole.low,
        high=whole.high,
        details={
            "stages": [
                {
                    "random_layers": stage.n_random,
                    "layers": stage.n_layers,
                    "rank_similarity": stage.rank_similarity.value,
                    "low": stage.rank_similarity.low,
                    "high": stage.rank_similarity.high,
                    "ssim": stage.ssim.value,
                }
                for stage in check.stages
            ]
        },
    )


def _border(attention: Attention | None, options: AttentionOptions, reason: str) -> Finding:
    facts: dict[str, Any] = {
        "check": "J2",
        "title": "Attention in the border",
        "rule": f"WARN where the border ({options.attention_border:.1%} of the side*) has more of Grad-CAM's heat than "
        "of the area, by the lower end of the interval over patients.",
        "source": "Sourget et al. 2025 (Mask of truth); DeGrave et al., Nature Machine Intelligence 2021;3:610-619.",
        "limits": "Coarse maps bleed over a border, and a finding can lie there; that the middle is hot is no proof "
        "that the disease is seen.",
    }
    if attention is None or attention.check.verdict != "passed":
        why = reason if attention is None else "Grad-CAM does not pass the randomisation check (J1)"
        return Finding(**facts, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {why}.")
    from plainfilm.explanation.sanity import mean_measure

    ring = _ring(attention.heat.shape[1:], options.attention_border)
    total = attention.heat.sum(axis=(1, 2), dtype=np.float64)
    shown = total > 0
    shares = attention.heat[:, ring].sum(axis=1, dtype=np.float64)[shown] / total[shown]
    counts: dict[str, Any] = {"n_images": int(shown.sum()), "n_patients": _n_patients(attention, shown)}
    if shown.sum() < 2:
        return Finding(**facts, **counts, verdict="NOT ASSESSABLE", sentence="Not assessable: heat maps are empty.")
    groups = None if attention.groups is None else [attention.groups[index] for index in np.flatnonzero(shown).tolist()]
    mean, area = mean_measure("border_share", shares, groups), float(ring.mean())
    if mean.value is None or mean.low is None or mean.high is None:
        return Finding(**facts, **counts, verdict="NOT ASSESSABLE", sentence="Not assessable: there is one patient.")
    more = mean.low > area
    return Finding(
        **facts,
        **counts,
        verdict="WARN" if more else "PASS",
        sentence=f"{mean.value:.1%} of Grad-CAM's heat lies in the border (95% CI {mean.low:.1%}-{mean.high:.1%}), "
        f"which is {area:.1%} of the area: {mean.value / area:.2f} times its share.",
        advice="Look at the heat maps and at B2 and B9: is there anything in the border that gives the label away?"
        if more
        else "",
        value=mean.value,
        low=mean.low,
        high=mean.high,
        details={"share_of_area": area, "times_its_area": mean.value / area},
    )


def _ring(shape: tuple[int, ...], share: float) -> npt.NDArray[np.bool_]:
    """`(height, width)`, True in the border."""
    height, width = shape
    across, down = border_mask(width, share)[width // 2], border_mask(height, share)[height // 2]
    return np.asarray(across[None, :] | down[:, None], dtype=np.bool_)


def _n_patients(attention: Attention, shown: npt.NDArray[np.bool_] | None = None) -> int | None:
    if attention.groups is None:
        return None
    kept: list[int] = [*range(len(attention.groups))] if shown is None else np.flatnonzero(shown).tolist()
    return len({str(attention.groups[index]) for index in kept})
