"""What the trained model itself depends on (B9): what it still knows of edited images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from plainfilm import metrics
from plainfilm.auditing.appearance import border_mask
from plainfilm.auditing.burnt_in import find_burnt_in, mark_masks
from plainfilm.auditing.cases import Cases, cases_of
from plainfilm.auditing.findings import Finding, Picture, Verdict
from plainfilm.auditing.patches import Images, shuffled_patches
from plainfilm.auditing.probing import (
    ProbeOptions,
    interval_of,
    patient_confusions,
    resampled,
)
from plainfilm.auditing.subject import Subject
from plainfilm.explanation.marks import paint_out, pasted_in
from plainfilm.metrics import Bools, Floats, Ints, percentile_interval
from plainfilm.plots import contact_sheet
from plainfilm.progress import Progress, Silent

Score = Callable[[Images], npt.NDArray[np.floating]]  # (n, height, width) to (n, n_classes)

SHOWN = 6
SOURCE = (
    "Middle blacked out: Maguolo and Nanni, Information Fusion 2021;76:1-7. Border against lungs: Sourget et al. 2025. "
    "Shuffled patches: Brendel and Bethge, ICLR 2019."
)


class DependenceOptions(BaseModel):
    """What a model may still do, and may not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dependence_keep: float = Field(
        0.8, gt=0, le=1, description="Share of its excess over chance that a model may not keep without the middle.*"
    )
    dependence_flips: float = Field(
        0.1, gt=0, le=1, description="Share of images whose predicted class a pasted mark may not change.*"
    )
    dependence_border: float = Field(
        0.125, gt=0, lt=0.5, description="Width of the border, which is what is left of an image without its middle.*"
    )
    dependence_images: int = Field(
        500, ge=10, description="Images shown to the model, at most; whole patients are drawn where there are more."
    )


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What an edit did to the answers.

    Attributes:
        name: What was done.
        n_images: Images in which anything was changed; the flip rate is about these.
        balanced_accuracy: Of all images, edited where there was something to edit.
        kept: Share of the excess over chance that is left.
        kept_low: Lower end of its interval.
        kept_high: Upper end.
        flipped: Share of the edited images that are given another class.
        flipped_low: Lower end of its interval (Wilson's, of as many images as there are patients).
        flipped_high: Upper end.
    """

    name: str
    n_images: int
    balanced_accuracy: float
    kept: float
    kept_low: float
    kept_high: float
    flipped: float
    flipped_low: float
    flipped_high: float


def check_dependence(
    subject: Subject,
    score: Score | None,
    *,
    classes: Sequence[str] = (),
    options: DependenceOptions | None = None,
    probing: ProbeOptions | None = None,
    progress: Progress | None = None,
) -> list[Finding]:
    """Show a model edited images, and see what it can still do.

    Args:
        subject: What is audited; the images of its test split, or all where there is none.
        score: From images, as `subject.pixels.values` gives them, to scores of the classes; None where there is no
            model.
        classes: Names of the columns of the scores; those of the subject if empty.
        options: What the model may still do.
        probing: Seed and intervals.
        progress: Told after every edit.
    """
    options, recipe = options or DependenceOptions(), probing or ProbeOptions()
    tested = np.ones(len(subject), dtype=bool)
    if subject.split is not None and (subject.split == "test").any():
        tested = np.asarray(subject.split == "test", dtype=np.bool_)
    if score is None:
        return []
    cases = cases_of(subject, min_patients=1, among=tested).sampled(options.dependence_images, seed=recipe.probe_seed)
    return [_model_finding(subject, cases, score, classes or subject.classes, options, recipe, progress)]


def without_middle(images: Images, border: float) -> Images:
    """Each image with all but its border at its own median."""
    return _filled(images, ~_ring(images, border))


def without_border(images: Images, border: float) -> Images:
    """Each image with its border at its own median."""
    return _filled(images, _ring(images, border))


def _model_finding(
    subject: Subject,
    cases: Cases,
    score: Score,
    classes: Sequence[str],
    options: DependenceOptions,
    recipe: ProbeOptions,
    progress: Progress | None,
) -> Finding:
    title = "What the model still knows of edited images"
    rule = (
        f"FAIL where the model keeps {options.dependence_keep:.0%}* or more of its excess over chance without the "
        "middle of the image, or where a pasted mark changes the class of "
        f"{options.dependence_flips:.0%}* of images or more."
    )
    limits = "Edited images are unlike any that were trained on: a loss says little, what is kept says much."
    if subject.pixels is None or len(cases.classes) < 2:
        why = "there are no images" if subject.pixels is None else "fewer than two classes have two tested patients"
        return _not_assessable("B9", title, why, rule, limits, cases)
    images = subject.pixels.values(cases.rows)
    column = {name: number for number, name in enumerate(cases.classes)}
    own = np.array([column.get(name, -1) for name in classes])

    def answer(edited: Images) -> Ints:
        highest: Ints = np.asarray(score(edited)).argmax(axis=1)
        return np.take(own, highest)  # -1 for a class that no tested image has

    before = answer(images)
    value, (low, high) = _balanced(before, cases), interval_of(_wrong_where_unknown(before, cases), cases, seed=0)
    if low <= 1 / len(cases.classes):
        why = f"the model does not beat chance on these images ({value:.3f}, 95% CI {low:.3f}-{high:.3f})"
        return _not_assessable("B9", title, why, rule, limits, cases)
    edits = _edits(subject, cases, images, options, recipe)
    effects, pictures = [], []
    with (progress or Silent()).task("edited images", len(edits)) as advance:
        for name, (make, touched) in edits.items():
            edited = make()
            effects.append(_effect(name, before, answer(edited), touched, cases, recipe))
            pictures += [(edited[index], name) for index in np.flatnonzero(touched)[:1]]
            advance(1)
    named = {effect.name: effect for effect in effects}
    middle = named["without the middle"]
    pasted = max((effect for effect in effects if effect.name.startswith("with ")), key=lambda effect: effect.flipped)
    reasons = []
    if middle.kept >= options.dependence_keep:
        reasons.append("it hardly needs the middle of the image")
    if pasted.flipped >= options.dependence_flips:
        reasons.append("a printed letter changes its mind")
    verdict: Verdict = "FAIL" if reasons else "PASS"
    sentence = (
        f"{'The model fails: ' + ' and '.join(reasons) + '. ' if reasons else ''}"
        f"Balanced accuracy {value:.3f} (95% CI {low:.3f}-{high:.3f}, {cases.counted}). Without the middle it keeps "
        f"{middle.kept:.0%} of its excess over chance (95% CI {middle.kept_low:.0%} to {middle.kept_high:.0%}), "
        f"without the border {named['without the border'].kept:.0%}. {pasted.name[:1].upper()}{pasted.name[1:]}, "
        f"{pasted.flipped:.1%} of images change class (95% CI {pasted.flipped_low:.1%}-{pasted.flipped_high:.1%})."
        f"{cases.remarks}"
    )
    sheet = contact_sheet([image for image, _ in pictures], [name for _, name in pictures])
    return Finding(
        check="B9",
        title=title,
        verdict=verdict,
        sentence=sentence,
        rule=rule,
        source=SOURCE,
        limits=limits,
        advice="Crop to the anatomy, paint marks out in all classes, and train again; then look at heat maps."
        if reasons
        else "",
        value=middle.kept,
        low=middle.kept_low,
        high=middle.kept_high,
        n_images=len(cases),
        n_patients=cases.known_patients,
        details={"balanced_accuracy": [value, low, high]},
        pictures=(Picture(name="B9-edits.png", caption="One image as each edit leaves it.", png=sheet.png()),),
        tables={"B9-edits": pd.DataFrame([vars(effect) for effect in effects])},
    )


def _edits(
    subject: Subject, cases: Cases, images: Images, options: DependenceOptions, recipe: ProbeOptions
) -> dict[str, tuple[Callable[[], Images], Bools]]:
    """Every edit by name: how it is made, and which images it changes."""
    assert subject.pixels is not None
    everywhere: Bools = np.ones(len(images), dtype=np.bool_)
    border, seed = options.dependence_border, recipe.probe_seed
    masks = mark_masks(find_burnt_in(subject.pixels, cases.rows), images.shape)
    marked = np.asarray(masks.any(axis=(1, 2)), dtype=np.bool_)
    edits: dict[str, tuple[Callable[[], Images], Bools]] = {
        "without the middle": (lambda: without_middle(images, border), everywhere),
        "without the border": (lambda: without_border(images, border), everywhere),
        "in 4x4 patches": (lambda: shuffled_patches(images, 4, seed=seed), everywhere),
        "in 8x8 patches": (lambda: shuffled_patches(images, 8, seed=seed), everywhere),
        "blank": (lambda: _filled(images, np.ones(images.shape[1:], dtype=bool)), everywhere),
        "with a printed L": (lambda: pasted_in("L", images).images, everywhere),
        "with a printed R": (lambda: pasted_in("R", images).images, everywhere),
    }
    if marked.any():
        edits["marks painted out"] = (
            lambda: np.stack([paint_out(image, mask) for image, mask in zip(images, masks, strict=True)]),
            marked,
        )
    return edits


def _effect(name: str, before: Ints, after: Ints, touched: Bools, cases: Cases, recipe: ProbeOptions) -> Effect:
    n_classes = len(cases.classes)
    chance = 1 / n_classes
    both = np.stack([patient_confusions(_wrong_where_unknown(part, cases), cases) for part in (before, after)], axis=1)

    def kept(matrices: Floats) -> Floats:
        was, now = (metrics.balanced_accuracy(matrices[..., part, :, :]) for part in (0, 1))
        return np.asarray((now - chance) / np.where(was > chance, was - chance, np.nan))

    low, high = percentile_interval(resampled(kept, both, cases, seed=recipe.probe_seed))
    changed = float((before != after)[touched].mean())
    n_patients = len(np.unique(cases.group[touched]))
    flip_low, flip_high = metrics.wilson_interval(changed, n_patients)
    return Effect(
        name=name,
        n_images=int(touched.sum()),
        balanced_accuracy=_balanced(after, cases),
        kept=float(kept(both.sum(axis=0))),
        kept_low=float(low),
        kept_high=float(high),
        flipped=changed,
        flipped_low=float(flip_low),
        flipped_high=float(flip_high),
    )


def _ring(images: Images, border: float) -> Bools:
    """`(height, width)`, True in the border."""
    height, width = images.shape[1:]
    across, down = border_mask(width, border)[width // 2], border_mask(height, border)[height // 2]
    return np.asarray(across[None, :] | down[:, None], dtype=np.bool_)


def _filled(images: Images, mask: npt.NDArray[np.bool_]) -> Images:
    edited = images.copy()
    edited[:, mask] = np.median(images, axis=(1, 2))[:, None]
    return edited


def _wrong_where_unknown(named: Ints, cases: Cases) -> Ints:
    """A class that no tested image has counts as a wrong one."""
    return np.where(named >= 0, named, (cases.y + 1) % len(cases.classes))


def _balanced(named: Ints, cases: Cases) -> float:
    confusions = patient_confusions(_wrong_where_unknown(named, cases), cases)
    return float(metrics.balanced_accuracy(confusions.sum(axis=0)))


def _not_assessable(check: str, title: str, reason: str, rule: str, limits: str, cases: Cases) -> Finding:
    return Finding(
        check=check, title=title, verdict="NOT ASSESSABLE", sentence=f"Not assessable: {reason}.", rule=rule,
        source=SOURCE, limits=limits, n_images=len(cases), n_patients=cases.known_patients,
    )  # fmt: skip
