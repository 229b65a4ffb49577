"""From anatomy to pixels: what a patient's scanner makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from plainfilm.data.phantoms.brain import Brain
from plainfilm.data.phantoms.chest import Chest, Film
from plainfilm.data.phantoms.drawing import Array, clipped, root
from plainfilm.data.phantoms.options import PhantomOptions, refuse_if
from plainfilm.data.phantoms.patients import Patient, draw_patient
from plainfilm.data.phantoms.streams import Stream, rng_of

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def phantom_image(
    options: PhantomOptions, *, patient: int = 1, image: int = 0, severity: float | None = None
) -> Pixels:
    """Draw one image without writing it: the very pixels `write_phantoms` writes when no fault is planted.

    Args:
        options: As for a whole set; the number of patients does not matter here.
        patient: From 1; `patient=7` is P007.
        image: From 0; slice or repeat film of that patient.
        severity: Instead of the patient's own; 0 is like the first class, 1 like the last.

    Returns:
        `(size, size)`; uint8 for 8 bits, else uint16, from 0 to `2**bits - 1`.

    Raises:
        UsageError: `PHA_OPTIONS` if the patient has no such image.
    """
    refuse_if((patient < 1, f"patient is 1 or more, not {patient}"))
    person = draw_patient(options, patient)
    last = person.n_images - 1
    refuse_if((not 0 <= image <= last, f"image of {person.patient_id} is 0 to {last}, not {image}"))
    if severity is not None:
        person = replace(person, severity=severity)
    return quantised(acquired(options, person, image), options.bits)


@dataclass(frozen=True)
class Scanner:
    """What a site does to every image: contrast, sharpness and noise."""

    gain: float
    gamma: float
    blur: float  # standard deviation, in units of the grid
    noise: float  # relative to the noise asked for

    @staticmethod
    def draw(seed: int, site: int) -> Scanner:
        """The scanner of one site, the same for all its patients."""
        rng = rng_of(Stream.SCANNER, seed, site)
        return Scanner(
            gain=rng.uniform(0.85, 1.0),
            gamma=rng.uniform(0.85, 1.2),
            blur=rng.uniform(0.003, 0.009),
            noise=rng.uniform(0.7, 1.3),
        )


def acquired(options: PhantomOptions, patient: Patient, image: int) -> Array:
    """One image as the patient's scanner gives it: 0 to 1."""
    rng = rng_of(Stream.ACQUISITION, options.seed, patient.number, image)
    scanner = Scanner.draw(options.seed, patient.site)
    severity, size = patient.severity, options.size
    if options.kind == "brain":
        brain = Brain.draw(options.seed, patient.number, patient.sex, patient.age)
        ideal = brain.slice(level=brain.level(image, patient.n_images), severity=severity, size=size)
    else:
        chest = Chest.draw(options.seed, patient.number, patient.sex, patient.age)
        ideal = chest.film(Film.draw(rng), severity=severity, size=size)
    sharp = clipped(ideal) ** scanner.gamma
    blurred = ndimage.gaussian_filter(sharp, scanner.blur * options.size / 2, truncate=3)
    exposure = scanner.gain * float(np.clip(rng.normal(1, 0.03), 0.9, 1.1))
    noisy = _with_noise(exposure * blurred, options.noise * scanner.noise, rng, magnitude=options.kind == "brain")
    return clipped(noisy)


def _with_noise(image: Array, sigma: float, rng: np.random.Generator, *, magnitude: bool) -> Array:
    """Gaussian noise, or Rician: the magnitude of a complex signal with Gaussian noise in both parts.

    References:
        Gudbjartsson and Patz 1995, "The Rician distribution of noisy MRI data", doi 10.1002/mrm.1910340618.
    """
    if sigma == 0:
        return image
    real = image + np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    if not magnitude:
        return real
    imaginary = np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    return root(real * real + imaginary * imaginary)


def quantised(image: Array, bits: int) -> Pixels:
    """Whole levels from 0 to `2**bits - 1`."""
    levels: Array = np.rint(image * (2**bits - 1))
    return levels.astype(np.uint8) if bits == 8 else levels.astype(np.uint16)
