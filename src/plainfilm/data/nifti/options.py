"""How volumes become rows of a table."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class NiftiOptions(BaseModel):
    """How volumes become rows of a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    axis: Literal["axial", "coronal", "sagittal"] = Field(
        "axial", description="How NIfTI volumes are cut into slices, after they are turned upright."
    )
    volumes: Literal["refuse", "first"] = Field(
        "refuse", description="What becomes of a NIfTI file of several volumes (time, directions)."
    )
