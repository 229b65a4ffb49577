"""How well patients are recovered from pixels: stacks of every kind, and how often independent images get groups.

    python -m benchmarks.recovery                        phantoms with known patients
    python -m benchmarks.recovery --data ../shared/data  and the Alzheimer MRI slices

Every set has a seed of its own. ARI: adjusted Rand index with the true patients; "-" where none were recovered.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import adjusted_rand_score

from plainfilm.auditing.neighbours import N_TURNS, turned
from plainfilm.auditing.patients import RecoveredPatients, recover_patients
from plainfilm.data.phantoms import PhantomOptions, phantom_image
from plainfilm.data.phantoms.patients import draw_patient
from plainfilm.data.pixels import PixelStore
from plainfilm.data.scanning import scan_listing
from plainfilm.data.sources import list_images

STACKS = {
    "stacks of 5": {"patients": 60, "images_per_patient": 5},
    "stacks of 16": {"patients": 40, "images_per_patient": 16},
    "stacks of 32": {"patients": 30, "images_per_patient": 32},
    "stacks of 1 to 60": {"patients": 40, "images_per_patient": (1, 60)},
    "stacks of 1 to 500": {"patients": 12, "images_per_patient": (1, 500)},
    "three times the noise": {"patients": 40, "images_per_patient": 16, "noise": 0.06},
    "one class, no effect": {"patients": 40, "images_per_patient": 16, "effect": 0.0},
}
SHARES = (1.0, 0.9, 0.5)  # of the slices that are left
SEEDS = 5
INDEPENDENT = 100


def main() -> None:
    """Print one line for each kind of set, and one for all independent sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds alzheimer-mri.csv")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    asked = parser.parse_args()
    print(f"{'set':<34} {'found':>7} {'unclear':>8} {'none':>5} {'groups/true':>12} {'lowest ARI':>11} {'s':>6}")
    for name, options in STACKS.items():
        sets = [_drawn(PhantomOptions(size=64, seed=seed, **options)) for seed in range(asked.seeds)]
        for share in SHARES:
            _print(f"{name}, {share:.0%} left", [_thinned(images, patient, share) for images, patient in sets])
        _print(f"{name}, flipped and turned", [(_turned(images), patient) for images, patient in sets])
    films = PhantomOptions(kind="chest", patients=60, images_per_patient=4, size=64)
    _print("4 films of a patient (not stacks)", [_drawn(films)])
    _print(f"{INDEPENDENT} independent sets", list(_independent(INDEPENDENT)))
    if asked.data is not None:
        table, pixels = scan_listing(list_images(asked.data / "alzheimer-mri.csv"), size=(128, 128))
        images = pixels.stored(np.arange(len(pixels)))[0]
        patient = table.rows["patient_id"].to_numpy()
        for share in (1.0, 0.98, 0.9, 0.5):
            _print(f"Alzheimer MRI, {share:.0%} left", [_thinned(images, patient, share)])


Images = npt.NDArray[np.generic]
Set = tuple[Images, npt.NDArray[np.generic]]


def _print(name: str, sets: list[Set]) -> None:
    started = time.perf_counter()
    found = [(recover_patients(_stored(images)), patient) for images, patient in sets]
    seconds = (time.perf_counter() - started) / len(sets)
    outcomes = Counter(result.outcome for result, _ in found)
    agreement = [adjusted_rand_score(patient, result.group) for result, patient in found if result.found]
    lowest = f"{min(agreement):.3f}" if agreement else "-"
    print(
        f"{name:<34} {outcomes['found']:>7} {outcomes['unclear']:>8} {outcomes['none']:>5} {_groups(found):>12} "
        f"{lowest:>11} {seconds:>6.1f}",
        flush=True,
    )


def _groups(found: list[tuple[RecoveredPatients, npt.NDArray[np.generic]]]) -> str:
    """Groups and true patients of the first set in which groups were found."""
    first = next(((result, patient) for result, patient in found if result.found), None)
    return "-" if first is None else f"{first[0].n_groups}/{len(np.unique(first[1]))}"


def _drawn(options: PhantomOptions) -> Set:
    patients = [draw_patient(options, number) for number in range(1, options.patients + 1)]
    images = [
        phantom_image(options, patient=patient.number, image=image)
        for patient in patients
        for image in range(patient.n_images)
    ]
    return np.stack(images), np.repeat(np.arange(len(patients)), [patient.n_images for patient in patients])


def _thinned(images: Images, patient: npt.NDArray[np.generic], share: float) -> Set:
    """A random part of the images, in random order."""
    kept = np.random.default_rng(0).permutation(len(images))[: round(share * len(images))]
    return images[kept], patient[kept]


def _turned(images: Images) -> Images:
    ways = np.random.default_rng(0).integers(0, N_TURNS, len(images))
    return np.concatenate([turned(images[[index]], int(way)) for index, way in enumerate(ways)])


def _independent(n_sets: int) -> Iterator[Set]:
    """Noise, single slices and single films in turn: 20 to 200 images, every one another patient's."""
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        n, kind = int(rng.integers(20, 200)), ("noise", "brain", "chest")[seed % 3]
        if kind == "noise":
            yield rng.integers(0, 256, (n, 64, 64), dtype=np.uint8), np.arange(n)
        else:
            yield _drawn(PhantomOptions(kind=kind, patients=n, images_per_patient=1, size=64, seed=seed))


def _stored(images: Images) -> PixelStore:
    store = PixelStore(len(images), *images.shape[1:])
    for index, image in enumerate(images):
        store.put(index, image)
    return store


if __name__ == "__main__":
    main()
