"""Heat maps beside the example pictures of a report, by the model that was tested on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from plainfilm.auditing.attention import Attention, AttentionOptions
from plainfilm.auditing.results import Audit
from plainfilm.auditing.subject import Subject
from plainfilm.bundle import Bundle, load_bundle
from plainfilm.data.pixels import PixelStore
from plainfilm.errors import UsageError
from plainfilm.reporting.content import Explainer, HeatFacts
from plainfilm.verbs.explaining import prepared_batch, spread

if TYPE_CHECKING:
    from plainfilm.explanation.saliency import Floats
    from plainfilm.explanation.sanity import SanityCheck

GALLERY_METHOD = "gradcam"
GALLERY_CHECKED = 24  # images: a report should not wait for its pictures


def example_explainer(
    bundles: Sequence[Path],
    bundle_of: npt.NDArray[np.intp],
    pixels: PixelStore,
    *,
    checked: HeatFacts | None = None,
) -> Explainer:
    """What `save_examples` asks for heat maps of its pictures.

    Args:
        bundles: Folders of the models; one for each fold.
        bundle_of: `(n_rows,)`, the model that each row of the table was tested with.
        pixels: Of all rows.
        checked: What the audit found of these heat maps; without it they are checked on the pictures themselves.

    Returns:
        From row numbers to their heat maps for the predicted class, with the verdict of the randomisation check on the
        model of most of them; None for a model without a map to weigh. Nothing is loaded before it is called.
    """

    def explain_rows(rows: npt.NDArray[np.intp]) -> tuple[HeatFacts, Floats] | None:
        heat = np.zeros((len(rows), *pixels.shape[1:]), dtype=np.float32)
        verdict: SanityCheck | None = None
        used = Counter(bundle_of[rows].tolist())
        for number, _ in used.most_common():
            own = np.flatnonzero(bundle_of[rows] == number)
            found = _gallery_heat(
                load_bundle(bundles[number]), pixels.take(rows[own]), check=checked is None and verdict is None
            )
            if found is None:
                return None
            heat[own] = found[0]
            verdict = verdict or found[1]
        if checked is not None:
            return checked, heat
        if verdict is None:
            return None
        return HeatFacts(method="Grad-CAM", verdict=verdict.verdict, sentence=verdict.in_words()), heat

    return explain_rows


def attention_of(bundle: Bundle, subject: Subject, options: AttentionOptions) -> tuple[Attention | None, str]:
    """Heat maps of some tested images with the check of them; None and the reason where a model has none.

    Args:
        bundle: The model.
        subject: Its images; those of the test split are looked at, or all where there is none.
        options: How many.
    """
    rows = np.flatnonzero(subject.y >= 0)
    if subject.split is not None and (subject.split[rows] == "test").any():
        rows = rows[subject.split[rows] == "test"]
    if subject.pixels is None or not len(rows):
        return None, "there are no images"
    rows = rows[spread(len(rows), options.attention_images)]
    groups = [int(code) for code in subject.group[rows]] if subject.knows_patients else None
    found = _gallery_heat(bundle, subject.pixels.take(rows), check=True, groups=groups)
    if found is None or found[1] is None:
        return None, "no layer of this model has a map"
    return Attention(check=found[1], heat=found[0], groups=groups), ""


def heat_facts(audit: Audit) -> HeatFacts | None:
    """What the audit says of Grad-CAM, for the pictures of a report; None where it could not look."""
    finding = next((finding for finding in audit.findings if finding.check == "J1"), None)
    if finding is None or finding.verdict == "NOT ASSESSABLE":
        return None
    return HeatFacts(
        method="Grad-CAM", verdict="passed" if finding.verdict == "PASS" else "failed", sentence=finding.sentence
    )


def _gallery_heat(
    bundle: Bundle, pixels: PixelStore, *, check: bool, groups: Sequence[object] | None = None
) -> tuple[Floats, SanityCheck | None] | None:
    """Heat maps of the predicted class and, if asked for, a quick check of the method on some of these images."""
    import torch

    from plainfilm.explanation.saliency import explain_images, layer_for
    from plainfilm.explanation.sanity import check_methods

    batch = prepared_batch(pixels, bundle.config.preprocessing, torch.device("cpu"))
    model = bundle.model.eval()
    with torch.no_grad():
        classes = model(batch).argmax(dim=1).numpy()
    try:
        layer = layer_for([GALLERY_METHOD], model, batch, None)
    except UsageError:  # no layer has a map; heat is no part of the result, so the report does without
        return None
    verdict = None
    if check:
        some = spread(len(batch), GALLERY_CHECKED)
        verdict = check_methods(
            model,
            batch[some],
            classes[some],
            [GALLERY_METHOD],
            layer=layer,
            groups=None if groups is None else [groups[index] for index in some],
            draws=1,
        )[0]
    target = None if layer is None else layer.name
    return explain_images(model, batch, classes, GALLERY_METHOD, target), verdict
