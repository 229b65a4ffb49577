"""Burnt-in marks and text: whether there are any, and where; not what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plainfilm.auditing.findings import Picture
from plainfilm.auditing.probes import ALL, Probe, Setting
from plainfilm.data.pixels import PixelStore
from plainfilm.metrics import Ints
from plainfilm.plots import contact_sheet

CHUNK = 256  # images at once
# A mark is as bright, or as dark, as anything in the image, small, sharp-edged and near a border. Shares of the image's
# grey range, area and side.
SATURATED = 0.85
SMALLEST, LARGEST = 0.0004, 0.02
SHORTEST, LONGEST = 0.02, 0.25
NEAR = 0.125
MOST_PATCHES = 12  # of an image
STEP = 0.3  # in grey range, from the mark to what is around it
ZONES = 4  # along each side
MOST_SHOWN = 12


@dataclass(frozen=True)
class Marks:
    """Marks found in some images, one row each.

    Attributes:
        image: `(marks,)` index of the image.
        box: `(marks, 4)` top, left, bottom, right as shares of height and width.
    """

    image: npt.NDArray[np.intp]
    box: npt.NDArray[np.float64]


def find_burnt_in(pixels: PixelStore, rows: Ints) -> Marks:
    """Small saturated patches with sharp edges near the borders: letters, arrows, labels; also clips and wires.

    Args:
        pixels: Images.
        rows: `(n,)` which of them; `Marks.image` counts along these.
    """
    images, boxes = [], []
    for start in range(0, len(rows), CHUNK):
        values = pixels.values(rows[start : start + CHUNK])
        for sign in (1, -1):
            for image, box in _patches(sign * values, inside=sign < 0):
                images.append(start + image)
                boxes.append(box)
    return Marks(np.array(images, dtype=np.intp), np.array(boxes, dtype=np.float64).reshape(-1, 4))


def mark_features(marks: Marks, n_images: int) -> dict[str, npt.NDArray[np.float64]]:
    """Whether there is any mark and how many (up to 5); in which cells of a 4x4 grid; and both together."""
    count = np.bincount(marks.image, minlength=n_images)
    middle = np.clip((marks.box[:, :2] + marks.box[:, 2:]) / 2, 0, 1 - 1e-9)
    zone = (middle * ZONES).astype(np.intp) @ np.array([ZONES, 1])
    present = np.zeros((n_images, ZONES * ZONES))
    present[marks.image, zone] = 1
    top = present[:, :ZONES].max(axis=1, keepdims=True)  # where side markers are
    number = np.column_stack([count > 0, np.minimum(count, 5)]).astype(np.float64)
    return {"presence": number, "at the top": top, "place": present, ALL: np.column_stack([number, present])}


def mark_masks(marks: Marks, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """`(n_images, height, width)`, True in the box of each mark and a rim of two pixels."""
    masks = np.zeros(shape, dtype=bool)
    height, width = shape[1:]
    for image, (top, left, bottom, right) in zip(marks.image, marks.box * (height, width, height, width), strict=True):
        rows = slice(max(0, round(top) - 2), round(bottom) + 2)
        masks[image, rows, max(0, round(left) - 2) : round(right) + 2] = True
    return masks


def mark_probe(setting: Setting) -> Probe:
    """B7: presence and place of marks."""
    cases = setting.cases
    marks = find_burnt_in(setting.pixels, cases.rows)
    marked = np.bincount(marks.image, minlength=len(cases)) > 0
    shares = {name: float(marked[cases.y == c].mean()) for c, name in enumerate(cases.classes)}
    listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    best, probed, by_part = setting.run_best(mark_features(marks, len(cases)))
    return Probe(
        check="B7",
        title="Label from burnt-in marks alone",
        of="presence and place of small bright or dark marks near the borders",
        may_fail=True,
        look="Look at the boxes: where they are letters, arrows or text, crop or paint them out in all classes.",
        limits="The detector sees small saturated patches, not letters: clips, wires and bright bone are among them, "
        "and faint or large text is missed.",
        probed=probed,
        remark=f" Images with such a mark: {listed}.",
        details={"share_with_marks": shares, "balanced_accuracy_by_part": by_part, "best": best},
        draw=lambda: _examples(setting, marks),
    )


def _patches(values: npt.NDArray[np.float32], *, inside: bool) -> list[tuple[int, tuple[float, float, float, float]]]:
    """Image and box of each bright patch that can be a mark; with `inside`, of those that do not touch an edge.

    A dark patch at the edge is what is around the body, such as the corner above a shoulder.
    """
    from scipy import ndimage

    height, width = values.shape[1:]
    high, low = values.max(axis=(1, 2), keepdims=True), values.min(axis=(1, 2), keepdims=True)
    span = np.maximum(high - low, 1e-12)
    alone = np.zeros((3, 3, 3), dtype=bool)
    alone[1] = True  # eight neighbours within an image, none in the next
    labels, count = ndimage.label(values >= high - (1 - SATURATED) * span, structure=alone)
    found = []
    for number, (image, top, left, bottom, right) in _small_boxes(labels, count, inside=inside):
        around = (slice(max(0, top - 2), bottom + 2), slice(max(0, left - 2), right + 2))
        own = labels[image][around] == number
        rim = ndimage.binary_dilation(own, iterations=2) & ~ndimage.binary_dilation(own)
        if rim.any():
            shown = values[image][around]
            if shown[own].mean() - np.median(shown[rim]) >= STEP * span[image, 0, 0]:
                found.append((image, (top / height, left / width, bottom / height, right / width)))
    return found


def _small_boxes(
    labels: npt.NDArray[np.integer], count: int, *, inside: bool
) -> Iterator[tuple[int, tuple[int, int, int, int, int]]]:
    """Number of each small patch near a border, with its image, top, left, bottom and right."""
    height, width = labels.shape[1:]
    area = np.bincount(labels.ravel(), minlength=count + 1) / (height * width)
    small = (area >= SMALLEST) & (area <= LARGEST)
    small[0] = False
    if not small.any():
        return
    place = np.flatnonzero(small[labels])
    place = place[np.argsort(labels.ravel()[place], kind="stable")]
    number, first = np.unique(labels.ravel()[place], return_index=True)
    if not len(number):
        return
    image, row, column = np.unravel_index(place, labels.shape)
    top, left = (np.minimum.reduceat(axis, first) for axis in (row, column))
    bottom, right = (np.maximum.reduceat(axis, first) + 1 for axis in (row, column))
    tall, wide = (bottom - top) / height, (right - left) / width
    edge = np.min([top / height, left / width, 1 - bottom / height, 1 - right / width], axis=0)
    longest = np.maximum(tall, wide)
    owner = image[first]
    fits = (longest >= SHORTEST) & (longest <= LONGEST) & (edge <= NEAR) & ((edge > 0) | (not inside))
    fits &= np.bincount(owner[fits], minlength=len(labels))[owner] <= MOST_PATCHES  # more are noise, or a texture
    for index in np.flatnonzero(fits):
        box = (image[first[index]], top[index], left[index], bottom[index], right[index])
        yield int(number[index]), tuple(int(end) for end in box)  # type: ignore[misc]


def _examples(setting: Setting, marks: Marks) -> tuple[Picture, ...]:
    """Images with marks, boxed, from every class."""
    cases, images = setting.cases, np.unique(marks.image)
    rng = np.random.default_rng(setting.recipe.probe_seed)
    each = max(1, MOST_SHOWN // len(cases.classes))
    own = [images[cases.y[images] == c] for c in range(len(cases.classes))]
    chosen = np.concatenate([np.sort(rng.permutation(part)[:each]) for part in own])
    if not len(chosen):
        return ()
    boxed = [_boxed(setting.pixels.values(cases.rows[[image]])[0], marks.box[marks.image == image]) for image in chosen]
    sheet = contact_sheet(boxed, [cases.classes[c] for c in cases.y[chosen]])
    caption = "Small saturated patches near the borders, boxed: are they marks, and do they differ between the classes?"
    return (Picture(name="B7-marks.png", caption=caption, png=sheet.png()),)


def _boxed(image: npt.NDArray[np.float32], boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """The image with a white frame, black outside it, around each box."""
    low, high = float(image.min()), float(image.max())
    grey = ((image - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    height, width = image.shape
    for margin, shade in ((3, 0), (2, 255)):
        for box in boxes:
            ends = np.round(box * (height, width, height, width)) + np.array([-margin, -margin, margin, margin])
            top, left, bottom, right = np.clip(ends, 0, (height, width, height, width)).astype(int).tolist()
            bottom, right = min(bottom, height - 1), min(right, width - 1)
            grey[[top, bottom], left : right + 1] = shade
            grey[top : bottom + 1, [left, right]] = shade
    return grey
