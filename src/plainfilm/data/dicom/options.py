"""How DICOM files become rows of a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from plainfilm.data.choosing import FRAMES_RULE, parse_choice
from plainfilm.data.dicom.series import parse_condition
from plainfilm.data.dicom.tags import find_tag
from plainfilm.data.windows import parse_window
from plainfilm.errors import UsageError


class DicomOptions(BaseModel):
    """How DICOM files become rows of a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: str = Field(
        "file",
        description="Window of grey values of DICOM and NIfTI: file (its own first), file:2, none, CENTRE/WIDTH such "
        "as 40/400, brain, soft-tissue, lung, bone. A model is asked with the window it was trained with.",
    )
    frames: str = Field("all", description=f"Frames of a DICOM file, slices of a volume: {FRAMES_RULE}.")
    series: tuple[str, ...] = Field(
        (),
        description="Only DICOM series like this: Modality=CT, SeriesDescription=*axial*, SeriesNumber=3. Several "
        "conditions must all hold.",
    )
    tags: tuple[str, ...] = Field(
        (), description="Further DICOM tags as columns, such as PatientSex,PatientAge,SeriesDescription."
    )
    labels: Path | None = Field(
        None,
        description="Table with the classes of DICOM files, matched on SOPInstanceUID, SeriesInstanceUID, "
        "StudyInstanceUID, AccessionNumber, PatientID or file name.",
    )
    label_columns: tuple[str, ...] = Field((), description="Further columns of --labels to keep, such as site.")
    ids: Literal["hashed", "kept"] = Field(
        "hashed",
        description="Patient, study and series ids of DICOM files, and the names of these files: hashed with a key of "
        "your own, or as they are.",
    )
    id_key: Path | None = Field(
        None, description="File with the key that ids are hashed with; by default one in your configuration folder."
    )

    @field_validator("tags", "series", "label_columns", mode="before")
    @classmethod
    def _parted(cls, value: object) -> object:
        """Names may be parted by commas too."""
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            return value
        return tuple(word.strip() for part in parts for word in re.split(",", part) if word.strip())

    @field_validator("window", "frames", "series", "tags")
    @classmethod
    def _can_be(cls, value: str | tuple[str, ...], info: object) -> str | tuple[str, ...]:
        check = {
            "window": parse_window,
            "frames": parse_choice,
            "series": parse_condition,
            "tags": find_tag,
        }[info.field_name]  # type: ignore[attr-defined]
        try:
            for one in (value,) if isinstance(value, str) else value:
                check(one)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return value
