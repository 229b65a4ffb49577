"""Brains: T1-like slices whose ventricles and sulci widen with severity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from plainfilm.data.phantoms.drawing import (
    Array,
    Waves,
    arch,
    clipped,
    dome,
    either,
    ellipse,
    grid,
    inside,
    paint,
    root,
)
from plainfilm.data.phantoms.patients import Sex
from plainfilm.data.phantoms.streams import Stream, rng_of

SLICE_SPACING = 1 / 24  # of the way from the thalami to the vertex

AIR, FLUID, BONE, MARROW, GREY, NUCLEUS, WHITE, FAT = 0.02, 0.10, 0.05, 0.30, 0.50, 0.60, 0.80, 0.88


@dataclass(frozen=True)
class Brain:
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
    folds: Waves
    own_folds: Waves
    warp_x: Waves
    warp_y: Waves
    shading: Waves

    @staticmethod
    @lru_cache(maxsize=4)  # a patient's images are drawn one after the other
    def draw(seed: int, number: int, sex: Sex, age: int) -> Brain:
        """The anatomy of patient `number`; nothing else is drawn from this stream."""
        rng = rng_of(Stream.ANATOMY, seed, number)
        head = rng.normal(1, 0.03) * (0.97 if sex == "F" else 1.0)
        ageing = (age - 70) / 100
        return Brain(
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
            folds=Waves.draw(rng, count=48, wavelength=0.30, level_rate=6),
            own_folds=Waves.draw(rng, count=48, wavelength=0.26, level_rate=6),
            warp_x=Waves.draw(rng, count=6, wavelength=1.1, level_rate=1.5),
            warp_y=Waves.draw(rng, count=6, wavelength=1.1, level_rate=1.5),
            shading=Waves.draw(rng, count=4, wavelength=3.0, level_rate=0.5),
        )

    def level(self, image: int, n_images: int) -> float:
        """Where a slice lies: 0 through the thalami, 1 near the vertex."""
        spacing = min(SLICE_SPACING, 1 / max(1, n_images - 1))
        free = 1 - spacing * (n_images - 1)
        # A single slice or a short stack lies where the ventricles are.
        return free * (0.3 + 0.35 * self.start) + spacing * image

    def slice(self, *, level: float, severity: float, size: int) -> Array:
        """Draw one slice, the front at the top; 0 to 1."""
        x, y = grid(size)
        pixel = 2 / size
        right = x - self.shift_x + self.tilt * y + 0.015 * self.warp_x.at(x, y, level)
        back = y - self.shift_y - self.tilt * x + 0.015 * self.warp_y.at(x, y, level)
        radius = self._radius(right, back, level)
        image = self._tissue(x, y, right, radius, level=level, severity=severity, pixel=pixel)
        image = self._nuclei(image, right, back, level)
        image = paint(image, FLUID, self._fissures(right, back, radius, level, severity, pixel))
        image = paint(image, FLUID, self._ventricles(right, back, level, severity, pixel))
        image = self._wrap(image, radius, severity, pixel / self.width)
        return image * (1 + 0.07 * self.shading.at(x, y, level))

    def _radius(self, right: Array, back: Array, level: float) -> Array:
        """Distance from the centre in units of the brain's own outline: 1 on its surface."""
        scale = float(np.sqrt(1 - (0.6 * level) ** 2))
        u = right / (self.width * scale * (1 + self.egg * back))
        v = back / (self.height * scale)
        squared = u * u + v * v + 1e-6
        # The second term squares the outline off a little: a skull is rounder than an ellipse.
        return root(squared - 0.3 * (u * v) ** 2 / squared)

    def _tissue(
        self, x: Array, y: Array, right: Array, radius: Array, *, level: float, severity: float, pixel: float
    ) -> Array:
        """White matter, a folded ribbon of grey matter, and the fluid in its sulci."""
        # The zero lines of a field of one wavelength wind as sulci do. The two halves mirror each other, in part.
        mirrored = np.where(right > 0, self.folds.at(x, y, level), self.folds.at(-x, y, level))
        folds = np.abs(0.7 * mirrored + 0.7 * self.own_folds.at(x, y, level))
        depth = np.maximum(1 - radius, 0)
        near = clipped(1 - depth / 0.48)
        softness = 22 * pixel
        fluid = self.sulci * (0.30 + 0.28 * severity) * near - 0.04
        ribbon = fluid + (0.85 - 0.16 * severity) * np.sqrt(near)
        rim = (0.085 - 0.015 * severity) - depth
        grey = either(inside(ribbon - folds, softness), inside(rim, 2 * pixel))
        image = paint(np.full_like(radius, WHITE), GREY, grey * (near > 0))
        return paint(image, FLUID, inside(fluid - folds, softness) * (near > 0))

    def _nuclei(self, image: Array, right: Array, back: Array, level: float) -> Array:
        """Thalamus, lentiform and caudate nucleus on both sides; they end halfway up."""
        side = np.abs(right)
        presence = float(np.clip((0.55 - level) / 0.15, 0, 1))
        thalamus = ellipse(side - 0.11, back - 0.10, 0.095, 0.13)
        lentiform = ellipse(side - 0.27 - 0.2 * back, back + 0.03, 0.075, 0.16)
        caudate = ellipse(side - 0.15 + 0.3 * (back + 0.2), back + 0.2, 0.05, 0.10)
        return paint(image, NUCLEUS, presence * either(thalamus, lentiform, caudate))

    def _fissures(self, right: Array, back: Array, radius: Array, level: float, severity: float, pixel: float) -> Array:
        """The cleft between the halves, before and behind the corpus callosum, and the Sylvian fissures."""
        gap = 0.006 + 0.008 * self.sulci * (1 + 0.6 * severity)
        callosum = 0.50 * arch(level, 0.2, 0.75)
        midline = inside(gap - np.abs(right), pixel) * inside(np.abs(back + 0.02) - callosum, 0.06)
        side = np.abs(right)
        course = back + 0.06 - 0.25 * (side - 0.42) - 0.05 * np.sin(9 * side)
        opening = gap * 1.6 * arch(level, 0.15, 0.5)
        sylvian = inside(opening - np.abs(course), pixel) * inside(radius - 0.62, 0.08)
        return either(midline, sylvian)

    def _ventricles(self, right: Array, back: Array, level: float, severity: float, pixel: float) -> Array:
        """Frontal horns, bodies and back horns of the lateral ventricles, and the slit of the third."""
        swell = self.ventricles * float(np.exp(0.75 * severity))
        along = back + 0.02
        spread = self.horn_spread * np.where(along < 0, np.float32(0.95), np.float32(0.75))
        axis = 0.045 + 0.020 * swell + spread * along**2
        reach = 1 + 0.12 * (swell - 1)
        front = 0.046 * swell * arch(level, 0.40, 0.62) * dome(along, -0.22 * reach, 0.19 * reach)
        behind = 0.042 * swell * arch(level, 0.25, 0.62) * dome(along, 0.26 * reach, 0.17 * reach)
        body = 0.040 * swell * arch(level, 0.68, 0.32) * dome(along, 0.0, 0.40 * reach)
        lopsided = 1 + self.asymmetry * np.sign(right)
        width = either(front, behind, body) * lopsided
        lateral = inside(width - np.abs(np.abs(right) - axis), 1.5 * pixel) * (width > 0)
        slit = 0.016 * swell * arch(level, 0.0, 0.4) * dome(along, 0.08, 0.13)
        third = inside(slit - np.abs(right), pixel) * (slit > 0)
        return either(lateral, third)

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
            image = paint(image, value, inside(radius - start, softness))
        return image
