"""The label from shuffled patches (B6): what a frozen backbone makes of images whose arrangement is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from plainfilm.auditing.cases import cases_of
from plainfilm.auditing.findings import Finding
from plainfilm.auditing.probing import Probed, ProbeOptions, make_design, run_probe
from plainfilm.auditing.subject import Subject
from plainfilm.pairing import holm
from plainfilm.progress import Progress, Silent

Images = npt.NDArray[np.float32]
Extract = Callable[[Images], npt.NDArray[np.floating]]  # (n, height, width) to (n, n_features)

GRIDS = (4, 8)
EXCESS = 0.05
NO_BACKBONE = (
    "no frozen backbone is at hand. Name one: --backbone resnet18 --backbone-weights pretrained, or a .safetensors file"
)


def check_shuffled_patches(
    subject: Subject,
    features: Extract | None,
    *,
    of: str = "",
    reason: str = NO_BACKBONE,
    most_images: int = 500,
    probing: ProbeOptions | None = None,
    progress: Progress | None = None,
) -> Finding:
    """B6: the label from features of images whose patches are in random order.

    Args:
        subject: What is audited.
        features: From images, as `subject.pixels.values` gives them, to features of a frozen backbone; None without.
        of: Name of the backbone.
        reason: Why there is none.
        most_images: Images looked at; whole patients are drawn where there are more.
        probing: How the probe is made.
        progress: Told after every grid.
    """
    recipe = probing or ProbeOptions()
    cases = cases_of(subject, min_patients=recipe.probe_patients).sampled(most_images, seed=recipe.probe_seed)
    facts: dict[str, Any] = {
        "check": "B6",
        "title": "Label from shuffled patches",
        "rule": f"WARN where p < {recipe.probe_alpha:g}* after Holm's correction, and {100 * EXCESS:g} points* or more "
        "above chance. Never FAIL.",
        "source": "Brendel and Bethge, ICLR 2019 (bags of local features); Winkler et al., NeuroImage 2014;92:381-397.",
        "limits": "Texture can be the finding itself; it shows only that the arrangement of the image is not needed.",
        "n_images": len(cases),
        "n_patients": cases.known_patients,
    }
    if subject.pixels is None or len(cases.classes) < 2:
        reason = "there are no images" if subject.pixels is None else "there are no two classes with enough patients"
        features = None
    if features is None or subject.pixels is None:
        return Finding(**facts, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {reason}.")
    design = make_design(cases, recipe)
    images = subject.pixels.values(cases.rows)
    probed: dict[int, Probed] = {}
    with (progress or Silent()).task("shuffled patches", len(GRIDS)) as advance:
        for grid in GRIDS:
            extracted = np.asarray(features(shuffled_patches(images, grid, seed=recipe.probe_seed)))
            probed[grid] = run_probe(extracted, cases, design, recipe)
            advance(1)
    corrected = dict(zip(GRIDS, holm([probed[grid].p for grid in GRIDS]), strict=True))
    best = max(GRIDS, key=lambda grid: (-corrected[grid], probed[grid].excess))
    found = corrected[best] < recipe.probe_alpha and probed[best].excess >= EXCESS
    said = "can be predicted" if found else "was not shown to be predictable"
    by = f" by frozen features of {of}" if of else ""
    return Finding(
        **facts,
        verdict="WARN" if found else "PASS",
        sentence=f"The label {said} from {best}x{best} patches in random order alone{by}: balanced accuracy "
        f"{probed[best].value:.3f} (95% CI {probed[best].low:.3f}-{probed[best].high:.3f}, {cases.counted}), by chance "
        f"{probed[best].null:.3f}, p = {corrected[best]:.3g} after Holm's correction.{cases.remarks}",
        advice="Ask whether texture, noise or sharpness belongs to the label or to the machine." if found else "",
        value=probed[best].value,
        low=probed[best].low,
        high=probed[best].high,
        p=corrected[best],
        details={
            f"{grid}x{grid}": {
                "balanced_accuracy": one.value,
                "low": one.low,
                "high": one.high,
                "null": one.null,
                "p": one.p,
            }
            for grid, one in probed.items()
        },
    )


def shuffled_patches(images: Images, grid: int, *, seed: int) -> Images:
    """Each image cut into `grid` x `grid` patches that are put together in random order; a remainder stays in place."""
    rng = np.random.default_rng(seed)
    n_images, height, width = images.shape
    tall, wide = height // grid, width // grid
    inner = images[:, : tall * grid, : wide * grid].reshape(n_images, grid, tall, grid, wide)
    patches = inner.transpose(0, 1, 3, 2, 4).reshape(n_images, grid * grid, tall, wide)
    order = rng.permuted(np.tile(np.arange(grid * grid), (n_images, 1)), axis=1)
    mixed = np.take_along_axis(patches, order[:, :, None, None], axis=1)
    shuffled = images.copy()
    whole = mixed.reshape(n_images, grid, grid, tall, wide).transpose(0, 1, 3, 2, 4)
    shuffled[:, : tall * grid, : wide * grid] = whole.reshape(n_images, tall * grid, wide * grid)
    return shuffled
