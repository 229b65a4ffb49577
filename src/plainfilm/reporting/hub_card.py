"""The page of a model on the hub: the bundle's own card, with what the hub reads and the figures of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plainfilm.bundle import BundleConfig
from plainfilm.errors import UsageError
from plainfilm.measures import Evaluation, Measure

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK = "image-classification"
TAGS = ("medical-imaging", "research-only", "plainfilm")
UNKNOWN_LICENCE = "unknown"


def hub_card(
    card: str,
    config: BundleConfig,
    *,
    repository: str,
    licence: str | None,
    base_model: str | None,
    evaluation: Evaluation | None,
) -> tuple[str, list[str]]:
    """The page's text, and what its author should know.

    What the authors wrote into the card stays; figures that may not stand are shown struck through, and kept out of
    the list that the hub compares models by.

    Args:
        card: README.md of the bundle.
        config: Of the bundle.
        repository: OWNER/NAME.
        licence: As the hub names it; None for what the card says.
        base_model: Repository of the weights that training began from.
        evaluation: Of the run; None for a bundle by itself.

    Raises:
        UsageError: `HUB_CARD` if the head of the card is not sound.
    """
    from huggingface_hub import ModelCard, ModelCardData

    try:
        before = ModelCard(card, ignore_metadata_errors=False)
        held: dict[str, Any] = dict(vars(before.data))
    except Exception:  # YAML's errors and the hub's own
        raise UsageError(
            "the head of the bundle's README.md is not sound YAML. Mend it first.", code="HUB_CARD"
        ) from None
    held = {name: value for name, value in held.items() if value is not None and name not in ("model_name",)}
    notes = []
    chosen = licence or held.get("license")
    if chosen is None:
        chosen = UNKNOWN_LICENCE
        notes.append("no licence is named: the page says 'unknown'. Name one with --license.")
    if "non-commercial" in config.weights_licence:
        notes.append(f"the weights that training began from are under {config.weights_licence}.")
    results = _results(evaluation)
    if evaluation is not None and evaluation.struck:
        notes.append("the figures may not stand: they are struck through, and not in the page's model-index.")
    settled: dict[str, Any] = {
        "license": chosen,
        "library_name": "plainfilm",
        "pipeline_tag": TASK,
        "tags": sorted({*TAGS, *(held.get("tags") or [])}),
        "metrics": sorted({result.metric_type for result in results}) or None,
        "base_model": held.get("base_model") or base_model,
        "model_name": repository.partition("/")[2] if results else None,
        "eval_results": results or None,
    }
    data = ModelCardData(**{**held, **settled})
    page = f"---\n{data.to_yaml()}\n---\n\n{before.text.strip()}\n{_figures(evaluation)}{_use(repository)}"
    _check(page, len(results))
    return page, notes


def _check(page: str, n_results: int) -> None:
    """Read the page as the hub's library does; what it finds must be what was meant."""
    from huggingface_hub import ModelCard

    found: dict[str, Any] = vars(ModelCard(page, ignore_metadata_errors=False).data)
    sound = found.get("license") and (found.get("library_name"), found.get("pipeline_tag")) == ("plainfilm", TASK)
    if not sound or len(found.get("eval_results") or []) != n_results:
        raise UsageError("the head of the bundle's README.md cannot be joined with the hub's.", code="HUB_CARD")


def _shown(evaluation: Evaluation) -> Sequence[Measure]:
    """The headline, then every number over all classes, by patient where patients are known."""
    unit = evaluation.units[-1]
    overall = [m for m in evaluation.measures if m.unit == unit and m.of is None and m.value is not None]
    return [evaluation.headline, *(measure for measure in overall if measure != evaluation.headline)]


def _results(evaluation: Evaluation | None) -> list[EvalResult]:
    """What the hub may compare: numbers that may stand, each with its interval and its counts."""
    from huggingface_hub import EvalResult

    if evaluation is None or evaluation.struck:
        return []
    return [
        EvalResult(
            task_type=TASK,
            dataset_type="private",
            dataset_name="held-out patients of the training data",
            metric_type=measure.name,
            metric_name=f"{measure.name.replace('_', ' ')} by {measure.unit}",
            metric_value=measure.value,
            metric_args={
                "unit": measure.unit,
                "confidence": measure.confidence,
                "low": measure.low,
                "high": measure.high,
                "interval": measure.interval,
                "n_images": measure.n_images,
                "n_patients": measure.n_patients,
                **({"of": measure.of} if measure.of else {}),
            },
        )
        for measure in _shown(evaluation)
        if measure.value is not None and measure.low is not None
    ]


def _figures(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return ""
    strike = "~~" if evaluation.struck else ""
    rows = "\n".join(
        f"| {measure.name.replace('_', ' ')} by {measure.unit} | {strike}{measure}{strike} |"
        for measure in _shown(evaluation)
    )
    worth = f"**Not a result:** {evaluation.struck}\n\n" if evaluation.struck else ""
    return f"""
## Figures

{worth}On held-out images of the training data; evidence level {evaluation.evidence_level}.
Figures of another hospital are not known.

| figure | value |
|---|---|
{rows}
"""


def _use(repository: str) -> str:
    return f"""
## Use

```text
plainfilm predict hf:{repository} IMAGES --output scores.csv
```
"""
