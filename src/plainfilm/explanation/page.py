"""What an explanation found, as numbers (`explain.json`), pictures (`heatmaps/`) and one offline page (`explain.html`).

The page is whole without its script, which only moves the opacity of the heat. Nothing in the data can become markup:
Jinja escapes every value, hidden and bidirectional characters are written out, and the content security policy allows
the page's own script only, by its hash.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from plainfilm.explanation.marks import MarkEffect
from plainfilm.explanation.saliency import METHODS, Floats
from plainfilm.explanation.sanity import MOST_SIMILAR, SAME_PICTURE, SanityCheck, Stage
from plainfilm.measures import Measure
from plainfilm.pages import packaged, page_environment, page_style, script_hash
from plainfilm.plots import explanation as drawing
from plainfilm.plots import readable
from plainfilm.plots.drawing import Array, Drawing
from plainfilm.storage import delete, make_folder, write_bytes, write_json, write_text

PAGE, NUMBERS, PICTURES, MAPS = "explain.html", "explain.json", "heatmaps", "feature-maps.png"
BORDER = 1 / 8  # of each side of an image
SIDE = 256  # pixels of a picture on the page; the files keep their size
SHOWN_EDITS = 8  # images of each edit, those that moved most

SCRIPT: Final = """
const slider = document.getElementById("opacity");
if (slider) {
  slider.closest("label").hidden = false;
  slider.addEventListener("input", () => document.documentElement.style.setProperty("--heat", slider.value / 100));
}
"""


@dataclass(frozen=True, kw_only=True)
class ExplainedImage:
    """One image, what the model said of it, and where that came from.

    Attributes:
        path: Relative to the data folder.
        truth: The label; None where not known.
        predicted: The class with the highest score.
        explained: The class whose score the heat maps explain.
        scores: Of all classes, in their order.
        pixels: `(height, width)`, as the model was given it, in its own depth.
        heat: For each method shown, `(height, width)`; -1 to 1 for signed methods, else 0 to 1.
    """

    path: str
    truth: str | None
    predicted: str
    explained: str
    scores: tuple[float, ...]
    pixels: Array
    heat: dict[str, Floats]

    @property
    def is_right(self) -> bool | None:
        """Whether the model said what the table says; None where the table says nothing."""
        return None if self.truth is None else self.truth == self.predicted


@dataclass(frozen=True, kw_only=True)
class LayerMaps:
    """The feature maps of one layer for one image.

    Attributes:
        layer: Its name.
        path: Of the image.
        weights: Where the layer's weights come from; `random` if nobody trained them.
        maps: `(channels, height, width)`.
    """

    layer: str
    path: str
    weights: str
    maps: Floats

    def drawn(self) -> Drawing:
        """The maps as a grid."""
        return drawing.feature_map_grid(self.maps, layer=self.layer, subject=self.path, weights=self.weights)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Everything one explanation found.

    Attributes:
        model: Its name, and which fold's.
        source: What the user called the images, never an absolute path.
        classes: Names, in the order of the scores.
        layer: The layer that CAM methods weighed; None where none was asked for.
        images: Those explained; empty for a model without classes.
        checks: One for each method asked for.
        border: For each method shown, the mean share of its heat in the outer eighth (`BORDER`) on each side.
        effects: What painting marks out and in did.
        maps: Of one layer, where asked for.
        notes: Sentences for the reader.
        options: As asked for.
    """

    model: str
    source: str
    classes: tuple[str, ...]
    layer: str | None
    images: tuple[ExplainedImage, ...]
    checks: tuple[SanityCheck, ...]
    border: tuple[Measure, ...]
    effects: tuple[MarkEffect, ...]
    maps: LayerMaps | None
    notes: tuple[str, ...]
    options: dict[str, Any]

    @property
    def shown(self) -> tuple[str, ...]:
        """The methods whose heat maps are kept."""
        return tuple(self.images[0].heat) if self.images else ()

    def to_json(self) -> dict[str, Any]:
        """Every number as plain dicts and lists; the pictures by their files."""
        return {
            "model": self.model,
            "source": self.source,
            "classes": list(self.classes),
            "layer": self.layer,
            "images": [
                {
                    "path": image.path,
                    "truth": image.truth,
                    "predicted": image.predicted,
                    "explained": image.explained,
                    "scores": dict(zip(self.classes, image.scores, strict=True)),
                    "heatmaps": {method: f"{PICTURES}/{file_name(n, method)}" for method in image.heat},
                }
                for n, image in enumerate(self.images)
            ],
            "checks": [_check_json(check) for check in self.checks],
            "bounds": {"wholly_random": MOST_SIMILAR, "random_head": SAME_PICTURE},
            "border_share": {str(measure.of): vars(measure) for measure in self.border},
            "effects": [_effect_json(effect) for effect in self.effects],
            "maps": None if self.maps is None else {
                "layer": self.maps.layer, "path": self.maps.path, "weights": self.maps.weights,
                "shape": list(self.maps.maps.shape), "file": MAPS,
            },
            "notes": list(self.notes),
            "options": self.options,
        }  # fmt: skip


def file_name(number: int, method: str) -> str:
    """The file of one heat map over its image."""
    return f"{number:03d}-{method.replace('+', 'p')}.png"


def _check_json(check: SanityCheck) -> dict[str, Any]:
    return {
        "method": check.method,
        "verdict": check.verdict,
        "n_images": check.n_images,
        "n_blank": check.n_blank,
        "reason": check.reason,
        "stages": [_stage_json(stage) for stage in check.stages],
    }


def _stage_json(stage: Stage) -> dict[str, Any]:
    return vars(stage) | {"rank_similarity": vars(stage.rank_similarity), "ssim": vars(stage.ssim)}


def _effect_json(effect: MarkEffect) -> dict[str, Any]:
    def plain(measure: Measure | None) -> dict[str, Any] | None:
        return None if measure is None else vars(measure)

    return {
        "name": effect.name,
        "n_touched": effect.n_touched,
        "n_images": effect.n_images,
        "change": plain(effect.change),
        "by_class": [plain(measure) for measure in effect.by_class],
        "flipped": plain(effect.flipped),
        "control": plain(effect.control),
        "images": effect.rows.to_dict("records"),
    }


def write_explanation(explanation: Explanation, folder: Path) -> None:
    """Write page, numbers and pictures; the numbers first, and removed last, since they mark the folder as ours."""
    make_folder(folder)
    for name in (PAGE, PICTURES, MAPS, NUMBERS):
        delete(folder / name)
    write_json(folder / NUMBERS, explanation.to_json())
    if explanation.shown:
        make_folder(folder / PICTURES)
    for number, image in enumerate(explanation.images):
        for method, heat in image.heat.items():
            picture = drawing.overlay(image.pixels, heat, signed=METHODS[method].signed)
            write_bytes(folder / PICTURES / file_name(number, method), drawing.picture_png(picture))
    if explanation.maps is not None:
        write_bytes(folder / MAPS, explanation.maps.drawn().png())
    write_text(folder / PAGE, write_page(explanation))


# --- the page -----------------------------------------------------------------------------------------------


def write_page(explanation: Explanation) -> str:
    """The whole page as HTML text."""
    template = _environment().from_string(packaged("plainfilm.explanation", "page.html.j2"))
    return template.render(
        found=explanation,
        methods=METHODS,
        bound=MOST_SIMILAR,
        same=SAME_PICTURE,
        border_area=1 - (1 - 2 * BORDER) ** 2,
        style=page_style(("plainfilm.explanation", "page.css")),
        script=Markup(SCRIPT),
        script_hash=script_hash(SCRIPT),
        pictures=[_pictured(explanation, image) for image in explanation.images],
        hidden=[check for check in explanation.checks if check.method not in explanation.shown],
        similarity=_similarity(explanation.checks),
        effects=[_edited(explanation, effect) for effect in explanation.effects],
        maps=None if explanation.maps is None else _source(explanation.maps.drawn().png(dpi=140)),
        options=[(name, str(value)) for name, value in explanation.options.items() if value not in (None, ())],
    )


def _environment() -> Environment:
    environment = page_environment()
    environment.filters |= {
        "brief": lambda text, limit=80: readable(str(text), limit=limit),
        "count": lambda number, noun: f"{number:,} {noun}{'' if number == 1 else 's'}",
        "decimal": lambda value, digits=3: f"{value:.{digits}f}",
        "signed": lambda value: f"{value:+.3f}",
        "sentence": lambda text: text[:1].upper() + text[1:].rstrip(".") + ".",
    }
    return environment


def _source(png: bytes) -> Markup:
    return Markup(f"data:image/png;base64,{b64encode(png).decode('ascii')}")


def _pictured(explanation: Explanation, image: ExplainedImage) -> dict[str, Any]:
    """One image with the colours of each heat map to lay over it."""
    layers = {
        method: _source(drawing.picture_png(drawing.heat_layer(heat, signed=METHODS[method].signed), side=SIDE))
        for method, heat in image.heat.items()
    }
    ranked = sorted(zip(explanation.classes, image.scores, strict=True), key=lambda pair: -pair[1])
    return {
        "image": image,
        "source": _source(drawing.picture_png(image.pixels, side=SIDE)),
        "layers": [
            {"method": METHODS[method].title, "source": layer, "empty": not image.heat[method].any()}
            for method, layer in layers.items()
        ],
        "scores": ranked[:4],
        "verdict": {None: "", True: "right", False: "wrong"}[image.is_right],
    }


def _similarity(checks: Sequence[SanityCheck]) -> Markup | None:
    """The curves of all methods that were compared."""
    made = [check for check in checks if check.stages]
    if not made:
        return None
    shares = [stage.n_random / stage.n_layers for stage in made[0].stages]
    curves = {METHODS[check.method].title: [stage.rank_similarity for stage in check.stages] for check in made}
    return Markup(drawing.similarity_plot(curves, shares, bound=MOST_SIMILAR).svg(for_page=True))


def _edited(explanation: Explanation, effect: MarkEffect) -> dict[str, Any]:
    """The numbers of one edit, and the images whose score moved most, before and after."""
    before = {image.path: image.pixels for image in explanation.images}
    moved = (effect.rows["after"] - effect.rows["before"]).abs().to_numpy(dtype=np.float64)
    rows = []
    for index in np.argsort(-moved, kind="stable")[:SHOWN_EDITS].tolist():
        was = before[str(effect.rows["path"].iat[index])]
        pictures = {"was": was, "now": _in_depth_of(was, effect.pictures[index])}
        shown = {name: _source(drawing.picture_png(picture, side=SIDE)) for name, picture in pictures.items()}
        rows.append(effect.rows.iloc[index].to_dict() | shown)
    changes = effect.by_class or (None,) * len(explanation.classes)
    return {"effect": effect, "changes": changes, "rows": rows, "anchor": re.sub(r"\W+", "-", effect.name)}


def _in_depth_of(image: Array, edited: Floats) -> Array:
    """Edited values, integers in units of their full range, in the depth of the image they were made of."""
    if image.dtype.kind != "u":
        return edited
    full: int = np.iinfo(image.dtype).max
    return np.asarray((full * np.clip(edited, 0, 1)).round().astype(image.dtype))
