"""One offline HTML file from `ReportData`: no script, nothing loaded, every text shown as text."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable
from io import BytesIO
from typing import Any

from markupsafe import Markup
from PIL import Image

from plainfilm import plots
from plainfilm.measures import Evaluation
from plainfilm.pages import page_style
from plainfilm.plots import readable
from plainfilm.plots.explanation import picture_png
from plainfilm.reporting import figures
from plainfilm.reporting.content import Example, ReportData
from plainfilm.reporting.environment import NAME_LIMIT, report_environment
from plainfilm.reporting.sections import inline, section_parts
from plainfilm.reporting.words import GLOSSARY, PATIENTS, SPLIT

STYLES = (("plainfilm.reporting", "style.css"), ("plainfilm.reporting", "findings.css"))


def write_report(report: ReportData) -> str:
    """The whole page as HTML text.

    Nothing in `report` can become markup: Jinja escapes every value, hidden and bidirectional characters are
    written out, and a content security policy forbids scripts and any access to the network.
    """
    template = report_environment().get_template("template.html.j2")
    return template.render(report=report, style=page_style(*STYLES), **_parts(report))


def _parts(report: ReportData) -> dict[str, Any]:
    """Everything the template shows that is not in `report` word for word."""
    evaluation = report.evaluation
    return {
        "headline": figures.headline(report),
        "levels": figures.ladder(report),
        "wrong": [_picture(example) for example in _surest_first(report.examples, right=False)],
        "right": [_picture(example) for example in _surest_first(report.examples, right=True)],
        "matrices": figures.matrices(evaluation),
        "class_tables": figures.class_tables(evaluation),
        "intervals": inline(figures.interval_drawing(evaluation)),
        "intervals_caption": "The same as a picture: a dot for each figure, a line for its interval.",
        "overall": figures.overall(evaluation),
        "site_table": figures.site_table(evaluation),
        "site_unit": f"{evaluation.headline.unit}s",
        "effective": _effective(evaluation),
        "two_way": figures.two_way(evaluation),
        "curves": [{"drawing": inline(drawing), "caption": caption} for drawing, caption in figures.curves(evaluation)],
        **_training_parts(report),
        **section_parts(report),
        "splits": figures.splits(report.data.counts, by_patient=report.split_unit == "patient"),
        "patients_words": PATIENTS[report.patients],
        "split_words": SPLIT["site" if report.site_column is not None else report.split_unit],
        "model_facts": _model_facts(report),
        "options": [(name, str(value)) for name, value in report.options.items()],
        "folds_sd": _folds_sd(report),
        "notes": [*report.notes, *(note for note in evaluation.notes if note not in report.notes)],
        "words": GLOSSARY,
    }


def _surest_first(examples: Iterable[Example], *, right: bool) -> list[Example]:
    return sorted((e for e in examples if e.is_right == right), key=lambda e: (-e.score, e.path))


def _picture(example: Example) -> dict[str, Any]:
    png = plots.thumbnail_png(example.thumbnail)
    width, height = Image.open(BytesIO(png)).size
    verdict = "right" if example.is_right else "wrong"
    return {
        "source": _source(png),
        "width": width,
        "height": height,
        "alt": f"Truth {readable(example.truth, limit=NAME_LIMIT)}, answer "
        f"{readable(example.predicted, limit=NAME_LIMIT)}, {verdict}",
        "is_right": example.is_right,
        "truth": example.truth,
        "predicted": example.predicted,
        "score": example.score,
        "path": example.path,
        "overlay": None if example.overlay is None else _source(picture_png(example.overlay, side=max(width, height))),
    }


def _source(png: bytes) -> Markup:
    return Markup(f"data:image/png;base64,{b64encode(png).decode('ascii')}")


def _training_parts(report: ReportData) -> dict[str, Any]:
    training = report.training
    if training is None:
        return {"training_plot": None, "training_caption": "", "training_facts": []}
    chosen_epoch = training.chosen_epoch
    kept = f"epoch {chosen_epoch}, {training.chosen_by}" if chosen_epoch is not None else training.chosen_by
    drawing = plots.training_plot(training.history, chosen_epoch=chosen_epoch) if len(training.history) > 1 else None
    caption = (
        "Loss and accuracy after each epoch, and the learning rate below.",
        "The dotted line is the epoch that was kept." if chosen_epoch is not None else "",
        "This is the first fold; the others are in the run's folder." if report.folds else "",
    )
    return {
        "training_plot": inline(drawing),
        "training_caption": " ".join(filter(None, caption)),
        "training_facts": [
            ("Epochs", f"{training.epochs:,}{' in all folds' if report.folds else ''}"),
            ("Kept", kept),
            ("Time", _duration(training.seconds)),
            ("Device", training.device),
            ("Precision", training.precision),
        ],
    }


def _model_facts(report: ReportData) -> list[tuple[str, str]]:
    model = report.model
    height, width = model.input_size
    facts = [
        ("Name", model.name),
        ("Input", f"{height} x {width} pixels, 1 channel"),
        ("Parameters", f"{model.parameters:,}"),
    ]
    if model.flops is not None:
        facts.append(("Work for one image", f"{model.flops / 1e9:.2f} GFLOPs"))
    return [*facts, ("First weights", model.weights), ("Licence of the weights", model.licence)]


def _folds_sd(report: ReportData) -> str:
    if report.folds is None or math.isnan(report.folds.sd):
        return ""
    return f"{report.folds.sd:.3f}"


def _effective(evaluation: Evaluation) -> str:
    """What images that resemble each other are worth, where that was computed."""
    if evaluation.effective_images is None or evaluation.design_effect is None:
        return ""
    return (
        f"Images of one patient resemble each other: these {evaluation.n_images:,} images tell as much about "
        f"the accuracy as {evaluation.effective_images:,.0f} independent ones would."
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
