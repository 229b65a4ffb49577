"""The one model of a service: loaded once, asked in batches, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.auditing.results import NUMBERS, load_audit
from plainfilm.bundle import BundleConfig, find_bundles
from plainfilm.data.images import DecodeRecord, ImageRef
from plainfilm.data.pixels import PixelStore
from plainfilm.data.table import Table
from plainfilm.measures import Evaluation
from plainfilm.plots import title_of
from plainfilm.prediction import SET_SEPARATOR
from plainfilm.reporting.assembly import HEAT
from plainfilm.reporting.content import HeatFacts
from plainfilm.runs import Run, open_run
from plainfilm.storage import read_json, sha256_of
from plainfilm.verbs.predicting import Predictor, find_model
from plainfilm.web.cautions import Caution, cautions_of
from plainfilm.web.gallery import Gallery, seen_images
from plainfilm.web.words import (
    abstention_in_words,
    answer_in_words,
    calibration_in_words,
    call_in_words,
    evidence_in_words,
)

STILL_READING: Final = "The images of the run are still being read."
UNCHECKED: Final = "It was not checked whether heat maps of this model show what it learned"


@dataclass(frozen=True, eq=False)
class Prepared:
    """One image as the model takes it.

    Attributes:
        pixels: `(height, width)`, fitted.
        record: How it was stored.
    """

    pixels: npt.NDArray[Any]
    record: DecodeRecord


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is said of one image.

    Attributes:
        predicted: Class of the highest score.
        scores: By class.
        set: Classes that it may be; None without a rule for abstaining.
        answer: The class, if the set is one class; None else.
        abstains: Whether the model says nothing; None without a rule.
        call: `positive` or `negative` at the threshold of the run; None without one.
        unlike_training: Whether the image is unlike the training images; None where that was not learnt.
        unlike_why: Why; empty where it is not.
        words: The answer in plain words.
        cautions: What to beware of.
        record: How the image was stored.
    """

    predicted: str
    scores: Mapping[str, float]
    set: tuple[str, ...] | None
    answer: str | None
    abstains: bool | None
    call: str | None
    unlike_training: bool | None
    unlike_why: str
    words: str
    cautions: tuple[Caution, ...]
    record: DecodeRecord


class Served:
    """A run's or a bundle's model behind a service.

    Args:
        run: A run's folder, a bundle's, an exported one, or `hf:OWNER/NAME`.
        device: Where to compute.

    Raises:
        BundleError: If the folder, or any file of it, is not what was written.
    """

    def __init__(self, run: Path, *, device: str = "auto") -> None:
        run = find_model(run)
        self.run = open_run(run) if Run(run).facts.is_file() else None
        self.folder = find_bundles(run)[0]
        self.predictor = Predictor.load(run, device=device)
        self.gallery: Gallery | str = "A bundle holds no images, so none can be shown beside yours."
        if self.run is not None:
            self.gallery = STILL_READING
        self._seen = {} if self.run is None else seen_images(self.run)

    @property
    def config(self) -> BundleConfig:
        """Of the model."""
        return self.predictor.config

    @property
    def gallery_state(self) -> Literal["ready", "reading", "absent"]:
        """Whether the images of the run are there to be shown beside others."""
        if isinstance(self.gallery, Gallery):
            return "ready"
        return "reading" if self.gallery == STILL_READING else "absent"

    def answers(self, images: Sequence[Prepared]) -> list[Answer]:
        """What `verbs.predict` says of these images, bit for bit, and what to beware of."""
        store = PixelStore(len(images), self.config.preprocessing.height, self.config.preprocessing.width)
        for index, image in enumerate(images):
            store.put(index, image.pixels)
        predictions = self.predictor.predict(_table([image.record for image in images]), store)
        inverted = self._inverted(predictions.table, store)
        gallery = self.gallery if isinstance(self.gallery, Gallery) else None
        alike = None if gallery is None else gallery.correlations(store)
        answers = []
        for index, (_, row) in enumerate(predictions.table.iterrows()):
            record = images[index].record
            held = row["set"].split(SET_SEPARATOR) if row.get("set") else [] if "set" in row else None
            highest = int(predictions.y_pred[index])
            unlike = row["unlike_training"] == "yes" if "unlike_training" in row else None
            cautions = cautions_of(
                record,
                self.config.novelty,
                unlike=bool(unlike),
                unlike_why=row.get("unlike_why", ""),
                looks_inverted=bool(inverted[index])
                or (gallery is not None and alike is not None and gallery.looks_inverted(alike[index])),
                seen_in=self._seen.get(record.pixel_sha256),
                is_near=gallery is not None and alike is not None and gallery.is_near(alike[index]),
            )
            answers.append(
                Answer(
                    predicted=predictions.classes[highest],
                    scores=dict(zip(predictions.classes, predictions.scores[index].tolist(), strict=True)),
                    set=None if held is None else tuple(held),
                    answer=(row["answer"] or None) if held is not None else None,
                    abstains=row["abstains"] == "yes" if held is not None else None,
                    call=row.get("call"),
                    unlike_training=unlike,
                    unlike_why=row.get("unlike_why", ""),
                    words=answer_in_words(
                        self.config,
                        predicted=predictions.classes[highest],
                        score=float(predictions.scores[index, highest]),
                        held=held,
                        is_covered=not cautions,
                    )
                    + call_in_words(self.config, called=row.get("call")),
                    cautions=cautions,
                    record=record,
                )
            )
        return answers

    def heat(self, pixels: npt.NDArray[Any], *, of: str | None, method: str) -> tuple[str, npt.NDArray[np.float32]]:
        """The heat map of one image, as the model takes it, for a class, by default the predicted one; and that class.

        Raises:
            UsageError: `UNKNOWN_CLASS`, `UNKNOWN_METHOD`, or `XAI_...` if the model has no such map.
        """
        from plainfilm.verbs.explaining import heat_of_one

        return heat_of_one(self.predictor.bundles[0], pixels, of=of, method=method, device=self.predictor.device)

    def _inverted(self, table: pd.DataFrame, store: PixelStore) -> npt.NDArray[np.bool_]:
        """Whether each image that is unlike the training images would be like them as its own negative."""
        found = np.zeros(len(store), dtype=bool)
        novelty = self.predictor.novelty
        if novelty is None or "unlike_training" not in table:
            return found
        strange = np.flatnonzero((table["unlike_training"] == "yes").to_numpy())
        if strange.size:
            found[strange] = novelty.looks_inverted(store.take(strange))
        return found

    # --- what is known about it ---------------------------------------------------------------------------

    def card(self) -> str:
        """The model card, as it is now: its authors may write in it."""
        path = self.folder / "README.md"
        return path.read_text("utf-8", "replace") if path.is_file() else "This bundle has no model card."

    def heat_facts(self) -> HeatFacts:
        """What the randomisation check said of Grad-CAM when the run was made."""
        path = None if self.run is None else self.run.folder / "examples" / HEAT
        facts = read_json(path) if path is not None and path.is_file() else None
        if facts is None:
            return HeatFacts(method="Grad-CAM", verdict="unchecked", sentence=f"{UNCHECKED}.")
        return HeatFacts(**facts)

    def metadata(self) -> dict[str, Any]:
        """Everything a client may want to know, ready for JSON."""
        config = self.config
        return {
            "model": config.architecture.model_dump(mode="json"),
            "folds": len(self.predictor.bundles),
            "classes": list(config.classes),
            "preprocessing": config.preprocessing.model_dump(mode="json"),
            "preprocessing_in_words": config.preprocessing.in_words(),
            "calibration": config.calibration.model_dump(mode="json"),
            "calibration_in_words": calibration_in_words(config),
            "abstention": config.abstention.model_dump(mode="json"),
            "abstention_in_words": abstention_in_words(config),
            "calling": config.calling.model_dump(mode="json"),
            "calling_in_words": config.calling.in_words(),
            "novelty": config.novelty.model_dump(mode="json"),
            "training": {name: value for name, value in config.data.items() if isinstance(value, int)},
            "split_unit": config.split_unit,
            "weights_sha256": config.weights_sha256,
            "config_sha256": sha256_of(self.folder / "config.json"),
            "plainfilm_version": config.plainfilm_version,
            "test": self._test(),
            "explanation": vars(self.heat_facts()),
            "card": self.card(),
        }

    def _test(self) -> dict[str, Any]:
        """How the run was tested: its headline, struck through where it may not stand."""
        if self.run is None or not self.run.evaluation.is_file():
            return {**evidence_in_words(None), "headline": None, "struck": None, "audit": None}
        evaluation = Evaluation.from_json(read_json(self.run.evaluation))
        audit = load_audit(self.run.folder) if (self.run.folder / NUMBERS).is_file() else None
        level = evaluation.evidence_level if audit is None else audit.evidence_level or evaluation.evidence_level
        headline = evaluation.headline
        return {
            **evidence_in_words(level),
            "headline": {
                "name": title_of(headline.name),
                "value": headline.value,
                "low": headline.low,
                "high": headline.high,
                "counted": headline.counted,
                "reason": headline.reason,
            },
            "struck": evaluation.struck,
            "audit": None if audit is None else audit.verdict,
        }


def _table(records: Sequence[DecodeRecord]) -> Table:
    """Images without a name, as the prediction takes them."""
    rows = pd.DataFrame([vars(record) for record in records])
    for name in ("path", "label", "patient_id", "split"):
        rows[name] = pd.Series([None] * len(rows), dtype=object)
    return Table(rows, (ImageRef(Path()),) * len(rows))
