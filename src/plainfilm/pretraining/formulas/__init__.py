"""Families of images that a formula draws, each with classes that are the formula's own parameters."""

from __future__ import annotations

from collections.abc import Callable

from plainfilm.pretraining.formulas.contours import Contours
from plainfilm.pretraining.formulas.ellipses import Ellipses
from plainfilm.pretraining.formulas.family import Family
from plainfilm.pretraining.formulas.fractals import Fractals
from plainfilm.pretraining.formulas.phantoms import PhantomAnatomy
from plainfilm.pretraining.formulas.textures import Textures

FAMILIES: dict[str, Callable[[int], Family]] = {  # from a seed
    "fractals": Fractals,
    "contours": Contours,
    "textures": Textures,
    "ellipses": Ellipses,
    "phantoms": PhantomAnatomy,
}
