"""From a run's folder to what its report shows; the files are the only source."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from plainfilm import __version__, plots
from plainfilm.auditing.results import NUMBERS, Audit, load_audit
from plainfilm.bundle import read_config
from plainfilm.config import RunOptions
from plainfilm.data.pixels import PixelStore
from plainfilm.data.splits import SplitPlan
from plainfilm.data.table import Table
from plainfilm.measures import Evaluation, plural
from plainfilm.plots.explanation import overlay as heat_overlay
from plainfilm.plots.explanation import picture_png
from plainfilm.prediction import Predictions
from plainfilm.reporting.cohort import Cohort, describe_cohort
from plainfilm.reporting.content import (
    DataSummary,
    Estimate,
    Example,
    Explainer,
    FoldSummary,
    HeatFacts,
    LeakGap,
    LeftOut,
    ModelFacts,
    ReportData,
    SplitCount,
    TrainingFacts,
)
from plainfilm.reporting.findings import counted
from plainfilm.runs import Run
from plainfilm.storage import make_folder, read_json, write_bytes, write_json

MOST_EXAMPLES = 12
PROGRAMS = {"torch": "PyTorch", "numpy": "NumPy"}
HEAT = "heat.json"  # beside the pictures: what their heat maps are
CHOSEN_BY = {
    "loss": "lowest validation loss",
    "balanced-accuracy": "highest validation balanced accuracy",
    "last": "the last epoch, chosen beforehand",
}


def describe_run(
    *, data: Path, table: Table, plan: SplitPlan, options: RunOptions, folds: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Everything about a run that no other file holds, ready for JSON."""
    from plainfilm.models import describe_model

    name = options.model.model
    model = describe_model(
        name,
        num_classes=len(table.classes),
        adapter=options.model.adapter,
        image_size=options.model.image_size or describe_model(name, measure=False).input_size,
        head=folds[0]["head"] if folds else options.model.head,
        weights=options.model.first_weights,
    )
    return {
        "plainfilm": __version__,
        "source": data.name,
        "understood": list(table.understood),
        "classes": list(table.classes),
        "counts": _counts(table, plan),
        "cohort": describe_cohort(table, plan).to_json(),
        "left_out": _left_out(table),
        "patients": plan.patients,
        "split_unit": plan.unit,
        "sites": None if plan.sites is None else {**asdict(plan.sites), "words": plan.sites.in_words()},
        "tested_on": plan.tested_on,
        "notes": list(plan.notes),
        "model": {
            "name": model.name,
            "summary": model.summary,
            "parameters": model.parameters,
            "flops": model.flops,
            "input_size": model.input_size,
            "weights": model.weights if options.model.pretrained else options.model.weights or "random",
            "licence": model.licence if options.model.first_weights else "none needed",
        },
        "options": options.model_dump(mode="json"),
        "folds": [dict(fold) for fold in folds],
    }


def _counts(table: Table, plan: SplitPlan) -> list[dict[str, Any]]:
    """Images and patients per split and class; with folds, every row is tested once."""
    fold = plan.folds[0]
    parts = {"train": fold.train, "validation": fold.validation}
    if len(fold.calibration):
        parts["calibration"] = fold.calibration
    if plan.tested_on == "test":
        parts["test"] = fold.test
    if len(plan.folds) > 1:
        parts = {"test": np.concatenate([fold.test for fold in plan.folds])}
    labels = table.rows["label"].to_numpy(dtype=object)
    counts = []
    for split, rows in parts.items():
        for label in table.classes:
            own = rows[labels[rows] == label]
            patients = None if plan.patients == "unknown" else len(set(plan.groups[own]))
            counts.append({"split": split, "label": label, "n_images": len(own), "n_patients": patients})
    return counts


def _left_out(table: Table) -> list[dict[str, Any]]:
    by_reason = defaultdict(list)
    for item in table.left_out:
        by_reason[item.status, item.code].append(item)
    return [
        {
            "code": code,
            "reason": items[0].detail,
            "n_images": len(items),
            "refused": status == "refused",
            "names": [item.path for item in items[:5]],
        }
        for (status, code), items in sorted(by_reason.items())
    ]


def save_examples(
    run: Run, predictions: Predictions, table: Table, pixels: PixelStore, *, explain: Explainer | None = None
) -> None:
    """Keep small pictures of the worst mistakes and of some right answers, so that the report needs no data.

    Args:
        run: Where to.
        predictions: Of labelled images.
        table: All images.
        pixels: Theirs.
        explain: Makes heat maps of rows of the table, kept beside the pictures unless their method fails its check.
    """
    row_of = {path: index for index, path in enumerate(table.rows["path"])}
    y_true = np.array([predictions.classes.index(label) for label in predictions.table["label"]])
    right = predictions.y_pred == y_true
    chosen = [*_most_certain(predictions, ~right), *_most_certain(predictions, right)]
    rows = np.array([row_of[predictions.table["path"].iat[index]] for index in chosen], dtype=np.intp)
    explained = explain(rows) if explain is not None and len(rows) else None
    folder = run.folder / "examples"
    make_folder(folder)
    entries = []
    for number, index in enumerate(chosen):
        row = predictions.table.iloc[index]
        image, _ = pixels.stored(rows[[number]])
        name = f"{number:02d}.png"
        write_bytes(folder / name, plots.thumbnail_png(image[0]))
        overlay = None
        if explained is not None and explained[0].is_shown:
            overlay = f"{number:02d}-heat.png"
            write_bytes(folder / overlay, picture_png(heat_overlay(image[0], explained[1][number]), side=160))
        entries.append(
            {
                "file": name,
                "path": row["path"],
                "truth": row["label"],
                "predicted": predictions.classes[predictions.y_pred[index]],
                "score": float(predictions.scores[index].max()),
                "patient_id": row["patient_id"],
                "overlay": overlay,
            }
        )
    write_json(folder / "examples.json", entries)
    write_json(folder / HEAT, None if explained is None else vars(explained[0]))


def _most_certain(predictions: Predictions, mask: np.ndarray) -> list[int]:
    """Rows of `mask`, surest first, one per patient and spread over the classes before any comes twice."""
    order = [index for index in np.argsort(-predictions.scores.max(axis=1), kind="stable") if mask[index]]
    labels = predictions.table["label"].to_numpy(dtype=object)
    patients = predictions.table["patient_id"].to_numpy(dtype=object)
    of_class: Counter[Any] = Counter()
    of_patient: Counter[Any] = Counter()
    ranked: list[tuple[int, int, int, int]] = []
    for index in order:
        patient = patients[index] or index
        ranked.append((of_patient[patient], of_class[labels[index]], len(ranked), int(index)))
        of_patient[patient] += 1
        of_class[labels[index]] += 1
    return [index for *_, index in sorted(ranked)[:MOST_EXAMPLES]]


def assemble_report(run: Run) -> ReportData:
    """Everything the report of `run` shows, read from its files."""
    facts = read_json(run.facts)
    evaluation = Evaluation.from_json(read_json(run.evaluation))
    options = RunOptions.model_validate(facts["options"])
    config = read_config(run.fold(1, len(facts["folds"])) / "bundle")
    audit = load_audit(run.folder) if (run.folder / NUMBERS).is_file() else None
    flat = {name: value for name, value in options.flat().items() if value not in (None, [], ())}
    return ReportData(
        title=f"{facts['model']['name']} on {facts['source']}",
        question=f"Which of {len(facts['classes'])} classes is this image: {', '.join(facts['classes'])}?",
        when=datetime.fromisoformat(facts["finished"]),
        version=facts["plainfilm"],
        command=f"plainfilm train --options {run.options.name}",
        options=flat,
        data=DataSummary(
            source=facts["source"],
            counts=[SplitCount(**count) for count in facts["counts"]],
            left_out=[LeftOut(**entry) for entry in facts["left_out"]],
        ),
        asked=options,
        openings=facts.get("openings", 1),
        audit=audit,
        leak_gap=None if audit is None else leak_gap_of(audit),
        evidence_level=None if audit is None else audit.evidence_level,
        card=_read_card(run, facts),
        calibration=config.calibration,
        abstention=config.abstention,
        cohort=Cohort.from_json(facts["cohort"]) if "cohort" in facts else None,
        patients=facts["patients"],
        split_unit=facts["split_unit"],
        site_column=(facts.get("sites") or {}).get("column"),
        tested_on=facts["tested_on"],
        preprocessing=[facts["folds"][0]["preprocessing"]],
        model=ModelFacts(**facts["model"] | {"input_size": (facts["model"]["input_size"],) * 2}),
        training=_training_facts(run, facts, options),
        evaluation=evaluation,
        examples=_read_examples(run),
        heat=_read_heat(run),
        notes=[*facts["understood"], *evaluation.notes],
        warnings=[*facts["notes"], *_opening_warning(facts)],
        folds=_fold_summary(run, facts),
    )


def _opening_warning(facts: Mapping[str, Any]) -> list[str]:
    times = facts.get("openings", 1)
    return [f"The test rows of this run have been scored {times} times."] if times > 1 else []


def _training_facts(run: Run, facts: Mapping[str, Any], options: RunOptions) -> TrainingFacts:
    folds = facts["folds"]
    first = folds[0]
    cores = f"CPU, {plural(first['threads'], 'thread')}" if first["device"] == "cpu" else first["device"].upper()
    return TrainingFacts(
        epochs=sum(fold["epochs"] for fold in folds),
        chosen_epoch=first["chosen_epoch"] if len(folds) == 1 else None,
        chosen_by=first.get("chosen_by", CHOSEN_BY[options.training.choose]),
        seconds=sum(fold["seconds"] for fold in folds),
        device=cores,
        precision={"32-true": "float32", "bf16-mixed": "bfloat16", "16-mixed": "float16"}[first["precision"]],
        software=[(PROGRAMS[name], first[name]) for name in PROGRAMS if name in first],
        history=pd.read_csv(run.fold(1, len(folds)) / "history.csv"),
    )


def _read_examples(run: Run) -> list[Example]:
    folder = run.folder / "examples"
    examples = []
    for entry in read_json(folder / "examples.json"):
        overlay = entry.get("overlay")
        examples.append(
            Example(
                thumbnail=_read_png(folder / entry["file"]),
                overlay=_read_png(folder / overlay) if overlay else None,
                path=entry["path"],
                truth=entry["truth"],
                predicted=entry["predicted"],
                score=entry["score"],
                patient_id=entry["patient_id"],
            )
        )
    return examples


def _read_png(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(path.read_bytes()), formats=["PNG"]) as picture:
        return np.asarray(picture)


def _read_heat(run: Run) -> HeatFacts | None:
    """What the heat maps beside the pictures are; None where there are none, as in older runs."""
    path = run.folder / "examples" / HEAT
    facts = read_json(path) if path.is_file() else None
    return None if facts is None else HeatFacts(**facts)


def leak_gap_of(audit: Audit) -> LeakGap | None:
    """What the model's own score gains from a patient's other images (A8), or else one nearest neighbour's (A4).

    Of the neighbour given only where the split in use divides patients, so that the report's own figure may have gained
    as well; None where neither was measured.
    """
    own = [finding for finding in audit.findings if finding.check == "A8" and "difference" in finding.details]
    if own:
        details = own[0].details
        how = (
            "The same recipe was trained a second time, with whole patients held out."
            if details["trained_again"]
            else "Patient-safe: on the test images whose patient was not trained on."
        )
        return LeakGap(
            measure="Balanced accuracy of the model, by image",
            as_given=_estimate(details["as_given"]),
            patient_safe=_estimate(details["patient_safe"]),
            difference=_estimate(details["difference"]),
            counted=counted(own[0].n_images, own[0].n_patients),
            words=how,
        )
    return _gap_of_neighbours(audit)


def _gap_of_neighbours(audit: Audit) -> LeakGap | None:
    """What one nearest neighbour gains from a patient's other images, as check A4 measured it; None where it did not.

    Given only where the split in use divides patients, so that the report's own figure may have gained as well.
    """
    found = [finding for finding in audit.findings if finding.check == "A4" and finding.details.get("divides_patients")]
    if not found or not {"nn_by_image", "nn_by_patient", "nn_gap"} <= set(found[0].details):
        return None
    details = found[0].details
    return LeakGap(
        measure="Accuracy of one nearest neighbour",
        as_given=_estimate(details["nn_by_image"]),
        patient_safe=_estimate(details["nn_by_patient"]),
        difference=_estimate(details["nn_gap"]),
        counted=counted(details["nn_gap"]["n_images"], details["nn_gap"]["n_patients"]),
        words="It only looks the nearest image up: what it gains from a patient's other images is no diagnosis.",
    )


def _estimate(numbers: Mapping[str, float]) -> Estimate:
    return Estimate(value=numbers["value"], low=numbers["low"], high=numbers["high"])


def _read_card(run: Run, facts: Mapping[str, Any]) -> str:
    """The model card without the head that only model hubs read; its authors may have filled it in."""
    card = run.fold(1, len(facts["folds"])) / "bundle" / "README.md"
    if not card.is_file():
        return ""
    text = card.read_text("utf-8", "replace")
    return text.split("\n---\n", maxsplit=1)[-1].strip() if text.startswith("---\n") else text.strip()


def _fold_summary(run: Run, facts: Mapping[str, Any]) -> FoldSummary | None:
    """Balanced accuracy of each fold, by image: how far it moves from one training to the next."""
    if len(facts["folds"]) == 1:
        return None
    from plainfilm import metrics

    rows = run.read_table()[["path", "fold"]]
    predictions = Predictions.load(run.predictions)
    fold_of = dict(zip(rows["path"], rows["fold"], strict=True))
    folds = np.array([fold_of[path] for path in predictions.table["path"]])
    values = []
    for number in range(1, len(facts["folds"]) + 1):
        part = predictions.where(folds == number).labelled()
        y_true = np.array([part.classes.index(label) for label in part.table["label"]])
        matrix = metrics.confusion_matrix(y_true, part.y_pred, len(part.classes))
        values.append(float(metrics.recall(matrix)[matrix.sum(axis=1) > 0].mean()))
    return FoldSummary(measure="balanced_accuracy", values=values)
