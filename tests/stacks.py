"""Phantoms held in memory, with the patient and the label of every image: no files, no decoding."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image

from plainfilm.auditing.neighbours import turned
from plainfilm.data.phantoms import PhantomOptions, phantom_image
from plainfilm.data.phantoms.patients import draw_patient
from plainfilm.data.pixels import PixelStore


@lru_cache(maxsize=8)
def drawn(options: PhantomOptions):
    """`(n, size, size)` images, the number of each one's patient, and each one's label."""
    patients = [draw_patient(options, number) for number in range(1, options.patients + 1)]
    images = [
        phantom_image(options, patient=patient.number, image=image)
        for patient in patients
        for image in range(patient.n_images)
    ]
    counts = [patient.n_images for patient in patients]
    labels = [options.classes[patient.grade] for patient in patients]
    return np.stack(images), np.repeat(np.arange(len(patients)), counts), np.repeat(labels, counts)


def stored(images) -> PixelStore:
    store = PixelStore(len(images), *images[0].shape)
    for index, image in enumerate(images):
        store.put(index, image)
    return store


def noise(n: int, *, side: int = 32, seed: int = 0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side), dtype=np.uint8)


def each_turned(images, *, seed: int = 0):
    """Every image flipped or turned in a way of its own."""
    ways = np.random.default_rng(seed).integers(0, 8, len(images))
    return np.concatenate([turned(image[None], int(way)) for image, way in zip(images, ways, strict=True)])


def saved_again(image, quality: int = 40):
    """What is left of an image after a trip through JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return np.asarray(Image.open(buffer))
