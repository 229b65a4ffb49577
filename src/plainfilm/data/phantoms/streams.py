"""Random streams: one for each purpose, patient and image."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a random stream is for: the first number of its key.

    No stream depends on how many numbers were drawn from another, so that adding patients, images or faults
    leaves every other image as it was.
    """

    ANATOMY = 0
    STACK = 1
    ACQUISITION = 2
    SCANNER = 3
    BLOCK = 4
    NAMES = 5
    FAULT = 6


def rng_of(stream: Stream, *key: int) -> np.random.Generator:
    """A generator for one purpose; `key` is the seed, then what tells patient from patient, image from image."""
    return np.random.default_rng((int(stream), *key))
