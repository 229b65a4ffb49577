"""Phantoms: synthetic images with known patients, known severity and, where asked for, known faults.

A brain phantom is a stack of neighbouring slices (T1-like MRI) whose ventricles and sulci widen with severity; a
chest phantom is a few repeat films (frontal X-ray) with an opacity that grows with it. Both serve demos and tests:
nobody's data, and the truth is on file. They teach nothing about disease.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plainfilm.data.phantoms.acquisition import phantom_image
    from plainfilm.data.phantoms.faults import TURNS
    from plainfilm.data.phantoms.options import Faults, FileNames, Kind, PhantomOptions
    from plainfilm.data.phantoms.truth import FaultKind, Phantoms, PlantedFault
    from plainfilm.data.phantoms.writing import write_phantoms

_HOME = {
    "TURNS": "faults",
    "FaultKind": "truth",
    "Faults": "options",
    "FileNames": "options",
    "Kind": "options",
    "PhantomOptions": "options",
    "Phantoms": "truth",
    "PlantedFault": "truth",
    "phantom_image": "acquisition",
    "write_phantoms": "writing",
}

__all__ = [
    "TURNS",
    "FaultKind",
    "Faults",
    "FileNames",
    "Kind",
    "PhantomOptions",
    "Phantoms",
    "PlantedFault",
    "phantom_image",
    "write_phantoms",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'plainfilm.data.phantoms' has no attribute '{name}'")
    return getattr(import_module(f"plainfilm.data.phantoms.{_HOME[name]}"), name)
