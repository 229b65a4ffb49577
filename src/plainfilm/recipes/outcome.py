"""What one step of a recipe came to: its numbers by name, its pages, and what to know of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from plainfilm.measures import Evaluation, Measure, plural
from plainfilm.metrics import wilson_interval
from plainfilm.prediction import Predictions
from plainfilm.runs import Run
from plainfilm.storage import read_json

if TYPE_CHECKING:
    from plainfilm.exploration.results import Exploration

IN_SAMPLE = "These images trained the model: it may know them by heart."
CHOSEN_ON = "Looked at after every epoch: these images are no sealed test."
HISTORY = ("loss", "accuracy", "mae", "rmse")


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of a step.

    Attributes:
        value: The number; None where there is none, and `note` says why.
        low: Lower end of its 95 % interval; None where it has none, and `note` says why.
        high: Upper end.
        counted: What is behind it, in words.
        struck: Why it must not stand; empty where it may.
        note: What to know of it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    counted: str = ""
    struck: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one step came to.

    Attributes:
        numbers: By name, such as `accuracy/patient` or `recall/image/Mild_Demented`.
        pages: Pages for a person, by what they are; relative to the recipe's folder.
        notes: What to know.
        seconds: How long it took; 0 where that is not known.
        not_run: Why there are no numbers; empty where the step was done.
    """

    numbers: Mapping[str, Number]
    pages: Mapping[str, str]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    not_run: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Outcome:
        """What `to_json` gave."""
        return cls(
            numbers={name: Number(**number) for name, number in values["numbers"].items()},
            pages=dict(values["pages"]),
            notes=tuple(values["notes"]),
            seconds=float(values["seconds"]),
            not_run=str(values["not_run"]),
        )


# --- a training ---------------------------------------------------------------------------------------------


def training_outcome(run: Run, folder: Path) -> Outcome:
    """The numbers of a finished run: its evaluation, its history, its size.

    Args:
        run: Where.
        folder: The recipe's, which paths are relative to.
    """
    facts = read_json(run.facts)
    evaluation = Evaluation.from_json(read_json(run.evaluation))
    numbers = {_name(measure): _measured(measure, evaluation) for measure in evaluation.measures}
    size = facts["model"]["parameters"]
    if size is not None:
        numbers["parameters"] = Number(value=float(size), note="exact")
    history = run.folder / "history.csv"
    if history.is_file():
        counts = {
            split: sum(count["n_images"] for count in facts["counts"] if count["split"] == split)
            for split in ("train", "validation")
        }
        numbers |= dict(_history_numbers(pd.read_csv(history), counts))
    return Outcome(
        numbers=numbers,
        pages={"report": run.report.relative_to(folder).as_posix()},
        notes=(*facts["notes"], *evaluation.notes),
        seconds=float(sum(fold["seconds"] for fold in facts["folds"])),
    )


def _name(measure: Measure) -> str:
    return "/".join(filter(None, (measure.name, measure.unit, measure.of)))


def _measured(measure: Measure, evaluation: Evaluation) -> Number:
    """A measure; the share of the most frequent class says nothing of a model, and is never struck."""
    struck = "" if measure.name == "majority_rate" else evaluation.struck or ""
    return Number(
        value=measure.value,
        low=measure.low,
        high=measure.high,
        counted=measure.counted,
        struck=struck,
        note=measure.reason,
    )


def _history_numbers(history: pd.DataFrame, counts: Mapping[str, int]) -> Iterator[tuple[str, Number]]:
    """The last value and the mean over the epochs of every curve, all struck through."""
    for split, struck in (("train", IN_SAMPLE), ("validation", CHOSEN_ON)):
        n = counts.get(split, 0)
        for curve in HISTORY:
            name = f"{split}_{curve}"
            if name not in history.columns or not history[name].notna().any():
                continue
            counted = f"{plural(n, 'image')}, epoch {int(history['epoch'].iloc[-1])}"
            last = float(history[name].iloc[-1])
            if curve == "accuracy" and n:
                low, high = wilson_interval(last, n)
                note = "images taken as independent"
                yield (
                    f"last/{name}",
                    Number(value=last, low=float(low), high=float(high), counted=counted, struck=struck, note=note),
                )
            else:
                yield f"last/{name}", Number(value=last, counted=counted, struck=struck, note="one value, no interval")
            yield (
                f"mean/{name}",
                Number(
                    value=float(history[name].mean()),
                    counted=f"{plural(n, 'image')}, {plural(len(history), 'epoch')}",
                    struck=struck,
                    note="epochs are not a sample: no interval",
                ),
            )


# --- an exploration -----------------------------------------------------------------------------------------


def exploration_outcome(found: Exploration, pages: Mapping[str, str]) -> Outcome:
    """Components, clusters, agreement and networks as numbers."""
    components = found.components
    images = plural(components.n_images, "image")
    numbers = {
        "components": Number(value=float(len(components.ratios)), counted=images, note="exact for these images"),
        "variance": Number(value=float(components.ratios.sum()), counted=images, note="exact for these images"),
    }
    for index, ratio in enumerate(components.ratios, start=1):
        numbers[f"ratio/{index}"] = Number(value=float(ratio), counted=images, note="exact for these images")
    for tree in found.dendrograms:
        numbers[f"clusters/{tree.method}"] = Number(
            value=float(tree.n_clusters), counted=plural(len(tree.rows), "image"), note="exact for these images"
        )
    numbers["clusters/k-means"] = Number(
        value=float(found.kmeans.elbow), counted=plural(found.kmeans.n_images, "image"), note="exact for these images"
    )
    for agreement in found.agreements:
        numbers[f"ari/{agreement.clustering}/{agreement.column}"] = Number(
            value=agreement.ari,
            low=agreement.ari_low,
            high=agreement.ari_high,
            counted=f"{plural(agreement.n_images, 'image')}, {plural(agreement.n_clusters, 'cluster')}",
        )
    for network in found.networks:
        counted = plural(network.n_images, "image")
        struck = network.struck or ""
        numbers[f"network/{network.name}/accuracy"] = Number(
            value=network.accuracy, low=network.low, high=network.high, counted=counted, struck=struck
        )
        for name, value in (("loss", network.loss), ("mae", network.mae)):
            numbers[f"network/{network.name}/{name}"] = Number(
                value=value, counted=counted, struck=struck, note="a mean without interval"
            )
    return Outcome(numbers=numbers, pages=pages, notes=found.notes)


# --- scores of images ---------------------------------------------------------------------------------------


def prediction_outcome(predictions: Predictions, pages: Mapping[str, str], notes: tuple[str, ...]) -> Outcome:
    """The score of every class for every image."""
    names = [str(path) for path in predictions.table["path"]]
    numbers = {
        f"score/{label}/{name}": Number(value=float(score), counted="1 image", note="one image: no interval")
        for name, scores in zip(names, predictions.scores, strict=True)
        for label, score in zip(predictions.classes, scores, strict=True)
    }
    return Outcome(numbers=numbers, pages=pages, notes=notes)
