"""What the header of a DICOM file says for the table: ids, frames and acquisition; read without its pixels."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plainfilm.data.dicom.attributes import has_value, spoken, text
from plainfilm.data.dicom.elements import PIXEL_TAGS, Walk, looks_like_dicom, walk_file
from plainfilm.data.dicom.header import count_frames
from plainfilm.data.dicom.tags import (
    ACCESSION,
    ACQUISITION,
    BURNT_IN,
    INSTANCE,
    OWN_MANUFACTURER,
    PATIENT_ID,
    SERIES,
    STUDY,
    Tag,
    clean_value,
)
from plainfilm.errors import ImageError

_FIRST_BYTES = 1 << 16
MAX_HEADER_BYTES = 64 << 20
_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class FileFacts:
    """One file, as its header describes it; texts are empty where it says nothing.

    Attributes:
        patient_id: As the file has it: never shown, only hashed, unless ids are kept.
        study: Study Instance UID.
        series: Series Instance UID.
        instance: SOP Instance UID.
        accession: Accession number.
        frames: How many images.
        columns: Values for the table, by column.
        skipped: Why it is not meant as an image, or empty.
        is_derived: Whether plainfilm made it: a report or an overlay.
        refused: Code and sentence, where its header cannot be used; or None.
    """

    patient_id: str = ""
    study: str = ""
    series: str = ""
    instance: str = ""
    accession: str = ""
    frames: int = 1
    columns: dict[str, str | None] = field(default_factory=dict)
    skipped: str = ""
    is_derived: bool = False
    refused: tuple[str, str] | None = None


def read_facts(path: Path, tags: Sequence[Tag]) -> FileFacts | None:
    """What the header says; None for a file that is not DICOM, or cannot be opened: its reader will say why."""
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                return None
            data = file.read(_FIRST_BYTES)
            if not looks_like_dicom(data):
                return None
            wanted = _FIRST_BYTES
            while True:
                is_whole = len(data) >= found.st_size or len(data) >= MAX_HEADER_BYTES
                walk = _walked(data, is_whole=is_whole)
                if walk is not None:
                    return _facts(walk, tags)
                wanted *= 8
                data += file.read(wanted - len(data))
    except ImageError as error:
        return FileFacts(refused=(error.code, str(error)))
    except (OSError, ValueError):
        return None


def _walked(data: bytes, *, is_whole: bool) -> Walk | None:
    """The walk up to the pixels; None if more of the file is needed to get there."""
    try:
        walk = walk_file(data, max_inflated=MAX_HEADER_BYTES, stop_at_pixels=True)
    except ImageError as error:
        if is_whole or error.code != "DCM_TRUNCATED":
            raise
        return None
    return walk if is_whole or walk.reached_pixels else None


def _facts(walk: Walk, tags: Sequence[Tag]) -> FileFacts:
    columns: dict[str, str | None] = {}
    for tag in (*tags, BURNT_IN):
        element = walk.elements.get(tag.number)
        columns[tag.column] = None if element is None else clean_value(tag, spoken(walk, element, tag.vr))
    columns["transfer_syntax"] = walk.syntax.uid
    return FileFacts(
        patient_id=text(walk, PATIENT_ID.number),
        study=text(walk, STUDY.number),
        series=text(walk, SERIES.number),
        instance=text(walk, INSTANCE.number),
        accession=text(walk, ACCESSION.number),
        frames=count_frames(walk),
        columns=columns,
        skipped=_why_skipped(walk),
        is_derived=_is_ours(walk),
    )


def _why_skipped(walk: Walk) -> str:
    """Why an object is not meant as an image; one that has a size but no pixels was meant as one."""
    if _is_ours(walk):
        return "plainfilm made it: a report or an overlay."
    if walk.media_class == _DIRECTORY:
        return "an index of other files, which are listed where they lie."
    if not walk.reached_pixels and not any(has_value(walk, tag) for tag in (0x00280010, *PIXEL_TAGS)):
        return "a DICOM object without pixels, such as a report or a plan."
    if text(walk, 0x00080060) == "SEG":
        return "a DICOM segmentation, which is a mask."
    return ""


def _is_ours(walk: Walk) -> bool:
    return text(walk, ACQUISITION["Manufacturer"].number) == OWN_MANUFACTURER
