"""Images that nobody would take for those a model was trained on, made to try its gate on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from plainfilm.data.phantoms import PhantomOptions, phantom_image
from plainfilm.data.pixels import DTYPES, FULL_RANGE, Array, PixelStore

Image = npt.NDArray[np.float64]
DRAWN_AT: Final = 96  # pixels: a phantom of a large model is drawn so, and enlarged


def strange_images(like: PixelStore) -> Iterator[tuple[str, PixelStore]]:
    """By name, as many strange images as there are others, in their size, their depth and their range of greys.

    Noise, pages of text, the images themselves inverted and upside down, and phantoms of a head and of a chest: where
    the images show the one, the other is another organ.
    """
    for name, change in _CHANGES.items():
        yield name, changed(like, change)


def changed(like: PixelStore, change: Callable[[Image, np.random.Generator], Image]) -> PixelStore:
    """Each image turned into something else, in its own depth."""
    drawn = np.random.default_rng(0)
    store = PixelStore(len(like), *like.shape[1:])
    for index in range(len(like)):
        stored, full_range = like.stored(np.array([index]))
        image = stored[0].astype(np.float64) / full_range
        made = change(image, drawn)
        dtype = DTYPES[FULL_RANGE.index(full_range)] if full_range in FULL_RANGE else np.dtype(np.float32)
        store.put(index, _in_depth(made, full_range, dtype))
    return store


def inverted(image: Image, drawn: np.random.Generator) -> Image:
    """The negative."""
    del drawn
    return np.asarray(image.max() + image.min() - image)


def _in_depth(image: Image, full_range: float, dtype: np.dtype[np.generic]) -> Array:
    scaled = image * full_range
    return np.asarray(scaled.round() if dtype.kind == "u" else scaled).astype(dtype)


def _noise(image: Image, drawn: np.random.Generator) -> Image:
    return drawn.uniform(image.min(), image.max(), size=image.shape)


def _upside_down(image: Image, drawn: np.random.Generator) -> Image:
    del drawn
    return image[::-1]


def _text_page(image: Image, drawn: np.random.Generator) -> Image:
    """Dark words on a bright page: lines of short strokes."""
    page = np.full(image.shape, image.max())
    height, width = image.shape
    line = max(3, height // 16)
    for top in range(line, height - line, 2 * line):
        strokes = drawn.random(width) < 0.6
        page[top : top + line, strokes] = image.min()
    return page


def _phantom(kind: Literal["brain", "chest"]) -> Callable[[Image, np.random.Generator], Image]:
    def drawn_instead(image: Image, drawn: np.random.Generator) -> Image:
        """Another patient each time; of a stack of slices any."""
        from scipy import ndimage

        side = min(DRAWN_AT, max(32, *image.shape))
        options = PhantomOptions(kind=kind, size=side, images_per_patient=16, seed=1)
        patient, place = int(drawn.integers(1, 1_000)), int(drawn.integers(16))
        made = phantom_image(options, patient=patient, image=place) / 255
        fitted = ndimage.zoom(made, [new / side for new in image.shape], order=1, grid_mode=True, mode="nearest")
        return np.asarray(image.min() + (image.max() - image.min()) * np.clip(fitted, 0, 1))

    return drawn_instead


_CHANGES: Final = {
    "noise": _noise,
    "text": _text_page,
    "inverted": inverted,
    "upside_down": _upside_down,
    "brain_phantom": _phantom("brain"),
    "chest_phantom": _phantom("chest"),
}
