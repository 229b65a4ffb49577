"""How often is a batch called drifted: one like the training images, and one that is not? Phantoms, known truth.

    python -m benchmarks.drift                  200 batches of each size and kind
    python -m benchmarks.drift --batches 50

One image of each of 800 patients is drawn once. Every batch, and the training patients it is compared with, are drawn
anew from these, and no patient is in both. Takes about five minutes of one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from plainfilm.data.phantoms import PhantomOptions, phantom_image
from plainfilm.data.pixels import PixelStore
from plainfilm.drift import Drift, DriftOptions, DriftRule, Statistics, image_statistics, look_for_drift

PATIENTS = 800
SIDE = 64
TRAINING = 200  # patients with statistics on file
SIZES = (20, 40, 100)  # patients of a batch

Image = npt.NDArray[np.float64]
KINDS: dict[str, Callable[[Image], Image]] = {
    "the same": lambda image: image,
    "5 % brighter": lambda image: image * 1.05,
    "20 % brighter": lambda image: image * 1.2,
    "slightly blurred": lambda image: ndimage.gaussian_filter(image, 0.5),
    "moved by 3 pixels": lambda image: np.roll(image, 3, axis=1),
    "one in three 20 % darker": lambda image: image * 0.8,
}


def main() -> None:
    """Print a table: share of batches called drifted, and their median ROC AUC."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=200)
    asked = parser.parse_args()
    began = time.monotonic()
    options = PhantomOptions(size=SIDE, images_per_patient=16, seed=4)
    images = [phantom_image(options, patient=n + 1, image=n % 16) / 255.0 for n in range(PATIENTS)]
    usual = statistics_of(images)
    rule = DriftRule.of(DriftOptions(), n_reference=TRAINING)
    print(
        f"{asked.batches} batches each, {TRAINING} training patients, ROC AUC at least {rule.auc}, p at most {rule.p}"
    )
    for kind, change in KINDS.items():
        strange = usual if kind == "the same" else statistics_of([np.clip(change(image), 0, 1) for image in images])
        some = kind.startswith("one in three")
        for size in SIZES:
            found = [batch_of(usual, strange, size, some, rule, seed) for seed in range(asked.batches)]
            called, p = np.mean([each.drifted for each in found]), np.mean([(each.p or 1) <= rule.p for each in found])
            auc = np.median([each.auc or 0 for each in found])
            print(f"{kind:36s} {size:4d} patients: drift {called:6.1%}, p alone {p:6.1%}, median ROC AUC {auc:.2f}")
    print(f"{time.monotonic() - began:.0f} s")


def statistics_of(images: list[Image]) -> Statistics:
    """Of 8-bit images, as files hold them."""
    store = PixelStore(len(images), SIDE, SIDE)
    for index, image in enumerate(images):
        store.put(index, (255 * image).round().astype(np.uint8))
    return image_statistics(store, np.arange(len(images)))


def batch_of(usual: Statistics, strange: Statistics, size: int, some: bool, rule: DriftRule, seed: int) -> Drift:
    """Training patients and other ones, drawn; of the others all, or one in three, are strange."""
    order = np.random.default_rng(seed).permutation(len(usual))
    training, batch = order[:TRAINING], order[TRAINING : TRAINING + size]
    changed = np.arange(size) % 3 == 0 if some else np.ones(size, dtype=bool)
    mixed = np.where(changed[:, None], strange[batch], usual[batch])
    return look_for_drift(mixed, usual[training], rule, knows_patients=True)


if __name__ == "__main__":
    main()
