"""Heat maps beside the example pictures of a report, by the model that was tested on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

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


def example_explainer(bundles: Sequence[Path], bundle_of: npt.NDArray[np.intp], pixels: PixelStore) -> Explainer:
    """What `save_examples` asks for heat maps of its pictures.

    Args:
        bundles: Folders of the models; one for each fold.
        bundle_of: `(n_rows,)`, the model that each row of the table was tested with.
        pixels: Of all rows.

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
            found = _gallery_heat(load_bundle(bundles[number]), pixels.take(rows[own]), check=verdict is None)
            if found is None:
                return None
            heat[own] = found[0]
            verdict = verdict or found[1]
        if verdict is None:
            return None
        return HeatFacts(method="Grad-CAM", verdict=verdict.verdict, sentence=verdict.in_words()), heat

    return explain_rows


def _gallery_heat(bundle: Bundle, pixels: PixelStore, *, check: bool) -> tuple[Floats, SanityCheck | None] | None:
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
        verdict = check_methods(model, batch[some], classes[some], [GALLERY_METHOD], layer=layer, draws=1)[0]
    target = None if layer is None else layer.name
    return explain_images(model, batch, classes, GALLERY_METHOD, target), verdict
