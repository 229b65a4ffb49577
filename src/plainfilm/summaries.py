"""Results in a few lines, for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import Any

from plainfilm.calling import POSITIVE
from plainfilm.data.table import Table
from plainfilm.measures import DecisionCurve, Evaluation, Gap, Measure, OperatingPoint
from plainfilm.prediction import Predictions
from plainfilm.runs import Run
from plainfilm.storage import read_json

NO_SPLIT, NO_LABEL = "no split", "no label"


def scan_counts(table: Table) -> dict[str, Any]:
    """How many files were used, skipped and refused, and why; images per split and class."""
    rows = table.rows
    by_split: dict[str, dict[str, int]] = {}
    for split, label in zip(rows["split"], rows["label"], strict=True):
        counts = by_split.setdefault(split or NO_SPLIT, {})
        counts[label or NO_LABEL] = counts.get(label or NO_LABEL, 0) + 1
    patients = rows["patient_id"].dropna()
    return {
        "files": len(table) + len(table.left_out),
        "used": len(table),
        "skipped": dict(Counter(item.code for item in table.skipped)),
        "refused": dict(Counter(item.code for item in table.refused)),
        "by_split": by_split,
        "patients": int(patients.nunique()) if len(patients) else None,
        "without_patient": int(rows["patient_id"].isna().sum()) if len(patients) else None,
        "classes": list(table.classes),
        "sizes": dict(Counter(f"{w}x{h}" for w, h in zip(rows["width"], rows["height"], strict=True)).most_common(5)),
        "depths": {str(bits): count for bits, count in Counter(rows["bits"]).items()},
        "conversions": dict(Counter(note for notes in rows["notes"] for note in notes.split())),
        "understood": list(table.understood),
    }


def scan_summary(table: Table) -> str:
    """The same in words."""
    counts = scan_counts(table)
    skipped, refused = sum(counts["skipped"].values()), sum(counts["refused"].values())
    lines = [
        *counts["understood"],
        f"{counts['files']:,} files: {counts['used']:,} used, {skipped:,} skipped, {refused:,} refused",
    ]
    for split, classes in counts["by_split"].items():
        listed = ", ".join(f"{label} {count:,}" for label, count in sorted(classes.items()))
        lines.append(f"  {split}: {sum(classes.values()):,} ({listed})")
    lines.append(_patients(counts))
    lines.append("sizes: " + ", ".join(f"{size} ({count:,})" for size, count in counts["sizes"].items()))
    lines.append("bits: " + ", ".join(f"{bits} ({count:,})" for bits, count in counts["depths"].items()))
    if counts["conversions"]:
        lines.append("conversions: " + ", ".join(f"{note} ({n:,})" for note, n in counts["conversions"].items()))
    lines += _left_out(table)
    return "\n".join(lines)


def _patients(counts: dict[str, Any]) -> str:
    if counts["patients"] is None:
        return "patients: not known (no column patient_id)"
    missing = f"; {counts['without_patient']:,} images without an id" if counts["without_patient"] else ""
    return f"patients: {counts['patients']:,}{missing}"


def _left_out(table: Table, most: int = 3) -> list[str]:
    """Every reason with its count, and the first files it applies to."""
    lines = []
    for title, items in (("skipped", table.skipped), ("refused", table.refused)):
        for code, count in Counter(item.code for item in items).most_common():
            own = [item for item in items if item.code == code]
            names = ", ".join(item.path for item in own[:most]) + (", ..." if count > most else "")
            lines.append(f"{title}: {count:,} {code} - {own[0].detail} ({names})")
    return lines


def run_summary(run: Run) -> str:
    """The headline of a run, what it is worth, and where the report is."""
    facts = read_json(run.facts)
    evaluation = Evaluation.from_json(read_json(run.evaluation))
    folds = facts["folds"]
    trained = f"{facts['model']['name']}: {facts['model']['parameters']:,} parameters, "
    if len(folds) == 1:
        trained += (
            f"{folds[0]['epochs']} epochs in {folds[0]['seconds']:.0f} s, epoch {folds[0]['chosen_epoch']} chosen"
        )
    else:
        trained += f"{len(folds)} folds in {sum(fold['seconds'] for fold in folds):.0f} s"
    return "\n".join([trained, evaluation_summary(evaluation), f"report: {run.report}"])


def evaluation_summary(evaluation: Evaluation) -> str:
    """Every overall number, then one line per class."""
    unit = evaluation.units[-1]
    overall = [m for m in evaluation.measures if m.unit == unit and m.of is None]
    per_class = [m for m in evaluation.measures if m.unit == unit and m.of is not None]
    lines = [f"by {unit}:"]
    lines += [f"  {measure.name.replace('_', ' '):<24} {_shown(measure)}" for measure in overall]
    for name in dict.fromkeys(measure.of for measure in per_class):
        lines.append(f"  {name}:")
        lines += [f"    {m.name.replace('_', ' '):<22} {_shown(m)}" for m in per_class if m.of == name]
    lines += [] if evaluation.operating is None else _operating_lines(evaluation.operating)
    lines += [] if evaluation.decision is None else [f"  {decision_in_words(evaluation.decision)}"]
    lines += [f"  {gap_in_words(gap)}" for gap in evaluation.gaps]
    head = evaluation.headline.name.replace("_", " ")
    lines += [f"  {head} at {score.site}: {_shown(score.measure)}" for score in evaluation.sites]
    lines += [f"note: {note}" for note in evaluation.notes]
    if evaluation.struck:
        lines.append(f"NOT A RESULT (evidence level {evaluation.evidence_level}): {evaluation.struck}")
    else:
        lines.append(f"evidence level {evaluation.evidence_level}")
    lines.append(
        f"headline: {evaluation.headline.name.replace('_', ' ')} by {evaluation.headline.unit}: {evaluation.headline}"
    )
    return "\n".join(lines)


def _operating_lines(point: OperatingPoint) -> list[str]:
    """The threshold and who chose it, then what it does."""
    title = f"  operating point for {point.of} ({point.rule})"
    if point.threshold is None:
        return [f"{title}: no threshold: {point.reason}"]
    chosen = f"{point.n_positive} positive and {point.n_negative} other validation patients"
    caution = f"; {point.reason}" if point.reason else ""
    where = f"at least {chosen} of each fold" if point.folds else chosen
    lines = [f"{title}: score from {point.chosen}, chosen on {where}{caution}"]
    for measure in point.measures:
        stated = point.prevalence is not None and measure.name in ("ppv", "npv")
        name = f"{measure.name} at {100 * (point.prevalence or 0):.3g} %" if stated else measure.name
        lines.append(f"    {name:<22} {_shown(measure)}")
    return lines


def decision_in_words(curve: DecisionCurve) -> str:
    """At which thresholds the scores are worth acting on, in a line."""
    where = f"decision curve for {curve.of}, {100 * curve.prevalence:.3g} % positive, {curve.n_patients} patients"
    if curve.useful is None:
        return f"{where}: at no threshold surely better than treating all or none"
    first, last = curve.useful
    ends = f"{first:.2f}" if first == last else f"{first:.2f} to {last:.2f}"
    return f"{where}: better than treating all or none, with its whole band, at thresholds {ends}"


def gap_in_words(gap: Gap) -> str:
    """One group against the others, in a line."""
    what = f"{gap.column} {gap.group} against {gap.others}, {gap.measure.replace('_', ' ')} of {gap.of}"
    counted = f"{gap.n_group} against {gap.n_others}, of the class {gap.n_positive_group} and {gap.n_positive_others}"
    if gap.gap is None or gap.low is None or gap.high is None or gap.p_holm is None:
        reach = "" if gap.detectable is None else f"; only a gap of {100 * gap.detectable:.0f} points would show"
        return f"{what}: too few to compare ({counted}){reach}"
    ends = f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}"
    return f"{what}: {100 * gap.gap:+.1f} points ({ends}; p = {gap.p_holm:.3f}; {counted})"


def _shown(measure: Measure) -> str:
    return str(measure) if measure.value is not None else f"withheld: {measure.reason}"


def prediction_summary(predictions: Predictions, table: Table) -> str:
    """How many images went to each class, and what could not be read."""
    counts = Counter(predictions.classes[index] for index in predictions.y_pred)
    lines = [f"{name}: {counts[name]:,}" for name in predictions.classes]
    if "call" in predictions.table.columns:
        called = int((predictions.table["call"] == POSITIVE).sum())
        lines.append(f"called positive, at the threshold of the run: {called:,}")
    if "abstains" in predictions.table.columns:
        silent = int((predictions.table["abstains"] == "yes").sum())
        lines.append(f"no answer, the set of possible classes is not one: {silent:,}")
    if "unlike_training" in predictions.table.columns:
        unlike = int((predictions.table["unlike_training"] == "yes").sum())
        lines.append(f"unlike the training images: {unlike:,}")
    if predictions.drift is not None and predictions.drift.auc is not None:
        lines.append(predictions.drift.in_words())
    return "\n".join([*lines, *_left_out(table)])
