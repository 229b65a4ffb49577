"""Grad-CAM for pictures that leave plainfilm: only of a model on which the method passed the randomisation check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plainfilm.bundle import Bundle
from plainfilm.data.pixels import PixelStore
from plainfilm.errors import DataError, UsageError
from plainfilm.reporting.assembly import HEAT
from plainfilm.reporting.content import HeatFacts
from plainfilm.storage import read_json
from plainfilm.verbs.explaining import prepared_batch, spread
from plainfilm.verbs.gallery import GALLERY_CHECKED, GALLERY_METHOD
from plainfilm.verbs.predicting import Predictor

if TYPE_CHECKING:
    from plainfilm.explanation.saliency import Floats, Ints

METHOD = "Grad-CAM"


@dataclass(frozen=True)
class HeatPainter:
    """Heat maps of one model.

    Attributes:
        bundle: The model.
        device: Where to compute.
        check: Verdict of the randomisation check, in words.
    """

    bundle: Bundle
    device: str
    check: str

    @classmethod
    def of(cls, run: Path, predictor: Predictor, images: PixelStore | None) -> HeatPainter:
        """A painter, if the method stands the check on this model.

        Args:
            run: The run, whose report keeps the verdict of the check; or a bundle.
            predictor: Its model.
            images: Checked on where the run keeps no verdict; None where there are none yet.

        Raises:
            UsageError: `XAI_FOLDS` for the models of several folds together.
            DataError: `XAI_FAILED`, or `XAI_UNCHECKED` with too few images to tell.
        """
        if len(predictor.bundles) > 1:
            raise UsageError(
                f"An overlay explains one model; '{run}' has {len(predictor.bundles)}. Name the folder of one fold.",
                code="XAI_FOLDS",
            )
        bundle = predictor.bundles[0]
        facts = _kept_verdict(run) or _verdict_on(bundle, images, predictor.device)
        if facts is None or facts.verdict == "unchecked":
            raise DataError(
                f"{METHOD} was not checked on this model, so that no overlay can be written. Give the folder of a run "
                "whose report shows heat maps, or at least five images.",
                code="XAI_UNCHECKED",
            )
        if facts.verdict != "passed":
            raise DataError(
                f"No overlay is written: on this model {METHOD} draws the image, not what was learned "
                f"({facts.sentence}).",
                code="XAI_FAILED",
            )
        return cls(bundle, predictor.device, facts.sentence)

    def heat(self, pixels: PixelStore, classes: Ints) -> Floats:
        """`(n, height, width)`, 0 to 1: what speaks for a class in each image, at the model's size."""
        from plainfilm.explanation.saliency import explain_images

        batch = prepared_batch(pixels, self.bundle.config.preprocessing, _place(self.device))
        return explain_images(self.bundle.model.eval(), batch, classes, GALLERY_METHOD)


def _kept_verdict(run: Path) -> HeatFacts | None:
    """The verdict that a finished run keeps beside its pictures."""
    path = run / "examples" / HEAT
    if not (run / "bundle").is_dir() or not path.is_file():
        return None
    kept: Any = read_json(path)
    return HeatFacts(**kept) if isinstance(kept, dict) and kept.get("verdict") != "unchecked" else None


def _verdict_on(bundle: Bundle, images: PixelStore | None, device: str) -> HeatFacts | None:
    """The verdict of the check on these images."""
    import torch

    from plainfilm.explanation.saliency import layer_for
    from plainfilm.explanation.sanity import check_methods

    if images is None:
        return None
    some = images.take(spread(len(images), GALLERY_CHECKED))
    batch = prepared_batch(some, bundle.config.preprocessing, _place(device))
    with torch.no_grad():
        classes = bundle.model.eval()(batch).argmax(dim=1).cpu().numpy()
    layer = layer_for([GALLERY_METHOD], bundle.model, batch, None)
    check = check_methods(bundle.model, batch, np.asarray(classes), [GALLERY_METHOD], layer=layer, draws=1)[0]
    return HeatFacts(method=METHOD, verdict=check.verdict, sentence=check.in_words())


def _place(device: str) -> Any:
    import torch

    from plainfilm.training.device import choose_device

    return torch.device(choose_device(device))
