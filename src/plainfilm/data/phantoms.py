"""Phantoms: synthetic images with known patients, known severity and, where asked for, known faults.

A brain phantom is a stack of neighbouring slices (T1-like MRI) whose ventricles and sulci widen with severity; a
chest phantom is a few repeat films (frontal X-ray) with an opacity that grows with it. Both serve demos and tests:
nobody's data, and the truth is on file. They teach nothing about disease.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from plainfilm.errors import DataError, UsageError

Kind = Literal["brain", "chest"]
Sex = Literal["F", "M"]
FileNames = Literal["patient", "interleaved", "shuffled"]
FaultKind = Literal[
    "straddling_patient", "duplicate", "class_duplicate", "turned", "marker", "label_noise", "size", "quality"
]
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Array = npt.NDArray[np.floating[Any]]

MANIFEST_COLUMNS = ("path", "label", "patient_id", "split", "site", "sex", "age")
SPLIT_CYCLE = ("train", "test", "train", "validation", "train")  # 60 / 20 / 20 within each class
BIT_DEPTHS = (8, 12, 16)
SLICE_SPACING = 1 / 24  # of the way from the thalami to the vertex
SEVERITY_SPREAD = 0.15  # patients of one grade differ; 1 is the way from the first class to the last
SIZE_FAULT = 1.25  # the wrong side length, as a multiple of the right one
JPEG_QUALITY = 25

# The first number of every random stream says what it is for, so that no stream depends on how many were drawn
# from another: adding patients, images or faults leaves every other image as it was.
ANATOMY, STACK, ACQUISITION, SCANNER, BLOCK, NAMES, FAULT = range(7)


@dataclass(frozen=True, kw_only=True)
class PhantomOptions:
    """What is drawn. The same options give the same bytes (same machine and library versions).

    Attributes:
        kind: `brain` (stacks of neighbouring slices) or `chest` (repeat films).
        patients: How many; their ids are P001, P002, ...
        images_per_patient: A number, or `(low, high)` for unequal stacks.
        classes: From the least to the most severe; each gets the same number of patients, give or take one.
        size: Height and width in pixels, 32 or more.
        bits: 8, 12 (stored in 16) or 16.
        noise: Standard deviation as a share of full range; Rician for brains, Gaussian for chests.
        sites: How many scanners, each with its own contrast, sharpness and noise.
        effect: Strength of the class signal; 0 leaves nothing of the class in the pixels.
        file_names: `patient` (`P007_03.png`), `interleaved` (numbered slice by slice over the patients of a
            class, as in public sets that lost their ids) or `shuffled` (numbered in random order).
        seed: 0 or more.

    Raises:
        UsageError: `PHA_OPTIONS`, naming every option that cannot be.
    """

    kind: Kind = "brain"
    patients: int = 40
    images_per_patient: int | tuple[int, int] = 16
    classes: tuple[str, ...] = ("normal", "abnormal")
    size: int = 128
    bits: int = 8
    noise: float = 0.02
    sites: int = 2
    effect: float = 1.0
    file_names: FileNames = "patient"
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.stack_range
        _refuse_if(
            (self.kind not in get_args(Kind), f"kind is 'brain' or 'chest', not '{self.kind}'"),
            (self.patients < 1, f"patients is 1 or more, not {self.patients}"),
            (not 1 <= low <= high, f"images_per_patient is 1 or more, low before high, not {(low, high)}"),
            (len(self.classes) < 2, "classes names two or more"),
            (len({name.casefold() for name in self.classes}) < len(self.classes), "classes has a name twice"),
            (not all(map(_is_folder_name, self.classes)), f"classes are folder names, not {self.classes}"),
            (self.size < 32, f"size is 32 or more pixels, not {self.size}"),
            (self.bits not in BIT_DEPTHS, f"bits is 8, 12 or 16, not {self.bits}"),
            (not 0 <= self.noise <= 0.5, f"noise is from 0 to 0.5, not {self.noise}"),
            (self.sites < 1, f"sites is 1 or more, not {self.sites}"),
            (not 0 <= self.effect <= 2, f"effect is from 0 to 2, not {self.effect}"),
            (self.file_names not in get_args(FileNames), f"file_names is one of {get_args(FileNames)}"),
            (self.seed < 0, f"seed is 0 or more, not {self.seed}"),
        )

    @property
    def stack_range(self) -> tuple[int, int]:
        """The fewest and the most images of a patient."""
        count = self.images_per_patient
        return (count, count) if isinstance(count, int) else count


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What is wrong with the set, on purpose. All off by default; shares are from 0 to 1.

    A share above 0 plants at least one fault where any can be planted.

    Attributes:
        straddling_patients: Share of the patients with several images whose images lie half in one split, half
            in another.
        duplicates: Share of the images that are there twice: the copy is flipped or turned by 90 degrees (one of
            the 8 ways, one of which is unchanged), under a new patient id, in another split.
        duplicates_in_class: Class that was augmented on disk: flipped or turned copies, same patient and split.
        turned: Share of the images that are flipped or turned themselves.
        markers: Probability of a burnt-in L or R in an image of any class but the first.
        label_noise: Share of the patients with a wrong label.
        sites_follow_class: Probability that a patient's site is the one of its class instead of chance.
        size_fault_class: Class saved at 1.25 times the size.
        quality_fault_class: Class saved as a JPEG of quality 25; for 8 bits only.
        class_share: Share of the images of a class hit by the three `..._class` faults.

    Raises:
        UsageError: `PHA_OPTIONS`, naming every fault that cannot be.
    """

    straddling_patients: float = 0.0
    duplicates: float = 0.0
    duplicates_in_class: str | None = None
    turned: float = 0.0
    markers: float = 0.0
    label_noise: float = 0.0
    sites_follow_class: float = 0.0
    size_fault_class: str | None = None
    quality_fault_class: str | None = None
    class_share: float = 1.0

    def __post_init__(self) -> None:
        shares = {name: value for name, value in asdict(self).items() if isinstance(value, float | int)}
        _refuse_if(*((not 0 <= value <= 1, f"{name} is from 0 to 1, not {value}") for name, value in shares.items()))


@dataclass(frozen=True)
class PlantedFault:
    """One image that a fault was planted in.

    Attributes:
        kind: Which fault.
        path: The image, as the manifest names it.
        detail: For a copy its original and how it was turned; for a straddling patient the split the image was
            moved from; for a wrong label the true one; else what was done.
    """

    kind: FaultKind
    path: str
    detail: str


@dataclass(frozen=True)
class Phantoms:
    """A set of phantoms on disk, and the truth about it.

    Attributes:
        folder: Holds a folder of images per class, `manifest.csv` and `truth.json`.
        manifest: One row per image, all text but `age`: `path` (relative to `folder`), `label`, `patient_id`,
            `split`, `site`, `sex`, `age` (years).
        planted: What was planted, in manifest order.
        severity: True severity of each image by path: about 0 for the first class, about 1 for the last.
    """

    folder: Path
    manifest: pd.DataFrame
    planted: tuple[PlantedFault, ...] = ()
    severity: dict[str, float] = field(default_factory=dict)

    def paths(self, kind: FaultKind) -> list[str]:
        """The images with this fault."""
        return [fault.path for fault in self.planted if fault.kind == kind]


def write_phantoms(folder: Path | str, options: PhantomOptions, faults: Faults | None = None) -> Phantoms:
    """Draw a set of phantoms into an empty or new folder.

    The folder is a class-folder data set as it stands; `manifest.csv` adds patients, splits, site, sex and age,
    `truth.json` what was asked for and what was planted.

    Raises:
        UsageError: `PHA_OPTIONS` if a fault does not fit the options.
        DataError: `PHA_FOLDER_NOT_EMPTY`; nothing is overwritten.
    """
    folder, faults = Path(folder), faults or Faults()
    _check_faults(options, faults)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"'{folder}' is not an empty folder. Name a new one.", code="PHA_FOLDER_NOT_EMPTY")
    entries = _name_files(_plant(_clean_entries(options, faults), options, faults), options)
    for label in options.classes:
        (folder / label).mkdir(parents=True, exist_ok=True)
    for entry in sorted(entries, key=lambda entry: entry.key):
        _save(_developed(entry, options), folder / entry.path, entry)
    phantoms = _described(folder, entries)
    _write_truth(phantoms, options, faults)
    phantoms.manifest.to_csv(folder / "manifest.csv", index=False, lineterminator="\n")
    return phantoms


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
    _refuse_if((patient < 1, f"patient is 1 or more, not {patient}"))
    person = _patient(options, patient)
    last = person.n_images - 1
    _refuse_if((not 0 <= image <= last, f"image of {person.patient_id} is 0 to {last}, not {image}"))
    if severity is not None:
        person = replace(person, severity=severity)
    return _quantised(_acquired(options, person, image), options.bits)


# Patients


@dataclass(frozen=True)
class _Patient:
    """What is fixed about one patient before anything is drawn."""

    number: int
    grade: int
    severity: float
    site: int
    sex: Sex
    age: int
    n_images: int
    split: str

    @property
    def patient_id(self) -> str:
        return f"P{self.number:03d}"


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def _patient(options: PhantomOptions, number: int) -> _Patient:
    """The patient of this number; how many others there are changes nothing."""
    n_classes = len(options.classes)
    block, place = divmod(number - 1, n_classes)
    grade = int(_rng(BLOCK, options.seed, block).permutation(n_classes)[place])
    # Each draw below takes the same share of the stream whatever the options, so that sex and age stay the same.
    rng = _rng(STACK, options.seed, number)
    low, high = options.stack_range
    shift = float(np.clip(rng.normal(0, SEVERITY_SPREAD), -2.5 * SEVERITY_SPREAD, 2.5 * SEVERITY_SPREAD))
    return _Patient(
        number=number,
        grade=grade,
        severity=options.effect * grade / (n_classes - 1) + shift,
        site=int(options.sites * rng.random()),
        sex="F" if rng.random() < 0.5 else "M",
        age=int(np.clip(rng.normal(70, 9), 45, 95)) if options.kind == "brain" else int(rng.uniform(20, 90)),
        n_images=low + int((high - low + 1) * rng.random()),
        split=SPLIT_CYCLE[block % len(SPLIT_CYCLE)],
    )


# Drawing: shapes are soft masks from 0 to 1 over a grid that runs from -1 to 1 (left to right, top to bottom)


@dataclass(frozen=True)
class _Waves:
    """A smooth random field in three dimensions: a sum of plane waves, mean 0, variance 1."""

    frequency: Array  # (waves, 3), radians per unit along x, y and level
    phase: Array  # (waves,)

    @staticmethod
    def draw(
        rng: np.random.Generator, *, count: int, wavelength: float, level_rate: float, spread: float = 0.15
    ) -> _Waves:
        """Waves of about one length in the plane, in all directions; `level_rate` in radians per level."""
        angle = rng.uniform(0, 2 * np.pi, count)
        length = 2 * np.pi / wavelength * rng.normal(1, spread, count)
        frequency = np.stack([length * np.cos(angle), length * np.sin(angle), rng.normal(0, level_rate, count)], axis=1)
        return _Waves(frequency.astype(np.float32), rng.uniform(0, 2 * np.pi, count).astype(np.float32))

    def at(self, x: Array, y: Array, level: float = 0.0) -> Array:
        """The field on the grid of `x` `(1, width)` and `y` `(height, 1)`: two small matrix products."""
        along_x = self.frequency[:, :1] * x
        along_y = y * self.frequency[:, 1] + (self.phase + self.frequency[:, 2] * np.float32(level))
        waves = np.cos(along_y) @ np.cos(along_x) - np.sin(along_y) @ np.sin(along_x)
        return np.asarray(waves * np.float32(np.sqrt(2 / len(self.phase))), dtype=np.float32)


def _grid(size: int) -> tuple[Array, Array]:
    """Pixel centres: `x` of shape `(1, size)` and `y` of shape `(size, 1)`."""
    centres = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    return centres[None, :], centres[:, None]


def _clipped(values: Array) -> Array:
    kept: Array = np.clip(values, 0, 1)
    return kept


def _root(values: Array) -> Array:
    """Square root, 0 below 0: how a rounded body thins towards its edge."""
    root: Array = np.sqrt(np.maximum(values, 0))
    return root


def _either(*masks: Array) -> Array:
    """The union of soft masks."""
    return reduce(np.maximum, masks)


def _inside(distance: Array, softness: float) -> Array:
    """1 where `distance` is well above 0, 0 well below, a ramp of this width between."""
    return _clipped(distance / softness + 0.5)


def _ellipse(x: Array, y: Array, radius_x: float, radius_y: float, softness: float = 0.15) -> Array:
    """A filled ellipse around the origin of `x` and `y`; softness in radii."""
    u, v = x / radius_x, y / radius_y
    return _inside(1 - _root(u * u + v * v), softness)


def _dome(position: Array, centre: float, radius: float) -> Array:
    """Half a circle's height over a line: 1 at the centre, 0 from `radius` outwards."""
    return _root(1 - ((position - centre) / radius) ** 2)


def _arch(position: float, centre: float, radius: float) -> float:
    return float(np.sqrt(max(0.0, 1 - ((position - centre) / radius) ** 2)))


def _paint(image: Array, value: float | Array, mask: Array) -> Array:
    return image + (value - image) * mask


AIR, FLUID, BONE, MARROW, GREY, NUCLEUS, WHITE, FAT = 0.02, 0.10, 0.05, 0.30, 0.50, 0.60, 0.80, 0.88


@dataclass(frozen=True)
class _Brain:
    """One patient's head, fixed over all slices."""

    width: float
    height: float
    shift_x: float
    shift_y: float
    tilt: float
    egg: float  # how much wider the back is than the front
    skull: float  # thickness of the bone, in brain radii
    scalp: float
    ventricles: float  # size before any disease
    horn_spread: float
    asymmetry: float
    sulci: float  # width before any disease
    start: float  # how high a stack lies that does not span all levels, 0 to 1
    folds: _Waves
    own_folds: _Waves
    warp_x: _Waves
    warp_y: _Waves
    shading: _Waves

    @staticmethod
    @lru_cache(maxsize=4)  # a patient's images are drawn one after the other
    def draw(seed: int, number: int, sex: Sex, age: int) -> _Brain:
        """The anatomy of patient `number`; nothing else is drawn from this stream."""
        rng = _rng(ANATOMY, seed, number)
        head = rng.normal(1, 0.03) * (0.97 if sex == "F" else 1.0)
        ageing = (age - 70) / 100
        return _Brain(
            width=0.62 * head * rng.normal(1, 0.035),
            height=0.74 * head * rng.normal(1, 0.035),
            shift_x=rng.normal(0, 0.02),
            shift_y=rng.normal(0, 0.02),
            tilt=rng.normal(0, 0.05),
            egg=rng.uniform(0.02, 0.16),
            skull=rng.uniform(0.06, 0.10),
            scalp=rng.uniform(0.05, 0.09),
            ventricles=float(np.exp(rng.normal(ageing, 0.24))),
            horn_spread=rng.uniform(0.8, 1.3),
            asymmetry=rng.normal(0, 0.10),
            sulci=float(np.exp(rng.normal(ageing, 0.22))),
            start=rng.random(),
            folds=_Waves.draw(rng, count=48, wavelength=0.30, level_rate=6),
            own_folds=_Waves.draw(rng, count=48, wavelength=0.26, level_rate=6),
            warp_x=_Waves.draw(rng, count=6, wavelength=1.1, level_rate=1.5),
            warp_y=_Waves.draw(rng, count=6, wavelength=1.1, level_rate=1.5),
            shading=_Waves.draw(rng, count=4, wavelength=3.0, level_rate=0.5),
        )

    def level(self, image: int, n_images: int) -> float:
        """Where a slice lies: 0 through the thalami, 1 near the vertex."""
        spacing = min(SLICE_SPACING, 1 / max(1, n_images - 1))
        free = 1 - spacing * (n_images - 1)
        # A single slice or a short stack lies where the ventricles are.
        return free * (0.3 + 0.35 * self.start) + spacing * image

    def slice(self, *, level: float, severity: float, size: int) -> Array:
        """Draw one slice, the front at the top; 0 to 1."""
        x, y = _grid(size)
        pixel = 2 / size
        right = x - self.shift_x + self.tilt * y + 0.015 * self.warp_x.at(x, y, level)
        back = y - self.shift_y - self.tilt * x + 0.015 * self.warp_y.at(x, y, level)
        radius = self._radius(right, back, level)
        image = self._tissue(x, y, right, radius, level=level, severity=severity, pixel=pixel)
        image = self._nuclei(image, right, back, level)
        image = _paint(image, FLUID, self._fissures(right, back, radius, level, severity, pixel))
        image = _paint(image, FLUID, self._ventricles(right, back, level, severity, pixel))
        image = self._wrap(image, radius, severity, pixel / self.width)
        return image * (1 + 0.07 * self.shading.at(x, y, level))

    def _radius(self, right: Array, back: Array, level: float) -> Array:
        """Distance from the centre in units of the brain's own outline: 1 on its surface."""
        scale = float(np.sqrt(1 - (0.6 * level) ** 2))
        u = right / (self.width * scale * (1 + self.egg * back))
        v = back / (self.height * scale)
        squared = u * u + v * v + 1e-6
        # The second term squares the outline off a little: a skull is rounder than an ellipse.
        return _root(squared - 0.3 * (u * v) ** 2 / squared)

    def _tissue(
        self, x: Array, y: Array, right: Array, radius: Array, *, level: float, severity: float, pixel: float
    ) -> Array:
        """White matter, a folded ribbon of grey matter, and the fluid in its sulci."""
        # The zero lines of a field of one wavelength wind as sulci do. The two halves mirror each other, in part.
        mirrored = np.where(right > 0, self.folds.at(x, y, level), self.folds.at(-x, y, level))
        folds = np.abs(0.7 * mirrored + 0.7 * self.own_folds.at(x, y, level))
        depth = np.maximum(1 - radius, 0)
        near = _clipped(1 - depth / 0.48)
        softness = 22 * pixel
        fluid = self.sulci * (0.30 + 0.28 * severity) * near - 0.04
        ribbon = fluid + (0.85 - 0.16 * severity) * np.sqrt(near)
        rim = (0.085 - 0.015 * severity) - depth
        grey = _either(_inside(ribbon - folds, softness), _inside(rim, 2 * pixel))
        image = _paint(np.full_like(radius, WHITE), GREY, grey * (near > 0))
        return _paint(image, FLUID, _inside(fluid - folds, softness) * (near > 0))

    def _nuclei(self, image: Array, right: Array, back: Array, level: float) -> Array:
        """Thalamus, lentiform and caudate nucleus on both sides; they end halfway up."""
        side = np.abs(right)
        presence = float(np.clip((0.55 - level) / 0.15, 0, 1))
        thalamus = _ellipse(side - 0.11, back - 0.10, 0.095, 0.13)
        lentiform = _ellipse(side - 0.27 - 0.2 * back, back + 0.03, 0.075, 0.16)
        caudate = _ellipse(side - 0.15 + 0.3 * (back + 0.2), back + 0.2, 0.05, 0.10)
        return _paint(image, NUCLEUS, presence * _either(thalamus, lentiform, caudate))

    def _fissures(self, right: Array, back: Array, radius: Array, level: float, severity: float, pixel: float) -> Array:
        """The cleft between the halves, before and behind the corpus callosum, and the Sylvian fissures."""
        gap = 0.006 + 0.008 * self.sulci * (1 + 0.6 * severity)
        callosum = 0.50 * _arch(level, 0.2, 0.75)
        midline = _inside(gap - np.abs(right), pixel) * _inside(np.abs(back + 0.02) - callosum, 0.06)
        side = np.abs(right)
        course = back + 0.06 - 0.25 * (side - 0.42) - 0.05 * np.sin(9 * side)
        opening = gap * 1.6 * _arch(level, 0.15, 0.5)
        sylvian = _inside(opening - np.abs(course), pixel) * _inside(radius - 0.62, 0.08)
        return _either(midline, sylvian)

    def _ventricles(self, right: Array, back: Array, level: float, severity: float, pixel: float) -> Array:
        """Frontal horns, bodies and back horns of the lateral ventricles, and the slit of the third."""
        swell = self.ventricles * float(np.exp(0.75 * severity))
        along = back + 0.02
        spread = self.horn_spread * np.where(along < 0, np.float32(0.95), np.float32(0.75))
        axis = 0.045 + 0.020 * swell + spread * along**2
        reach = 1 + 0.12 * (swell - 1)
        front = 0.046 * swell * _arch(level, 0.40, 0.62) * _dome(along, -0.22 * reach, 0.19 * reach)
        behind = 0.042 * swell * _arch(level, 0.25, 0.62) * _dome(along, 0.26 * reach, 0.17 * reach)
        body = 0.040 * swell * _arch(level, 0.68, 0.32) * _dome(along, 0.0, 0.40 * reach)
        lopsided = 1 + self.asymmetry * np.sign(right)
        width = _either(front, behind, body) * lopsided
        lateral = _inside(width - np.abs(np.abs(right) - axis), 1.5 * pixel) * (width > 0)
        slit = 0.016 * swell * _arch(level, 0.0, 0.4) * _dome(along, 0.08, 0.13)
        third = _inside(slit - np.abs(right), pixel) * (slit > 0)
        return _either(lateral, third)

    def _wrap(self, image: Array, radius: Array, severity: float, softness: float) -> Array:
        """Fluid, skull (bone, marrow, bone), scalp and air around the brain."""
        surface = 1.0
        inner = surface + 0.025 * self.sulci + 0.02 * severity
        outer = inner + self.skull
        shells = [
            (FLUID, surface),
            (BONE, inner),
            (MARROW, inner + 0.35 * self.skull),
            (BONE, inner + 0.65 * self.skull),
            (FAT, outer),
            (AIR, outer + self.scalp),
        ]
        for value, start in shells:
            image = _paint(image, value, _inside(radius - start, softness))
        return image


@dataclass(frozen=True)
class _Opacity:
    """One patch of disease: where, how large and how dense at severity 1."""

    x: float
    y: float
    radius: float
    density: float
    onset: float  # severity at which it appears; below 0, the patient had it before any disease


@dataclass(frozen=True)
class _Chest:
    """One patient's thorax, the same on all films."""

    width: float
    apex: float
    diaphragm: float
    dome: float
    heart: float
    heart_x: float
    knob: float
    rib_spacing: float
    rib_phase: float
    rib_slope: float
    rib_density: float
    clavicle: float
    stoutness: float
    breasts: float
    bubble_x: float
    bubble: float
    spine_curve: float
    opacities: tuple[_Opacity, ...]
    vessels: _Waves
    texture: _Waves
    warp_x: _Waves
    warp_y: _Waves

    @staticmethod
    @lru_cache(maxsize=4)  # a patient's images are drawn one after the other
    def draw(seed: int, number: int, sex: Sex, age: int) -> _Chest:
        """The anatomy of patient `number`; nothing else is drawn from this stream."""
        rng = _rng(ANATOMY, seed, number)
        ageing = (age - 55) / 100
        return _Chest(
            width=rng.normal(0.76, 0.035),
            apex=rng.normal(-0.74, 0.03),
            diaphragm=rng.normal(0.50, 0.06),
            dome=rng.normal(0.20, 0.03),
            heart=rng.normal(1 + 0.25 * ageing, 0.10),
            heart_x=rng.normal(0.12, 0.025),
            knob=rng.normal(0.095 + 0.04 * ageing, 0.015),
            rib_spacing=rng.normal(0.165, 0.012),
            rib_phase=rng.uniform(0, 1),
            rib_slope=rng.normal(0.50, 0.08),
            rib_density=rng.uniform(0.13, 0.19),
            clavicle=rng.normal(-0.60, 0.03),
            stoutness=rng.normal(1, 0.10),
            breasts=rng.uniform(0.05, 0.16) if sex == "F" else 0.0,
            bubble_x=rng.normal(0.40, 0.05),
            bubble=rng.uniform(0.05, 0.13),
            spine_curve=rng.normal(0, 0.015),
            opacities=tuple(_Chest._opacity(rng, rank) for rank in range(4)),
            vessels=_Waves.draw(rng, count=48, wavelength=0.24, level_rate=0, spread=0.25),
            texture=_Waves.draw(rng, count=48, wavelength=0.13, level_rate=0, spread=0.4),
            warp_x=_Waves.draw(rng, count=6, wavelength=1.3, level_rate=0),
            warp_y=_Waves.draw(rng, count=6, wavelength=1.3, level_rate=0),
        )

    @staticmethod
    def _opacity(rng: np.random.Generator, rank: int) -> _Opacity:
        """A patch somewhere in a lung, more often low; the later ones appear as disease grows."""
        side = 1 if rng.random() < 0.5 else -1
        return _Opacity(
            x=side * rng.uniform(0.28, 0.58),
            y=rng.triangular(-0.45, 0.25, 0.38),
            radius=rng.uniform(0.12, 0.20),
            density=rng.uniform(0.20, 0.60),
            onset=rng.uniform(-0.45, 0.55) + 0.25 * rank,
        )

    def film(self, film: _Film, *, severity: float, size: int) -> Array:
        """Draw one frontal film, the patient's right on the image's left; 0 to 1."""
        x, y = _grid(size)
        across = (x * film.cosine + y * film.sine) / film.magnification - film.shift_x
        down = (y * film.cosine - x * film.sine) / film.magnification - film.shift_y
        across = across + 0.02 * self.warp_x.at(x, y)
        down = down + 0.02 * self.warp_y.at(x, y)
        floor = self._floor(across, film.inspiration)
        above = _inside(floor - down, 0.05)
        heart = self._heart(across, down, film.heart) * above
        # Heart, vessels and disease show because they take the place of air, not on top of it.
        filled = _either(heart, self._markings(x, y, across, down))
        air = self._lungs(across, down) * above * (1 - filled)
        air = air * (1 - 0.95 * _clipped(self._disease(x, y, across, down, severity)))
        density = self._body(across, down) - 0.62 * air + 0.07 * heart
        density += (1 - above) * self._abdomen(across, down - floor)
        density += self._spine(across, down) + self._bones(across, down)
        return _clipped(density / 1.25)

    def _cage(self, down: Array) -> Array:
        """Half the inner width of the rib cage at each height."""
        return self.width * _dome(down, 0.38, 0.40 - self.apex)

    def _lungs(self, across: Array, down: Array) -> Array:
        """Air in the beam, 0 to 1, thinner towards the edges; the diaphragm cuts it off."""
        side = np.abs(across)
        wall = _clipped((self._cage(down) - side) / 0.16)
        hilum = _clipped((side - 0.09) / 0.10)
        return _root(wall * hilum)

    def _floor(self, across: Array, inspiration: float) -> Array:
        """Height of the diaphragm: two domes, the right one (image left) higher, falling to sharp corners."""
        base = self.diaphragm + inspiration + 0.035 * np.tanh(6 * across)
        return base - self.dome + 0.9 * self.dome * ((np.abs(across) - 0.36) / 0.36) ** 2

    def _body(self, across: Array, down: Array) -> Array:
        """Soft tissue: neck, shoulders and trunk, thinner towards the skin; breasts."""
        side = np.abs(across)
        shoulder = _clipped((down + 0.97) / 0.30)
        axilla = _clipped((down + 0.30) / 0.35)
        skin = 0.24 + 0.86 * _root(shoulder) - (0.20 - 0.10 * (self.stoutness - 1)) * axilla
        tissue: Array = 0.80 * self.stoutness * _root(_clipped((skin - side) / 0.45))
        if self.breasts:
            tissue = tissue + self.breasts * _ellipse(side - 0.46, down - 0.28, 0.34, 0.30, 0.25)
        return tissue

    def _abdomen(self, across: Array, under: Array) -> Array:
        """Liver and spleen, and the air bubble of the stomach; `under` is the distance below the diaphragm."""
        bubble = _ellipse(across - self.bubble_x, under - 0.12, self.bubble * 1.3, self.bubble, 0.4)
        return 0.09 * _inside(0.98 - np.abs(across), 0.2) - 0.28 * bubble

    def _heart(self, across: Array, down: Array, magnified: float) -> Array:
        """Heart, aortic knob and great vessels, and the hila: 1 where no air is left in the beam."""
        size = self.heart * magnified
        slant = down - 0.24 - 0.30 * (across - self.heart_x)
        muscle = _ellipse(across - self.heart_x - 0.12 * slant, slant, 0.33 * size, 0.41 * size, 0.18)
        atrium = _ellipse(across + 0.05, down - 0.20, 0.17 * size, 0.26, 0.25)
        knob = _ellipse(across - 0.09, down + 0.27, self.knob, self.knob * 1.15, 0.3)
        vessels = _inside(0.13 - 0.05 * (down + 0.5) - np.abs(across), 0.05)
        hila = 0.75 * np.exp(-(((np.abs(across) - 0.19) / 0.07) ** 2) - ((down + 0.05) / 0.15) ** 2)
        return _either(0.9 * _either(muscle, atrium, knob, vessels), hila)

    def _spine(self, across: Array, down: Array) -> Array:
        """Vertebrae with their discs, and the windpipe before them."""
        middle = across - self.spine_curve * np.sin(3 * down)
        disc = 0.8 + 0.2 * np.cos(2 * np.pi * down / (0.95 * self.rib_spacing))
        spine: Array = 0.15 * disc * _inside(0.085 - np.abs(middle), 0.05)
        trachea = _inside(0.042 - np.abs(middle), 0.03) * _inside(-0.20 - down, 0.10)
        return spine - 0.13 * trachea

    def _bones(self, across: Array, down: Array) -> Array:
        """Ribs behind (falling outwards) and in front (rising outwards), clavicles, shoulder joints."""
        side = np.abs(across)
        cage = self._cage(down)
        within = _inside(cage + 0.06 - side, 0.05) * _inside(side - 0.06, 0.05) * _inside(0.62 - down, 0.2)
        behind = (down - self.rib_slope * side**2 + 0.10 * side) / self.rib_spacing + self.rib_phase
        front = (down + 0.45 * side - 0.9 * (side - 0.35) ** 2) / (1.15 * self.rib_spacing) + 2 * self.rib_phase
        ribs = self.rib_density * _rib(behind, 0.40) + 0.5 * self.rib_density * _rib(front, 0.36)
        course = down - self.clavicle + 0.22 * (side - 0.08) + 0.03 * np.sin(7 * side)
        clavicle = _tube(course / 0.042) * _inside(side - 0.07, 0.04) * _inside(0.80 - side, 0.06)
        joint = _ellipse(side - 0.96, down + 0.62, 0.14, 0.16, 0.3)
        blade = (
            _tube((side - 0.80 + 0.22 * (down + 0.3)) / 0.035) * _inside(0.05 - down, 0.2) * _inside(down + 0.6, 0.2)
        )
        return ribs * within + 0.20 * clavicle + 0.22 * joint + 0.07 * blade

    def _markings(self, x: Array, y: Array, across: Array, down: Array) -> Array:
        """Vessels: winding lines that thin out away from the hila."""
        lines = np.exp(-((self.vessels.at(x, y) / 0.28) ** 2))
        away = np.hypot(np.abs(across) - 0.18, 0.8 * (down + 0.03))
        vessels: Array = 0.55 * lines * np.exp(-away / 0.24)
        return vessels

    def _disease(self, x: Array, y: Array, across: Array, down: Array, severity: float) -> Array:
        """Patchy opacity; both extent and density grow with severity."""
        total = np.zeros_like(across)
        for patch in self.opacities:
            grown = float(np.clip(severity - patch.onset, 0, 1.2))
            if grown > 0:
                radius = patch.radius * (0.6 + 0.9 * grown)
                squared = ((across - patch.x) ** 2 + (0.8 * (down - patch.y)) ** 2) / radius**2
                total += patch.density * min(1.0, 0.35 + 1.1 * grown) * np.exp(-squared)
        return total * (1 + 0.22 * self.texture.at(x, y))


def _tube(offset: Array) -> Array:
    """A bony tube across its axis: bright walls, a paler middle; 0 beyond 1."""
    squared = offset * offset
    return _clipped(1 - squared) * (0.6 + 0.8 * squared)


def _rib(turn: Array, half_width: float) -> Array:
    """Tubes at every whole number of `turn`, `half_width` of the way to the next."""
    return _tube((turn - np.round(turn)) / half_width)


@dataclass(frozen=True)
class _Film:
    """How the patient stood for one exposure."""

    cosine: float
    sine: float
    magnification: float
    shift_x: float
    shift_y: float
    inspiration: float  # how much lower than usual the diaphragm is
    heart: float  # magnified on films taken from the front (bedside films)

    @staticmethod
    def draw(rng: np.random.Generator) -> _Film:
        angle = rng.normal(0, 0.02)
        bedside = rng.random() < 0.3
        return _Film(
            cosine=float(np.cos(angle)),
            sine=float(np.sin(angle)),
            magnification=rng.normal(1.02, 0.02),
            shift_x=rng.normal(0, 0.02),
            shift_y=rng.normal(0, 0.02),
            inspiration=rng.normal(-0.05 if bedside else 0.02, 0.025),
            heart=1.08 if bedside else 1.0,
        )


# Acquisition


@dataclass(frozen=True)
class _Scanner:
    """What a site does to every image: contrast, sharpness and noise."""

    gain: float
    gamma: float
    blur: float  # standard deviation, in units of the grid
    noise: float  # relative to the noise asked for

    @staticmethod
    def draw(seed: int, site: int) -> _Scanner:
        rng = _rng(SCANNER, seed, site)
        return _Scanner(
            gain=rng.uniform(0.85, 1.0),
            gamma=rng.uniform(0.85, 1.2),
            blur=rng.uniform(0.003, 0.009),
            noise=rng.uniform(0.7, 1.3),
        )


def _acquired(options: PhantomOptions, patient: _Patient, image: int) -> Array:
    """One image as the patient's scanner gives it: 0 to 1."""
    rng = _rng(ACQUISITION, options.seed, patient.number, image)
    scanner = _Scanner.draw(options.seed, patient.site)
    severity, size = patient.severity, options.size
    if options.kind == "brain":
        brain = _Brain.draw(options.seed, patient.number, patient.sex, patient.age)
        ideal = brain.slice(level=brain.level(image, patient.n_images), severity=severity, size=size)
    else:
        chest = _Chest.draw(options.seed, patient.number, patient.sex, patient.age)
        ideal = chest.film(_Film.draw(rng), severity=severity, size=size)
    sharp = _clipped(ideal) ** scanner.gamma
    blurred = ndimage.gaussian_filter(sharp, scanner.blur * options.size / 2, truncate=3)
    exposure = scanner.gain * float(np.clip(rng.normal(1, 0.03), 0.9, 1.1))
    noisy = _with_noise(exposure * blurred, options.noise * scanner.noise, rng, magnitude=options.kind == "brain")
    return _clipped(noisy)


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
    return _root(real * real + imaginary * imaginary)


def _quantised(image: Array, bits: int) -> Pixels:
    levels: Array = np.rint(image * (2**bits - 1))
    return levels.astype(np.uint8) if bits == 8 else levels.astype(np.uint16)


# Faults


@dataclass(frozen=True)
class _Entry:
    """One file to be written: whose image, under which label and split, and what is done to it."""

    patient: _Patient
    image: int
    label: str
    split: str
    patient_id: str
    turn: int = 0  # one of the 8 flips and quarter turns; 0 leaves the image as it is
    marker: str = ""
    enlarged: bool = False
    as_jpeg: bool = False
    moved_from: str = ""
    true_label: str = ""
    copy_of: _Entry | None = None
    path: str = ""

    @property
    def key(self) -> tuple[int, int]:
        return self.patient.number, self.image


TURNS = (
    "unchanged", "rotated 90", "rotated 180", "rotated 270",
    "mirrored", "mirrored, rotated 90", "mirrored, rotated 180", "mirrored, rotated 270",
)  # fmt: skip


def _check_faults(options: PhantomOptions, faults: Faults) -> None:
    named = {
        name: value for name, value in asdict(faults).items() if name.endswith("_class") and isinstance(value, str)
    }
    _refuse_if(
        *(
            (value not in options.classes, f"{name} is one of {options.classes}, not '{value}'")
            for name, value in named.items()
        ),
        (
            faults.quality_fault_class is not None and options.bits != 8,
            f"quality_fault_class needs bits=8 (JPEG), not {options.bits}",
        ),
    )


def _clean_entries(options: PhantomOptions, faults: Faults) -> list[_Entry]:
    """Every image of every patient, with nothing wrong but, if asked for, the sites."""
    confounded = _rng(FAULT, options.seed, 0).random(options.patients) < faults.sites_follow_class
    entries = []
    for number in range(1, options.patients + 1):
        patient = _patient(options, number)
        if confounded[number - 1]:
            patient = replace(patient, site=patient.grade % options.sites)
        label = options.classes[patient.grade]
        entries += [
            _Entry(patient, image, label, patient.split, patient.patient_id) for image in range(patient.n_images)
        ]
    return entries


def _plant(entries: list[_Entry], options: PhantomOptions, faults: Faults) -> list[_Entry]:
    """The entries with all faults in them, copies last."""
    entries = _mislabelled(entries, options, faults.label_noise)
    entries = _straddling(entries, options, faults.straddling_patients)
    entries = _spoiled(entries, options, faults)
    return entries + _copies(entries, options, faults) + _class_copies(entries, options, faults)


def _chosen(n: int, share: float, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """A share of 0..n-1, at least one if any; a larger share includes every smaller one."""
    order = rng.permutation(n)
    return order[: max(1, round(share * n))] if share > 0 else order[:0]


def _mislabelled(entries: list[_Entry], options: PhantomOptions, share: float) -> list[_Entry]:
    rng = _rng(FAULT, options.seed, 1)
    wrong: dict[int, str] = {}
    for index in sorted(_chosen(options.patients, share, rng).tolist()):
        right = _patient(options, index + 1).grade
        others = [label for grade, label in enumerate(options.classes) if grade != right]
        wrong[index + 1] = others[int(rng.integers(len(others)))]
    return [
        replace(entry, label=wrong[entry.patient.number], true_label=entry.label)
        if entry.patient.number in wrong
        else entry
        for entry in entries
    ]


def _straddling(entries: list[_Entry], options: PhantomOptions, share: float) -> list[_Entry]:
    """Move every other image of the chosen patients to test, or, if they are there, to train."""
    rng = _rng(FAULT, options.seed, 2)
    several = sorted({entry.patient.number for entry in entries if entry.patient.n_images > 1})
    chosen = {several[index] for index in _chosen(len(several), share, rng)}

    def moved(entry: _Entry) -> _Entry:
        if entry.patient.number not in chosen or entry.image % 2 == 0:
            return entry
        return replace(entry, split="train" if entry.split == "test" else "test", moved_from=entry.split)

    return [moved(entry) for entry in entries]


def _spoiled(entries: list[_Entry], options: PhantomOptions, faults: Faults) -> list[_Entry]:
    """Turn, mark, enlarge or compress images."""
    rng = _rng(FAULT, options.seed, 3)
    entries = list(entries)
    for index in sorted(_chosen(len(entries), faults.turned, rng).tolist()):
        entries[index] = replace(entries[index], turn=int(rng.integers(1, len(TURNS))))
    rng = _rng(FAULT, options.seed, 4)
    for index, (chance, letter) in enumerate(
        zip(rng.random(len(entries)), rng.choice(["L", "R"], len(entries)), strict=True)
    ):
        if entries[index].label != options.classes[0] and chance < faults.markers:
            entries[index] = replace(entries[index], marker=str(letter))
    for index in _of_class(entries, faults.size_fault_class, faults.class_share, _rng(FAULT, options.seed, 5)):
        entries[index] = replace(entries[index], enlarged=True)
    for index in _of_class(entries, faults.quality_fault_class, faults.class_share, _rng(FAULT, options.seed, 6)):
        entries[index] = replace(entries[index], as_jpeg=True)
    return entries


def _of_class(entries: list[_Entry], label: str | None, share: float, rng: np.random.Generator) -> list[int]:
    """Indices of a share of the images of one class."""
    members = [index for index, entry in enumerate(entries) if entry.label == label]
    return sorted(members[place] for place in _chosen(len(members), share, rng))


def _copies(entries: list[_Entry], options: PhantomOptions, faults: Faults) -> list[_Entry]:
    """The same picture under another patient id in another split."""
    rng = _rng(FAULT, options.seed, 7)
    copies = []
    for order, index in enumerate(sorted(_chosen(len(entries), faults.duplicates, rng).tolist()), start=1):
        original = entries[index]
        other = sorted(set(SPLIT_CYCLE) - {original.split})
        copies.append(
            replace(
                original,
                split=other[int(rng.integers(len(other)))],
                patient_id=f"P{options.patients + order:03d}",
                turn=int(rng.integers(len(TURNS))),
                copy_of=original,
            )
        )
    return copies


def _class_copies(entries: list[_Entry], options: PhantomOptions, faults: Faults) -> list[_Entry]:
    """One class made larger on disk: a flipped or turned copy beside the original."""
    rng = _rng(FAULT, options.seed, 8)
    chosen = _of_class(entries, faults.duplicates_in_class, faults.class_share, rng)
    return [replace(entries[index], turn=int(rng.integers(1, len(TURNS))), copy_of=entries[index]) for index in chosen]


def _name_files(entries: list[_Entry], options: PhantomOptions) -> list[_Entry]:
    """Give every entry its path, and sort by it."""
    counts: dict[str, int] = {}
    places = []
    for entry in entries:
        places.append(counts.get(entry.patient_id, 0))
        counts[entry.patient_id] = places[-1] + 1
    stems = _stems(entries, places, options)
    named = [
        replace(entry, path=f"{entry.label}/{stem}.{'jpg' if entry.as_jpeg else 'png'}")
        for entry, stem in zip(entries, stems, strict=True)
    ]
    return sorted(named, key=lambda entry: entry.path)


def _stems(entries: list[_Entry], places: list[int], options: PhantomOptions) -> list[str]:
    """File names without folder and suffix; `places` is each entry's number within its patient."""
    if options.file_names == "patient":
        width = max(2, len(str(options.stack_range[1])))
        return [f"{entry.patient_id}_{place:0{width}d}" for entry, place in zip(entries, places, strict=True)]
    if options.file_names == "interleaved":
        order = sorted(range(len(entries)), key=lambda index: (places[index], entries[index].patient_id))
    else:
        order = _rng(NAMES, options.seed).permutation(len(entries)).tolist()
    digits = len(str(len(entries)))
    counts: dict[str, int] = {}
    stems = [""] * len(entries)
    for index in order:
        label = entries[index].label
        counts[label] = counts.get(label, 0) + 1
        stems[index] = f"{label}_{counts[label]:0{digits}d}"
    return stems


def _described(folder: Path, entries: list[_Entry]) -> Phantoms:
    rows = [
        (
            entry.path,
            entry.label,
            entry.patient_id,
            entry.split,
            f"site{entry.patient.site + 1}",
            entry.patient.sex,
            entry.patient.age,
        )
        for entry in entries
    ]
    originals = {entry.key: entry.path for entry in entries if entry.copy_of is None}
    return Phantoms(
        folder=folder,
        manifest=pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS)),
        planted=tuple(fault for entry in entries for fault in _planted_in(entry, originals)),
        severity={entry.path: round(entry.patient.severity, 4) for entry in entries},
    )


def _planted_in(entry: _Entry, originals: dict[tuple[int, int], str]) -> Iterator[PlantedFault]:
    """Every fault of one entry; a copy counts once more for each fault it inherits."""
    if entry.true_label:
        yield PlantedFault("label_noise", entry.path, entry.true_label)
    if entry.moved_from and entry.patient_id == entry.patient.patient_id:
        yield PlantedFault("straddling_patient", entry.path, entry.moved_from)
    if entry.copy_of is not None:
        own_id = entry.patient_id == entry.patient.patient_id
        original = originals[entry.key]
        yield PlantedFault("class_duplicate" if own_id else "duplicate", entry.path, f"{original}, {TURNS[entry.turn]}")
    elif entry.turn:
        yield PlantedFault("turned", entry.path, TURNS[entry.turn])
    if entry.marker:
        yield PlantedFault("marker", entry.path, entry.marker)
    if entry.enlarged:
        yield PlantedFault("size", entry.path, f"{SIZE_FAULT} times the side")
    if entry.as_jpeg:
        yield PlantedFault("quality", entry.path, f"JPEG quality {JPEG_QUALITY}")


def _write_truth(phantoms: Phantoms, options: PhantomOptions, faults: Faults) -> None:
    truth: dict[str, Any] = {
        "what": "Synthetic images made by plainfilm; no person's data.",
        "options": asdict(options),
        "faults": asdict(faults),
        "planted": [asdict(fault) for fault in phantoms.planted],
        "severity": phantoms.severity,
    }
    text = json.dumps(truth, indent=1, ensure_ascii=False)
    (phantoms.folder / "truth.json").write_text(text + "\n", encoding="utf-8", newline="\n")


# Pixels to files


def _developed(entry: _Entry, options: PhantomOptions) -> Pixels:
    """The pixels of one file."""
    if entry.copy_of is not None:
        return _turned(_developed(entry.copy_of, options), entry.turn)
    if entry.enlarged:
        options = replace(options, size=round(SIZE_FAULT * options.size))
    image = _acquired(options, entry.patient, entry.image)
    if entry.marker:
        image = _marked(image, entry.marker, _rng(FAULT, options.seed, 9, *entry.key))
    return _turned(_quantised(image, options.bits), entry.turn)


def _turned(pixels: Pixels, turn: int) -> Pixels:
    """One of the eight flips and quarter turns, numbered as `TURNS`."""
    mirrored: npt.NDArray[Any] = pixels[:, ::-1] if turn >= 4 else pixels
    return np.ascontiguousarray(np.rot90(mirrored, turn % 4))


def _marked(image: Array, letter: str, rng: np.random.Generator) -> Array:
    """Burn a side marker into an upper corner, as lead letters leave it."""
    size = len(image)
    height = round(0.13 * size)
    stencil = Image.new("L", (size, size))
    left = rng.uniform(0.03, 0.08) * size if letter == "R" else rng.uniform(0.86, 0.90) * size
    corner = (left, rng.uniform(0.02, 0.06) * size)
    font = ImageFont.load_default(height)
    ImageDraw.Draw(stencil).text(corner, letter, 255, font, stroke_width=round(size / 256))
    return _paint(image, 0.97, np.asarray(stencil, dtype=np.float32) / 255)


def _save(pixels: Pixels, path: Path, entry: _Entry) -> None:
    picture = Image.fromarray(pixels)
    if entry.as_jpeg:
        picture.save(path, quality=JPEG_QUALITY)
    else:
        picture.save(path, compress_level=1)  # noise hardly packs better at higher levels


# Checks


def _is_folder_name(name: str) -> bool:
    return (
        bool(name.strip()) and name == name.strip() and not name.startswith(".") and not set(name) & set('/\\:*?"<>|')
    )


def _refuse_if(*checks: tuple[bool, str]) -> None:
    """Raise once, naming every check that holds."""
    faults = [message for fails, message in checks if fails]
    if faults:
        raise UsageError(f"Phantoms: {'; '.join(faults)}.", code="PHA_OPTIONS")
