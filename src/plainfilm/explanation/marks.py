"""Printed letters and arrows: painted out or pasted in, to see whether a score hangs on them.

Side markers and arrows follow the label in many collections (a letter on every chest film, an arrow on every abdomen),
and a network reads them before it reads anatomy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm import metrics
from plainfilm.explanation.options import Box
from plainfilm.measures import Measure

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Mark = Literal["L", "R", "arrow"]

# A mark is small, and far brighter or darker than what is around it. Shares of the image's side, area and grey range.
LONGEST = 0.2
LARGEST = 0.01
SMALLEST = 0.0001
CONTRAST = 0.3
NEIGHBOURHOOD = 1 / 12
MARK_HEIGHT = 0.12  # of a pasted mark


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Images with something painted out or in.

    Attributes:
        name: What was done, in words.
        images: `(n, height, width)`, all images, edited where `touched`.
        touched: `(n,)`, whether anything was changed.
        control: The same patches at other places of the same image, for painting out; None for pasting.
    """

    name: str
    images: Floats
    touched: Mask
    control: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class MarkEffect:
    """What an edit did to the scores.

    Attributes:
        name: What was done.
        n_touched: Images in which anything was changed; the numbers are about these.
        n_images: Images looked at.
        change: Mean change of the score of the class predicted before; None where no image was touched.
        by_class: Mean change of the score of each class.
        flipped: Share of the images whose predicted class is another one now.
        control: As `change`, with the patches at other places; None where there is no control.
        rows: One for each touched image: `path`, `before`, `after` (score of the class predicted before), `predicted`,
            `predicted_after`.
        pictures: `(n_touched, height, width)`, as edited.
    """

    name: str
    n_touched: int
    n_images: int
    change: Measure | None
    by_class: tuple[Measure, ...]
    flipped: Measure | None
    control: Measure | None
    rows: pd.DataFrame
    pictures: Floats


def find_marks(image: Floats) -> Mask:
    """Small patches far brighter or darker than their surroundings; letters and arrows, but also clips and wires.

    Args:
        image: `(height, width)`, any unit.

    Returns:
        `(height, width)`, True on a mark, with a rim of a pixel or two.
    """
    from scipy import ndimage

    low, high = np.percentile(image, (1, 99))
    side = max(image.shape)
    around = ndimage.median_filter(image, size=max(5, int(side * NEIGHBOURHOOD) | 1), mode="nearest")
    contrast = (image - around) / max(float(high - low), 1e-12)
    found: Mask = np.zeros(image.shape, dtype=bool)
    for mask in (contrast > CONTRAST, contrast < -CONTRAST):
        labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            own = labels[box] == number
            if max(own.shape) <= LONGEST * side and SMALLEST <= own.sum() / image.size <= LARGEST:
                found[box] |= own
    grown: Mask = ndimage.binary_dilation(found, iterations=1 + side // 256) if found.any() else found
    return grown


def box_mask(shape: tuple[int, int], boxes: Sequence[Box]) -> Mask:
    """True inside boxes given as shares of width and height."""
    height, width = shape
    mask: Mask = np.zeros(shape, dtype=bool)
    for x0, y0, x1, y1 in boxes:
        rows = slice(int(y0 * height), max(int(y0 * height) + 1, round(y1 * height)))
        mask[rows, int(x0 * width) : max(int(x0 * width) + 1, round(x1 * width))] = True
    return mask


def paint_out(image: Floats, mask: Mask) -> Floats:
    """Fill each patch of `mask` with the median of the ring around it."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    painted = image.copy()
    width = max(2, max(image.shape) // 64)
    for number in range(1, count + 1):
        patch = labels == number
        ring = ndimage.binary_dilation(patch, iterations=width) & ~mask
        painted[patch] = np.median(image[ring if ring.any() else ~mask]) if not mask.all() else np.median(image)
    return painted


def paste_mark(image: Floats, mark: Mark) -> Floats:
    """Print a letter into its usual upper corner (the patient's left is on the right), or an arrow near the middle."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = image.shape
    size = max(8, round(MARK_HEIGHT * min(height, width)))
    stencil = Image.new("L", (width, height))
    pen = ImageDraw.Draw(stencil)
    if mark == "arrow":
        tip = np.array([0.6 * width, 0.45 * height])
        outline = np.array([(0, 0), (0.5, -0.35), (0.5, -0.12), (1.2, -0.12), (1.2, 0.12), (0.5, 0.12), (0.5, 0.35)])
        pen.polygon([tuple(point) for point in (tip + size * outline).tolist()], fill=255)
    else:
        x = 0.9 * width if mark == "L" else 0.1 * width
        pen.text((x, 0.04 * height), mark, 255, ImageFont.load_default(size), anchor="ma", stroke_width=size // 16)
    cover = np.asarray(stencil, dtype=np.float32) / 255
    bright = np.float32(np.percentile(image, 99.9))
    pasted: Floats = (image * (1 - cover) + bright * cover).astype(np.float32)
    return pasted


def painted_out(name: str, images: Floats, masks: Sequence[Mask], *, seed: int) -> Edit:
    """Images without what the masks cover, and, as control, with the same patches at other places."""
    rng = np.random.default_rng(seed)
    away = [_elsewhere(mask, rng) for mask in masks]
    return Edit(
        name=name,
        images=np.stack([paint_out(image, mask) for image, mask in zip(images, masks, strict=True)]),
        touched=np.array([bool(mask.any()) for mask in masks]),
        control=np.stack([paint_out(image, mask) for image, mask in zip(images, away, strict=True)]),
    )


def pasted_in(mark: Mark, images: Floats) -> Edit:
    """Every image with a mark."""
    return Edit(
        name=f"paste {mark}",
        images=np.stack([paste_mark(image, mark) for image in images]),
        touched=np.ones(len(images), dtype=bool),
    )


def _elsewhere(mask: Mask, rng: np.random.Generator, tries: int = 20) -> Mask:
    """The patches moved together, round the edges, to where they cover the least of their old place."""
    if not mask.any():
        return mask
    shifts = rng.integers(0, mask.shape, size=(tries, 2))
    moved = [np.roll(mask, tuple(shift), axis=(0, 1)) for shift in shifts.tolist()]
    best: Mask = min(moved, key=lambda other: int((other & mask).sum()))
    return best


def measure_edit(
    edit: Edit,
    score: Callable[[Floats], npt.NDArray[np.float64]],
    before: npt.NDArray[np.float64],
    *,
    classes: Sequence[str],
    paths: Sequence[str],
    groups: Sequence[object] | None = None,
    seed: int = 0,
) -> MarkEffect:
    """Score the edited images, and say how far the scores moved.

    Args:
        edit: What was done.
        score: From `(n, height, width)` images to `(n, n_classes)` probabilities.
        before: Probabilities of the images as they were.
        classes: Names, in the order of the scores.
        paths: Of the images.
        groups: The patient of each image; None where not known.
        seed: Of the intervals.
    """
    touched = [index for index, is_touched in enumerate(edit.touched) if is_touched]
    empty = pd.DataFrame(columns=["path", "before", "after", "predicted", "predicted_after"])
    if not touched:
        return MarkEffect(
            name=edit.name, n_touched=0, n_images=len(before), change=None, by_class=(), flipped=None, control=None,
            rows=empty, pictures=edit.images[:0],
        )  # fmt: skip
    was, now = before[touched], score(edit.images[touched])
    predicted, own = was.argmax(axis=1), np.arange(len(touched))
    groups = None if groups is None else [groups[index] for index in touched]

    def mean(values: npt.NDArray[np.float64], of: str | None = None) -> Measure:
        from plainfilm.explanation.sanity import (
            mean_measure,
        )  # imports torch, which an audit without a model does without

        return mean_measure("score_change", values, groups, of=of, seed=seed)

    control = None
    if edit.control is not None:
        control = mean(score(edit.control[touched])[own, predicted] - was[own, predicted])
    rows = pd.DataFrame(
        {
            "path": [paths[index] for index in touched],
            "before": was[own, predicted],
            "after": now[own, predicted],
            "predicted": [classes[index] for index in predicted],
            "predicted_after": [classes[index] for index in now.argmax(axis=1)],
        }
    )
    return MarkEffect(
        name=edit.name,
        n_touched=len(touched),
        n_images=len(before),
        change=mean(now[own, predicted] - was[own, predicted]),
        by_class=tuple(mean(now[:, index] - was[:, index], of=name) for index, name in enumerate(classes)),
        flipped=_share(now.argmax(axis=1) != predicted, groups),
        control=control,
        rows=rows,
        pictures=edit.images[touched],
    )


def _share(flipped: Mask, groups: Sequence[object] | None) -> Measure:
    """A share of images; its Wilson interval counts patients where they are known."""
    n_groups = len(flipped) if groups is None else len({str(group) for group in groups})
    share = float(flipped.mean())
    low, high = metrics.wilson_interval(share, n_groups)
    return Measure(
        name="flip_rate", unit="image", of=None, value=share, low=float(low), high=float(high), n_images=len(flipped),
        n_patients=None if groups is None else n_groups, interval="wilson",
    )  # fmt: skip
