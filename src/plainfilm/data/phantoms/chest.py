"""Chests: frontal X-ray films with opacities that grow with severity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from plainfilm.data.phantoms.drawing import Array, Waves, clipped, dome, either, ellipse, grid, inside, root
from plainfilm.data.phantoms.patients import Sex
from plainfilm.data.phantoms.streams import Stream, rng_of


@dataclass(frozen=True)
class Opacity:
    """One patch of disease: where, how large and how dense at severity 1."""

    x: float
    y: float
    radius: float
    density: float
    onset: float  # severity at which it appears; below 0, the patient had it before any disease


@dataclass(frozen=True)
class Film:
    """How the patient stood for one exposure."""

    cosine: float
    sine: float
    magnification: float
    shift_x: float
    shift_y: float
    inspiration: float  # how much lower than usual the diaphragm is
    heart: float  # magnified on films taken from the front (bedside films)

    @staticmethod
    def draw(rng: np.random.Generator) -> Film:
        """Three in ten films are taken at the bedside, breathed in less deeply."""
        angle = rng.normal(0, 0.02)
        bedside = rng.random() < 0.3
        return Film(
            cosine=float(np.cos(angle)),
            sine=float(np.sin(angle)),
            magnification=rng.normal(1.02, 0.02),
            shift_x=rng.normal(0, 0.02),
            shift_y=rng.normal(0, 0.02),
            inspiration=rng.normal(-0.05 if bedside else 0.02, 0.025),
            heart=1.08 if bedside else 1.0,
        )


@dataclass(frozen=True)
class Chest:
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
    opacities: tuple[Opacity, ...]
    vessels: Waves
    texture: Waves
    warp_x: Waves
    warp_y: Waves

    @staticmethod
    @lru_cache(maxsize=4)  # a patient's images are drawn one after the other
    def draw(seed: int, number: int, sex: Sex, age: int) -> Chest:
        """The anatomy of patient `number`; nothing else is drawn from this stream."""
        rng = rng_of(Stream.ANATOMY, seed, number)
        ageing = (age - 55) / 100
        return Chest(
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
            opacities=tuple(Chest._opacity(rng, rank) for rank in range(4)),
            vessels=Waves.draw(rng, count=48, wavelength=0.24, level_rate=0, spread=0.25),
            texture=Waves.draw(rng, count=48, wavelength=0.13, level_rate=0, spread=0.4),
            warp_x=Waves.draw(rng, count=6, wavelength=1.3, level_rate=0),
            warp_y=Waves.draw(rng, count=6, wavelength=1.3, level_rate=0),
        )

    @staticmethod
    def _opacity(rng: np.random.Generator, rank: int) -> Opacity:
        """A patch somewhere in a lung, more often low; the later ones appear as disease grows."""
        side = 1 if rng.random() < 0.5 else -1
        return Opacity(
            x=side * rng.uniform(0.28, 0.58),
            y=rng.triangular(-0.45, 0.25, 0.38),
            radius=rng.uniform(0.12, 0.20),
            density=rng.uniform(0.20, 0.60),
            onset=rng.uniform(-0.45, 0.55) + 0.25 * rank,
        )

    def film(self, film: Film, *, severity: float, size: int) -> Array:
        """Draw one frontal film, the patient's right on the image's left; 0 to 1."""
        x, y = grid(size)
        across = (x * film.cosine + y * film.sine) / film.magnification - film.shift_x
        down = (y * film.cosine - x * film.sine) / film.magnification - film.shift_y
        across = across + 0.02 * self.warp_x.at(x, y)
        down = down + 0.02 * self.warp_y.at(x, y)
        floor = self._floor(across, film.inspiration)
        above = inside(floor - down, 0.05)
        heart = self._heart(across, down, film.heart) * above
        # Heart, vessels and disease show because they take the place of air, not on top of it.
        filled = either(heart, self._markings(x, y, across, down))
        air = self._lungs(across, down) * above * (1 - filled)
        air = air * (1 - 0.95 * clipped(self._disease(x, y, across, down, severity)))
        density = self._body(across, down) - 0.62 * air + 0.07 * heart
        density += (1 - above) * self._abdomen(across, down - floor)
        density += self._spine(across, down) + self._bones(across, down)
        return clipped(density / 1.25)

    def _cage(self, down: Array) -> Array:
        """Half the inner width of the rib cage at each height."""
        return self.width * dome(down, 0.38, 0.40 - self.apex)

    def _lungs(self, across: Array, down: Array) -> Array:
        """Air in the beam, 0 to 1, thinner towards the edges; the diaphragm cuts it off."""
        side = np.abs(across)
        wall = clipped((self._cage(down) - side) / 0.16)
        hilum = clipped((side - 0.09) / 0.10)
        return root(wall * hilum)

    def _floor(self, across: Array, inspiration: float) -> Array:
        """Height of the diaphragm: two domes, the right one (image left) higher, falling to sharp corners."""
        base = self.diaphragm + inspiration + 0.035 * np.tanh(6 * across)
        return base - self.dome + 0.9 * self.dome * ((np.abs(across) - 0.36) / 0.36) ** 2

    def _body(self, across: Array, down: Array) -> Array:
        """Soft tissue: neck, shoulders and trunk, thinner towards the skin; breasts."""
        side = np.abs(across)
        shoulder = clipped((down + 0.97) / 0.30)
        axilla = clipped((down + 0.30) / 0.35)
        skin = 0.24 + 0.86 * root(shoulder) - (0.20 - 0.10 * (self.stoutness - 1)) * axilla
        tissue: Array = 0.80 * self.stoutness * root(clipped((skin - side) / 0.45))
        if self.breasts:
            tissue = tissue + self.breasts * ellipse(side - 0.46, down - 0.28, 0.34, 0.30, 0.25)
        return tissue

    def _abdomen(self, across: Array, under: Array) -> Array:
        """Liver and spleen, and the air bubble of the stomach; `under` is the distance below the diaphragm."""
        bubble = ellipse(across - self.bubble_x, under - 0.12, self.bubble * 1.3, self.bubble, 0.4)
        return 0.09 * inside(0.98 - np.abs(across), 0.2) - 0.28 * bubble

    def _heart(self, across: Array, down: Array, magnified: float) -> Array:
        """Heart, aortic knob and great vessels, and the hila: 1 where no air is left in the beam."""
        size = self.heart * magnified
        slant = down - 0.24 - 0.30 * (across - self.heart_x)
        muscle = ellipse(across - self.heart_x - 0.12 * slant, slant, 0.33 * size, 0.41 * size, 0.18)
        atrium = ellipse(across + 0.05, down - 0.20, 0.17 * size, 0.26, 0.25)
        knob = ellipse(across - 0.09, down + 0.27, self.knob, self.knob * 1.15, 0.3)
        vessels = inside(0.13 - 0.05 * (down + 0.5) - np.abs(across), 0.05)
        hila = 0.75 * np.exp(-(((np.abs(across) - 0.19) / 0.07) ** 2) - ((down + 0.05) / 0.15) ** 2)
        return either(0.9 * either(muscle, atrium, knob, vessels), hila)

    def _spine(self, across: Array, down: Array) -> Array:
        """Vertebrae with their discs, and the windpipe before them."""
        middle = across - self.spine_curve * np.sin(3 * down)
        disc = 0.8 + 0.2 * np.cos(2 * np.pi * down / (0.95 * self.rib_spacing))
        spine: Array = 0.15 * disc * inside(0.085 - np.abs(middle), 0.05)
        trachea = inside(0.042 - np.abs(middle), 0.03) * inside(-0.20 - down, 0.10)
        return spine - 0.13 * trachea

    def _bones(self, across: Array, down: Array) -> Array:
        """Ribs behind (falling outwards) and in front (rising outwards), clavicles, shoulder joints."""
        side = np.abs(across)
        cage = self._cage(down)
        within = inside(cage + 0.06 - side, 0.05) * inside(side - 0.06, 0.05) * inside(0.62 - down, 0.2)
        behind = (down - self.rib_slope * side**2 + 0.10 * side) / self.rib_spacing + self.rib_phase
        front = (down + 0.45 * side - 0.9 * (side - 0.35) ** 2) / (1.15 * self.rib_spacing) + 2 * self.rib_phase
        ribs = self.rib_density * _rib(behind, 0.40) + 0.5 * self.rib_density * _rib(front, 0.36)
        course = down - self.clavicle + 0.22 * (side - 0.08) + 0.03 * np.sin(7 * side)
        clavicle = _tube(course / 0.042) * inside(side - 0.07, 0.04) * inside(0.80 - side, 0.06)
        joint = ellipse(side - 0.96, down + 0.62, 0.14, 0.16, 0.3)
        blade = _tube((side - 0.80 + 0.22 * (down + 0.3)) / 0.035) * inside(0.05 - down, 0.2) * inside(down + 0.6, 0.2)
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
    return clipped(1 - squared) * (0.6 + 0.8 * squared)


def _rib(turn: Array, half_width: float) -> Array:
    """Tubes at every whole number of `turn`, `half_width` of the way to the next."""
    return _tube((turn - np.round(turn)) / half_width)
