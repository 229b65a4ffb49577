"""How DICOM results are written: one small frozen class."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator


class DicomResultOptions(BaseModel):
    """What is written for each DICOM series, and under which numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overlay: bool = Field(
        False,
        description="Also write a Secondary Capture of the Grad-CAM overlay for each image; refused where Grad-CAM "
        "fails, or cannot stand, the randomisation check on this model.",
    )
    uid_root: str | None = Field(
        None, description="Root of the new UIDs, one of your own organisation's; by default 2.25, UIDs made of UUIDs."
    )
    series_number: int = Field(
        9001, ge=1, le=2**31 - 2, description="Series Number of reports; that of overlays is one more."
    )
    codes: Path | None = Field(
        None,
        description="CSV with the columns class, value, scheme, meaning: the codes of the classes, such as 'pneumonia, "
        "233604007, SCT, Pneumonia'. Classes it does not name get codes of plainfilm's own scheme, 99PLAINFILM.",
    )

    @field_validator("uid_root")
    @classmethod
    def _root_can_be(cls, root: str | None) -> str | None:
        if root is not None and not (re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", root) and len(root) <= 38):
            raise ValueError("the root of UIDs is numbers with points between, at most 38 characters")
        return root
